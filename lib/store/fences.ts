import { prefixesOverlap } from '../domain/key.ts';
import { isInteger, isTexts, line, parseObject, textOf } from './control-json.ts';
import type { ControlSpace } from './store.ts';

const FENCES = 'fences';

export type FenceKind = 'sweep' | 'purge';

/** What a run says of itself in its fences. */
export interface FenceOwner {
  /** The run's id. */
  readonly run: string;
  /** The uuid of the catalog that the run is in. */
  readonly catalog: string;
  /** The kernel's boot id. */
  readonly boot: string;
  readonly host: string;
  readonly pid: number;
}

/** A run's announcement of the batch it is about to act on. */
export interface Fence {
  /** Its name in `fences/`: each is used once. */
  readonly name: string;
  /** Null where the object is unclear, as are the members below. */
  readonly owner: FenceOwner | null;
  readonly kind: FenceKind | null;
  /** What it is about: byte prefixes; `['']` is everything. */
  readonly prefixes: readonly string[];
  /** ISO 8601, or empty. */
  readonly startedAt: string;
  /** Set when the object could not be understood and counts as a fence over everything. */
  readonly problem: string | null;
}

/** The name of a run's fence; `batch` counts from 1. */
export function fenceName(run: string, batch: number): string {
  return `${run}-${batch}.json`;
}

/**
 * Puts up a fence. On a full disk it is an empty one, which covers everything.
 * With `passing` a power cut may undo it, for where that ends all that could be
 * done under it: recovery then announces itself, and looks. Throws when its name
 * is taken: no name is used twice.
 */
export async function putUpFence(
  control: ControlSpace,
  fence: FenceOwner & {
    batch: number;
    kind: FenceKind;
    prefixes: readonly string[];
    startedAt: string;
    passing: boolean;
  },
): Promise<string> {
  const { run, batch, catalog, boot, kind, prefixes, host, pid, startedAt, passing } = fence;
  const name = fenceName(run, batch);
  const body = line({ run, batch, catalog, boot, kind, prefixes, host, pid, startedAt });
  if ((await control.create(`${FENCES}/${name}`, body, { orEmpty: true, passing })) === 'exists') {
    throw new Error(`there is a fence ${name} already`);
  }
  return name;
}

/** Takes a fence down; it may be gone already. With `passing`, a power cut may bring it back. */
export async function takeDownFence(
  control: ControlSpace,
  name: string,
  options?: { passing: boolean },
): Promise<void> {
  await control.remove(`${FENCES}/${name}`, options);
}

/** The run that a fence's name tells of, or undefined where it is no name of ours. */
export function runOfFence(name: string): string | undefined {
  return /^(?<run>.+)-[0-9]+\.json$/u.exec(name)?.groups?.['run'];
}

/** The names of all fences that are up; every name counts. */
export async function listFences(control: ControlSpace): Promise<string[]> {
  return control.list(FENCES);
}

/** Reads one fence by its name; undefined when it is down, its strictest reading when it is unclear. */
export async function readFence(control: ControlSpace, name: string): Promise<Fence | undefined> {
  const body = await control.read(`${FENCES}/${name}`);
  return body === undefined ? undefined : parseFence(name, body);
}

/** Whether a fence is about something below one of the prefixes; none of them, or `['']`, is everything. */
export function fenceOverlaps(fence: Pick<Fence, 'prefixes'>, prefixes: readonly string[]): boolean {
  return overlap(fence.prefixes, prefixes);
}

/** Whether two lists of prefixes name a common key; an empty list is everything. */
export function overlap(a: readonly string[], b: readonly string[]): boolean {
  if (a.length === 0 || b.length === 0) return true;
  return a.some((one) => b.some((other) => prefixesOverlap(one, other)));
}

/** Reads a fence's bytes, failing safe: what is unclear counts as a fence over everything. */
function parseFence(name: string, body: Buffer): Fence {
  const json = parseObject(body);
  const { run, batch, catalog, boot, kind, prefixes, host, pid, startedAt } = json ?? {};
  const strictest = (problem: string): Fence => ({
    name,
    owner: null,
    kind: null,
    prefixes: [''],
    startedAt: textOf(startedAt),
    problem,
  });
  if (json === undefined) return strictest('is empty, cut short or no JSON object');
  if (typeof run !== 'string' || !isInteger(batch) || fenceName(run, batch) !== name)
    return strictest('has another run or batch than its name');
  if (typeof catalog !== 'string' || typeof boot !== 'string') return strictest('names no catalog or boot');
  if (kind !== 'sweep' && kind !== 'purge') return strictest('has an unknown kind');
  if (!isTexts(prefixes)) return strictest('has no list of prefixes');
  if (!isInteger(pid)) return strictest('names no process');
  return {
    name,
    owner: { run, catalog, boot, host: textOf(host), pid },
    kind,
    prefixes,
    startedAt: textOf(startedAt),
    problem: null,
  };
}
