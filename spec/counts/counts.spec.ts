import { utimesSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { beforeAllBuild } from '../cli/ctl.ts';
import { FAST } from '../support/phases.ts';
import { OLD, TempStore } from '../support/temp-store.ts';
import { type Counts, countedRun, whyNotCounted } from './counted-run.ts';
import { MemoryBucket, type Requests } from './memory-bucket.ts';

/** The most that a command may do for 1,000 objects: a little above what it does. Who makes that less lowers it. */
const LIMITS = {
  directory: {
    sweep: {
      rename: 1060,
      link: 1,
      unlink: 2,
      look: 3350,
      open: 84,
      directory: 120,
      mode: 12,
      sync: 23,
      database: 515,
      total: 5170,
      statement: 14,
      transaction: 1,
    },
    purge: {
      rename: 0,
      link: 2,
      unlink: 1100,
      look: 1250,
      open: 125,
      directory: 200, // entered anew after some ms
      mode: 2,
      sync: 60,
      database: 970,
      total: 3600,
      statement: 45,
      transaction: 2,
    },
    fetch: {
      rename: 11,
      link: 0,
      unlink: 0,
      look: 4350,
      open: 2200,
      directory: 75,
      mode: 1050,
      sync: 14,
      database: 140,
      total: 7850,
      statement: 6,
      transaction: 1,
    },
  },
  // Requests, where no versions are kept.
  bucket: {
    amazon: { keys: 1, fetch: 1050, sweep: 2150, purge: 2 },
    rgw: { keys: 1, fetch: 1050, sweep: 2150, purge: 2 },
  },
} as const satisfies {
  readonly directory: Readonly<Record<string, Counts>>;
  readonly bucket: Readonly<Record<string, Requests>>;
};

/** What a work of `many` objects has more than one of `few`, for 1,000 objects; what each does once is in neither. */
function expectWithin(
  work: string,
  [few, many]: readonly [Readonly<Record<string, number>>, Readonly<Record<string, number>>],
  more: number,
  limits: Readonly<Record<string, number>>,
): void {
  const over = Object.entries(limits).flatMap(([what, limit]) => {
    const count = (((many[what] ?? Infinity) - (few[what] ?? 0)) * 1000) / more;
    return count > limit ? [`${what}: ${count}, and the limit is ${limit}`] : [];
  });
  expect(over, `${work}, for 1,000 objects`).to.deep.equal([]);
}

describe('what a command does for 1,000 objects of a directory (needs strace)', function () {
  /** A sweep has whole batches of both, a fetch its threads. */
  const [FEW, MANY] = [2000, 4000];
  let stores: readonly [TempStore, TempStore] | undefined;

  before(function () {
    const problem = whyNotCounted();
    if (problem === undefined) return;
    if (process.env['CI'] !== undefined) throw new Error(`CI counts system calls, and ${problem}`);
    process.stderr.write(`skipped, as ${problem}: ${this.test?.parent?.fullTitle() ?? ''}\n`);
    this.skip();
  });
  beforeAllBuild();
  before(async () => {
    stores = [await filled(FEW), await filled(MANY)];
  });
  after(() => {
    for (const store of stores ?? []) store.remove();
  });

  /** Objects in directories of a hundred, each of another time. */
  async function filled(count: number): Promise<TempStore> {
    const store = await TempStore.make({ policies: [OLD] }, FAST);
    for (let i = 0; i < count; i++) {
      const key = `${Math.floor(i / 100)}/${i}`;
      store.write(key, 'content');
      const time = Date.parse('2026-01-01') / 1000 + i;
      utimesSync(path.join(store.root, key), time, time);
    }
    return store;
  }

  // Each finds what the one before has left.
  for (const command of ['fetch', 'sweep', 'purge'] as const) {
    it(`is within its limits for ${command}`, () => {
      if (stores === undefined) throw new Error('nothing was made');
      const [few, many] = stores;
      const counted = (store: TempStore): Counts =>
        countedRun(
          store,
          command,
          ...(command === 'fetch' ? ['', '--to', path.join(store.directory, 'to')] : []),
        );
      const pending = (): number[] => [few.pending().length, many.pending().length];
      expect(pending()).to.deep.equal(command === 'purge' ? [FEW, MANY] : [0, 0]);
      expectWithin(command, [counted(few), counted(many)], MANY - FEW, LIMITS.directory[command]);
      expect(pending()).to.deep.equal(command === 'sweep' ? [FEW, MANY] : [0, 0]);
    });
  }
});

describe('what is asked of a bucket for 1,000 objects', function () {
  /** A sweep has whole batches more, a purge too. */
  const [FEW, MANY] = [1000, 3000];
  this.timeout(60_000);

  for (const preset of ['amazon', 'rgw'] as const) {
    it(`is within its limits under the conditions of ${preset}`, async () => {
      using few = await MemoryBucket.make(preset, FEW);
      using many = await MemoryBucket.make(preset, MANY);
      expectWithin(preset, [await few.requests(), await many.requests()], MANY - FEW, LIMITS.bucket[preset]);
    });
  }
});
