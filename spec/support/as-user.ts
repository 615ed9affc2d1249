import { execFileSync } from 'node:child_process';
import { existsSync, renameSync, statSync } from 'node:fs';
import path from 'node:path';
import { initStore } from '../../lib/app/init.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { messageOf, TombstonedError } from '../../lib/domain/errors.ts';
import type { Place } from '../../lib/run/place.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { allTombstones, bringBack, readThrough, sweepOld } from './phases.ts';
import { ACTOR, age, DAY, DrivenClock, seeded } from './place.ts';
import { watchedFs } from './watched-fs.ts';

/** One thing that another user does in a store, and what came of it. */
export type Deed =
  | { readonly do: 'sweep'; readonly prefix: string }
  /** A sweep, in which the file `from` is renamed over `to` just before the first move. */
  | { readonly do: 'raced sweep'; readonly prefix: string; readonly from: string; readonly to: string }
  | { readonly do: 'read'; readonly key: string }
  | { readonly do: 'restore' };

export interface Came {
  readonly moved?: number;
  readonly failed?: number;
  /** Each `key: why`. */
  readonly refused?: readonly string[];
  readonly content?: string;
  /** Each `key outcome`. */
  readonly restored?: readonly string[];
  /** Each `key state size`. */
  readonly tombstones?: readonly string[];
  readonly error?: { readonly code: string; readonly message: string };
}

/** Whether this process may act as another user, and that user may read these sources. */
export function mayActAsOthers(): boolean {
  if (process.geteuid?.() !== 0) return false;
  for (let name = import.meta.filename; name !== '/'; name = path.dirname(name)) {
    if ((statSync(name).mode & 0o005) < (name === import.meta.filename ? 4 : 5)) return false;
  }
  return true;
}

/** Does things as another user, in a process of theirs, in a store that is theirs or that they may use. */
export function asUser(uid: number, gid: number, directory: string, deeds: readonly Deed[]): Came[] {
  const stdout = execFileSync(
    process.execPath,
    ['--import', 'tsx', import.meta.filename, JSON.stringify({ directory, deeds })],
    {
      uid,
      gid,
      cwd: import.meta.dirname,
      env: { PATH: process.env['PATH'], TSX_DISABLE_CACHE: '1' },
      encoding: 'utf8',
      stdio: 'pipe',
    },
  );
  return JSON.parse(stdout) as Came[];
}

if (process.argv[1] === import.meta.filename) void main(process.argv[2] ?? '');

async function main(request: string): Promise<void> {
  const { directory, deeds } = JSON.parse(request) as { directory: string; deeds: Deed[] };
  const came: Came[] = [];
  for (const [i, deed] of deeds.entries()) came.push(await inPlace(directory, i, deed));
  process.stdout.write(JSON.stringify(came));
}

async function inPlace(directory: string, seed: number, deed: Deed): Promise<Came> {
  const root = path.join(directory, 'store');
  const file = path.join(directory, 'catalog.db');
  const clock = new DrivenClock();
  const report = (): void => undefined;
  const surroundings = { clock, random: seeded(process.pid * 100 + seed), actor: ACTOR, report };
  const config = { ...storeConfigFromUrl(`file://${root}`), name: 'spec' };
  try {
    if (!existsSync(file)) await initStore({ catalog: file }, config, surroundings);
    const catalog = Catalog.open(file);
    const row = catalog.storeByName('spec');
    if (row === undefined) throw new Error('not initialised');
    const fs = watchedFs(({ name }) => {
      if (deed.do !== 'raced sweep' || name !== 'rename' || !existsSync(path.join(root, deed.from))) return;
      renameSync(path.join(root, deed.from), path.join(root, deed.to));
    });
    const access = 'write';
    const store = LocalStore.open({ path: root, pendingPrefix: 'pending_deletion/', access, clock, fs });
    return await doneIn(
      { ...surroundings, store, catalog, row, format: 'plain', safetyWindow: 7 * DAY },
      deed,
    );
  } catch (error) {
    const code = error instanceof TombstonedError ? error.code : 'none';
    return { error: { code, message: messageOf(error) } };
  }
}

async function doneIn(place: Place, deed: Deed): Promise<Came> {
  const tombstones = (): string[] =>
    allTombstones(place).map(({ key, state, size }) => `${key} ${state} ${size}`);
  switch (deed.do) {
    case 'sweep':
    case 'raced sweep': {
      const refused: string[] = [];
      const { moved, failed } = await sweepOld(place, {
        policies: [age({ prefix: deed.prefix })],
        onRefusal: ({ key, why }) => refused.push(`${key}: ${why}`),
      });
      return { moved, failed, refused, tombstones: tombstones() };
    }
    case 'read':
      return { content: await readThrough(place, deed.key) };
    case 'restore': {
      const outcomes = await bringBack(place, allTombstones(place));
      return { restored: outcomes.map(({ key, outcome }) => `${key} ${outcome}`), tombstones: tombstones() };
    }
  }
}
