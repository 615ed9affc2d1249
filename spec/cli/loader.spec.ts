import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import { expect } from 'chai';
import { Loader } from '../../lib/cli/loader.ts';
import { builtProgram } from '../support/built-cli.ts';
import { beforeAllBuild } from './ctl.ts';

const HEAD_LENGTH = 256;
/** Two programs of the same length: V8 takes the code of one for that of the other. */
const ONE = 'exports.program = async () => 1;';
const TWO = 'exports.program = async () => 2;';

describe('the code that V8 had compiled a program to', () => {
  let directory = '';
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-loader-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const file = (name: string): string => path.join(directory, name);

  /** Makes the code of a program. */
  async function compile(source: string): Promise<Buffer> {
    writeFileSync(file('program.js'), source);
    const loader = new Loader(directory);
    await loader.program([]);
    const code = loader.code().get('program.code');
    if (code === undefined) throw new Error('no code was made');
    return code;
  }

  /** What a program gives that is the one source, beside the code of the other. */
  async function ended(source: string, code: Buffer): Promise<number> {
    writeFileSync(file('program.js'), source);
    writeFileSync(file('program.code'), code);
    return new Loader(directory).program([]);
  }

  /** The code of a program with what says what it goes with changed: the maker's words, the sum of the source, of the code. */
  function forged(code: Buffer, change: (words: string[]) => void): Buffer {
    const words = code.toString('latin1', 0, HEAD_LENGTH).trimEnd().split(' ');
    change(words);
    return Buffer.concat([Buffer.from(words.join(' ').padEnd(HEAD_LENGTH)), code.subarray(HEAD_LENGTH)]);
  }

  /** The code of the first program as if it were of the second: which of them runs tells whether it was taken. */
  async function codeOfAnother(): Promise<Buffer> {
    return forged(await compile(ONE), (words) => {
      words[words.length - 2] = String(crc32(TWO));
    });
  }

  it('runs in place of the source', async () => {
    expect(await ended(TWO, await codeOfAnother())).to.equal(1);
  });

  it('is not taken for a source that is another, of the same length', async () => {
    expect(await ended(TWO, await compile(ONE))).to.equal(2);
  });

  for (const [index, what] of ['version', 'architecture', 'size', 'time'].entries())
    it(`is not taken by a Node of another ${what}`, async () => {
      const code = forged(await codeOfAnother(), (words) => {
        words[index] += '0';
      });
      expect(await ended(TWO, code)).to.equal(2);
    });

  it('is not taken where one byte of it is another', async () => {
    const code = await codeOfAnother();
    for (let at = HEAD_LENGTH; at < code.length; at += 13) {
      const bad = Buffer.from(code);
      bad.writeUInt8(code.readUInt8(at) ^ 1, at);
      expect(await ended(TWO, bad), `byte ${at}`).to.equal(2);
    }
  });

  it('is not taken where it ends early', async () => {
    const code = await codeOfAnother();
    for (const length of [0, 1, HEAD_LENGTH - 1, HEAD_LENGTH, HEAD_LENGTH + 8, code.length - 1])
      expect(await ended(TWO, code.subarray(0, length)), `${length} bytes`).to.equal(2);
  });

  it('is not needed: neither where there is none, nor where it is no file', async () => {
    writeFileSync(file('program.js'), TWO);
    expect(await new Loader(directory).program([])).to.equal(2);
    mkdirSync(file('program.code'));
    expect(await new Loader(directory).program([])).to.equal(2);
  });

  it('is not needed by a Node that can’t be looked at', async () => {
    const { execPath } = process;
    const code = await codeOfAnother();
    try {
      process.execPath = file('removed');
      expect(await ended(TWO, code)).to.equal(2);
    } finally {
      process.execPath = execPath;
    }
  });

  it('of a file that failed is not there half-made: who asks again is told the same', async () => {
    writeFileSync(file('other.js'), "exports.f = require('no-such-package').f;");
    const twice = "try { require('./other.js'); } catch {} require('./other.js').f();";
    writeFileSync(file('program.js'), `exports.program = async () => { ${twice} };`);
    const error: unknown = await new Loader(directory).program([]).catch((thrown: unknown) => thrown);
    expect(error).to.include({ code: 'MODULE_NOT_FOUND' });
  });

  it('leaves stacks with the file, the line and the column of the source', async () => {
    const throws = "exports.program = async () => { throw new Error('here'); };";
    const column = throws.indexOf('new Error') + 1;
    for (const [source, line] of [
      [throws, 1],
      [`\n\n${throws}`, 3],
    ] as const) {
      writeFileSync(file('program.js'), source);
      rmSync(file('program.code'), { force: true });
      for (const how of ['from the source', 'from its code']) {
        const loader = new Loader(directory);
        const error = await loader.program([]).catch((thrown: unknown) => thrown);
        expect((error as Error).stack, how).to.include(`(dist/cli/program.js:${line}:${column})`);
        for (const [name, made] of loader.code()) writeFileSync(file(name), made);
      }
    }
  });
});

describe('a command that has nothing left to wait for', () => {
  beforeAllBuild();

  it('and is not at its end is told of, and has failed', () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-stuck-'));
    try {
      for (const name of ['main.js', 'loader.js', 'package.json'])
        copyFileSync(path.join(path.dirname(builtProgram('cli')), name), path.join(directory, name));
      writeFileSync(path.join(directory, 'program.js'), 'exports.program = () => new Promise(() => {});');
      const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(directory, 'main.js')], {
        encoding: 'utf8',
      });
      expect({ status, stdout }).to.deep.equal({ status: 1, stdout: '' });
      expect(stderr).to.match(/^tombstonectl: the command stopped half-way.*\n$/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
