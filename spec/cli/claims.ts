import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type LeaseBody, leaseText } from '../../lib/store/leases.ts';
import { filesBelow } from '../support/phases.ts';
import type { TempStore } from '../support/temp-store.ts';

export const LEASE = 'l-20261122T101500123Z-k3v0q8';
export const RUN = 'r-20261122T101500123Z-k3v0q8';

/** Puts a lease into a store, as a restore would. */
export function putLease(store: TempStore, members: Partial<LeaseBody> = {}): LeaseBody {
  const lease: LeaseBody = {
    id: LEASE,
    holder: 'fetch',
    host: 'h2',
    pid: 4711,
    prefixes: [''],
    blocks: 'sweep',
    ttlSeconds: 3600,
    acquiredAt: '2026-11-22T10:15:00.123Z',
    renewal: 7,
    ...members,
  };
  putControl(store, `leases/${lease.id}.json`, leaseText(lease));
  return lease;
}

/** Puts a fence into a store, as a run would; gives its id. */
export function putFence(store: TempStore, members: Readonly<Record<string, unknown>> = {}): string {
  const fence = {
    run: RUN,
    batch: 1,
    catalog: 'another',
    boot: 'b',
    kind: 'sweep',
    prefixes: ['logs/'],
    host: 'h2',
    pid: 4711,
    startedAt: new Date(Date.now() - 90_000).toISOString(),
    ...members,
  };
  putControl(store, `fences/${fence.run}-${fence.batch}.json`, `${JSON.stringify(fence)}\n`);
  return `${fence.run}-${fence.batch}`;
}

export function putControl(store: TempStore, name: string, body: string): void {
  const file = path.join(store.root, '.tombstoned', name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, body);
}

/** The names in one directory of a store's control objects. */
export function controlOf(store: TempStore, directory: string): string[] {
  return filesBelow(path.join(store.root, '.tombstoned', directory));
}

type Json = Readonly<Record<string, unknown>>;

/** The list that is a member of an answer's object. */
export function listIn(object: Json | undefined, member: string): Json[] {
  const list = object?.[member];
  if (!Array.isArray(list)) throw new Error(`${member} is no list: ${JSON.stringify(object)}`);
  return list as Json[];
}

/** The object that is a member of an answer's object. */
export function partIn(object: Json | undefined, member: string): Json {
  const part = object?.[member];
  if (typeof part !== 'object' || part === null) throw new Error(`no ${member}: ${JSON.stringify(object)}`);
  return part as Json;
}
