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
const PAGES = 6;

/** How many copies a batch has at the most for all of it to be removed at once. */
export const REMOVED_AT_ONCE = PAGE * PAGES;

interface Named {
  readonly item: RemoveItem;
  readonly name: string;
}

/** What is to be removed of it now. */
type Doomed = Named & Last;

/** How the copy of one stands; undefined where there is none. */
interface Looked {
  readonly one: Named;
  readonly copy: Seen | undefined;
}

/** Notes what keeps one, or gives what of it goes. */
type Judge = (one: Named, judging: Promise<Last | RemoveOutcome>) => Promise<Doomed[]>;

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
    const judge: Judge = async (one, judging) => {
      const end = await judging;
      if (!('outcome' in end)) return [{ ...one, ...end }];
      judged.set(one.name, end);
      return [];
    };
    const unclear: Doomed[] = [];
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
    const doomed =
      this.#versions === undefined
        ? this.#listed(named, judge)
        : this.#prepared(this.#versions, named, judge);
    await inFlight(Math.min(PAGES, this.#concurrency), pagesOf(doomed), removePage);
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

  /** What goes of names, as fast as a listing says how they stand: a page is removed while the next is listed. */
  async *#listed(named: readonly Named[], judge: Judge): AsyncGenerator<Doomed[]> {
    for await (const some of this.#look(named)) {
      const doomed: Doomed[] = [];
      const rest: Looked[] = [];
      for (const looked of some) {
        if (isPlainCopy(looked)) doomed.push({ ...looked.one, versionId: undefined, left: null });
        else rest.push(looked);
      }
      const ends = await inFlight(this.#concurrency, rest, async ({ one, copy }) =>
        judge(one, this.#judge(one, copy)),
      );
      yield [...doomed, ...ends.flat()];
    }
  }

  /** What goes of names whose versions go with them: as they stand when all was looked at. */
  async *#prepared(
    versions: VersionRemover,
    named: readonly Named[],
    judge: Judge,
  ): AsyncGenerator<Doomed[]> {
    // Those of one key are about the same versions: one after the other.
    const ends = await inFlight(this.#concurrency, byKey(named), async (ofKey) => {
      const doomed: Doomed[] = [];
      for (const one of ofKey) {
        await this.#pulse?.();
        const isBack = async (copy: Newest): Promise<boolean> => this.#isBack(one, copy);
        doomed.push(...(await judge(one, versions.prepare(one.item, one.name, isBack))));
      }
      return doomed;
    });
    yield ends.flat();
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

  /** How the copies stand, each once: by one listing where they are close together, else each by itself. */
  async *#look(named: readonly Named[]): AsyncGenerator<Looked[]> {
    const rest = named.toSorted((a, b) => compareKeys(a.name, b.name));
    const first = rest[0]?.name;
    const last = rest.at(-1)?.name;
    if (first === undefined || last === undefined) return;
    let next = 0;
    let others = OTHERS * rest.length;
    // Ids are ASCII: without its last character it comes just before.
    for await (const page of this.#api.list(commonPrefix(first, last), { after: first.slice(0, -1) })) {
      await this.#pulse?.();
      const looked: Looked[] = [];
      others -= page.length;
      for (const listed of page) {
        // What was to come before it is not there.
        for (let one = rest[next]; one !== undefined; one = rest[++next]) {
          const order = compareKeys(one.name, listed.name);
          if (order > 0) break;
          if (order === 0) others += 1;
          looked.push({ one, copy: order === 0 ? listed : undefined });
        }
      }
      if (looked.length > 0) yield looked;
      if (next === rest.length) return;
      if (others < 0) return yield* this.#lookAtEach(rest.slice(next));
    }
    yield rest.slice(next).map((one) => ({ one, copy: undefined }));
  }

  async *#lookAtEach(named: readonly Named[]): AsyncGenerator<Looked[]> {
    for (let at = 0; at < named.length; at += PAGE) {
      yield await inFlight(this.#concurrency, named.slice(at, at + PAGE), async (one) => ({
        one,
        copy: await this.#api.head(one.name),
      }));
    }
  }
}

/** Whether a copy is what was tombstoned by all that the listing says, and no more has to be looked at: most are. */
function isPlainCopy({ one: { item }, copy }: Looked): boolean {
  return (
    copy !== undefined && item.from === 'pending' && sameRevision(revisionOf(copy), s3Revision(item.revision))
  );
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

/** As many in each as one request removes. */
async function* pagesOf(groups: AsyncIterable<readonly Doomed[]>): AsyncGenerator<Doomed[]> {
  const page: Doomed[] = [];
  for await (const group of groups) {
    page.push(...group);
    while (page.length >= PAGE) yield page.splice(0, PAGE);
  }
  if (page.length > 0) yield page;
}

function removed({ left }: Last): RemoveOutcome {
  return left === null ? { outcome: 'removed' } : { outcome: 'removed', left };
}
