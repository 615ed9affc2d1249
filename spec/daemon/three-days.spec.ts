import { once } from 'node:events';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { checkLog } from '../../lib/app/check-log.ts';
import { claimPlaceOf } from '../../lib/app/claim-place.ts';
import {
  dropInsOf,
  guardsOf,
  type OpenPlace,
  openCatalog,
  openPlace,
  policiesOf,
} from '../../lib/app/open.ts';
import { Holding } from '../../lib/app/put-hold.ts';
import { recover } from '../../lib/app/recover.ts';
import { releaseHold } from '../../lib/app/release-holds.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { runDaemon } from '../../lib/daemon/daemon.ts';
import { Log } from '../../lib/daemon/log.ts';
import { Reloads } from '../../lib/daemon/reloads.ts';
import type { RandomSource } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { purge } from '../../lib/purge/purge.ts';
import { openSession, type Session } from '../../lib/reader/session.ts';
import { restore } from '../../lib/restore/restore.ts';
import { nodeFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { approve, reject } from '../../lib/sweep/approve.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { seeded } from '../simulation/surroundings.ts';
import { Mounts, mayMount } from '../support/mounts.ts';
import { FAST, filesBelow } from '../support/phases.ts';
import { ACTOR, HOUR } from '../support/place.ts';
import { TempStore } from '../support/temp-store.ts';
import { errno } from '../support/watched-fs.ts';
import { Sink } from './sink.ts';
import { WorldTime } from './three-days-world.ts';

const HOURS = 72;
/** The shortest window that is ever in force, and how old a file must be. */
const WINDOW = 4 * HOUR;
const SEED = Number(process.env['THREE_DAYS_SEED'] ?? Date.now() % 1_000_000);

/** `clockTolerance`, where the config says nothing. ms */
const TOLERANCE = 300_000;

/** What the daemon's log has of a turn. */
interface Line {
  readonly level: string;
  readonly message: string;
  readonly type?: string;
  readonly purged?: number;
}

/** What is measured at the end of an hour. */
interface Measure {
  readonly hour: number;
  readonly heap: number;
  readonly rss: number;
  readonly descriptors: number;
  /** Bytes, after a checkpoint. */
  readonly catalog: number;
  /** Rows of each table, files beside the catalog, and files in each directory below `.tombstoned/`. */
  readonly counts: Readonly<Record<string, number>>;
}

/** One content that was written, and where it was seen last. */
interface Content {
  readonly key: string;
  /** When it was live last, by true time that has passed. */
  liveAt: number;
}

describe('72 hours of a daemon', function () {
  this.timeout(180_000);
  const mounts = new Mounts();
  let host: TempStore;
  let store: TempStore;
  let world: World;

  beforeEach(async () => {
    host = new TempStore(FAST);
    const parent = path.join(host.directory, 'disk');
    mkdirSync(parent);
    if (mayMount()) mounts.tmpfs(parent, '32m');
    store = new TempStore(parent);
    world = new World(store, SEED);
    await world.begin();
  });
  afterEach(async () => {
    await world.end();
    mounts.remove();
    host.remove();
  });

  it(`lose nothing, purge nothing early, and leave nothing behind that grows (THREE_DAYS_SEED=${SEED})`, async () => {
    const measures: Measure[] = [];
    for (let hour = 1; hour <= HOURS; hour++) {
      await world.live(hour);
      if (hour >= 24 && world.isQuiet) measures.push(world.measure(hour));
    }
    await world.settle();
    const { did } = world;
    const least = {
      writes: 200,
      vanished: 100,
      restores: 10,
      crashes: 6,
      sessions: 6,
      holds: 4,
      reloads: 10,
      plans: 4,
      requests: 6,
      'purges on a full disk': 3,
    };
    for (const [what, count] of Object.entries(least))
      expect(did[what], `${what} of ${JSON.stringify(did)}`).to.be.at.least(count);
    expect(world.errors, 'in hours without trouble').to.deep.equal([]);
    checkFlat(measures);
  });

  function checkFlat(measures: readonly Measure[]): void {
    const before = measures.filter(({ hour }) => hour < 48);
    const after = measures.filter(({ hour }) => hour >= 48);
    const shown = JSON.stringify([before.at(0), before.at(-1), after.at(-1)]);
    const most = (part: readonly Measure[], of: (one: Measure) => number): number =>
      Math.max(...part.map(of));
    const least = (part: readonly Measure[], of: (one: Measure) => number): number =>
      Math.min(...part.map(of));
    const middle = (part: readonly Measure[], of: (one: Measure) => number): number =>
      part.map(of).toSorted((a, b) => a - b)[Math.floor(part.length / 2)] ?? 0;
    const MIB = 1024 * 1024;
    expect(
      least(after, ({ heap }) => heap),
      shown,
    ).to.be.at.most(least(before, ({ heap }) => heap) + MIB);
    expect(
      middle(after, ({ rss }) => rss),
      shown,
    ).to.be.at.most(most(before, ({ rss }) => rss) + 16 * MIB);
    expect(
      most(after, ({ descriptors }) => descriptors),
      shown,
    ).to.be.at.most(most(before, ({ descriptors }) => descriptors));
    expect(
      most(after, ({ catalog }) => catalog),
      shown,
    ).to.be.at.most(most(before, ({ catalog }) => catalog) * 1.1);
    for (const name of new Set(measures.flatMap(({ counts }) => Object.keys(counts)))) {
      const of = ({ counts }: Measure): number => counts[name] ?? 0;
      expect(most(after, of), `${name}: ${JSON.stringify(measures.map(of))}`).to.be.at.most(
        most(before, of) * 1.3 + 6,
      );
    }
  }
});

/** A daemon in this process, and what its surroundings do to it, an hour at a time. */
class World {
  readonly time = new WorldTime();
  readonly did: Record<string, number> = {};
  /** What the log had of level error while nothing was made to go wrong. */
  readonly errors: string[] = [];
  readonly #store: TempStore;
  readonly #random: RandomSource;
  readonly #reloads = new Reloads();
  readonly #stop = new AbortController();
  readonly #contents = new Map<string, Content>();
  readonly #filler: string;
  #running: Promise<void> = Promise.resolve();
  #written = 0;
  #isTroubled = false;
  #held: { id: string; until: number; contents: Set<string> } | undefined;
  #session: { session: Session; view: Map<string, string>; until: number; name: string } | undefined;
  #freeDisk: (() => void) | undefined;

  constructor(store: TempStore, seed: number) {
    this.#store = store;
    this.#random = seeded(seed);
    this.#filler = path.join(path.dirname(store.directory), 'filler');
  }

  async begin(): Promise<void> {
    this.#configure('4h');
    mkdirSync(this.#requests);
    await this.#store.init();
    const config = loadConfig(this.#store.configFile);
    const out = new Sink();
    out.onText = (line) => {
      out.text = '';
      this.#heard(JSON.parse(line) as Line);
    };
    const clock = this.time.clockOf('daemon');
    const log = new Log(config.log, { out, noColor: true, now: () => clock.now() });
    const of = { config, clock, random: this.#random, actor: ACTOR, log, version: '1.2.3' };
    this.#running = runDaemon({ ...of, reloads: this.#reloads, signal: this.#stop.signal });
    this.#running.catch(() => this.time.leave('daemon'));
  }

  #heard({ level, message, type, purged = 0 }: Line): void {
    if (level === 'error' && !this.#isTroubled) this.errors.push(message);
    if (type !== 'purge' || purged === 0) return;
    if (this.#freeDisk !== undefined) this.#count('purges on a full disk');
    if (Math.abs(this.time.wrongBy) > TOLERANCE) this.errors.push(`by a wrong clock: ${message}`);
  }

  /** The daemon ends when it is told to, and as it should. */
  async end(): Promise<void> {
    this.#freeDisk?.();
    await this.#session?.session.close();
    this.#stop.abort();
    await this.#running;
  }

  get #requests(): string {
    return path.join(this.#store.directory, 'requests');
  }

  /** Whether nobody but the daemon has anything open. */
  get isQuiet(): boolean {
    return this.#session === undefined && !this.#isTroubled;
  }

  #count(what: string): void {
    this.did[what] = (this.did[what] ?? 0) + 1;
  }

  #configure(safetyWindow: string): void {
    const limits = { maxFraction: null, maxObjects: 60 };
    const file = path.join(this.#store.directory, 'next.yaml');
    const { configFile } = this.#store;
    this.#store.configure(
      {
        main: {
          safetyWindow,
          sweepEvery: '1h',
          purgeEvery: '30m',
          exemptAfterRestore: '2h',
          policies: [
            { name: 'old', type: 'age', prefix: 'd', olderThan: '3h', limits },
            {
              name: 'many',
              type: 'age',
              prefix: 'many/',
              olderThan: '1h',
              limits: { ...limits, maxObjects: 3 },
            },
            { name: 'asked', type: 'drop-in', directory: this.#requests, limits },
          ],
        },
      },
      { historyFor: '2h' },
    );
    writeFileSync(file, readFileSync(configFile));
    renameSync(file, configFile);
  }

  /** One hour: something is done at its beginning, in its midst, and at its end all is looked at. */
  async live(hour: number): Promise<void> {
    const { time } = this;
    const begin = (hour - 1) * HOUR;
    await time.until(begin + 60_000);
    await this.#trouble(hour);
    if (this.#freeDisk === undefined) {
      for (let i = 0; i < 6; i++) this.#write();
      if (hour % 4 === 1) this.#overwrite();
      if (hour % 5 === 2) this.#ask();
      if (hour % 7 === 0) for (let i = 0; i < 5; i++) this.#write(`many/${this.#written}`);
      if (hour % 3 === 0) await this.#crash(hour);
    }
    await time.until(begin + 1_500_000);
    if (hour % 2 === 0) await this.#restoreSome();
    await this.#claims(hour);
    if (hour % 6 === 5) await this.#reload(hour);
    await time.until(begin + HOUR - 60_000);
    await this.#useClaims();
    this.#look();
  }

  /** Everything ends, what was left is recovered, and the log is whole. */
  async settle(): Promise<void> {
    await this.time.until((HOURS + 8) * HOUR);
    this.#look();
    const place = await this.#open('settle');
    try {
      await recover(place);
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
      expect((await checkLog(place.catalog)).broken).to.equal(null);
    } finally {
      this.#close('settle', place);
    }
  }

  // What goes wrong.

  async #trouble(hour: number): Promise<void> {
    const was = this.#isTroubled;
    this.#freeDisk?.();
    this.#freeDisk = undefined;
    this.time.wrongBy = CLOCK[hour] ?? 0;
    if (hour % 24 === 20) this.#fill();
    this.#isTroubled = this.time.wrongBy !== 0 || this.#freeDisk !== undefined;
    // A fault ends with the first turn after it.
    if (was && !this.#isTroubled) {
      this.#isTroubled = true;
      await this.time.until((hour - 1) * HOUR + 1_200_000);
      this.#isTroubled = false;
    }
  }

  /** Not a byte is free. */
  #fill(): void {
    this.#count('full');
    if (!mayMount()) {
      this.#freeDisk = withoutRoom();
      return;
    }
    for (let size = 1024 * 1024; size >= 1; size = size > 512 ? size / 8 : size > 1 ? 1 : 0)
      while (hasGrown(this.#filler, size)) continue;
    this.#freeDisk = () => rmSync(this.#filler, { force: true });
  }

  /** Some other process is in the midst of something, and dies. */
  async #crash(hour: number): Promise<void> {
    const place = await this.#open('crash');
    const call = (['move', 'remove', 'putBack'] as const)[(hour / 3) % 3] ?? 'move';
    const { store } = place;
    const real = (store[call] as (...values: unknown[]) => Promise<unknown>).bind(store);
    const isAfter = this.#random(2) === 0;
    Object.assign(store, {
      [call]: async (...values: unknown[]): Promise<never> => {
        if (isAfter) await real(...values);
        throw new Error('died');
      },
    });
    const { config } = place;
    try {
      if (call === 'move')
        await sweep(place, { policies: policiesOf(config, 'old'), guards: guardsOf(config), dryRun: false });
      else if (call === 'remove') await purge(place, { dryRun: false, historyFor: 2 * HOUR });
      else await this.#restoreIn(place);
    } catch (error) {
      if (String(error) !== 'Error: died') throw error;
      this.#count('crashes');
    } finally {
      this.#close('crash', place);
    }
  }

  // What goes on.

  #write(key = `d${this.#random(4)}/f${this.#written}`): void {
    const content = `${this.#written++} ${'x'.repeat(this.#random(3000))}`;
    const file = path.join(this.#store.root, key);
    const next = path.join(path.dirname(this.#store.root), 'being-written');
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(next, content);
    utimesSync(next, this.time.true / 1000, this.time.true / 1000);
    renameSync(next, file);
    this.#contents.set(content, { key, liveAt: this.time.passed });
    this.#count('writes');
  }

  #overwrite(): void {
    const [key, content] = this.#live()[0] ?? [];
    if (key === undefined || content === undefined || this.#session !== undefined) return;
    this.#contents.delete(content);
    this.#held?.contents.delete(content);
    this.#write(key);
  }

  #ask(): void {
    const next = path.join(this.#store.directory, 'request');
    const keys = this.#live().map(([key]) => key);
    writeFileSync(next, `${keys[this.#random(Math.max(1, keys.length))] ?? 'none'}\nnone/such\n`);
    renameSync(next, path.join(this.#requests, `r${this.#written}.keys`));
    for (const name of readdirSync(this.#requests)) {
      if (!name.endsWith('.done')) continue;
      rmSync(path.join(this.#requests, name));
      this.#count('requests');
    }
  }

  async #restoreSome(): Promise<void> {
    if (this.#freeDisk !== undefined) return;
    const place = await this.#open('restore');
    try {
      await recover(place);
      await this.#restoreIn(place);
    } finally {
      this.#close('restore', place);
    }
  }

  async #restoreIn(place: OpenPlace): Promise<void> {
    const all = place.catalog.tombstones.page({ limit: 1000 }).filter(({ state }) => state === 'pending');
    const one = all[this.#random(Math.max(1, all.length))];
    if (one === undefined) return;
    await restore(place, {
      pages: [[one]],
      to: null,
      force: false,
      exemptFor: 2 * HOUR,
      dryRun: false,
      onOutcome: ({ outcome }) => {
        if (outcome === 'restored') this.#count('restores');
      },
    });
  }

  /** Somebody decides about what waits over a limit: each second plan is approved. */
  async #decide(): Promise<void> {
    const place = await this.#open('decide');
    const { config } = place;
    await recover(place);
    for (const { sweep: id } of place.catalog.waiting.ofStore(place.row.n, place.clock.now())) {
      this.#count('plans');
      if ((this.did['plans'] ?? 0) % 2 === 0) await reject(place, id, { reason: 'spec', dryRun: false });
      else
        await approve(place, id, {
          policies: policiesOf(config),
          dropIns: dropInsOf(config),
          guards: guardsOf(config),
          dryRun: false,
        });
    }
    this.#close('decide', place);
  }

  async #claims(hour: number): Promise<void> {
    if (this.#freeDisk !== undefined) return;
    if (hour % 7 === 3) await this.#decide();
    if (hour % 12 === 3) {
      const place = await this.#open('hold');
      const options = { until: null, reason: 'spec', fenceTimeout: 0, dryRun: false };
      const holding = new Holding(claimPlaceOf(place), options);
      await recover(place);
      await holding.prefix('d0/');
      const [put] = await holding.end();
      this.#close('hold', place);
      this.#look(); // what went before it was held
      const contents = [...this.#contents].filter(([, { key }]) => key.startsWith('d0/'));
      this.#held = {
        id: put?.hold.id ?? '',
        until: hour + 7,
        contents: new Set(contents.map(([content]) => content)),
      };
      this.#count('holds');
    }
    if (this.#held !== undefined && hour >= this.#held.until) {
      this.#look();
      const place = await this.#open('release');
      await releaseHold(claimPlaceOf(place), this.#held.id, false);
      this.#held = undefined;
      this.#close('release', place);
    }
    if (hour % 8 === 4) await this.#openSession(hour);
  }

  async #openSession(hour: number): Promise<void> {
    const name = `session ${hour}`;
    const place = await this.#open('before session');
    await recover(place);
    this.#close('before session', place);
    const clock = this.time.clockOf(name);
    const { root } = this.#store;
    const reading = LocalStore.open({
      path: root,
      pendingPrefix: 'pending_deletion/',
      access: 'read',
      clock,
    });
    const surroundings = { clock, random: this.#random, actor: ACTOR, onClose: () => reading.close() };
    const session = await openSession(reading, surroundings, { prefixes: [''], ttl: HOUR });
    this.#session = { session, view: new Map(this.#live()), until: hour + 2, name };
    this.#count('sessions');
  }

  /** All that a session has listed is there as it was, whatever became of it. */
  async #useClaims(): Promise<void> {
    const { passed } = this.time;
    if (this.#session === undefined) return;
    const { session, view, until, name } = this.#session;
    for (const [key, content] of view) {
      expect(await text(await session.read(parseKey(key))), `${key} in ${name}`).to.equal(content);
    }
    if (passed < (until - 1) * HOUR) return;
    await session.close();
    this.time.leave(name);
    this.#session = undefined;
  }

  async #reload(hour: number): Promise<void> {
    if (this.#freeDisk !== undefined) return;
    const was = this.#isTroubled;
    if (hour % 12 === 5) {
      this.#isTroubled = true;
      writeFileSync(this.#store.configFile, 'stores: 7');
      await this.#reloaded();
      this.#isTroubled = was;
    }
    this.#configure(hour % 12 === 5 ? '5h' : '4h');
    await this.#reloaded();
  }

  async #reloaded(): Promise<void> {
    const end = once(this.#reloads, 'end');
    this.#reloads.ask('SIGHUP');
    await end;
    await this.time.idle();
    this.#count('reloads');
  }

  // What is looked at.

  #live(): [string, string][] {
    const { root } = this.#store;
    return filesBelow(root)
      .filter((name) => !name.startsWith('.tombstoned/') && !name.startsWith('pending_deletion/'))
      .map((name) => [name, readFileSync(path.join(root, name), 'utf8')]);
  }

  /** Each content is live, or pending, or was gone for at least a window, and nobody held it. */
  #look(): void {
    const { passed } = this.time;
    const live = new Set(this.#live().map(([, content]) => content));
    const below = path.join(this.#store.root, 'pending_deletion');
    const pending = new Set(filesBelow(below).map((name) => readFileSync(path.join(below, name), 'utf8')));
    for (const [content, about] of this.#contents) {
      if (live.has(content)) about.liveAt = passed;
      if (live.has(content) || pending.has(content)) continue;
      const words = `${about.key}, live ${(passed - about.liveAt) / HOUR} h ago, at ${passed / HOUR} h`;
      expect(this.#held?.contents.has(content) ?? false, `${words}: held, and gone`).to.equal(false);
      expect(passed - about.liveAt, `${words}: gone early`).to.be.at.least(WINDOW);
      this.#contents.delete(content);
      this.#count('vanished');
    }
  }

  measure(hour: number): Measure {
    collectGarbage();
    const { heapUsed, rss } = process.memoryUsage();
    const { catalogFile, root } = this.#store;
    const db = new Database(catalogFile);
    db.pragma('wal_checkpoint(TRUNCATE)');
    const names = db.prepare(`SELECT name FROM sqlite_schema WHERE type = 'table'`).pluck().all() as string[];
    const counts: Record<string, number> = {};
    for (const name of names)
      counts[name] = db.prepare(`SELECT count(*) FROM ${name}`).pluck().get() as number;
    db.close();
    for (const directory of ['tmp', 'leases', 'fences', 'holds'])
      counts[directory] = readdirSync(path.join(root, '.tombstoned', directory)).length;
    counts['locks'] = readdirSync(`${catalogFile}.runs`).length;
    counts['beside'] = readdirSync(this.#store.directory).length;
    const descriptors = readdirSync('/proc/self/fd').length;
    return { hour, heap: heapUsed, rss, descriptors, catalog: statSync(catalogFile).size, counts };
  }

  async #open(name: string): Promise<OpenPlace> {
    const config = loadConfig(this.#store.configFile);
    const [of] = config.stores;
    if (of === undefined) throw new Error('no store');
    const clock = this.time.clockOf(name);
    const report = (): void => undefined;
    return openPlace(openCatalog(config), of, { clock, random: this.#random, actor: ACTOR, report });
  }

  #close(name: string, place: OpenPlace): void {
    place.store.close();
    place.catalog.close();
    this.time.leave(name);
  }
}

/** In which hours the wall clock is wrong, and by how much. ms. */
const CLOCK: Readonly<Record<number, number>> = {
  10: 2000, // a small step, which is followed
  11: 2000,
  17: 40 * 60_000,
  34: -10 * 24 * HOUR,
  50: 400 * 24 * HOUR,
  51: 400 * 24 * HOUR,
  64: -30 * 60_000,
};

setFlagsFromString('--expose-gc');
const gc: unknown = runInNewContext('gc');

function collectGarbage(): void {
  if (typeof gc !== 'function') throw new Error('no gc');
  for (let i = 0; i < 2; i++) gc();
}

function hasGrown(file: string, size: number): boolean {
  try {
    writeFileSync(file, Buffer.alloc(size, 1), { flag: 'a' });
    return true;
  } catch {
    return false;
  }
}

/** Where no disk may be mounted: what takes room in a store fails, until it is ended; an empty file takes none. */
function withoutRoom(): () => void {
  const before = { ...nodeFs };
  const full = (): never => {
    throw errno('ENOSPC');
  };
  const write = (fd: number, body: string): void => (body === '' ? before.write(fd, body) : full());
  Object.assign(nodeFs, { rename: full, mkdir: full, write });
  return () => Object.assign(nodeFs, before);
}
