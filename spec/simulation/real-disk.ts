import { mkdirSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Key } from '../../lib/domain/key.ts';
import { type LocalFs, nodeFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import type { RemoveItem, Store } from '../../lib/store/store.ts';
import { bytesOf, contentOf, generationOf, PENDING } from './contents.ts';
import type { Backend } from './disk.ts';
import { Killed, type Process, type Scheduler } from './scheduler.ts';
import type { Truth } from './truth.ts';

/** `statfs` of ext4: one pass over a directory counts there. */
const EXT4 = 0xef53;
/** What has an effect on others: here a process may die, and a writer come between. */
const EFFECTS = ['rename', 'link', 'symlink', 'unlink', 'unlinkAsync', 'writeAtStart'] as const;
/** How many writes come between the calls of others, unless a setting says so. */
const MOST_BETWEEN = 3;

/**
 * Real files under the real local store: each of its methods is one step, and
 * writers come between its system calls. What has become of the files is read
 * from the disk after each call.
 */
export class RealDisk implements Backend {
  readonly #root: string;
  readonly #scheduler: Scheduler;
  readonly #truth: Truth;
  readonly #open: LocalStore[] = [];
  readonly #checked = new Set<string>();
  readonly #mostBetween: number;
  #between = 0;

  constructor(root: string, scheduler: Scheduler, truth: Truth, mostBetween = MOST_BETWEEN) {
    this.#mostBetween = mostBetween;
    this.#root = root;
    this.#scheduler = scheduler;
    this.#truth = truth;
    mkdirSync(root);
  }

  write(key: Key): void {
    const content = contentOf(key, this.#truth.nextGeneration(key));
    const written = `${this.#root}.being-written`;
    writeFileSync(written, bytesOf(content));
    utimesSync(written, content.modifiedAt / 1000, content.modifiedAt / 1000);
    mkdirSync(path.dirname(path.join(this.#root, key)), { recursive: true });
    renameSync(written, path.join(this.#root, key));
    this.#truth.setLive(key, content.generation, 'writer');
  }

  setControl(name: string, body: string): void {
    const file = path.join(this.#root, '.tombstoned', name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, body);
  }

  removeControl(name: string): void {
    rmSync(path.join(this.#root, '.tombstoned', name), { force: true });
  }

  uncheckedFences(): string[] {
    const directory = path.join(this.#root, '.tombstoned/fences');
    if (statSync(directory, { throwIfNoEntry: false }) === undefined) return [];
    return readdirSync(directory)
      .map((name) => `fences/${name}`)
      .filter((name) => !this.#checked.has(name))
      .toSorted();
  }

  store(process: Process): Store {
    const removals = new Map<string, RemoveItem>();
    const fs = this.#fs(process, removals);
    const inner = LocalStore.open({
      path: this.#root,
      pendingPrefix: PENDING,
      access: 'write',
      clock: process.clock,
      fs,
      settle: 0,
    });
    this.#open.push(inner);
    return stepped(inner, process, removals, this.#checked);
  }

  #fs(process: Process, removals: ReadonlyMap<string, RemoveItem>): LocalFs {
    const wrapped = Object.entries(nodeFs).map(([name, real]: [string, (...values: never[]) => unknown]) => [
      name,
      (...values: never[]): unknown => {
        if (process.isDead && name !== 'close' && name !== 'leave') throw new Killed();
        return real(...values);
      },
    ]);
    const fs = Object.fromEntries(wrapped) as unknown as LocalFs;
    fs.fileSystemType = () => EXT4;
    const effects = EFFECTS.map((name) => {
      const real = fs[name === 'unlinkAsync' ? 'unlink' : name] as (...values: unknown[]) => unknown;
      const call = (...values: unknown[]): unknown => {
        this.#writeBetween();
        try {
          return process.call(`disk ${name}`, () => real(...values));
        } finally {
          this.#look(process, removals);
        }
      };
      // With real threads no seed would be the same twice.
      return [name, name === 'unlinkAsync' ? async (...values: unknown[]) => call(...values) : call];
    });
    const looks = {
      lstat: (file: string) => {
        const found = fs.lstat(file);
        this.#writeBetween();
        return found;
      },
    };
    // As unlinkAsync.
    const unthreaded = {
      fsyncAsync: async (fd: number): Promise<void> => fs.fsync(fd),
      closeAsync: async (fd: number): Promise<void> => fs.close(fd),
    };
    return {
      ...fs,
      ...looks,
      ...unthreaded,
      ...(Object.fromEntries(effects) as unknown as Partial<LocalFs>),
    };
  }

  #writeBetween(): void {
    if (this.#between >= this.#mostBetween || !this.#scheduler.chance(this.#scheduler.temper.between)) return;
    this.#between += 1;
    const keys = [...this.#truth.keys()];
    const key = keys[this.#scheduler.random(keys.length)];
    if (key === undefined) return;
    this.#scheduler.note({ name: 'writer' }, `writes ${key} between`);
    this.write(key as Key);
  }

  /** What a call has changed. */
  #look(process: Process, removals: ReadonlyMap<string, RemoveItem>): void {
    const pending = this.#found(PENDING.replace(/\/$/, ''));
    const live = new Map([...this.#truth.keys()].map((key) => [key, this.#generationAt(key)]));
    for (const [name, generation] of pending) {
      const key = name.slice(PENDING.length, name.lastIndexOf('~'));
      if (this.#truth.copies().get(name)?.generation !== generation)
        this.#truth.setCopy(name, key, generation);
    }
    for (const [key, generation] of live) {
      if (this.#truth.liveNow(key) === generation) continue;
      if (generation === undefined) this.#truth.acts(process.catalog, `${process.name} moves ${key}`);
      this.#truth.setLive(key, generation, generation === undefined ? 'mover' : 'restore');
    }
    for (const name of Array.from(this.#truth.copies().keys())) {
      if (pending.has(name)) continue;
      const item = removals.get(name);
      this.#truth.acts(process.catalog, `${process.name} purges ${name}`);
      this.#truth.removeCopy(name, {
        key: name,
        generation: item && generationOf(item.revision),
        from: item?.from ?? 'pending',
      });
    }
  }

  #found(directory: string): Map<string, number> {
    const found = new Map<string, number>();
    const at = path.join(this.#root, directory);
    if (statSync(at, { throwIfNoEntry: false }) === undefined) return found;
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      const name = `${directory}/${entry.name}`;
      if (entry.isDirectory())
        for (const [below, generation] of this.#found(name)) found.set(below, generation);
      else found.set(name, this.#generationAt(name) ?? 0);
    }
    return found;
  }

  #generationAt(name: string): number | undefined {
    const stats = statSync(path.join(this.#root, name), { bigint: true, throwIfNoEntry: false });
    return stats && generationOf({ kind: 'local', size: Number(stats.size), mtimeNs: stats.mtimeNs });
  }

  close(): void {
    for (const store of this.#open) store.close();
  }
}

/** A local store whose methods wait for their turn. */
function stepped(
  inner: LocalStore,
  process: Process,
  removals: Map<string, RemoveItem>,
  checked: Set<string>,
): Store {
  const turned =
    <A extends unknown[], R>(name: string, method: (...values: A) => Promise<R>) =>
    async (...values: A): Promise<R> => {
      await process.turn(`${name} ${typeof values[0] === 'string' ? values[0] : ''}`);
      const answer = await method(...values);
      if (process.scheduler.chance(process.scheduler.temper.answer)) await process.turn(`${name}: answered`);
      return answer;
    };
  const paged = <T>(name: string, list: (prefix: string, signal?: AbortSignal) => AsyncIterable<T>) =>
    async function* pages(prefix: string, signal?: AbortSignal): AsyncGenerator<T> {
      await process.turn(name);
      for await (const page of list(prefix, signal)) {
        yield page;
        await process.turn(name);
      }
    };
  const { control } = inner;
  const created = new Set<string>();
  return {
    url: inner.url,
    pendingPrefix: inner.pendingPrefix,
    settle: 0,
    control: {
      prepare: turned('prepare', () => control.prepare()),
      read: turned('read', (name) => {
        if (created.has(name)) checked.add(name);
        return control.read(name);
      }),
      list: turned('list', (directory) => control.list(directory)),
      create: turned('create', (name, body, options) => {
        created.add(name);
        return control.create(name, body, options);
      }),
      rewrite: turned('rewrite', (name, before, after) => control.rewrite(name, before, after)),
      replace: turned('replace', (name, body) => control.replace(name, body)),
      remove: turned('remove', (name) => control.remove(name)),
      temporaries: turned('temporaries', () => control.temporaries()),
      removeTemporary: turned('remove temporary', (name) => control.removeTemporary(name)),
    },
    list: paged('list live', (prefix, signal) => inner.list(prefix, signal)),
    listPending: paged('list pending', (prefix, signal) => inner.listPending(prefix, signal)),
    head: turned('head', (key) => inner.head(key)),
    openLive: turned('open', (key) => inner.openLive(key)),
    pendingIds: turned('pending ids of', (key) => inner.pendingIds(key)),
    openPending: turned('open pending', (key, id) => inner.openPending(key, id)),
    headPending: turned('head pending', (key, id) => inner.headPending(key, id)),
    move: turned('move', (batch, options) => inner.move(batch, options)),
    strayFiles: turned('stray files of', (key, id) => inner.strayFiles(key, id)),
    adoptStray: turned('adopt', (stray, id) => inner.adoptStray(stray, id)),
    create: turned('create live', (batch) => inner.create(batch)),
    putBack: turned('put back', (batch) => inner.putBack(batch)),
    remove: turned('purge', (batch, options) => {
      for (const item of batch) removals.set(`${PENDING}${item.key}~${item.id}`, item);
      return inner.remove(batch, options);
    }),
    checkWritable: turned('check', () => inner.checkWritable()),
    close: () => undefined,
  };
}
