import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { initStore } from '../../lib/app/init.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import type { Clock } from '../../lib/domain/clock.ts';
import type { RandomSource } from '../../lib/domain/ids.ts';
import type { StoreFormat } from '../../lib/domain/store-format.ts';
import { agePolicy } from '../../lib/policy/age.ts';
import { matcher } from '../../lib/policy/glob.ts';
import type { Guards, Policy } from '../../lib/policy/policy.ts';
import type { Actor, Place } from '../../lib/run/place.ts';
import { type LocalFs, nodeFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;
/**
 * When specs take place: when they are run, to the second, as real files' times
 * are the kernel's; a date would let specs fail by the calendar. Processes that a
 * spec starts take it from there.
 */
export const START = Number((process.env['SPEC_START'] ??= String(Math.floor(Date.now() / 1000) * 1000)));

/** A clock that moves only when it is told to, or when somebody sleeps. */
export class DrivenClock implements Clock {
  wall = START;
  mono = 0;
  boot = 'spec-boot';
  booted = 0;
  synced = false;
  now(): number {
    return this.wall;
  }
  monotonic(): number {
    return this.mono;
  }
  uptime(): number {
    return this.mono;
  }
  sinceBoot(): { boot: string; ms: number } {
    return { boot: this.boot, ms: this.booted };
  }
  async isSynced(): Promise<boolean> {
    return this.synced;
  }
  async sleep(ms: number): Promise<void> {
    this.advance(ms);
  }
  advance(ms: number): void {
    this.mono += ms;
    this.suspend(ms);
  }
  /** Time passes, and this machine sleeps. */
  suspend(ms: number): void {
    this.wall += ms;
    this.booted += ms;
  }
  /** The machine is off for so long, and starts again. */
  restart(off = 0): void {
    this.wall += off;
    this.booted = 0;
    this.boot = `${this.boot}+`;
  }
}

/** Numbers that come again with the same seed. */
export function seeded(seed: number): RandomSource {
  let state = seed >>> 0 || 1;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

export const ACTOR: Actor = { pid: process.pid, host: 'spec-host', boot: 'spec-boot', by: 'spec@spec-host' };
export const NO_LIMITS = { maxObjects: null, maxFraction: null, maxBytes: null };
export const NO_GUARDS: Guards = { minimumAge: 0, isProtected: matcher([]) };

/** A temporary store on the real disk, with a catalog beside it. */
export class TempPlace {
  readonly directory: string;
  readonly root: string;
  readonly catalogFile: string;
  readonly clock = new DrivenClock();
  readonly talk: string[] = [];
  window = 7 * DAY;
  format: StoreFormat = 'plain';
  protect: readonly string[] = [];
  #open: Place[] = [];

  private constructor(parent: string) {
    this.directory = mkdtempSync(path.join(parent, 'tombstoned-'));
    this.root = path.join(this.directory, 'store');
    this.catalogFile = path.join(this.directory, 'catalog.db');
    mkdirSync(this.root);
  }

  static async make(parent = tmpdir()): Promise<TempPlace> {
    const place = new TempPlace(parent);
    await place.init();
    return place;
  }

  async init(): Promise<void> {
    const report = (): void => undefined;
    const config = { ...storeConfigFromUrl(`file://${this.root}`), name: 'spec' };
    await initStore({ catalog: this.catalogFile }, config, {
      clock: this.clock,
      random: seeded(1),
      actor: ACTOR,
      report,
    });
  }

  /** Writes a live file, last modified so many ms before now. */
  write(key: string, content: string, old = 0): void {
    const file = path.join(this.root, key);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
    const at = (this.clock.wall - old) / 1000;
    utimesSync(file, at, at);
  }

  /** The live content of a key, or undefined. */
  live(key: string): string | undefined {
    try {
      return readFileSync(path.join(this.root, key), 'utf8');
    } catch {
      return undefined;
    }
  }

  /** Opens the place as one process would; `wrap` may put faults between. */
  open(
    wrap: {
      fs?: LocalFs;
      catalog?: (catalog: Catalog) => Catalog;
      seed?: number;
      mayUseReserve?: boolean;
      settle?: number;
    } = {},
  ): Place {
    const inner = Catalog.open(this.catalogFile, { mayUseReserve: wrap.mayUseReserve ?? false });
    const catalog = wrap.catalog?.(inner) ?? inner;
    const store = LocalStore.open({
      path: this.root,
      pendingPrefix: 'pending_deletion/',
      access: 'write',
      clock: this.clock,
      fs: wrap.fs ?? nodeFs,
      settle: wrap.settle ?? 0,
    });
    const row = inner.storeByName('spec');
    if (row === undefined) throw new Error('not initialised');
    const place: Place = {
      store,
      catalog,
      row,
      format: this.format,
      isProtected: matcher(this.protect),
      safetyWindow: this.window,
      clock: this.clock,
      random: seeded(wrap.seed ?? 7),
      actor: ACTOR,
      report: (level, message) => this.talk.push(`${level}: ${message}`),
    };
    this.#open.push(place);
    return place;
  }

  close(place: Place): void {
    this.#open = this.#open.filter((open) => open !== place);
    place.store.close();
    place.catalog.close();
  }

  /** Forgets a place whose process was killed; the store's descriptors are freed elsewhere. */
  abandon(place: Place): void {
    this.#open = this.#open.filter((open) => open !== place);
    place.catalog.close();
  }

  remove(): void {
    for (const place of this.#open) this.close(place);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** An `age` policy with everything optional. */
export function age(settings: Partial<Parameters<typeof agePolicy>[0]> = {}): Policy {
  return agePolicy({
    name: 'old',
    prefix: '',
    match: '**',
    olderThan: DAY,
    keepLast: 0,
    unit: 'object',
    limits: NO_LIMITS,
    ...settings,
  });
}
