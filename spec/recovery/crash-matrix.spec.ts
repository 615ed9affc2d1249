import { cpSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import type { WaitingPlan } from '../../lib/catalog/waiting.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { STATES } from '../../lib/domain/state.ts';
import { purge } from '../../lib/purge/purge.ts';
import { Reader } from '../../lib/reader/reader.ts';
import { restore } from '../../lib/restore/restore.ts';
import type { Place } from '../../lib/run/place.ts';
import { listFences } from '../../lib/store/fences.ts';
import { approve } from '../../lib/sweep/approve.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { tidyWaiting } from '../../lib/sweep/waiting.ts';
import { type Fault, Faults, faultsAt, oneIn, SHIFT } from '../support/faults.ts';
import { eraseNow, FAST } from '../support/phases.ts';
import { age, DAY, NO_GUARDS, NO_LIMITS, TempPlace } from '../support/place.ts';

const OLD = ['a/one', 'a/two', 'b/c/three', 'four'];
const NEW = ['a/young', 'b/young'];
/** Keys that are written again, and then restored by force. */
const FORCED = ['a/one', 'four'];

interface Scenario {
  /** What a reader may find at an old key while the operation is half done; by default its content. */
  mayRead?(key: string): string[];
  /** Only each so-manyth fault is tried, 3 unless set, and another part each run; all where MATRIX_WHOLE is set. An odd number meets every kind. */
  readonly stride?: number;
  /** Whether old keys may have been purged. */
  readonly mayBePurged?: true;
  /** Brings the fresh place to where the operation begins. */
  prepare(temp: TempPlace): Promise<void>;
  operate(place: Place, temp: TempPlace): Promise<void>;
  /** What must hold after a restart, recovery, and the operation done once more. */
  check(place: Place, temp: TempPlace): Promise<void>;
}

function contentOf(key: string): string {
  return `content of ${key}\n`.repeat(3);
}

async function sweepAll(place: Place): Promise<void> {
  await sweep(place, { policies: [age()], guards: NO_GUARDS, dryRun: false });
}

/** A sweep whose only policy names more than it may move. */
async function sweepOverLimit(place: Place): Promise<void> {
  const policies = [age({ limits: { ...NO_LIMITS, maxObjects: 1 } })];
  await sweep(place, { policies, guards: NO_GUARDS, dryRun: false });
}

function waitingIn(place: Place): WaitingPlan[] {
  return place.catalog.waiting.ofStore(place.row.n, place.clock.now());
}

function tombstones(place: Place): Tombstone[] {
  return place.catalog.tombstones.page({ limit: 1000 });
}

/** Tombstones whose copy is in the store. */
function kept(place: Place): Tombstone[] {
  return tombstones(place).filter(({ state }) => state === 'pending' || state === 'restored');
}

async function restoreAll(place: Place, outcomes: Map<string, string>): Promise<void> {
  const page = kept(place);
  await restore(place, {
    pages: [page.filter((t, i) => page.findLastIndex(({ key }) => key === t.key) === i)],
    to: null,
    force: false,
    exemptFor: DAY,
    dryRun: false,
    onOutcome: ({ key, outcome }) => outcomes.set(key, outcome),
  });
}

async function sweptAndDue(temp: TempPlace): Promise<void> {
  const place = temp.open();
  await sweepAll(place);
  temp.close(place);
  temp.clock.advance(temp.window + DAY);
  for (const key of NEW) temp.write(key, contentOf(key)); // still young
}

async function nothingIsPending(place: Place, temp: TempPlace): Promise<void> {
  expect(kept(place)).to.deep.equal([]);
  expect(filesBelow(path.join(temp.root, 'pending_deletion'))).to.deep.equal([]);
}

const reported = new Map<string, string>();

const SCENARIOS: Record<string, Scenario> = {
  sweep: {
    prepare: async () => undefined,
    operate: sweepAll,
    check: async (place) => {
      expect(kept(place).map(({ key }) => key)).to.have.members(OLD);
    },
  },
  // Each batch's intents are written before the batch before it has moved.
  'sweep in several batches': {
    stride: 5,
    prepare: async () => undefined,
    operate: async (place) => {
      await sweep(place, { policies: [age()], guards: NO_GUARDS, dryRun: false, batchSize: 2 });
    },
    check: async (place) => {
      expect(kept(place).map(({ key }) => key)).to.have.members(OLD);
    },
  },
  'sweep over a limit': {
    stride: 7,
    prepare: async () => undefined,
    operate: sweepOverLimit,
    check: async (place) => {
      const [plan, ...others] = waitingIn(place);
      expect(others).to.deep.equal([]);
      expect(place.catalog.waiting.page(plan?.n ?? 0, '', 10).map(({ key }) => key)).to.have.members(OLD);
      expect(tombstones(place)).to.deep.equal([]);
      expect(place.catalog.waiting.leftovers()).to.deep.equal([]);
    },
  },
  'plan that is approved': {
    stride: 11,
    prepare: async (temp) => {
      const place = temp.open();
      await sweepOverLimit(place);
      temp.close(place);
    },
    operate: async (place) => {
      for (const { sweep: id } of waitingIn(place)) {
        await approve(place, id, { policies: [age()], guards: NO_GUARDS, dryRun: false, batchSize: 2 });
      }
    },
    check: async (place) => {
      expect(kept(place).map(({ key }) => key)).to.have.members(OLD);
      const [first, ...others] = new Set(kept(place).map(({ sweep: id }) => id));
      expect(others).to.deep.equal([]);
      expect(place.catalog.waiting.get(first ?? '')?.state).to.equal('approved');
      expect(place.catalog.sweeps.get(first ?? '')).to.include({ state: 'done', moved: OLD.length });
      await tidyWaiting(place);
      expect(place.catalog.waiting.leftovers()).to.deep.equal([]);
    },
  },
  purge: {
    mayBePurged: true,
    prepare: sweptAndDue,
    operate: async (place) => {
      await purge(place, { dryRun: false, historyFor: 400 * DAY });
    },
    check: nothingIsPending,
  },
  // While one batch is removed, the one before is recorded and the one after is taken.
  'purge in several batches': {
    mayBePurged: true,
    stride: 5,
    prepare: sweptAndDue,
    operate: async (place) => {
      await purge(place, { dryRun: false, historyFor: 400 * DAY, batchSize: 1 });
    },
    check: nothingIsPending,
  },
  'purge of what is named': {
    mayBePurged: true,
    stride: 11,
    prepare: async (temp) => {
      const place = temp.open();
      await sweepAll(place);
      temp.close(place);
      temp.clock.advance(1000); // and not due by far
    },
    operate: async (place) => {
      await eraseNow(place, OLD);
    },
    check: async (place, temp) => {
      expect(kept(place)).to.deep.equal([]);
      expect(filesBelow(path.join(temp.root, 'pending_deletion'))).to.deep.equal([]);
      const outcomes = await eraseNow(place, OLD);
      expect(outcomes.map(({ outcome, code }) => [outcome, code])).to.deep.equal(
        OLD.map(() => ['gone', null]),
      );
      expect(outcomes.filter(({ checkedAbsentAt }) => checkedAbsentAt === null)).to.deep.equal([]);
    },
  },
  restore: {
    prepare: async (temp) => {
      const place = temp.open();
      await sweepAll(place);
      temp.close(place);
    },
    operate: async (place) => {
      reported.clear();
      await restoreAll(place, reported);
    },
    check: async (_, temp) => {
      for (const key of OLD) expect(temp.live(key), key).to.equal(contentOf(key));
    },
  },
  'forced restore': {
    stride: 5,
    mayRead: (key) => (FORCED.includes(key) ? [contentOf(key), `newer ${contentOf(key)}`] : [contentOf(key)]),
    prepare: async (temp) => {
      const place = temp.open();
      await sweepAll(place);
      temp.close(place);
      for (const key of FORCED) temp.write(key, `newer ${contentOf(key)}`);
      temp.clock.advance(1000);
    },
    operate: async (place, temp) => {
      const oldest = FORCED.flatMap(
        (key) => place.catalog.tombstones.ofKey(place.row.n, key, 100).at(-1) ?? [],
      );
      await restore(place, {
        pages: [oldest],
        to: null,
        force: true,
        exemptFor: DAY,
        dryRun: false,
        onOutcome: () => temp.clock.advance(1),
      });
    },
    check: async (place, temp) => {
      for (const key of FORCED) {
        expect(temp.live(key), key).to.equal(contentOf(key));
        const newer = place.catalog.tombstones.ofKey(place.row.n, key, 1)[0];
        const file = path.join(temp.root, `pending_deletion/${key}~${newer?.id}`);
        expect(readFileSync(file, 'utf8')).to.equal(`newer ${contentOf(key)}`);
      }
    },
  },
};

/** Nothing is lost, stuck, in neither place, or counted wrong; whatever was interrupted. */
async function checkWhole(place: Place, temp: TempPlace, scenario: Scenario): Promise<void> {
  const reader = new Reader(place.store);
  for (const key of [...OLD, ...NEW]) {
    const purged =
      scenario.mayBePurged && tombstones(place).some((t) => t.key === key && t.state === 'purged');
    if (purged) continue;
    const may =
      scenario.mayRead !== undefined && OLD.includes(key) ? scenario.mayRead(key) : [contentOf(key)];
    expect(may, key).to.include((await reader.bytes(parseKey(key))).toString());
    const stored = contentsOf(temp, key);
    for (const content of may) expect(stored, `every content of ${key}`).to.include(content);
  }
  const stuck = tombstones(place).filter(({ state }) => ['moving', 'purging', 'restoring'].includes(state));
  expect(stuck, 'stuck').to.deep.equal([]);
  expect(place.catalog.runs.open(place.row.n), 'open runs').to.deep.equal([]);
  expect(await listFences(place.store.control), 'fences').to.deep.equal([]);
  for (const tombstone of tombstones(place)) {
    const file = path.join(temp.root, `pending_deletion/${tombstone.key}~${tombstone.id}`);
    const isThere = existsSync(file);
    const should = tombstone.state === 'pending' || tombstone.state === 'restored';
    expect(isThere, `${tombstone.state} ${tombstone.id}`).to.equal(should);
  }
  const counted = STATES.map((state) => tombstones(place).filter((t) => t.state === state))
    .filter((rows) => rows.length > 0)
    .map((rows) => ({
      state: rows[0]?.state,
      count: rows.length,
      bytes: rows.reduce((sum, t) => sum + t.size, 0),
    }));
  expect(place.catalog.tombstones.tallies(place.row.n)).to.have.deep.members(counted);
}

/** Every content that the store has of a key, live or pending. */
function contentsOf(temp: TempPlace, key: string): string[] {
  const live = path.join(temp.root, key);
  const copies = path.join(temp.root, `pending_deletion/${key}~`);
  return filesBelow(temp.root)
    .filter((file) => file === live || file.startsWith(copies))
    .map((file) => readFileSync(file, 'utf8'));
}

function filesBelow(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
}

function snapshot(place: Place, temp: TempPlace): unknown {
  const files = filesBelow(temp.root).filter((file) => !file.includes('.tombstoned/'));
  return [
    files.toSorted().map((file) => [file, readFileSync(file, 'utf8')]),
    tombstones(place).map(({ id, key, state }) => [id, key, state]),
  ];
}

class Matrix {
  readonly #temp: TempPlace;
  readonly #scenario: Scenario;
  readonly #saved: string;
  #wall = 0;

  constructor(temp: TempPlace, scenario: Scenario) {
    this.#temp = temp;
    this.#scenario = scenario;
    this.#saved = path.join(temp.directory, 'saved');
  }

  async prepare(): Promise<void> {
    for (const key of OLD) this.#temp.write(key, contentOf(key), 3 * DAY);
    for (const key of NEW) this.#temp.write(key, contentOf(key));
    await this.#scenario.prepare(this.#temp);
    this.save();
  }

  save(): void {
    rmSync(this.#saved, { recursive: true, force: true });
    mkdirSync(this.#saved);
    for (const name of this.#names()) {
      cpSync(path.join(this.#temp.directory, name), path.join(this.#saved, name), {
        recursive: true,
        preserveTimestamps: true,
      });
    }
    this.#linkLocks(this.#temp.directory, this.#saved);
    this.#wall = this.#temp.clock.wall;
  }

  /** Lock files must be themselves: a copy of one proves nothing. */
  #linkLocks(from: string, to: string): void {
    const runs = `${path.basename(this.#temp.catalogFile)}.runs`;
    if (!existsSync(path.join(from, runs))) return;
    for (const name of readdirSync(path.join(from, runs))) {
      rmSync(path.join(to, runs, name));
      linkSync(path.join(from, runs, name), path.join(to, runs, name));
    }
  }

  #names(): string[] {
    return readdirSync(this.#temp.directory).filter((name) => name !== 'saved' && !name.endsWith('.reserve'));
  }

  back(): void {
    for (const name of this.#names()) rmSync(path.join(this.#temp.directory, name), { recursive: true });
    cpSync(this.#saved, this.#temp.directory, { recursive: true, preserveTimestamps: true });
    this.#linkLocks(this.#saved, this.#temp.directory);
    this.#temp.clock.wall = this.#wall;
  }

  /** Does something as one process that meets a fault; gives the calls it made. */
  async as(faults: Faults, work: (place: Place) => Promise<void>): Promise<unknown> {
    let place: Place | undefined;
    try {
      place = this.#temp.open({ fs: faults.fs(), catalog: (catalog) => faults.catalog(catalog), seed: 11 });
      await work(place);
      return undefined;
    } catch (error) {
      return error;
    } finally {
      faults.end();
      if (place !== undefined) this.#temp.abandon(place);
    }
  }

  async operate(faults: Faults): Promise<unknown> {
    return this.as(faults, async (place) => this.#scenario.operate(place, this.#temp));
  }

  /** A restart: recovery, the operation once more, and everything must hold; then nothing changes any more. */
  async checkAfterRestart(): Promise<void> {
    const place = this.#temp.open({ seed: 13 });
    try {
      await recover(place);
      await checkWhole(place, this.#temp, this.#scenario);
      for (const [key, outcome] of reported) {
        if (outcome === 'restored') expect(this.#temp.live(key), `reported ${key}`).to.equal(contentOf(key));
      }
      await this.#scenario.operate(place, this.#temp);
      await checkWhole(place, this.#temp, this.#scenario);
      await this.#scenario.check(place, this.#temp);
      const before = snapshot(place, this.#temp);
      await recover(place);
      await this.#scenario.operate(place, this.#temp);
      expect(snapshot(place, this.#temp)).to.deep.equal(before);
    } finally {
      this.#temp.close(place);
    }
  }
}

describe(`crash matrix (MATRIX_SHIFT=${SHIFT})`, () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    reported.clear();
  });
  afterEach(() => {
    temp.remove();
  });

  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    it(`a ${name} that fails or is killed at any call loses nothing and leaves nothing stuck`, async function () {
      this.timeout(600_000);
      const matrix = new Matrix(temp, scenario);
      await matrix.prepare();
      const clean = new Faults();
      expect(await matrix.operate(clean)).to.equal(undefined);
      expect(clean.calls.length).to.be.greaterThan(40);
      for (const fault of faultsOf(clean.calls, scenario)) {
        matrix.back();
        reported.clear();
        const faults = new Faults(fault);
        const error = await matrix.operate(faults);
        expect(faults.isDone, 'the fault was reached').to.equal(true);
        await told(fault, faults, error, async () => matrix.checkAfterRestart());
      }
    });

    it(`a recovery of a killed ${name} may itself fail or be killed at any call`, async function () {
      this.timeout(600_000);
      const matrix = new Matrix(temp, scenario);
      await matrix.prepare();
      const clean = new Faults();
      await matrix.operate(clean);
      matrix.back();
      await matrix.operate(new Faults({ at: halfWay(clean.calls), when: 'after', as: 'kill' }));
      matrix.save();
      const recovery = new Faults();
      expect(await matrix.as(recovery, recover)).to.equal(undefined);
      expect(recovery.calls.length).to.be.greaterThan(10);
      for (const fault of faultsOf(recovery.calls, scenario)) {
        matrix.back();
        reported.clear();
        const faults = new Faults(fault);
        const error = await matrix.as(faults, recover);
        await told(fault, faults, error, async () => matrix.checkAfterRestart());
      }
    });
  }
});

function faultsOf(calls: readonly string[], { stride = 3 }: Scenario): Fault[] {
  return oneIn(
    stride,
    calls.flatMap((call, i) => faultsAt(call, i + 1)),
  );
}

/** The place where an operation has done half of its work on the store. */
function halfWay(calls: readonly string[]): number {
  const acts = calls.flatMap((call, i) =>
    ['rename', 'unlinkAsync', 'link', 'waiting.takeOut'].includes(call) ? [i + 1] : [],
  );
  const at = acts[Math.floor(acts.length / 2)];
  if (at === undefined) throw new Error(`nothing was done: ${calls.join(' ')}`);
  return at;
}

/** Adds to a failure which fault it was. */
async function told(fault: Fault, faults: Faults, error: unknown, check: () => Promise<void>): Promise<void> {
  try {
    await check();
  } catch (cause) {
    const at = `${fault.as} ${fault.when} call ${fault.at} (${faults.calls[fault.at - 1]})`;
    throw new Error(`${at}, which ended in ${String(error)}: ${String(cause)}`, { cause });
  }
}
