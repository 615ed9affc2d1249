import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';

const REPOSITORY = path.resolve(import.meta.dirname, '../..');
const MOCHA = path.join(REPOSITORY, 'node_modules/mocha/bin/mocha.js');

describe('mocha-reporter', function () {
  this.timeout(30_000);
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'reporter-'));
  });

  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  function run(specs: string): { status: number | null; result: string[] } {
    const file = path.join(directory, 'some.spec.cjs');
    const result = path.join(directory, 'result');
    writeFileSync(file, specs);
    const { status } = spawnSync(process.execPath, [MOCHA, file], {
      cwd: REPOSITORY,
      env: { ...process.env, TEST_RESULT: result },
    });
    return { status, result: readFileSync(result, 'utf8').split('\n') };
  }

  it('counts what passed, failed and was skipped, and names the skipped', () => {
    const { status, result } = run(`
      describe('some', () => {
        it('pass', () => {});
        it('pass too', () => {});
        it('are\\nleft out', function () { this.skip(); });
        it('fail', () => { throw new Error('as meant'); });
      });
      describe('others', () => {
        before(() => { throw new Error('as meant'); });
        it('never run', () => {});
      });`);
    expect(result).to.deep.equal(['2 2 1', 'some are left out', '']);
    expect(status).to.equal(2);
  });

  it('fails a run that a spec cuts short', () => {
    const { status, result } = run(`
      it('passes', () => {});
      it('leaves', () => process.exit(0));
      it('never runs', () => {});`);
    expect(result).to.deep.equal(['1 1 0', '']);
    expect(status).to.equal(1);
  });

  it('fails a run without specs', () => {
    const { status, result } = run('');
    expect(result).to.deep.equal(['0 0 0', '']);
    expect(status).to.equal(1);
  });
});
