import { closeSync } from 'node:fs';
import type { Catalog } from '../../lib/catalog/catalog.ts';
import { type LocalFs, nodeFs, type OpenNames } from '../../lib/store/local/local-fs.ts';
import { NEVER_THROWS } from './watched-fs.ts';

/** What a killed process would have thrown, had it lived. */
export class Killed extends Error {
  constructor() {
    super('killed');
    this.name = 'Killed';
  }
}

export interface Fault {
  /** Which call, counted from 1. */
  readonly at: number;
  readonly when: 'before' | 'after';
  readonly as: 'fail' | 'kill';
}

const READS = new Set(['fstat', 'lstat', 'readlink', 'readAll', 'access', 'opendir', 'fileSystemType']);

/**
 * Counts the calls of one simulated process to its disk and its catalog, and
 * lets one of them fail, or kills the process there: from then on no call has
 * any effect. `end` frees what a kernel would have freed.
 */
export class Faults {
  readonly calls: string[] = [];
  readonly #fault: Fault | undefined;
  readonly #fds = new Set<number>();
  readonly #dirs = new Set<OpenNames>();
  #isDead = false;
  #inTransaction = false;

  constructor(fault?: Fault) {
    this.#fault = fault;
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  /** Whether the fault was reached. */
  get isDone(): boolean {
    return this.#fault !== undefined && this.calls.length >= this.#fault.at;
  }

  fs(): LocalFs {
    const wrap = <K extends keyof LocalFs>(name: K): LocalFs[K] => {
      const real: (...values: never[]) => unknown = nodeFs[name];
      const stepped = (...values: never[]): unknown =>
        this.#step(name, errno, () => {
          const result = real(...values);
          // One that was under way when the process was killed ends as it may.
          if (result instanceof Promise) result.catch(() => undefined);
          if (name === 'open' && typeof result === 'number') this.#fds.add(result);
          if (name === 'close' || name === 'closeAsync') this.#fds.delete(Number(values[0]));
          return name === 'opendir' ? this.#tracked(result as OpenNames) : result;
        });
      if (!NEVER_THROWS.has(name)) return stepped as LocalFs[K];
      return (async (...values: never[]) => stepped(...values)) as unknown as LocalFs[K];
    };
    return Object.fromEntries(
      (Object.keys(nodeFs) as (keyof LocalFs)[]).map((name) => [name, wrap(name)]),
    ) as unknown as LocalFs;
  }

  #tracked(dir: OpenNames): OpenNames {
    this.#dirs.add(dir);
    const close = dir.closeSync.bind(dir);
    dir.closeSync = () => {
      this.#dirs.delete(dir);
      close();
    };
    return dir;
  }

  catalog(catalog: Catalog): Catalog {
    const part = <T extends object>(object: T, name: string): T =>
      new Proxy(object, {
        get: (target, property) => {
          const value: unknown = Reflect.get(target, property, target);
          if (typeof value !== 'function') return value;
          return (...values: unknown[]): unknown => {
            const call = (): unknown => Reflect.apply(value, target, values);
            return this.#inTransaction
              ? call()
              : this.#step(`${name}.${String(property)}`, sqliteError, call);
          };
        },
      });
    const parts = {
      tombstones: part(catalog.tombstones, 'tombstones'),
      sweeps: part(catalog.sweeps, 'sweeps'),
      waiting: part(catalog.waiting, 'waiting'),
      runs: part(catalog.runs, 'runs'),
      events: part(catalog.events, 'events'),
      holds: part(catalog.holds, 'holds'),
      requests: part(catalog.requests, 'requests'),
    };
    return new Proxy(catalog, {
      get: (target, property) => {
        if (property in parts) return parts[property as keyof typeof parts];
        if (property === 'transaction') {
          return (work: () => unknown): unknown =>
            this.#step('transaction', sqliteError, () => {
              this.#inTransaction = true;
              try {
                return target.transaction(work);
              } finally {
                this.#inTransaction = false;
              }
            });
        }
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  /** Another call that may be the one. */
  step<T>(name: string, effect: () => T): T {
    return this.#step(name, errno, effect);
  }

  #step<T>(name: string, error: (name: string) => Error, effect: () => T): T {
    if (this.#isDead) throw new Killed();
    this.calls.push(name);
    const fault = this.#fault?.at === this.calls.length ? this.#fault : undefined;
    if (fault?.when === 'before') this.#strike(fault, name, error);
    const result = effect();
    if (fault?.when === 'after') this.#strike(fault, name, error);
    return result;
  }

  #strike(fault: Fault, name: string, error: (name: string) => Error): never {
    if (fault.as === 'fail') throw error(name);
    this.#isDead = true;
    throw new Killed();
  }

  /** What the kernel does when the process is gone. */
  end(): void {
    this.#isDead = true;
    for (const dir of this.#dirs) dir.closeSync();
    for (const fd of this.#fds) {
      try {
        closeSync(fd);
      } catch {
        // It was closed, and the call that said so was the one that failed.
      }
    }
    this.#dirs.clear();
    this.#fds.clear();
  }
}

/** Which faults are worth trying at a call: a read has no effect to be before or after of. */
export function faultsAt(call: string, at: number): Fault[] {
  const isRead =
    READS.has(call) ||
    /\.(get|page|open|taken|due|names|in|covering|plan(Page|nedOf)|ofStore|revisions|leftovers)/.test(call);
  const whens = isRead ? (['before'] as const) : (['before', 'after'] as const);
  return whens.flatMap((when) => [{ at, when, as: 'kill' } as const, { at, when, as: 'fail' } as const]);
}

/** Where a matrix begins in what it tries a part of: another place in each run. */
export const SHIFT = Number(process.env['MATRIX_SHIFT'] ?? Date.now() % 1000);

/** Each so-manyth of the faults, and all where MATRIX_WHOLE is set: an odd number meets every kind. */
export function oneIn<T>(stride: number, faults: readonly T[]): T[] {
  if (process.env['MATRIX_WHOLE'] !== undefined) return [...faults];
  return faults.filter((_, i) => (i + SHIFT) % stride === 0);
}

function errno(name: string): Error {
  return Object.assign(new Error(`EIO: i/o error, ${name}`), { code: 'EIO' });
}

function sqliteError(name: string): Error {
  return Object.assign(new Error(`disk I/O error in ${name}`), { code: 'SQLITE_IOERR' });
}
