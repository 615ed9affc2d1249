import { randomUUID } from 'node:crypto';
import type { Clock } from '../../domain/clock.ts';
import { CONTROL_SEGMENT } from '../../domain/key.ts';
import { type Capabilities, type CopyGuard, type CopyOptions, type S3Api, Unanswered } from './api.ts';
import { copyGuardOf, deleteGuardOf } from './guards.ts';

/** How often a condition is tried, on names of its own each time, when requests get no answer. */
const ATTEMPTS = 4;
/** Before the second, and twice as long before each after it. ms. */
const PAUSE_MS = 500;

/**
 * Tries on scratch names what a store honours (R3): a condition counts only where
 * the store refuses when it should, with nothing done, and accepts when it should.
 * Throws where that can't be told; its scratch objects are removed even then. To be
 * done again when versioning is switched: RGW then honours other conditions.
 */
export async function probe(api: S3Api, clock: Clock): Promise<Capabilities> {
  return onScratch(api, async (scratch) => ({
    ...((await asked(clock, async () => copiesFollow(scratch))) ? { copiesFollow: true } : {}),
    putIfAbsent: await asked(clock, async () => putsIfAbsent(scratch)),
    putIfMatch: await asked(clock, async () => putsIfMatch(scratch)),
    copyIfMatch: await asked(clock, async () => copiesIfMatch(scratch)),
    copyUnmodifiedSince: await asked(clock, async () => copiesGuarded(scratch, 'unmodified-since')),
    copyIfAbsent: await asked(clock, async () => copiesIfAbsent(scratch)),
    deleteIfMatch: await asked(clock, async () => deletesIfMatch(scratch)),
    deleteUnmodifiedSince: await asked(clock, async () => deletesUnmodifiedSince(scratch)),
    versioning: scratch.versioning,
  }));
}

/** The same of one condition: all that a purge, or who only reads, has to know. */
export async function probePutIfAbsent(api: S3Api, clock: Clock): Promise<boolean> {
  return onScratch(api, async (scratch) => asked(clock, async () => putsIfAbsent(scratch)));
}

/** The same of what a lease is renewed by. */
export async function probePutIfMatch(api: S3Api, clock: Clock): Promise<Capabilities['putIfMatch']> {
  return onScratch(api, async (scratch) => asked(clock, async () => putsIfMatch(scratch)));
}

async function onScratch<T>(api: S3Api, ask: (scratch: Scratch) => Promise<T>): Promise<T> {
  const versioning = (await unlessRefused(async () => api.versioning())) ?? 'off';
  const scratch = new Scratch(api, versioning);
  return scratch.cleared(async () => ask(scratch));
}

/** What was found, what is done with it, and what that leaves open (R3): lines for people. */
export function describe(capabilities: Capabilities, versions: 'keep' | 'purge' = 'keep'): string[] {
  return [
    `conditions honoured: ${honoured(capabilities)}`,
    `versions: ${VERSIONING[capabilities.versioning]}`,
    `moving, the copy: ${capabilities.copiesFollow === true ? FOLLOWING : COPYING[copyGuardOf(capabilities)]}`,
    `moving, the deletion: ${DELETING[deleteGuardOf(capabilities)]}`,
    `restoring: ${restoring(capabilities)}`,
    `claims and leases: ${claiming(capabilities)}`,
    `purging: ${PURGING}${capabilities.versioning === 'off' ? '' : `; ${PURGING_VERSIONS[versions]}`}`,
  ];
}

const VERSIONING = {
  enabled: 'kept',
  suspended: 'suspended: new contents replace each other as where none are kept',
  off: 'not kept',
} as const satisfies Record<Capabilities['versioning'], string>;

const COPYING = {
  'unmodified-since': 'only if the object was not written since it was listed; nothing is left open',
  'if-match':
    'only if the object has the ETag that was listed; left open: the same bytes put again meanwhile count as old',
  'rgw-if-match':
    "only if the object has the ETag that was listed, by RGW's own header; left open: the same bytes put again meanwhile count as old",
  version: 'of the version that was looked at just before; nothing is left open',
  none: 'after a look, without a condition; the copy is compared with what was meant before anything is deleted',
} as const satisfies Record<CopyGuard, string>;

const FOLLOWING =
  'WARNING: while versioning is suspended, a copy loses its content with its source: refused. Enable versioning';

const DELETING = {
  marker: 'puts a marker, and takes it off again if it hides something newer; nothing is lost',
  'if-match':
    'only if the object has the ETag that was copied; left open: the same bytes put again since the copy, and a store that looks before it deletes and not while it does',
  'unmodified-since':
    "WARNING: only if the object was not written in a later second than was listed, by RGW's own header (one younger than a minute is also looked at before): what the server is writing at the very moment of the deletion is lost. Let no program write keys again that a policy names as expired, or keep versions in the bucket",
  'head-before':
    'WARNING: after a look, without a condition: what is written between the look and the deletion is lost. Let no program write keys again that a policy names as expired, or keep versions in the bucket',
} as const satisfies Record<ReturnType<typeof deleteGuardOf>, string>;

const PURGING = 'pending names are used once, so no condition is needed';
const PURGING_VERSIONS = {
  keep: 'with `versions: keep` it puts markers, and only the rules of the bucket free any space',
  purge:
    'with `versions: purge` it removes the versions of the copy, and of what was tombstoned, for good; left open: a delete marker of the key that somebody takes off in the moment between the look at the versions and the removal',
} as const satisfies Record<'keep' | 'purge', string>;

function honoured(capabilities: Capabilities): string {
  const { putIfAbsent, putIfMatch, copyIfMatch, copyUnmodifiedSince, copyIfAbsent } = capabilities;
  const { deleteIfMatch, deleteUnmodifiedSince } = capabilities;
  const found = [
    ...(putIfAbsent ? ['PUT If-None-Match'] : []),
    ...(putIfMatch === 'no' ? [] : [`PUT If-Match${putIfMatch === 'quoted' ? '' : ' (without quotes)'}`]),
    ...(copyUnmodifiedSince ? ['COPY if unmodified since'] : []),
    ...(copyIfMatch === 'no' ? [] : [`COPY if match${copyIfMatch === 'rgw' ? " (RGW's header)" : ''}`]),
    ...(copyIfAbsent ? ['COPY If-None-Match'] : []),
    ...(deleteIfMatch ? ['DELETE If-Match'] : []),
    ...(deleteUnmodifiedSince ? ["DELETE if unmodified since (RGW's header)"] : []),
  ];
  return found.length === 0 ? 'none' : found.join(', ');
}

function restoring({ copyIfAbsent, putIfAbsent }: Capabilities): string {
  if (copyIfAbsent) return 'by a copy, only where there is nothing; nothing is left open';
  if (putIfAbsent)
    return 'by reading and writing, only where there is nothing: slower than a copy; nothing is left open';
  return 'WARNING: no condition keeps it from a key that is written just then: refused without --force';
}

function claiming({ putIfAbsent, putIfMatch }: Capabilities): string {
  const made = putIfAbsent
    ? 'made only where there is nothing'
    : 'made after a look and looked at again: two that make one owner or identity at once are told apart only by that';
  const renewed =
    putIfMatch === 'no'
      ? 'leases renewed between two looks: left open: a renewal may overwrite what was changed just then, and a late one may bring back a lease that was removed'
      : 'leases renewed only over what was read; nothing is left open';
  return `${made}; ${renewed}`;
}

/** Scratch objects below one name of their own, in `tmp/`. */
class Scratch {
  readonly api: S3Api;
  readonly versioning: Capabilities['versioning'];
  readonly #below = `${CONTROL_SEGMENT}/tmp/probe-${randomUUID()}/`;
  readonly #names: string[] = [];

  constructor(api: S3Api, versioning: Capabilities['versioning']) {
    this.api = api;
    this.versioning = versioning;
  }

  /** A name with nothing there. */
  name(): string {
    const name = `${this.#below}${this.#names.length + 1}`;
    this.#names.push(name);
    return name;
  }

  /** A new object: what a look says of it. */
  async object(body = 'one'): Promise<{ name: string; etag: string; size: number; modifiedAt: number }> {
    const name = this.name();
    await this.api.put(name, body);
    const head = await this.api.head(name);
    if (head === undefined) throw new Error(`${name} was put, and is not there`);
    const { etag, size, modifiedAt } = head;
    return { name, etag, size, modifiedAt };
  }

  /** The ETag of what is there, or undefined. */
  async etagOf(name: string): Promise<string | undefined> {
    return (await this.api.head(name))?.etag;
  }

  /** What `use` says, with everything removed that it made; its error comes before one of the removal. */
  async cleared<T>(use: () => Promise<T>): Promise<T> {
    let result: T;
    try {
      result = await use();
    } catch (error) {
      await this.#clear().catch(() => undefined);
      throw error;
    }
    await this.#clear();
    return result;
  }

  /** Each is tried, also after one could not be removed. */
  async #clear(): Promise<void> {
    const ends = await Promise.allSettled(
      (await this.#left()).map(async (item) =>
        repeated(async () =>
          this.api.delete(item.name, item.versionId === undefined ? {} : { versionId: item.versionId }),
        ),
      ),
    );
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  async #left(): Promise<{ name: string; versionId?: string }[]> {
    if (this.versioning === 'off') return this.#names.map((name) => ({ name }));
    const left: { name: string; versionId: string }[] = [];
    for await (const page of this.api.listVersions(this.#below)) left.push(...page);
    return left;
  }
}

async function putsIfAbsent(scratch: Scratch): Promise<boolean> {
  const { api } = scratch;
  const { name, etag } = await scratch.object();
  const over = await unlessRefused(async () => api.put(name, 'other', { ifAbsent: true }));
  if (over !== 'exists' || (await scratch.etagOf(name)) !== etag) return false;
  const to = scratch.name();
  const isMade = async (): Promise<boolean> => {
    const made = await unlessRefused(async () => api.put(to, 'one', { ifAbsent: true }));
    return typeof made === 'object' && (await scratch.etagOf(to)) === made.etag;
  };
  if (!(await isMade())) return false;
  // Where a marker is, is nothing: RGW refuses that while versioning is suspended.
  await api.delete(to);
  return isMade();
}

async function putsIfMatch(scratch: Scratch): Promise<Capabilities['putIfMatch']> {
  if (await putsIfMatchAs(scratch, true)) return 'quoted';
  return (await putsIfMatchAs(scratch, false)) ? 'unquoted' : 'no';
}

async function putsIfMatchAs(scratch: Scratch, quoted: boolean): Promise<boolean> {
  const { api } = scratch;
  const { name, etag } = await scratch.object();
  const other = await scratch.object('two');
  const put = async (target: string, body: string, match: string) =>
    unlessRefused(async () => api.put(target, body, { ifMatch: { etag: match, quoted } }));
  if ((await put(name, 'three', other.etag)) !== 'changed') return false;
  if ((await scratch.etagOf(name)) !== etag) return false;
  const missing = scratch.name();
  if ((await put(missing, 'one', etag)) !== 'changed') return false;
  if ((await scratch.etagOf(missing)) !== undefined) return false;
  const right = await put(name, 'three', etag);
  return typeof right === 'object' && right.etag !== etag && (await scratch.etagOf(name)) === right.etag;
}

async function copiesIfMatch(scratch: Scratch): Promise<Capabilities['copyIfMatch']> {
  if (await copiesGuarded(scratch, 'if-match')) return 'standard';
  return (await copiesGuarded(scratch, 'rgw-if-match')) ? 'rgw' : 'no';
}

async function copiesGuarded(
  scratch: Scratch,
  guard: 'if-match' | 'rgw-if-match' | 'unmodified-since',
): Promise<boolean> {
  const { name, ...source } = await scratch.object();
  const other = await scratch.object('two');
  const wrong =
    guard === 'unmodified-since'
      ? { ...source, modifiedAt: source.modifiedAt - 1000 }
      : { ...source, etag: other.etag };
  const to = scratch.name();
  if ((await copied(scratch, name, to, { source: wrong, guard })) !== 'refused') return false;
  if ((await scratch.etagOf(to)) !== undefined) return false;
  return (await copied(scratch, name, to, { source, guard })) === 'copied';
}

async function copiesIfAbsent(scratch: Scratch): Promise<boolean> {
  const { name, ...source } = await scratch.object();
  const taken = await scratch.object('two');
  const guarded = { source, guard: 'none', ifAbsent: true } as const;
  if ((await copied(scratch, name, taken.name, guarded)) !== 'refused') return false;
  if ((await scratch.etagOf(taken.name)) !== taken.etag) return false;
  const to = scratch.name();
  if ((await copied(scratch, name, to, guarded)) !== 'copied') return false;
  await scratch.api.delete(to);
  return (await copied(scratch, name, to, guarded)) === 'copied';
}

/** Whether a copy shows what its source becomes, where a marker was at the source's name before. */
async function copiesFollow(scratch: Scratch): Promise<boolean> {
  if (scratch.versioning !== 'suspended') return false;
  const { api } = scratch;
  const { name } = await scratch.object();
  await api.delete(name);
  await api.put(name, 'two');
  const source = await api.head(name);
  const to = scratch.name();
  if (source === undefined || (await copied(scratch, name, to, { source, guard: 'none' })) !== 'copied')
    return true;
  await api.put(name, 'three');
  return (await scratch.etagOf(to)) !== source.etag;
}

/** What became of a copy: there, refused by its condition, or the condition itself is not taken. */
async function copied(
  scratch: Scratch,
  from: string,
  to: string,
  options: Omit<CopyOptions, 'source'> & { source: { etag: string; size: number; modifiedAt: number } },
): Promise<'copied' | 'refused' | 'not taken'> {
  // With its class, or the client would look at it first, and find what the server does not.
  const source = { ...options.source, versionId: null, storageClass: 'STANDARD' };
  const outcome = await unlessRefused(async () => scratch.api.copy(from, to, { ...options, source }));
  if (outcome === undefined) return 'not taken';
  // The source is there: who says it is gone has no idea of the condition.
  if (typeof outcome === 'string') return outcome === 'gone' ? 'not taken' : 'refused';
  return (await scratch.api.head(to))?.size === options.source.size ? 'copied' : 'not taken';
}

async function deletesIfMatch(scratch: Scratch): Promise<boolean> {
  const { api } = scratch;
  const { name, etag } = await scratch.object();
  const other = await scratch.object('two');
  const wrong = await unlessRefused(async () => api.delete(name, { ifMatch: other.etag }));
  if (wrong !== 'changed' || (await scratch.etagOf(name)) !== etag) return false;
  const right = await unlessRefused(async () => api.delete(name, { ifMatch: etag }));
  return typeof right === 'object' && (await scratch.etagOf(name)) === undefined;
}

async function deletesUnmodifiedSince(scratch: Scratch): Promise<boolean> {
  const { api } = scratch;
  const { name, etag, modifiedAt } = await scratch.object();
  const wrong = await unlessRefused(async () => api.delete(name, { unmodifiedSince: modifiedAt - 1000 }));
  if (wrong !== 'changed' || (await scratch.etagOf(name)) !== etag) return false;
  const right = await unlessRefused(async () => api.delete(name, { unmodifiedSince: modifiedAt }));
  return typeof right === 'object' && (await scratch.etagOf(name)) === undefined;
}

/**
 * What a request comes to, or undefined where the server does not take it: 501, and
 * 400 twice, since a 400 can also be the trouble of a moment.
 */
async function unlessRefused<T>(request: () => Promise<T>): Promise<T | undefined> {
  for (let is400Again = false; ; is400Again = true) {
    try {
      return await request();
    } catch (error) {
      const status = statusOf(error);
      if (status === 501 || (status === 400 && is400Again)) return undefined;
      if (status !== 400) throw error;
    }
  }
}

/** The HTTP status that an error comes from, where an answer was the cause: the SDK's errors have it, ours tell it. */
export function statusOf(error: unknown): number | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const metadata: unknown = '$metadata' in cause ? cause.$metadata : undefined;
    if (typeof metadata === 'object' && metadata !== null && 'httpStatusCode' in metadata) {
      if (typeof metadata.httpStatusCode === 'number') return metadata.httpStatusCode;
    }
    const told = /^(?:\w+: )?HTTP (?<status>\d{3})\b/.exec(cause.message)?.groups?.['status'];
    if (told !== undefined) return Number(told);
  }
  return undefined;
}

/** Asks a question again, from its beginning, when a request of it got no answer. */
async function asked<T>(clock: Clock, question: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await question();
    } catch (error) {
      if (!(error instanceof Unanswered) || attempt === ATTEMPTS) throw error;
    }
    await clock.sleep(PAUSE_MS * 2 ** (attempt - 1));
  }
}

/** A request that may have its effect twice, until it is answered. */
async function repeated<T>(request: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof Unanswered) || attempt === ATTEMPTS) throw error;
    }
  }
}
