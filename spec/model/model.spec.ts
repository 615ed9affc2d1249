import { spawn, spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';

const MODELS = import.meta.dirname;
const SCRIPT = path.resolve(MODELS, '../../scripts/check-model');
const NAMES = readdirSync(MODELS).flatMap((name) =>
  name.endsWith('.pml') ? [path.basename(name, '.pml')] : [],
);

/** Found on the PATH, and may be run. */
function isInstalled(program: string): boolean {
  return (process.env['PATH'] ?? '').split(path.delimiter).some((directory) => {
    try {
      accessSync(path.join(directory, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The rules that a model can leave out, by the switches in its text. */
function rulesOf(model: string): string[] {
  const text = readFileSync(path.join(MODELS, `${model}.pml`), 'utf8');
  const conditions = text.split('\n').filter((line) => line.startsWith('#'));
  return [...new Set(conditions.flatMap((line) => line.match(/NO_[A-Z_]+/g) ?? []))].map((name) =>
    name.slice(3),
  );
}

async function checkModels(): Promise<{ status: number | null; lines: string[]; stderr: string }> {
  const child = spawn(SCRIPT, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, lines: stdout.split('\n'), stderr }));
  });
}

describe('the models of the protocol (needs spin and gcc)', function () {
  this.timeout(900_000); // under a minute on a quiet machine
  let directory: string;

  before(function () {
    const missing = ['spin', 'gcc'].filter((program) => !isInstalled(program));
    if (missing.length === 0) return;
    if (process.env['CI'] !== undefined)
      throw new Error(`CI checks the models, and has no ${missing.join(', ')}`);
    this.skip();
  });

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'check-model-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('hold, and no longer do without any one of their rules', async () => {
    const { status, lines, stderr } = await checkModels();
    const broken = lines.filter((line) => line.includes('FAILED'));
    expect({ broken, stderr, status }).to.deep.equal({ broken: [], stderr: '', status: 0 });
    for (const model of NAMES) {
      const rules = rulesOf(model);
      expect(rules, model).to.not.deep.equal([]);
      expect(lines.filter((line) => line.startsWith(`${model}: verified, `))).to.have.length(1);
      const found = lines.filter((line) => line.startsWith(`${model} without `));
      expect(found.map((line) => line.replace(/\(\w+\)$/, '')).toSorted()).to.deep.equal(
        rules.map((rule) => `${model} without ${rule}: counterexample `).toSorted(),
      );
    }
  });

  /** Checks one small model by a copy of the script. */
  function check(model: string): { status: number | null; stdout: string } {
    mkdirSync(path.join(directory, 'scripts'));
    mkdirSync(path.join(directory, 'spec/model'), { recursive: true });
    cpSync(SCRIPT, path.join(directory, 'scripts/check-model'));
    writeFileSync(path.join(directory, 'spec/model/small.pml'), model);
    const { status, stdout } = spawnSync(path.join(directory, 'scripts/check-model'), ['small'], {
      encoding: 'utf8',
    });
    return { status, stdout };
  }

  /** Two processes that each raise a number; without RULE they may both read it first. */
  const small = ({ rule = '#ifndef NO_RULE', told = 'NO_RULE', more = '', last = 'skip' } = {}): string => `
    /* -D${told} */
    byte n; bool bad; byte ended;
    proctype raise() {
      byte old;
${rule}
      d_step { old = n; n = old + 1 }
#else
      old = n; n = old + 1;
#endif
      ${more}
      ended++
    }
    init { atomic { run raise(); run raise() } (ended == 2); bad = (n != 2); ${last} }
    active proctype monitor() {
    end: if :: bad -> assert(!bad) fi
    }
`;

  it('pass the check when each rule is needed', () => {
    const { status, stdout } = check(small());
    expect(stdout).to.match(/^small: verified, \d+ states$/m);
    expect(stdout).to.match(/^small without RULE: counterexample \(bad\)$/m);
    expect(stdout).to.match(/\nmodels verified: 1, rules left out one by one: 1\n$/);
    expect(status).to.equal(0);
  });

  it('fail it when they are violated', () => {
    const { status, stdout } = check(small({ rule: '#ifdef NO_RULE' }));
    expect(stdout).to.match(/^small: FAILED, assertion violated/m);
    expect(status).to.equal(1);
  });

  it('fail it when a rule is not needed', () => {
    const { status, stdout } = check(
      small({ last: '\n#ifdef NO_OTHER\nskip;\n#endif\n skip /* -DNO_OTHER */' }),
    );
    expect(stdout).to.match(/^small: verified/m);
    expect(stdout).to.match(/^small without OTHER: FAILED, no counterexample$/m);
    expect(status).to.equal(1);
  });

  it('fail it when they get stuck', () => {
    const { status, stdout } = check(small({ last: '(n == 3)' }));
    expect(stdout).to.match(/^small: FAILED, invalid end state/m);
    expect(status).to.equal(1);
  });

  it('fail it when something in them never happens', () => {
    const { status, stdout } = check(small({ more: 'if :: n > 2 -> n = 7 :: else fi;' }));
    expect(stdout).to.match(/^small: FAILED, never reached:\n.*"n = 7"$/m);
    expect(status).to.equal(1);
  });

  it('fail it when they tell of other rules than they have', () => {
    const { status, stdout } = check(small({ told: 'NO_OLD_RULE' }));
    expect(stdout).to.match(/^small: FAILED, .*: NO_OLD_RULE NO_RULE$/m);
    expect(status).to.equal(1);
  });

  it('fail it when they are no Promela', () => {
    const { status, stdout } = check(small({ last: 'done()' }));
    expect(stdout).to.match(/^small: FAILED, it can't be compiled: /m);
    expect(status).to.equal(1);
  });
});

describe('check-model', () => {
  it('says what is not installed, with an exit code of its own', () => {
    const { status, stdout, stderr } = spawnSync('/bin/bash', [SCRIPT], {
      encoding: 'utf8',
      env: { PATH: '/nonexistent' },
    });
    expect(stderr).to.equal(
      'scripts/check-model: not installed: spin gcc (Debian: apt-get install spin gcc)\n',
    );
    expect(stdout).to.equal('');
    expect(status).to.equal(3);
  });
});
