import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { seeded } from '../support/place.ts';
import type { S3Request } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING } from './bucket-place.ts';

const OBJECTS = 5000;
const KILLS = 20;
/** How many objects a sweep moves at once. */
const IN_FLIGHT = 16;
/** At the most so many copies and deletions before a kill. */
const FURTHEST = 500;
/** How long requests of a dead process are waited for, and a bit more. ms. */
const DEAD_MS = 32 * 60_000;
const SEED = Number(process.env['KILLS_SEED'] ?? Date.now() % 1_000_000);

describe(`sweeps of a bucket that are killed (KILLS_SEED=${SEED})`, function () {
  this.timeout(900_000);
  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });

  it('leave every object live or pending once, and nothing half-done', async () => {
    await using place = await BucketPlace.make({ semantics: 'amazon' });
    const random = seeded(SEED);
    place.configure([
      'safetyWindow: 1s',
      `throttle: { concurrency: ${IN_FLIGHT} }`,
      'policies:',
      '  - { name: old, type: age, prefix: logs/, olderThan: 0s, keepLast: 3 }',
    ]);
    const written = Array.from({ length: OBJECTS }, (_, i) => `logs/${i}.meta`);
    await place.putAll(Object.fromEntries(written.map((name) => [name, contentOf(name)])));
    const ctl = async (...args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await place.ctl(args);
      expect(code, `${args.join(' ')}: ${stderr}`).to.equal(0);
      return stdout;
    };
    await ctl('init', '--store', 'b');

    for (let kill = 1; kill <= KILLS; kill++) {
      await killedSweep(place, 1 + random(FURTHEST), random(2) === 0 ? 'before' : 'after');
      // What it has copied and not deleted may be both; nothing is ever neither.
      expect(missing(await place.names(), written), `after kill ${kill}`).to.deep.equal([]);
      // The next one finds it dead, and leaves what it has begun; one that comes much later finishes that.
      if (kill % 2 === 0) place.proxy.dateShift += DEAD_MS;
    }
    const begun = (await ctl('ls', '--state', 'moving', '--limit', '0')).split('\n').length - 2;
    expect(begun).to.be.greaterThan(0);
    for (let last = 0; last < 3; last++) {
      await ctl('sweep');
      place.proxy.dateShift += DEAD_MS;
    }
    expect(await place.names('.tombstoned/fences/')).to.deep.equal([]);
    expect(await ctl('ls', '--state', 'moving', '--limit', '0')).to.not.contain('moving');
    const etags = await place.etags();
    // By the store's clock, which was put on, some copies were over an hour old when they were found: those
    // count as put back, and their objects were moved anew (design, section 5).
    // Where a batch ends, the first of the next are moved beside its last.
    expect(etags.size).to.be.within(OBJECTS, OBJECTS + KILLS * 2 * IN_FLIGHT);
    expect(new Set(etags.values())).to.deep.equal(
      new Set(written.map((name) => createHash('md5').update(contentOf(name)).digest('hex'))),
    );
    expect([...etags.keys()].filter((name) => name.startsWith('logs/'))).to.have.length(3);
    place.proxy.dateShift = 0; // nothing is purged by a clock that the store contradicts
    expect(await ctl('purge')).to.match(/purged/);
    // Copies that count as put back go an hour later.
    const restored = (await ctl('--json', 'ls', '--state', 'restored', '--limit', '0')).trim().split('\n');
    expect(await place.names(PENDING)).to.have.length(restored.filter((line) => line !== '').length);
    expect(await place.names('logs/')).to.have.length(3);
  });
});

const contentOf = (name: string): string => `content of ${name}`;

/** Kills a sweep at the n-th of its copies and deletions, before or after that has its effect. */
async function killedSweep(place: BucketPlace, n: number, when: 'before' | 'after'): Promise<void> {
  let child: ChildProcess | undefined;
  let left = n;
  const isNth = ({ kind, key }: S3Request): boolean =>
    ['copy', 'delete'].includes(kind) && !key.includes('/.tombstoned/') && --left === 0;
  const deed = async (): Promise<void> => {
    child?.kill('SIGKILL');
  };
  const rule = place.proxy.inject({ match: isNth, fault: { as: 'deed', when, deed } });
  child = spawn(process.execPath, [builtProgram('cli'), '--config', place.config, 'sweep'], {
    env: { PATH: process.env['PATH'], ...place.env },
    stdio: 'ignore',
  });
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  rule.remove();
  expect({ code, signal }, `a sweep that is killed at request ${n}`).to.deep.equal({
    code: null,
    signal: 'SIGKILL',
  });
}

/** What is neither live nor pending. */
function missing(names: readonly string[], written: readonly string[]): string[] {
  const held = new Set(
    names.map((name) =>
      name.startsWith(PENDING) ? name.slice(PENDING.length, name.lastIndexOf('~')) : name,
    ),
  );
  return written.filter((name) => !held.has(name));
}
