import fs, { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Limits } from '../../lib/policy/policy.ts';
import type { Place } from '../../lib/run/place.ts';
import { type ApproveOptions, approve } from '../../lib/sweep/approve.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { type Fault, Faults, faultsAt } from '../support/faults.ts';
import { FAST } from '../support/phases.ts';
import { DAY, NO_GUARDS, NO_LIMITS, TempPlace } from '../support/place.ts';

const KEYS = ['a', 'b', 'c/d'];
/** What of the disk a drop-in directory is touched by. */
const CALLS = ['renameSync', 'linkSync', 'unlinkSync', 'openSync', 'writeSync', 'fsyncSync'] as const;

/** The calls that change what requests are about. */
const OWN = /^(\w+Sync|transaction|rename|requests\.\w+|sweeps\.\w+|waiting\.\w+)$/;

describe('requests and crashes', () => {
  let temp: TempPlace;
  let inbox: string;

  afterEach(() => temp.remove());

  async function prepare(): Promise<void> {
    temp = await TempPlace.make(FAST);
    inbox = path.join(temp.directory, 'requests');
    mkdirSync(inbox);
    for (const key of KEYS) temp.write(key, key, DAY);
    writeFileSync(path.join(inbox, 'mine.keys'), `${KEYS.join('\n')}\ngone\n`);
    writeFileSync(path.join(inbox, 'bad.keys'), `${KEYS.join('\n')}\n../x\n`);
  }

  const optionsOf = (limits: Limits): ApproveOptions => ({
    policies: [],
    dropIns: [{ name: 'requests', directory: inbox, limits }],
    guards: NO_GUARDS,
    dryRun: false,
    batchSize: 2,
  });

  async function serve(place: Place, limits: Limits = NO_LIMITS): Promise<void> {
    const result = await sweep(place, optionsOf(limits));
    const [problem] = result.problems.filter(({ message }) => !message.includes('is refused whole'));
    if (problem !== undefined) throw problem;
  }

  /** What is over the limit waits, and is approved. */
  async function serveOverLimit(place: Place): Promise<void> {
    await serve(place, { ...NO_LIMITS, maxObjects: 1 });
    const [plan] = place.catalog.waiting.ofStore(place.row.n, temp.clock.wall);
    if (plan !== undefined) await approve(place, plan.sweep, optionsOf(NO_LIMITS));
  }

  /** Does it as a process that may be killed; gives the calls it made. */
  async function serveAs(faults: Faults, work: (place: Place) => Promise<void>): Promise<void> {
    const real = new Map(CALLS.map((name) => [name, fs[name]]));
    for (const [name, call] of real) {
      Object.assign(fs, {
        // Whatever the file: that of a log does no harm.
        [name]: (...values: unknown[]) => faults.step(name, () => Reflect.apply(call, fs, values) as unknown),
      });
    }
    syncBuiltinESMExports();
    let place: Place | undefined;
    try {
      place = temp.open({ fs: faults.fs(), catalog: (catalog) => faults.catalog(catalog), seed: 11 });
      await work(place);
    } catch (error) {
      if (!faults.isDead) throw error;
    } finally {
      Object.assign(fs, Object.fromEntries(real));
      syncBuiltinESMExports();
      faults.end();
      if (place !== undefined) temp.abandon(place);
    }
  }

  /** The next process; between the two, whatever was moved has been written anew. */
  async function checkAfterRestart(work: (place: Place) => Promise<void>): Promise<void> {
    temp.clock.advance(60_000);
    const place = temp.open({ seed: 13 });
    try {
      await recover(place);
      const anew = KEYS.filter((key) => temp.live(key) === undefined);
      for (const key of anew) temp.write(key, `new ${key}`);
      await work(place);
      const files = readdirSync(inbox).toSorted();
      expect(files).to.deep.equal(['bad.error', 'bad.rejected', 'mine.done']);
      const lines = readFileSync(path.join(inbox, 'mine.done'), 'utf8').split('\n').slice(0, -1);
      const results = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(results.map(({ key, outcome }) => [key, outcome])).to.deep.equal([
        ...KEYS.map((key) => [key, 'tombstoned']),
        ['gone', 'gone'],
      ]);
      for (const key of anew) expect(temp.live(key), 'it was asked for once').to.equal(`new ${key}`);
      const all = place.catalog.tombstones.page({ store: place.row.n, limit: 100 });
      const pending = all.filter(({ state }) => state === 'pending');
      expect(pending.map(({ key }) => key)).to.have.members(KEYS);
      expect(results.map(({ id }) => id).filter((id) => id !== null)).to.have.members(
        pending.map(({ id }) => id),
      );
      const of = { store: place.row.n, policy: 'requests', directory: inbox };
      expect(place.catalog.requests.all(of)).to.deep.equal([]);
    } finally {
      temp.close(place);
    }
  }

  const ways = {
    'serves them': { work: async (place: Place) => serve(place), from: '' },
    // What is before that is as it is there.
    'lets them wait, and moves them when they are approved,': { work: serveOverLimit, from: 'requests.file' },
  };
  for (const [what, { work, from }] of Object.entries(ways)) {
    it(`are done once, and whole, wherever a process that ${what} is killed`, async function () {
      this.timeout(300_000);
      await prepare();
      const clean = new Faults();
      await serveAs(clean, work);
      const calls = clean.calls;
      expect(calls.filter((call) => call === 'renameSync').length).to.be.greaterThan(3);
      await checkAfterRestart(work);
      // Killed before a call it is as after the one before; and what the store does by itself, others look at.
      const faults = calls
        .flatMap((call, i) => (i >= calls.indexOf(from) && OWN.test(call) ? faultsAt(call, i + 1) : []))
        .filter(({ as, when }) => as === 'kill' && when === 'after');
      expect(faults.length).to.be.greaterThan(30);
      for (const fault of faults) {
        rmSync(temp.directory, { recursive: true });
        await prepare();
        await serveAs(new Faults(fault), work);
        await told(fault, calls, async () => checkAfterRestart(work));
      }
    });
  }
});

async function told(fault: Fault, calls: readonly string[], check: () => Promise<void>): Promise<void> {
  try {
    await check();
  } catch (cause) {
    throw new Error(`killed ${fault.when} call ${fault.at} (${calls[fault.at - 1]}): ${String(cause)}`, {
      cause,
    });
  }
}
