import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { seeded } from '../support/place.ts';
import type { S3Request } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING } from './bucket-place.ts';

const OBJECTS = 1000;
const KILLS = 10;
/** How many objects a sweep moves at once. */
const IN_FLIGHT = 32;
/** At the most so many copies and deletions before a kill. */
const FURTHEST = 220;
/** How long requests of a dead process are waited for, and a bit more. ms. */
const DEAD_MS = 32 * 60_000;
const SEED = Number(process.env['KILLS_SEED'] ?? Date.now() % 1_000_000);

describe(`sweeps of a bucket that are killed (KILLS_SEED=${SEED})`, function () {
  this.timeout(180_000);
  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });

  it('leave every object live or pending once, and nothing half-done', async () => {
    await using place = await BucketPlace.make({ semantics: 'amazon' });
    const random = seeded(SEED);
    place.configure([
      'safetyWindow: 1s',
      'policies:',
      '  - { name: old, type: age, prefix: logs/, olderThan: 0s, keepLast: 3 }',
      '  - { name: nothing, type: age, prefix: nothing/, olderThan: 0s }',
    ]);
    const written = Array.from({ length: OBJECTS }, (_, i) => `logs/${i}.meta`);
    await place.putAll(Object.fromEntries(written.map((name) => [name, `content of ${name}`])));
    const ctl = async (...args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await place.ctl(args);
      expect(code, `${args.join(' ')}: ${stderr}`).to.equal(0);
      return stdout;
    };
    await ctl('init', '--store', 'b');

    for (let kill = 0; kill < KILLS; kill++) {
      await killedSweep(place, 1 + random(FURTHEST), random(2) === 0 ? 'before' : 'after');
      // What it has copied and not deleted may be both; nothing is ever neither.
      expect(await missing(place, written), `after kill ${kill}`).to.deep.equal([]);
      // Until requests of it can do nothing any more, what it has begun is left as it is.
      const begun = (await ctl('ls', '--state', 'moving', '--limit', '0')).split('\n').length - 2;
      expect(begun).to.be.greaterThan(0);
      await ctl('sweep', '--policy', 'nothing'); // which finds it dead
      place.proxy.dateShift += DEAD_MS;
    }
    await ctl('sweep');
    // What was killed is finished, and its fences go, when its requests can do nothing any more.
    place.proxy.dateShift += DEAD_MS;
    await ctl('sweep');
    expect(await place.names('.tombstoned/fences/')).to.deep.equal([]);
    expect(await ctl('ls', '--state', 'moving', '--limit', '0')).to.not.contain('moving');
    const contents = await place.contents();
    // By the store's clock, which was put on, some copies were over an hour old when they were found: those
    // count as put back, and their objects were moved anew (design, section 5).
    expect(contents.size).to.be.within(OBJECTS, OBJECTS + KILLS * IN_FLIGHT);
    expect([...new Set(contents.values())].toSorted()).to.deep.equal(
      written.map((name) => `content of ${name}`).toSorted(),
    );
    expect([...contents.keys()].filter((name) => name.startsWith('logs/'))).to.have.length(3);
    expect(await ctl('purge')).to.match(/purged/);
    // Copies that count as put back go an hour later.
    const restored = (await ctl('--json', 'ls', '--state', 'restored', '--limit', '0')).trim().split('\n');
    expect(await place.names(PENDING)).to.have.length(restored.filter((line) => line !== '').length);
    expect(await place.names('logs/')).to.have.length(3);
  });
});

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
async function missing(place: BucketPlace, written: readonly string[]): Promise<string[]> {
  const names = await place.names();
  const held = new Set(
    names.map((name) =>
      name.startsWith(PENDING) ? name.slice(PENDING.length, name.lastIndexOf('~')) : name,
    ),
  );
  return written.filter((name) => !held.has(name));
}
