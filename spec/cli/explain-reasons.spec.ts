import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { explainKey } from '../../lib/app/explain.ts';
import type { Because, Explanation } from '../../lib/app/explanation.ts';
import {
  dropInsOf,
  guardsOf,
  type OpenPlace,
  openCatalog,
  openPlace,
  policiesOf,
} from '../../lib/app/open.ts';
import { realSurroundings } from '../../lib/app/surroundings.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { type Clock, systemClock } from '../../lib/domain/clock.ts';
import { KEPT_REASONS, type KeptReason } from '../../lib/domain/kept-reason.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { bringBack, purgeDue, tombstonesOf } from '../support/phases.ts';
import { OLD, type StoreSettings, TempStore } from '../support/temp-store.ts';
import { putFence, putLease } from './claims.ts';
import { beforeAllBuild, ctl, hold } from './ctl.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const KEY = 'logs/a';
const WAITING = { ...OLD, limits: { maxObjects: 1, maxFraction: null } };

/** A store, and what is done to it in this process. */
class World {
  readonly store: TempStore;

  constructor(store: TempStore) {
    this.store = store;
  }

  /** Does something with the store and its catalog open. */
  async in<T>(work: (place: OpenPlace) => Promise<T>, clock: Clock = systemClock): Promise<T> {
    const config = loadConfig(this.store.configFile);
    const catalog = openCatalog(config);
    try {
      const [main] = config.stores;
      if (main === undefined) throw new Error('no store');
      const place = await openPlace(catalog, main, { ...realSurroundings(() => undefined), clock });
      try {
        return await work(place);
      } finally {
        place.store.close();
      }
    } finally {
      catalog.close();
    }
  }

  async explain(key = KEY, clock?: Clock): Promise<Explanation | undefined> {
    return this.in(async (place) => explainKey(place, parseKey(key)), clock);
  }

  async sweep(): Promise<void> {
    await this.in(async (place) =>
      sweep(place, {
        policies: policiesOf(place.config),
        dropIns: dropInsOf(place.config),
        guards: guardsOf(place.config),
        dryRun: false,
      }),
    );
  }

  async swept(...keys: string[]): Promise<void> {
    for (const key of keys) this.store.write(key, key, DAY);
    await this.sweep();
  }

  /** Where the only pending copy is. */
  get copy(): string {
    return path.join(this.store.root, 'pending_deletion', this.store.pending()[0] ?? 'none');
  }

  /** Puts a request into the directory of the policy `requests`. */
  request(name: string, ...lines: string[]): void {
    mkdirSync(this.requests, { recursive: true });
    writeFileSync(path.join(this.requests, '.new'), `${lines.join('\n')}\n`);
    renameSync(path.join(this.requests, '.new'), path.join(this.requests, `${name}.keys`));
  }

  get requests(): string {
    return path.join(this.store.directory, 'requests');
  }
}

interface Case {
  readonly settings?: (store: TempStore) => StoreSettings;
  readonly make: (world: World) => Promise<void> | void;
  /** What is asked about: the live object, or its newest copy. */
  readonly of: 'live' | 'copy';
  /** By which clock. */
  readonly clock?: Clock;
  /** How far off its end is, ms; null where it does not end by itself. */
  readonly ends: number | null;
  readonly detail: RegExp;
  readonly change: RegExp;
  /** Does what is said to change it: a command line is run as it stands, `TEXT` filled in. */
  readonly undo: RegExp | ((world: World) => Promise<void> | void);
  /** What keeps it after that. */
  readonly after: readonly KeptReason[];
}

const AHEAD: Clock = Object.assign(Object.create(systemClock) as Clock, {
  now: () => systemClock.now() + DAY,
});

/** A case of each reason of the closed list. */
const CASES: Readonly<Record<KeptReason, Case>> = {
  window: {
    settings: () => ({ policies: [OLD], safetyWindow: '7d' }),
    make: async (world) => world.swept(KEY),
    of: 'copy',
    ends: 7 * DAY,
    detail: /safety window of 7d has not passed/,
    change: /tombstonectl --store main restore \S+, or to purge it now /,
    undo: /tombstonectl --store main purge --now .*$/,
    after: [],
  },
  lease: {
    settings: () => ({ policies: [OLD] }),
    make: ({ store }) => {
      store.write(KEY, '', DAY);
      putLease(store);
    },
    of: 'live',
    ends: null,
    detail: /lease l-\S+ of fetch on h2.*ends 1h after its last renewal/,
    change: /ends with its restore; if that is dead, tombstonectl/,
    undo: /tombstonectl --store main lease break .*$/,
    after: [],
  },
  hold: {
    settings: () => ({ policies: [OLD] }),
    make: async (world) => {
      await world.swept(KEY);
      hold(world.store, 'logs/');
    },
    of: 'copy',
    ends: null,
    detail: /hold h-\S+ of a@b: audit/,
    change: /^tombstonectl --store main release h-\S+$/,
    undo: /.*/,
    after: [],
  },
  exempt: {
    settings: () => ({ policies: [OLD] }),
    make: async (world) => {
      await world.swept(KEY);
      await world.in(async (place) => bringBack(place, tombstonesOf(place, KEY), { exemptFor: DAY }));
    },
    of: 'live',
    ends: DAY,
    detail: /policies leave it alone: restored/,
    change: /until then tombstonectl --store main tombstone logs\/a, or tombstonectl/,
    undo: /tombstonectl --store main release .*$/,
    after: [],
  },
  fence: {
    settings: () => ({ policies: [OLD] }),
    make: ({ store }) => {
      store.write(KEY, '', DAY);
      putFence(store);
    },
    of: 'live',
    ends: null,
    detail: /a sweep of h2, pid 4711.*its catalog is not at hand/,
    change: /its own catalog's next sweep or purge finishes it; if its process is gone for good,/,
    undo: /tombstonectl --store main fence break .*$/,
    after: [],
  },
  clock: {
    settings: () => ({ policies: [OLD], safetyWindow: '0s' }),
    make: async (world) => world.swept(KEY),
    of: 'copy',
    clock: AHEAD,
    ends: null,
    detail: /the clock says .* and was set 1d forward while this machine ran/,
    change: /^if the clock is right: tombstonectl clock accept$/,
    undo: async (world) =>
      world.in(
        async ({ catalog }) => catalog.transaction(() => catalog.clock.accept(AHEAD)), // as that command does
        AHEAD,
      ),
    after: [],
  },
  limit: {
    settings: () => ({ policies: [WAITING] }),
    make: async (world) => world.swept(KEY, 'logs/b'),
    of: 'live',
    ends: null,
    detail:
      /policy old is over a limit \(it would move 2 objects.*\), and its plan s-\S+ waits for approval until 20/,
    change: /^tombstonectl --store main approve s-\S+$/,
    undo: /.*/,
    after: [],
  },
  owner: {
    settings: () => ({ policies: [OLD], safetyWindow: '0s' }),
    make: async (world) => {
      await world.swept(KEY);
      const file = path.join(world.store.root, '.tombstoned/owner.json');
      const owner = readFileSync(file, 'utf8');
      writeFileSync(`${file}.was`, owner);
      writeFileSync(file, owner.replace(/"catalog":"[^"]+"/, '"catalog":"another"'));
    },
    of: 'copy',
    ends: null,
    detail: /belongs to|another/,
    change: /./,
    undo: ({ store }) => {
      const file = path.join(store.root, '.tombstoned/owner.json');
      renameSync(`${file}.was`, file);
    },
    after: [],
  },
  protected: {
    settings: () => ({ policies: [OLD], protect: ['logs/*'] }),
    make: ({ store }) => store.write(KEY, '', DAY),
    of: 'live',
    ends: null,
    detail: /a glob of protect in main's config matches it/,
    change: /^protect in main's config$/,
    undo: ({ store }) => store.configure({ main: { policies: [OLD] } }),
    after: [],
  },
  'too-young': {
    settings: () => ({ policies: [{ ...OLD, olderThan: '2d' }] }),
    make: ({ store }) => store.write(KEY, '', DAY),
    of: 'live',
    ends: DAY,
    detail: /it is not yet older than 2d/,
    change: /^olderThan of policy old in main's config, or tombstonectl --store main tombstone logs\/a$/,
    undo: ({ store }) => store.configure({ main: { policies: [OLD] } }),
    after: [],
  },
  'keep-last': {
    settings: () => ({ policies: [{ ...OLD, keepLast: 1 }] }),
    make: ({ store }) => store.write(KEY, '', DAY),
    of: 'live',
    ends: null,
    detail: /old keeps the newest 1, and 0 are newer/,
    change: /^keepLast of policy old in main's config, or tombstonectl --store main tombstone logs\/a$/,
    undo: ({ store }) => store.write('logs/b', ''),
    after: [],
  },
  'no-policy': {
    settings: () => ({ policies: [{ ...OLD, prefix: 'other/' }], limits: { maxFraction: null } }),
    make: ({ store }) => store.write(KEY, '', DAY),
    of: 'live',
    ends: null,
    detail: /^no policy selects it$/,
    change: /^tombstonectl --store main tombstone logs\/a, or a policy in main's config that selects it$/,
    undo: /tombstonectl --store main tombstone logs\/a/,
    after: [],
  },
  coverage: {
    settings: () => ({ format: 'aptos', policies: [OLD] }),
    make: ({ store }) => {
      store.write(KEY, '{}', DAY);
      const line = { first_version: 0, last_version: 9, manifest: KEY };
      store.write('metadata/transaction_0-9.meta', `${JSON.stringify({ TransactionBackup: line })}\n`);
    },
    of: 'live',
    ends: null,
    detail: /metadata refers to it: \{"TransactionBackup":\{"first_version":0,"last_version":9,/,
    change: /tombstonectl --store main aptos status says what is live; it may go once/,
    undo: ({ store }) => rmSync(path.join(store.root, 'metadata/transaction_0-9.meta')),
    after: [],
  },
  'object-lock': {
    settings: () => ({ policies: [OLD], safetyWindow: '0s' }),
    make: async (world) => {
      await world.swept(KEY);
      await world.in(async (place) => lock(place, Date.now() + HOUR));
    },
    of: 'copy',
    ends: HOUR,
    detail: /a version of it is locked \(object lock\)/,
    change: /^release the lock in the store; the first purge after that time looks again$/,
    undo: async (world) => world.in(async (place) => lock(place, Date.now() - HOUR)), // as a purge that finds none
    after: ['window'],
  },
  changed: {
    settings: () => ({ policies: [OLD], safetyWindow: '0s' }),
    make: async (world) => {
      await world.swept(KEY);
      writeFileSync(world.copy, 'something else');
    },
    of: 'copy',
    ends: null,
    detail: /its pending copy is not what was tombstoned, so no purge takes it/,
    change: /^see what to do: tombstonectl --store main verify$/,
    undo: async ({ store, copy }) => {
      const { objects } = await ctl(store, '--json', 'verify');
      expect(objects[0]).to.include({ type: 'difference', key: KEY, problem: 'changed-copy' });
      rmSync(copy); // what the remedy ends in
    },
    after: ['error'],
  },
  error: {
    settings: () => ({ policies: [OLD], safetyWindow: '0s' }),
    make: async (world) => {
      await world.swept(KEY);
      rmSync(world.copy);
    },
    of: 'copy',
    ends: null,
    detail: /^its pending copy is not in the store$/,
    change: /^tombstonectl --store main verify --repair, or the first purge after its window,/,
    undo: /tombstonectl --store main verify --repair/,
    after: [],
  },
};

/** Notes that a purge found the copy locked. */
async function lock({ catalog, row, actor, clock }: OpenPlace, until: number): Promise<void> {
  const lockOne = (): void => {
    const [pending] = catalog.tombstones.ofKey(row.n, KEY, 1);
    const now = clock.now();
    const { pid, host, boot, by } = actor;
    const id = `r-20261122T101500123Z-${String(Math.trunc(until / 1000) % 1_000_000).padStart(6, '0')}`;
    const run = catalog.runs.begin({
      id,
      store: row.n,
      kind: 'purge',
      pid,
      host,
      boot,
      by,
      uid: undefined,
      via: undefined,
      now,
      lock: '',
    });
    const take = { store: row.n, run, ids: [pending?.id ?? ''], from: ['pending'] } as const;
    const ends = catalog.tombstones
      .takeNamed(take)
      .map((tombstone) => ({ tombstone, to: 'prior' as const, lockedUntil: until }));
    catalog.tombstones.settlePurges({
      store: row.n,
      run,
      now: catalog.clock.count(clock),
      at: now,
      window: 0,
      ends,
    });
    catalog.runs.end(run, 'done', now);
  };
  catalog.transaction(lockOne);
}

function keptOf(explanation: Explanation | undefined, of: Case['of']): readonly Because[] {
  return (of === 'live' ? explanation?.live?.kept : explanation?.copies[0]?.kept) ?? [];
}

describe('tombstonectl explain gives each reason, when it ends, and the command that changes it', () => {
  beforeAllBuild();
  let world: World;
  afterEach(() => world.store.remove());

  async function make(
    settings: (store: TempStore) => StoreSettings = () => ({ policies: [OLD] }),
  ): Promise<void> {
    const store = new TempStore();
    store.configure({ main: settings(store) });
    await store.init();
    world = new World(store);
  }

  it('of the closed list, none left out', async () => {
    await make();
    expect(Object.keys(CASES)).to.have.members([...KEPT_REASONS]);
  });

  for (const [reason, one] of Object.entries(CASES)) {
    it(reason, async () => {
      await make(one.settings);
      await one.make(world);
      const began = Date.now();
      const kept = keptOf(await world.explain(KEY, one.clock), one.of);
      expect(kept.map((because) => because.reason)).to.deep.equal([reason]);
      const [because] = kept;
      if (because === undefined) throw new Error('it is not kept');
      expect(because.detail).to.match(one.detail);
      expect(because.change).to.match(one.change);
      if (one.ends === null) expect(because.until).to.equal(null);
      else expect((because.until ?? 0) - began).to.be.within(one.ends - 60_000, one.ends + 60_000);
      if (one.undo instanceof RegExp) run(one.undo, because.change);
      else await one.undo(world);
      const after = keptOf(await world.explain(KEY, one.clock), one.of);
      expect(after.map((left) => left.reason)).to.deep.equal(one.after);
    });
  }

  /** Runs a command that was printed, as a shell reads it. */
  function run(pattern: RegExp, change: string): void {
    const [command = ''] = pattern.exec(change) ?? [];
    expect(command).to.match(/^tombstonectl /);
    const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;
    const program = `"${process.execPath}" "${main}" --config "${world.store.configFile}"`;
    execFileSync('sh', ['-c', command.replace('tombstonectl', program).replace('TEXT', 'spec')], {
      stdio: 'pipe',
    });
  }

  describe('and says of a key', () => {
    it('that nobody has heard of, that there is no such thing', async () => {
      await make();
      world.store.write('logs/abc', '');
      expect(await world.explain()).to.equal(undefined);
    });

    it('that is a symbolic link, that it can’t be moved', async () => {
      await make();
      world.store.write('d/x', '', DAY);
      symlinkSync('x', path.join(world.store.root, 'd/link'));
      const [because] = keptOf(await world.explain('d/link'), 'live');
      expect(because).to.include({
        reason: 'error',
        change: 'make it a regular file that this user may move',
      });
      expect(because?.detail).to.match(/^it can't be moved: it is not a regular file/);
    });

    it('that was purged, when, by whom and why', async () => {
      await make(() => ({ policies: [OLD], safetyWindow: '0s' }));
      await world.swept(KEY);
      await world.in(async (place) => purgeDue(place));
      const [copy] = (await world.explain())?.copies ?? [];
      expect(copy).to.deep.include({ state: 'purged', size: null, dueAt: null, kept: [] });
      expect(copy?.ended?.by).to.match(/.@./);
      expect(Date.now() - (copy?.ended?.at ?? 0)).to.be.within(0, 60_000);
      const { stdout } = await ctl(world.store, 'explain', KEY);
      expect(stdout).to.match(/^ {4}purged 20\S+ by \S+@\S+$/m);
    });

    it('that was never moved, why not', async () => {
      await make();
      world.store.write(KEY, '', DAY);
      await world.in(async (place) => {
        const { store } = place;
        const move = store.move.bind(store);
        store.move = async (batch, options) => {
          world.store.write(KEY, 'newer');
          return move(batch, options);
        };
        await sweep(place, {
          policies: policiesOf(place.config),
          guards: guardsOf(place.config),
          dryRun: false,
        });
      });
      const [copy] = (await world.explain())?.copies ?? [];
      expect(copy).to.deep.include({ state: 'abandoned', size: null, kept: [] });
      expect(copy?.ended?.detail).to.match(/changed/);
    });

    it('that was restored, and is not live any more, that it is pending again after its window', async () => {
      await make(() => ({ policies: [OLD], safetyWindow: '2h' }));
      await world.swept(KEY);
      await world.in(async (place) => bringBack(place, tombstonesOf(place, KEY)));
      rmSync(path.join(world.store.root, KEY));
      const [because] = keptOf(await world.explain(), 'copy');
      expect(because?.detail).to.include('is not live any more');
      expect((because?.until ?? 0) - Date.now()).to.be.within(4 * HOUR - 60_000, 4 * HOUR);
    });

    it('that a policy would take, if nothing kept it', async () => {
      await make();
      world.store.write(KEY, '', DAY);
      hold(world.store, 'logs/');
      expect((await world.explain())?.live).to.include({ takenBy: null, wouldTake: 'old' });
      expect((await ctl(world.store, 'explain', KEY)).stdout).to.include(
        'policy old takes it when nothing keeps it',
      );
    });

    it('that came after a plan that waits, and of one that has changed since', async () => {
      await make(() => ({ policies: [WAITING] }));
      await world.swept('logs/b', 'logs/c');
      world.store.write(KEY, '', DAY);
      world.store.write('logs/b', 'changed', DAY);
      const [later] = keptOf(await world.explain(), 'live');
      expect(later).to.include({ reason: 'limit' });
      expect(later?.detail).to.include('this object is not in it');
      expect(later?.change).to.match(/approve s-\S+, or tombstonectl --store main reject s-/);
      const [changed] = keptOf(await world.explain('logs/b'), 'live');
      expect(changed).to.include({ reason: 'changed' });
      expect(changed?.detail).to.include('an approval leaves it');
      world.store.configure({ main: { policies: [OLD] } });
      expect((await world.explain())?.live).to.deep.include({ takenBy: 'old', kept: [] });
    });
  });

  describe('and of a key that a request names', () => {
    const settings = (limits: object) => (store: TempStore) => ({
      policies: [
        { name: 'requests', type: 'drop-in', directory: path.join(store.directory, 'requests'), limits },
      ],
    });

    it('that it waits for approval, or was changed since', async () => {
      await make(settings({ maxObjects: 1, maxFraction: null }));
      for (const key of [KEY, 'logs/b']) world.store.write(key, '', DAY);
      world.request('mine', `{"key":"${KEY}","reason":"compacted"}`, 'logs/b');
      await world.sweep();
      const explained = await world.explain();
      const [request] = explained?.requests ?? [];
      expect(request).to.include({ name: 'mine', policy: 'requests', isWaiting: true, reason: 'compacted' });
      const [because] = keptOf(explained, 'live');
      expect(because).to.include({
        reason: 'limit',
        change: `tombstonectl --store main approve ${request?.sweep}`,
      });
      expect(because?.detail).to.include('request mine of policy requests is over a limit');
      world.store.write('logs/b', 'changed', DAY);
      expect(keptOf(await world.explain('logs/b'), 'live').map(({ reason }) => reason)).to.deep.equal([
        'changed',
      ]);
      const { stdout } = await ctl(world.store, 'explain', KEY);
      expect(stdout).to.match(
        /^ {2}asked for by request mine of policy requests \(compacted\), which waits as s-\S+: it is over a limit$/m,
      );
    });

    it('also where it is not there, and says that of the request', async () => {
      await make(settings({ maxObjects: 1, maxFraction: null }));
      for (const key of ['logs/b', 'logs/c', KEY]) world.store.write(key, '', DAY);
      world.request('mine', 'logs/b', 'logs/c', KEY);
      await world.sweep();
      rmSync(path.join(world.store.root, KEY));
      expect(await world.explain()).to.deep.include({ live: null, copies: [] });
      expect((await world.explain())?.requests.map(({ name }) => name)).to.deep.equal(['mine']);
    });
  });
});
