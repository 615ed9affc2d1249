import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { STATES } from '../../lib/domain/state.ts';
import { purge } from '../../lib/purge/purge.ts';
import { restore } from '../../lib/restore/restore.ts';
import type { Place } from '../../lib/run/place.ts';
import { listFences } from '../../lib/store/fences.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { oneIn, SHIFT } from '../support/faults.ts';
import { age, DAY, HOUR, NO_GUARDS } from '../support/place.ts';
import type { S3Kind, S3Request } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { type BucketKind, BucketPlace, inFlight, PENDING, withCredentials } from './bucket-place.ts';
import { type BucketProcess, BucketWorld, type RequestFault } from './bucket-world.ts';
import { AMAZON, RGW, RGW_VERSIONED, UNGUARDED } from './capabilities.ts';

const KINDS: readonly (BucketKind & { readonly name: string; readonly capabilities: Capabilities })[] = [
  { name: 'RGW', semantics: 'gateway', capabilities: RGW },
  { name: 'RGW that guards no delete', semantics: 'unguarded', capabilities: UNGUARDED },
  { name: 'RGW with versions', semantics: 'gateway', versioned: true, capabilities: RGW_VERSIONED },
  { name: 'RGW behind a proxy that does as Amazon', semantics: 'amazon', capabilities: AMAZON },
];
const OLD = ['old/a', 'old/b'];
const YOUNG = 'new/young';
/** What is swept so late that it is not due with the others. */
const LATER = 'old/later';
/** The key that is written again, and then restored by force. */
const FORCED = 'old/a';
const WINDOW = 3 * HOUR;
/** How long requests of a dead process are waited for, and a bit more. ms. */
const DEAD_MS = 32 * 60_000;
/** How many cases are under way at once, each with a bucket and a proxy. */
const AT_ONCE = 4;

interface Scenario {
  /** What must be somewhere, live or pending: of each key its contents. */
  readonly contents: Readonly<Record<string, readonly string[]>>;
  /** Whether old keys may be purged. */
  readonly mayBePurged?: true;
  /** Whether it puts up no fence, so that nothing is waited for when it has died. */
  readonly isUnfenced?: true;
  /** Brings a fresh store to where the operation begins. */
  prepare(world: BucketWorld): Promise<void>;
  operate(place: Place, world: BucketWorld, reported: Set<string>): Promise<void>;
  /** What must hold after recovery and the operation done once more. */
  check(place: Place, etags: ReadonlyMap<string, string>): void;
}

const contentOf = (key: string): string => `content of ${key}`;
const newerOf = (key: string): string => `newer ${contentOf(key)}`;

async function sweepOld(place: Place): Promise<void> {
  const policies = [age({ prefix: 'old/', olderThan: 0 })];
  await sweep(place, { policies, guards: NO_GUARDS, dryRun: false });
}

/** Does something as a process that nothing befalls. */
async function quietly(
  world: BucketWorld,
  seed: number,
  work: (place: Place) => Promise<void>,
): Promise<void> {
  const process = await world.process(seed);
  try {
    await work(process.place);
  } finally {
    process.end();
  }
}

async function put(world: BucketWorld, keys: readonly string[], content = contentOf): Promise<void> {
  await Promise.all(keys.map(async (key) => world.bucket.put(key, content(key))));
}

async function swept(world: BucketWorld, keys: readonly string[]): Promise<void> {
  await put(world, keys);
  await quietly(world, 3, sweepOld);
}

function contentsOf(...keys: readonly string[]): Record<string, readonly string[]> {
  return Object.fromEntries(keys.map((key) => [key, [contentOf(key)]]));
}

async function bringBack(
  place: Place,
  page: readonly Tombstone[],
  options: { force: boolean; reported: Set<string> },
): Promise<void> {
  await restore(place, {
    pages: [page],
    to: null,
    force: options.force,
    exemptFor: DAY,
    dryRun: false,
    onOutcome: ({ key, outcome }) => {
      if (outcome === 'restored') options.reported.add(key);
    },
  });
}

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  sweep: {
    contents: contentsOf(...OLD, YOUNG),
    prepare: async (world) => {
      await put(world, [...OLD, YOUNG]);
      world.advance(61_000); // what is younger is looked at once more before it is deleted
    },
    operate: sweepOld,
    check: (place, etags) => {
      expect(new Set(kept(place).map(({ key }) => key))).to.deep.equal(new Set(OLD));
      expect([...etags.keys()].filter((name) => name.startsWith('old/'))).to.deep.equal([]);
    },
  },
  purge: {
    contents: contentsOf(...OLD, LATER),
    mayBePurged: true,
    prepare: async (world) => {
      await swept(world, OLD);
      world.advance(WINDOW + 1000);
      await swept(world, [LATER]);
    },
    operate: async (place) => {
      await purge(place, { dryRun: false, historyFor: 400 * DAY });
    },
    check: (place) => {
      for (const key of OLD)
        expect(
          kept(place).map((one) => one.key),
          'due copies',
        ).to.not.include(key);
    },
  },
  restore: {
    contents: contentsOf(...OLD),
    isUnfenced: true,
    prepare: async (world) => swept(world, OLD),
    operate: async (place, _, reported) => bringBack(place, latest(place), { force: false, reported }),
    check: (_, etags) => {
      for (const key of OLD) expect(etags.get(key), key).to.equal(md5(contentOf(key)));
    },
  },
  'forced restore': {
    contents: { [FORCED]: [contentOf(FORCED), newerOf(FORCED)] },
    prepare: async (world) => {
      await swept(world, [FORCED]);
      await put(world, [FORCED], newerOf);
    },
    operate: async (place, _, reported) => {
      const first = tombstones(place).find(({ key }) => key === FORCED);
      if (first === undefined) throw new Error(`${FORCED} was not swept`);
      await bringBack(place, [first], { force: true, reported });
    },
    check: (_, etags) => {
      expect(etags.get(FORCED)).to.equal(md5(contentOf(FORCED)));
    },
  },
};

/** Oldest first. */
function tombstones(place: Place): Tombstone[] {
  return place.catalog.tombstones.page({ limit: 1000 });
}

/** Tombstones whose copy is in the store. */
function kept(place: Place): Tombstone[] {
  return tombstones(place).filter(({ state }) => state === 'pending' || state === 'restored');
}

/** Of each key the one that was moved last. */
function latest(place: Place): Tombstone[] {
  return [...new Map(kept(place).map((tombstone) => [tombstone.key, tombstone])).values()];
}

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex');
}

/** Whether a fault was reached, and what a process ended in; undefined where that is no error. */
interface Struck {
  readonly isStruck: boolean;
  readonly error: unknown;
}

/** One case of the matrix: a fresh store, what befalls a process there, and that nothing comes of it. */
class Case {
  readonly #world: BucketWorld;
  readonly #scenario: Scenario;
  readonly #reported = new Set<string>();

  constructor(world: BucketWorld, scenario: Scenario) {
    this.#world = world;
    this.#scenario = scenario;
  }

  /** Does something as a process that meets a fault. */
  async #as(
    seed: number,
    fault: RequestFault | undefined,
    work: (place: Place) => Promise<void>,
  ): Promise<Struck> {
    let process: BucketProcess | undefined;
    let error: unknown;
    try {
      process = await this.#world.process(seed, fault);
      await work(process.place);
    } catch (caught) {
      error = caught;
    }
    return { isStruck: process?.end().isStruck ?? false, error };
  }

  async operate(fault?: RequestFault): Promise<Struck> {
    return this.#as(11, fault, async (place) => this.#scenario.operate(place, this.#world, this.#reported));
  }

  /** A recovery that finds the process dead; after it requests of that one can do nothing any more. */
  async findDead(): Promise<void> {
    if (this.#scenario.isUnfenced) return;
    expect((await this.#as(12, undefined, recover)).error).to.equal(undefined);
    this.#world.advance(DEAD_MS);
  }

  async recover(fault?: RequestFault): Promise<Struck> {
    return this.#as(13, fault, recover);
  }

  /** A restart: recovery, the operation once more, and everything must hold. */
  async checkAfterRestart(): Promise<void> {
    const process = await this.#world.process(17);
    try {
      const { place } = process;
      await recover(place);
      if (place.catalog.runs.open(place.row.n).length > 0) {
        this.#world.advance(DEAD_MS);
        await recover(place);
      }
      const etags = await this.#whole(place);
      for (const key of this.#reported)
        expect(etags.get(key), `reported as restored: ${key}`).to.equal(md5(contentOf(key)));
      await this.#scenario.operate(place, this.#world, this.#reported);
      this.#scenario.check(place, await this.#whole(place));
    } finally {
      process.end();
    }
  }

  /** Each content is somewhere, unless a purge has taken it. */
  #nothingLost(place: Place, etags: ReadonlyMap<string, string>): void {
    for (const [key, contents] of Object.entries(this.#scenario.contents)) {
      const isPurged = tombstones(place).some((one) => one.key === key && one.state === 'purged');
      if (isPurged && this.#scenario.mayBePurged && OLD.includes(key)) continue;
      const held = [...etags]
        .filter(([name]) => name === key || name.startsWith(`${PENDING}${key}~`))
        .map(([, etag]) => etag);
      for (const content of contents) expect(held, `"${content}" is lost`).to.include(md5(content));
    }
  }

  /** Nothing is lost, stuck or counted wrong, and catalog and store agree. */
  async #whole(place: Place): Promise<Map<string, string>> {
    const { catalog, row } = place;
    const etags = await this.#world.bucket.etags();
    this.#nothingLost(place, etags);
    const all = tombstones(place);
    const isOver = ({ state }: Tombstone): boolean => !['moving', 'purging', 'restoring'].includes(state);
    expect(
      all.filter((one) => !isOver(one)),
      'stuck',
    ).to.deep.equal([]);
    expect(catalog.runs.open(row.n), 'open runs').to.deep.equal([]);
    expect(await listFences(place.store.control), 'fences').to.deep.equal([]);
    const pending = [...etags.keys()].filter((name) => name.startsWith(PENDING));
    const expected = kept(place).map(({ key, id }) => `${PENDING}${key}~${id}`);
    expect(pending, 'pending copies').to.have.members(expected);
    const counted = STATES.map((state) => all.filter((one) => one.state === state))
      .filter((rows) => rows.length > 0)
      .map((rows) => ({
        state: rows[0]?.state,
        count: rows.length,
        bytes: rows.reduce((sum, { size }) => sum + size, 0),
      }));
    expect(catalog.tombstones.tallies(row.n)).to.have.deep.members(counted);
    return etags;
  }
}

const READS: readonly S3Kind[] = ['list', 'list-versions', 'head', 'get'];

/**
 * Which faults are worth trying: a process may die at any request. A read has no effect
 * to be before or after of, and one that fails is made again; an outage that begins with
 * the read after a read is like one that begins with that.
 */
function faultsIn(requests: readonly S3Request[]): RequestFault[] {
  return requests.flatMap((request, i): RequestFault[] => {
    const at = i + 1;
    const [one, other] = at % 2 === 0 ? (['error', 'reset'] as const) : (['reset', 'error'] as const);
    const dies: RequestFault = { at, when: 'before', as: 'kill' };
    const isOut: RequestFault = { at, when: 'before', as: 'outage' };
    const before = requests[i - 1];
    if (isRead(request)) return before !== undefined && isRead(before) ? [dies] : [dies, isOut];
    return [
      dies,
      isOut,
      { at, when: 'before', as: one },
      { at, when: 'after', as: 'kill' },
      { at, when: 'after', as: other },
    ];
  });
}

function isRead({ kind, method }: S3Request): boolean {
  return READS.includes(kind) || method === 'GET';
}

/** The place where an operation has done half of what it does to objects. */
function halfWay(requests: readonly S3Request[]): RequestFault {
  const acts = requests.filter(isAct).length;
  expect(acts).to.be.greaterThan(0);
  return { at: Math.ceil(acts / 2), among: isAct, when: 'after', as: 'kill' };
}

function isAct({ kind, key }: S3Request): boolean {
  return ['copy', 'put', 'delete', 'batch-delete'].includes(kind) && !key.includes('/.tombstoned/');
}

describe(`crash matrix of a bucket (MATRIX_SHIFT=${SHIFT})`, function () {
  this.timeout(900_000);
  before(function () {
    s3ServerOrSkip(this);
  });
  withCredentials();

  for (const kind of KINDS) {
    describe(kind.name, () => {
      let places: BucketPlace[];
      let made: number;

      before(async () => {
        places = await Promise.all(Array.from({ length: AT_ONCE }, async () => BucketPlace.make(kind)));
        made = 0;
      });
      after(async () => {
        await Promise.all(places.map(async (place) => place[Symbol.asyncDispose]()));
      });

      /** A case at its beginning, in a place that nobody else uses meanwhile. */
      async function inCase<T>(
        scenario: Scenario,
        work: (one: Case, world: BucketWorld) => Promise<T>,
      ): Promise<T> {
        const place = places.pop();
        if (place === undefined) throw new Error('more cases than places');
        try {
          const { capabilities } = kind;
          using world = await BucketWorld.make(place, `case-${++made}`, { capabilities, window: WINDOW });
          await scenario.prepare(world);
          return await work(new Case(world, scenario), world);
        } finally {
          places.push(place);
        }
      }

      for (const [name, scenario] of Object.entries(SCENARIOS)) {
        // In all else it is as the one before.
        if (kind.capabilities === UNGUARDED && name !== 'sweep') continue;
        const stride = name === 'forced restore' ? 5 : 3;
        it(`a ${name} that dies, or is failed, at any request loses nothing and leaves nothing stuck`, async () => {
          const requests = await inCase(scenario, async (one, world) => {
            const clean = await world.requestsOf(async () => {
              expect((await one.operate()).error).to.equal(undefined);
            });
            await one.checkAfterRestart();
            return clean;
          });
          expect(requests.length).to.be.greaterThan(10);
          await inFlight(AT_ONCE, oneIn(stride, faultsIn(requests)), async (fault) =>
            inCase(scenario, async (one) => {
              await told(fault, requests, await one.operate(fault), async () => one.checkAfterRestart());
            }),
          );
        });

        it(`a recovery of a ${name} that was killed may itself die, or be failed, at any request`, async () => {
          const half = await inCase(scenario, async (one, world) =>
            halfWay(await world.requestsOf(async () => one.operate())),
          );
          const requests = await inCase(scenario, async (one, world) => {
            await one.operate(half);
            await one.findDead();
            const clean = await world.requestsOf(async () => {
              expect((await one.recover()).error).to.equal(undefined);
            });
            await one.checkAfterRestart();
            return clean;
          });
          expect(requests.length).to.be.greaterThan(5);
          await inFlight(AT_ONCE, oneIn(stride, faultsIn(requests)), async (fault) =>
            inCase(scenario, async (one) => {
              await one.operate(half);
              await one.findDead();
              await told(fault, requests, await one.recover(fault), async () => one.checkAfterRestart());
            }),
          );
        });
      }
    });
  }
});

/** Adds to a failure which fault it was. */
async function told(
  fault: RequestFault,
  requests: readonly S3Request[],
  { isStruck, error }: Struck,
  check: () => Promise<void>,
): Promise<void> {
  try {
    expect(isStruck, 'the fault was reached').to.equal(true);
    await check();
  } catch (cause) {
    const { kind, key } = requests[fault.at - 1] ?? {};
    const at = `${fault.as} ${fault.when} request ${fault.at} (${kind} ${key})`;
    throw new Error(`${at}, which ended in ${String(error)}: ${String(cause)}`, { cause });
  }
}
