import type { Clock } from '../../domain/clock.ts';
import { hasOtherMd5, isCopyOf, pendingName } from '../../domain/ids.ts';
import { inFlight } from '../../domain/in-flight.ts';
import { commonPrefix, compareKeys } from '../../domain/key.ts';
import { type S3Revision, sameRevision } from '../../domain/revision.ts';
import type { Hidden, HiddenOutcome, Pulse, RemoveItem, RemoveOutcome } from '../store.ts';
import { type S3Api, Unanswered } from './api.ts';
import { LateRequests } from './late.ts';
import { revisionOf, type Seen, s3Revision } from './revisions.ts';
import { haveSameBytes } from './same-bytes.ts';
import { type Last, type Newest, VersionRemover } from './version-remover.ts';
import { versionsOf } from './versions.ts';

/** How many names of others a listing may have for each of a batch, before each is looked at by itself. */
const OTHERS = 10;
const PAGE = 1000;
/** How many pages are removed at the same time: servers take the names of one request one after the other. */
const PAGES = 4;

/** How many copies a batch has at the most for all of it to be removed at once. */
export const REMOVED_AT_ONCE = PAGE * PAGES;

interface Named {
  readonly item: RemoveItem;
  readonly name: string;
}

/** What is to be removed of it now. */
type Doomed = Named & Last;

/** Phase two of a batch: what still is what was tombstoned is removed, many at a time. */
export class Remover {
  readonly #api: S3Api;
  readonly #pendingPrefix: string;
  readonly #concurrency: number;
  readonly #pulse: Pulse | undefined;

  readonly #late: LateRequests;
  /** Where versions are kept and are to go. */
  readonly #versions: VersionRemover | undefined;

  constructor(options: {
    api: S3Api;
    clock: Clock;
    pendingPrefix: string;
    concurrency: number;
    pulse: Pulse | undefined;
    /** Whether old versions go for good. */
    byVersions: boolean;
  }) {
    this.#api = options.api;
    this.#pulse = options.pulse;
    this.#late = new LateRequests(options, options.pulse);
    this.#pendingPrefix = options.pendingPrefix;
    this.#concurrency = options.concurrency;
    this.#versions = options.byVersions ? new VersionRemover(options.api, this.#late) : undefined;
  }

  async remove(batch: readonly RemoveItem[]): Promise<RemoveOutcome[]> {
    try {
      return await this.#remove(batch);
    } catch (error) {
      await this.#late.outlast(); // a hold must not be in force while a removal may still take effect (R5)
      throw error;
    }
  }

  /** Removes old versions for good, where versions are removed. */
  async removeHidden(batch: readonly Hidden[]): Promise<HiddenOutcome[]> {
    const versions = this.#versions;
    if (versions === undefined) throw new TypeError('no versions are removed here');
    try {
      return await inFlight(this.#concurrency, batch, async ({ key, id, versionIds }) => {
        await this.#pulse?.();
        const name = id === null ? key : pendingName(this.#pendingPrefix, key, id);
        return versions.removeHidden(name, versionIds);
      });
    } finally {
      await this.#late.outlast(); // as of a batch
    }
  }

  async #remove(batch: readonly RemoveItem[]): Promise<RemoveOutcome[]> {
    const named = batch.map((item) => ({ item, name: pendingName(this.#pendingPrefix, item.key, item.id) }));
    const judged = new Map<string, RemoveOutcome>();
    const doomed: Doomed[] = [];
    const judge = async (one: Named, judging: Promise<Last | RemoveOutcome>): Promise<void> => {
      const end = await judging;
      if ('outcome' in end) judged.set(one.name, end);
      else doomed.push({ ...one, ...end });
    };
    if (this.#versions === undefined) {
      const seen = await this.#look(named);
      await inFlight(this.#concurrency, named, async (one) =>
        judge(one, this.#judge(one, seen.get(one.name))),
      );
    } else {
      const versions = this.#versions;
      // Those of one key are about the same versions: one after the other.
      await inFlight(this.#concurrency, byKey(named), async (ofKey) => {
        for (const one of ofKey) {
          await this.#pulse?.();
          const isBack = async (copy: Newest): Promise<boolean> => this.#isBack(one, copy);
          await judge(one, versions.prepare(one.item, one.name, isBack));
        }
      });
    }
    const unclear: Doomed[] = [];
    const pages = Array.from({ length: Math.ceil(doomed.length / PAGE) }, (_, n) =>
      doomed.slice(n * PAGE, (n + 1) * PAGE),
    );
    const removePage = async (some: readonly Doomed[]): Promise<void> => {
      await this.#pulse?.();
      const ends = await this.#api.deleteMany(
        some.map(({ name, versionId }) => (versionId === undefined ? { name } : { name, versionId })),
      );
      for (const [i, one] of some.entries()) {
        const end = ends[i] ?? new Error('the store has said nothing of it');
        if (end instanceof Unanswered) {
          this.#late.note(end);
          unclear.push(one);
        } else judged.set(one.name, end === 'deleted' ? removed(one) : await this.#refused(one, end));
      }
    };
    await inFlight(Math.min(PAGES, this.#concurrency), pages, removePage);
    // A hold must not be in force while a removal may still take effect (R5).
    await this.#late.outlast();
    await inFlight(this.#concurrency, unclear, async (one) => {
      const isThere = await this.#isThere(one);
      const error = new Error('the store has not answered, and has not removed it');
      judged.set(one.name, isThere ? { outcome: 'failed', error } : removed(one));
    });
    return named.map(
      ({ name }) => judged.get(name) ?? { outcome: 'failed', error: new Error('not looked at') },
    );
  }

  async #isThere({ name, versionId }: Doomed): Promise<boolean> {
    if (versionId === undefined) return (await this.#api.head(name)) !== undefined;
    return (await versionsOf(this.#api, name)).some((version) => version.versionId === versionId);
  }

  async #refused({ name, versionId }: Doomed, error: Error): Promise<RemoveOutcome> {
    if (this.#versions === undefined || versionId === undefined) return { outcome: 'failed', error };
    return this.#versions.refused(name, versionId, error);
  }

  /** What keeps a copy from being removed, or what of it goes. */
  async #judge(one: Named, copy: Seen | undefined): Promise<Last | RemoveOutcome> {
    if (copy === undefined) return { outcome: 'gone' };
    const { item } = one;
    const meant = s3Revision(item.revision);
    if (!isCopyOf(item.id, revisionOf(copy), meant) || (await this.#hasOtherBytes(one.name, copy, meant))) {
      return { outcome: 'changed', detail: `it has ${copy.size} bytes and ETag ${copy.etag}` };
    }
    if (item.from === 'restored' && !(await this.#isBack(one, copy))) return { outcome: 'not-live' };
    return { versionId: undefined, left: null };
  }

  /** Whether what a copy was restored to is live. */
  async #isBack({ item, name }: Named, copy: Newest): Promise<boolean> {
    const live = await this.#api.head(item.key);
    if (live === undefined) return false;
    return (
      sameRevision(revisionOf(live), item.revision) ||
      haveSameBytes(this.#api, { name: item.key, head: live }, { name, head: copy })
    );
  }

  /** Whether something else of the same size has its name; of what is under a key nothing tells. */
  async #hasOtherBytes(name: string, copy: Seen, meant: S3Revision): Promise<boolean> {
    if (!hasOtherMd5(revisionOf(copy), meant)) return false;
    return (await this.#api.head(name))?.md5 !== undefined;
  }

  /** How the copies stand: by one listing where they are close together, else each by itself. */
  async #look(named: readonly Named[]): Promise<Map<string, Seen>> {
    const names = named.map(({ name }) => name).toSorted(compareKeys);
    const [first] = names;
    const last = names.at(-1);
    const seen = new Map<string, Seen>();
    if (first === undefined || last === undefined) return seen;
    const wanted = new Set(names);
    let others = OTHERS * names.length;
    // Ids are ASCII: without its last character it comes just before.
    for await (const page of this.#api.list(commonPrefix(first, last), { after: first.slice(0, -1) })) {
      await this.#pulse?.();
      for (const listed of page) {
        if (wanted.delete(listed.name)) seen.set(listed.name, listed);
        else others -= 1;
      }
      const end = page.at(-1);
      // What was to come before here is not there.
      if (end !== undefined && compareKeys(end.name, last) >= 0) return seen;
      if (others < 0) {
        const rest = end === undefined ? [] : [...wanted].filter((name) => compareKeys(name, end.name) > 0);
        await inFlight(this.#concurrency, rest, async (name) => {
          const head = await this.#api.head(name);
          if (head !== undefined) seen.set(name, head);
        });
        return seen;
      }
    }
    return seen;
  }
}

function byKey(named: readonly Named[]): Iterable<Named[]> {
  const keys = new Map<string, Named[]>();
  for (const one of named) {
    const ofKey = keys.get(one.item.key);
    if (ofKey === undefined) keys.set(one.item.key, [one]);
    else ofKey.push(one);
  }
  return keys.values();
}

function removed({ left }: Last): RemoveOutcome {
  return left === null ? { outcome: 'removed' } : { outcome: 'removed', left };
}
