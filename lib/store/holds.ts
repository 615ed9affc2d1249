import { TombstonedError } from '../domain/errors.ts';
import { idOfFile } from '../domain/ids.ts';
import { quote } from '../domain/key.ts';
import { isTexts, line, parseObject, textOf } from './control-json.ts';
import type { ControlSpace } from './store.ts';

const HOLDS = 'holds';

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

/** The same by a name of `listHolds`: what is unclear may have any. */
export async function removeHoldNamed(control: ControlSpace, name: string): Promise<void> {
  await control.remove(`${HOLDS}/${name}`);
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
    id: idOfFile(name),
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

function scopeOf(json: Readonly<Record<string, unknown>>): Hold['scope'] | undefined {
  const { keys, prefix, ids } = json;
  if ([keys, prefix, ids].filter((member) => member !== undefined).length !== 1) return undefined;
  if (typeof prefix === 'string') return { by: 'prefix', prefix };
  if (isTexts(keys)) return keys.length === 0 ? undefined : { by: 'keys', keys };
  if (isTexts(ids)) return ids.length === 0 ? undefined : { by: 'ids', ids };
  return undefined;
}
