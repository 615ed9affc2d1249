import { TombstonedError } from '../domain/errors.ts';
import { CONTROL_SEGMENT, keyProblem, quote } from '../domain/key.ts';
import type { ControlSpace, Store } from './store.ts';

/** The layout this program writes, and reads (design, section 3). */
const LAYOUT = 1;

export interface StoreIdentity {
  readonly uuid: string;
  readonly pendingPrefix: string;
  readonly createdAt: string;
}

export interface Owner {
  /** The owning catalog's uuid. */
  readonly catalog: string;
  readonly host: string;
  readonly since: string;
}

/** An operator's claim, or an exemption after a restore. */
export interface Hold {
  readonly id: string;
  readonly kind: 'hold' | 'exempt';
  readonly blocks: 'purge' | 'sweep';
  readonly scope:
    | { readonly by: 'keys'; readonly keys: readonly string[] }
    | { readonly by: 'prefix'; readonly prefix: string }
    | { readonly by: 'ids'; readonly ids: readonly string[] };
  /** ms since 1970, or null: until it is released. */
  readonly until: number | null;
  readonly reason: string;
  readonly by: string;
  readonly host: string;
  readonly createdAt: string;
  /** Set when the object could not be understood and counts in its strictest reading. */
  readonly problem: string | null;
}

const IDENTITY_NAME = 'store.json';
const OWNER_NAME = 'owner.json';
const HOLDS = 'holds';

/** Reads `store.json`; undefined where there is none. Throws when it can't be relied on. */
export async function readIdentity(
  control: ControlSpace,
  access: 'read' | 'write',
): Promise<StoreIdentity | undefined> {
  const body = await control.read(IDENTITY_NAME);
  if (body === undefined) return undefined;
  const json = parseObject(body);
  const where = `${CONTROL_SEGMENT}/${IDENTITY_NAME}`;
  const { uuid, layout, minReader, pendingPrefix, createdAt } = json ?? {};
  if (
    typeof uuid !== 'string' ||
    !isInteger(layout) ||
    !isInteger(minReader) ||
    typeof pendingPrefix !== 'string' ||
    !pendingPrefix.endsWith('/') ||
    keyProblem(`${pendingPrefix}x`) !== undefined ||
    typeof createdAt !== 'string'
  ) {
    throw new TombstonedError('failed', `${where} is not readable as a store's identity`, {
      key: where,
      hint: 'bring the file back from a backup; nothing is touched until then',
    });
  }
  const needed = access === 'read' ? minReader : layout;
  if (needed > LAYOUT) {
    throw new TombstonedError(
      'failed',
      `the store has layout ${needed}, and this program ${access === 'read' ? 'reads' : 'writes'} up to ${LAYOUT}`,
      { key: where, hint: 'use the newer tombstoned that made the store' },
    );
  }
  return { uuid, pendingPrefix, createdAt };
}

/** Makes `store.json`; `exists` when another was first. */
export async function createIdentity(
  control: ControlSpace,
  identity: StoreIdentity,
): Promise<'created' | 'exists'> {
  const { uuid, pendingPrefix, createdAt } = identity;
  return control.create(
    IDENTITY_NAME,
    line({ uuid, layout: LAYOUT, minReader: LAYOUT, pendingPrefix, createdAt }),
  );
}

/**
 * R10: reads `store.json` and throws unless it is the store expected. Called
 * before each batch, and before "gone" is believed of anything.
 */
export async function checkIdentity(store: Store, uuid: string): Promise<void> {
  const identity = await readIdentity(store.control, 'write');
  if (identity === undefined) {
    throw new TombstonedError(
      'failed',
      `${store.url} has no ${CONTROL_SEGMENT}/${IDENTITY_NAME}: not our store`,
      {
        key: store.url,
        hint: 'is the disk mounted? A new store is made known by `tombstonectl init`',
      },
    );
  }
  if (identity.uuid !== uuid) {
    throw new TombstonedError(
      'failed',
      `${store.url} is store ${identity.uuid}, and the catalog knows it as ${uuid}`,
      {
        key: store.url,
        hint: 'mount the right disk, or give the store its own name and `tombstonectl init`',
      },
    );
  }
  checkPendingPrefix(store, identity);
}

/** Throws when the config's pending prefix is not the store's. */
export function checkPendingPrefix(store: Store, identity: StoreIdentity): void {
  if (identity.pendingPrefix === store.pendingPrefix) return;
  throw new TombstonedError(
    'config',
    `${store.url} keeps pending copies below ${JSON.stringify(identity.pendingPrefix)}, and the config says ${JSON.stringify(store.pendingPrefix)}`,
    { key: store.url, hint: `set pendingPrefix: ${identity.pendingPrefix}` },
  );
}

/** Reads `owner.json`: nobody where there is none, `unreadable` when it can't be understood. */
export async function readOwner(control: ControlSpace): Promise<Owner | 'nobody' | 'unreadable'> {
  const body = await control.read(OWNER_NAME);
  if (body === undefined) return 'nobody';
  const { catalog, host, since } = parseObject(body) ?? {};
  if (typeof catalog !== 'string' || typeof host !== 'string' || typeof since !== 'string')
    return 'unreadable';
  return { catalog, host, since };
}

/** Makes `owner.json` where there is none. */
export async function createOwner(control: ControlSpace, owner: Owner): Promise<'created' | 'exists'> {
  return control.create(OWNER_NAME, line({ catalog: owner.catalog, host: owner.host, since: owner.since }));
}

/** Throws `blocked` (owner) unless this catalog owns the store. */
export async function checkOwner(store: Store, catalogUuid: string): Promise<void> {
  const owner = await readOwner(store.control);
  if (typeof owner === 'object' && owner.catalog === catalogUuid) return;
  const where = `${CONTROL_SEGMENT}/${OWNER_NAME}`;
  const who =
    owner === 'nobody'
      ? 'has no owner'
      : owner === 'unreadable'
        ? `has an unreadable ${where}`
        : `belongs to catalog ${owner.catalog} on ${owner.host} since ${owner.since}`;
  throw new TombstonedError(
    'blocked',
    `${store.url} ${who}, not to this catalog: nothing is moved or purged`,
    {
      reason: 'owner',
      key: store.url,
      hint:
        owner === 'nobody'
          ? 'run `tombstonectl init --store NAME`'
          : 'run the commands where that catalog is',
    },
  );
}

/** The names of all holds and exemptions; every name counts. */
export async function listHolds(control: ControlSpace): Promise<string[]> {
  return control.list(HOLDS);
}

/** Reads one hold by its name in `holds/`; undefined when it is gone, its strictest reading when it is unclear. */
export async function readHold(control: ControlSpace, name: string): Promise<Hold | undefined> {
  const body = await control.read(`${HOLDS}/${name}`);
  return body === undefined ? undefined : parseHold(name, body);
}

/** Makes a hold or exemption, durable. Throws when its id is taken. */
export async function createHold(control: ControlSpace, hold: Hold): Promise<void> {
  const { id, kind, blocks, scope, until, reason, by, host, createdAt } = hold;
  const named =
    scope.by === 'keys'
      ? { keys: scope.keys }
      : scope.by === 'prefix'
        ? { prefix: scope.prefix }
        : { ids: scope.ids };
  const body = line({
    id,
    kind,
    blocks,
    ...named,
    until: until === null ? null : new Date(until).toISOString(),
    reason,
    by,
    host,
    createdAt,
  });
  if ((await control.create(holdName(id), body)) === 'exists') {
    throw new TombstonedError('conflict', `there is a hold ${id} already`, { key: id });
  }
}

/** Takes a hold or exemption away; it may be gone already. */
export async function removeHold(control: ControlSpace, id: string): Promise<void> {
  await control.remove(holdName(id));
}

function holdName(id: string): string {
  return `${HOLDS}/${id}.json`;
}

const HOLD_MEMBERS = new Set('id kind blocks keys prefix ids until reason by host createdAt'.split(' '));
/** `Date.parse` would also take "1" as a time, and a long one at that. */
const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;

/** Reads a hold's bytes, failing safe: what is unclear counts as a hold over everything. */
function parseHold(name: string, body: Buffer): Hold {
  const json = parseObject(body);
  const strictest = (problem: string): Hold => ({
    id: name.replace(/\.json$/, ''),
    kind: 'hold',
    blocks: 'sweep',
    scope: { by: 'prefix', prefix: '' },
    until: null,
    reason: textOf(json?.['reason']),
    by: textOf(json?.['by']),
    host: textOf(json?.['host']),
    createdAt: textOf(json?.['createdAt']),
    problem,
  });
  if (json === undefined) return strictest('is empty, cut short or no JSON object');
  const { id, kind, blocks, until } = json;
  if (typeof id !== 'string' || `${id}.json` !== name) return strictest('has another id than its name');
  if (kind !== 'hold' && kind !== 'exempt') return strictest('has an unknown kind');
  if (blocks !== 'purge' && blocks !== 'sweep') return strictest('blocks something unknown');
  const unknown = Object.keys(json).find((member) => !HOLD_MEMBERS.has(member));
  if (unknown !== undefined) return strictest(`has an unknown member ${quote(unknown)}`);
  const scope = scopeOf(json);
  if (scope === undefined) return strictest('names no keys, prefix or ids');
  const end = typeof until === 'string' && ISO_TIME.test(until) ? Date.parse(until) : null;
  if (until !== null && (end === null || Number.isNaN(end))) return strictest('has an unreadable end');
  return {
    id,
    kind,
    blocks,
    scope,
    until: end,
    reason: textOf(json['reason']),
    by: textOf(json['by']),
    host: textOf(json['host']),
    createdAt: textOf(json['createdAt']),
    problem: null,
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function scopeOf(json: Readonly<Record<string, unknown>>): Hold['scope'] | undefined {
  const { keys, prefix, ids } = json;
  if ([keys, prefix, ids].filter((member) => member !== undefined).length !== 1) return undefined;
  if (typeof prefix === 'string') return { by: 'prefix', prefix };
  if (isTexts(keys)) return keys.length === 0 ? undefined : { by: 'keys', keys };
  if (isTexts(ids)) return ids.length === 0 ? undefined : { by: 'ids', ids };
  return undefined;
}

function parseObject(body: Buffer): Record<string, unknown> | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
    if (!text.endsWith('\n')) return undefined;
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function isInteger(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value);
}

function line(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
