import { idOfFile, isPlainId } from '../domain/ids.ts';
import { isBelowPrefix } from '../domain/key.ts';
import { isInteger, isTexts, line, parseObject, textOf } from './control-json.ts';
import type { ControlSpace } from './store.ts';

const LEASES = 'leases';
const RENEWAL_DIGITS = 10;
/** The longest TTL that is believed: no clock needs more. s. */
const MAX_TTL_SECONDS = 366 * 86_400;

/** What a lease forbids: `sweep` moving and purging, `purge` only purging. */
export type LeaseBlocks = 'sweep' | 'purge';

/** What a holder writes (design, section 3). */
export interface LeaseBody {
  readonly id: string;
  readonly holder: string;
  readonly host: string;
  readonly pid: number;
  /** Byte prefixes; none, or `['']`, is everything. */
  readonly prefixes: readonly string[];
  readonly blocks: LeaseBlocks;
  readonly ttlSeconds: number;
  /** ISO 8601 UTC. */
  readonly acquiredAt: string;
  /** Which renewal this is, from 0. */
  readonly renewal: number;
}

/** A lease as it was read. */
export interface Lease extends LeaseBody {
  /** Its name in `leases/`. */
  readonly name: string;
  /** Set when the object could not be understood: a lease over everything that blocks sweeps, and never dies by itself. */
  readonly problem: string | null;
}

export function leaseName(id: string): string {
  return `${id}.json`;
}

/** The object's name in the control space. */
export function leasePath(id: string): string {
  return `${LEASES}/${leaseName(id)}`;
}

/** A lease as the bytes of its object; its length is the same for each renewal. */
export function leaseText(lease: LeaseBody): string {
  const { id, holder, host, pid, prefixes, blocks, ttlSeconds, acquiredAt } = lease;
  const renewal = String(lease.renewal).padStart(RENEWAL_DIGITS, '0');
  return line({ id, holder, host, pid, prefixes, blocks, ttlSeconds, acquiredAt, renewal });
}

/** What is in `leases/`: names that count as leases, and the ids that were broken, which no lease ever bears again. */
export async function listLeases(
  control: ControlSpace,
): Promise<{ names: string[]; broken: ReadonlySet<string> }> {
  const all = await control.list(LEASES);
  const broken = new Set(all.flatMap((name) => brokenId(name) ?? []));
  return { names: all.filter((name) => brokenId(name) === undefined), broken };
}

function brokenId(name: string): string | undefined {
  const id = name.endsWith('.broken') ? name.slice(0, -'.broken'.length) : '';
  return isPlainId(id, 'l') ? id : undefined;
}

/** Whether somebody has taken this lease as dead: its id is never valid again. */
export async function isBroken(control: ControlSpace, id: string): Promise<boolean> {
  return (await control.read(`${LEASES}/${id}.broken`)) !== undefined;
}

/** Leaves the mark that a lease was taken as dead; it may be there already. Durable before anything is done. */
export async function markBroken(
  control: ControlSpace,
  id: string,
  why: { by: string; reason: string; at: string },
): Promise<void> {
  await control.create(`${LEASES}/${id}.broken`, line(why), { orEmpty: true });
}

/** Takes a lease's object away; it may be gone already. */
export async function removeLease(control: ControlSpace, name: string): Promise<void> {
  await control.remove(`${LEASES}/${name}`);
}

/** Reads one lease by its name; undefined when it is gone, its strictest reading when it is unclear. */
export async function readLease(control: ControlSpace, name: string): Promise<Lease | undefined> {
  const body = await control.read(`${LEASES}/${name}`);
  return body === undefined ? undefined : parseLease(name, body);
}

/** Whether a lease covers a key. */
export function leaseCovers({ prefixes }: Pick<Lease, 'prefixes'>, key: string): boolean {
  return prefixes.length === 0 || prefixes.some((prefix) => isBelowPrefix(key, prefix));
}

/** Reads a lease's bytes, failing safe: what is unclear covers everything, blocks all, and never dies. */
function parseLease(name: string, body: Buffer): Lease {
  const json = parseObject(body);
  const { id, holder, host, pid, prefixes, blocks, ttlSeconds, acquiredAt, renewal } = json ?? {};
  const strictest = (problem: string): Lease => ({
    name,
    id: idOfFile(name),
    holder: textOf(holder),
    host: textOf(host),
    pid: isInteger(pid) ? pid : 0,
    prefixes: [''],
    blocks: 'sweep',
    ttlSeconds: 0,
    acquiredAt: textOf(acquiredAt),
    renewal: 0,
    problem,
  });
  if (json === undefined) return strictest('is empty, cut short or no JSON object');
  if (typeof id !== 'string' || leaseName(id) !== name || !isPlainId(id, 'l'))
    return strictest('has another id than its name');
  if (!isTexts(prefixes)) return strictest('has no list of prefixes');
  if (blocks !== 'sweep' && blocks !== 'purge') return strictest('blocks something unknown');
  if (!isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > MAX_TTL_SECONDS)
    return strictest('has no TTL that can be believed');
  if (typeof renewal !== 'string' || !/^\d{10}$/.test(renewal)) return strictest('has no number of renewals');
  return {
    name,
    id,
    holder: textOf(holder),
    host: textOf(host),
    pid: isInteger(pid) ? pid : 0,
    prefixes,
    blocks,
    ttlSeconds,
    acquiredAt: textOf(acquiredAt),
    renewal: Number(renewal),
    problem: null,
  };
}
