import type { Clock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { isCopyOf, pendingName } from '../../domain/ids.ts';
import { type Key, printable } from '../../domain/key.ts';
import { type S3Revision, sameRevision } from '../../domain/revision.ts';
import type { MoveItem, MoveOutcome, Pulse } from '../store.ts';
import {
  type Capabilities,
  type Copied,
  type DeleteOptions,
  type Head,
  type ListedVersion,
  type S3Api,
  Unanswered,
} from './api.ts';
import { Unreachable } from './errors.ts';
import { copyGuardOf, deleteGuardOf } from './guards.ts';
import { LateRequests, OutcomeUnknown, type Seen } from './late.ts';
import { revisionOf, STANDARD, s3Revision, wholeSeconds } from './revisions.ts';
import { NULL_VERSION, versionsOf } from './versions.ts';

/** A copy that is older than this, beside a live object that is still its source, was put back meanwhile. ms. */
const FINISHED_WITHIN_MS = 3_600_000;
/**
 * What was written so long ago, by the store's clock, is not written again within the same second,
 * nor by a gateway whose clock is some seconds behind: a guard that compares seconds holds. ms.
 */
const APART_MS = 60_000;
/** How often a marker is taken off that hides what came after the copy. */
const MARKERS = 10;

export interface Workings {
  readonly api: S3Api;
  readonly clock: Clock;
  readonly pendingPrefix: string;
  readonly capabilities: Capabilities;
}

/** Phase one of single objects: a guarded copy, then a guarded delete (R2, R3). */
export class Mover {
  readonly #api: S3Api;
  readonly #pendingPrefix: string;
  readonly #capabilities: Capabilities;
  readonly #resume: boolean;
  readonly #pulse: Pulse | undefined;
  readonly #late: LateRequests;

  constructor(workings: Workings & { readonly resume: boolean; readonly pulse: Pulse | undefined }) {
    const { api, clock, pendingPrefix, capabilities, resume, pulse } = workings;
    this.#api = api;
    this.#pulse = pulse;
    this.#pendingPrefix = pendingPrefix;
    this.#capabilities = capabilities;
    this.#resume = resume;
    this.#late = new LateRequests({ api, clock }, pulse);
  }

  async outlast(): Promise<void> {
    await this.#late.outlast();
  }

  async move({ key, id, revision }: MoveItem): Promise<MoveOutcome> {
    const meant = s3Revision(revision);
    const pending = pendingName(this.#pendingPrefix, key, id);
    if (this.#capabilities.copiesFollow === true) return { outcome: 'failed', error: followsError(key) };
    if (this.#resume) return this.#finish(key, id, pending, meant);
    const guard = this.#deleteGuard(meant);
    const copied = await this.#copy(key, pending, meant).catch(errorOfObject);
    if (copied instanceof Error) return { outcome: 'failed', error: copied };
    if ('outcome' in copied) return copied;
    // Without a guard an attempt that is late would copy what is there by then over this copy.
    if (this.#late.isAny && copyGuardOf(this.#capabilities) === 'none') {
      await this.#late.outlast();
      const seen = await this.#api.head(pending);
      if (seen?.etag !== copied.etag) return this.#notACopy(key, pending);
    }
    return this.#delete(key, meant, { guard, versionId: copied.versionId });
  }

  /** To be asked before the copy: what is written in the listed second may still come until then. */
  #deleteGuard({ modifiedAt }: S3Revision): DeleteGuard {
    const guard = deleteGuardOf(this.#capabilities);
    const date = this.#api.lastDate?.date ?? 0;
    const isApart = date - wholeSeconds(modifiedAt) >= APART_MS;
    return guard === 'unmodified-since' && !isApart ? 'head-before' : guard;
  }

  /** Copies what was meant: `versionId` is that of the source, where one was read. */
  async #copy(
    key: Key,
    pending: string,
    meant: S3Revision,
  ): Promise<{ versionId: string | undefined; etag: string } | MoveOutcome | Error> {
    const guard = copyGuardOf(this.#capabilities);
    const isByEtag = guard === 'if-match' || guard === 'rgw-if-match';
    let versionId: string | undefined;
    // No ETag tells the same bytes put again, and no guard tells nothing; a look or a time before a delete does.
    const isTold = ['head-before', 'unmodified-since'].includes(deleteGuardOf(this.#capabilities));
    if (guard !== 'unmodified-since' && !(isByEtag && isTold)) {
      const live = await this.#api.head(key);
      if (live === undefined) return { outcome: 'gone' };
      if (!(await this.#isUntouched(key, live, meant))) return { outcome: 'changed' };
      versionId = live.versionId ?? NULL_VERSION;
    }
    const source = { ...meant, versionId: versionId ?? null, storageClass: meant.storageClass ?? STANDARD };
    const copied = await this.#late.known<Copied | 'changed' | 'gone' | 'exists'>(
      async () => this.#api.copy(key, pending, { source, guard }),
      async () => {
        const head = await this.#api.head(pending);
        return head === undefined ? 'not-yet' : { result: head, isProof: true }; // its name is ours alone
      },
    );
    if (copied === 'changed' || copied === 'gone') return { outcome: copied };
    if (copied === 'exists') throw new TypeError(`${pending} was to be made whatever is there`);
    // R2: the answer to a copy is the sight of it, where it has the ETag of its source.
    if (copied.etag === meant.etag) return { versionId, etag: copied.etag };
    const seen = await this.#api.head(pending);
    if (seen === undefined) {
      return new TombstonedError('failed', `the copy of ${printable(key)} has gone again`, {
        key,
        hint: `see who removes names below ${this.#pendingPrefix}`,
      });
    }
    // Copies of some objects have ETags of their own (multipart, KMS): then the source must be what it was.
    if (seen.size === meant.size && (await this.#isUntouched(key, await this.#api.head(key), meant)))
      return { versionId, etag: seen.etag };
    return this.#notACopy(key, pending);
  }

  /**
   * What was copied is not what was meant, and was not deleted: its id would vouch
   * for another content, so it goes at once. Nobody was told of it.
   */
  async #notACopy(key: Key, pending: string): Promise<MoveOutcome> {
    const seen = await this.#api.head(pending);
    const [end] = await this.#api.deleteMany([{ name: pending }]);
    if (end === 'deleted') return { outcome: 'changed' };
    if (end instanceof Unanswered) this.#late.note(end);
    if (seen === undefined) throw end ?? new TypeError(`nothing is said of ${pending}`);
    const error = new TombstonedError('failed', `${printable(pending)} is no copy of what was meant`, {
      key,
      hint: 'look at it: it has the content of another program that wrote just then',
      cause: end,
    });
    return { outcome: 'failed', error };
  }

  /** Deletes what was copied, if it still is that (R3). What came in its place since stays. */
  async #delete(
    key: Key,
    meant: S3Revision,
    { guard, versionId }: { guard: DeleteGuard; versionId: string | undefined },
  ): Promise<MoveOutcome> {
    await this.#pulse?.(); // the copy may have taken long
    if (guard === 'head-before' && !isUntouched(await this.#api.head(key), meant))
      return { outcome: 'moved' };
    const options = this.#conditions(meant);
    const wasLate = this.#late.isAny;
    const write = async (): Promise<unknown> => this.#api.delete(key, options);
    // That it has gone, or changed, is no proof: others delete and write too.
    const look = async (): Promise<Seen<unknown>> => {
      const live = await this.#api.head(key);
      return (await this.#isUntouched(key, live, meant)) ? 'not-yet' : { result: live, isProof: false };
    };
    if (guard === 'head-before') {
      // Unguarded, it is tried once: a late one would take what was written since.
      const deleted = await this.#late.known(
        async () => [await write()],
        async () => listOf(await look()),
        { isOnce: true },
      );
      if (deleted !== undefined) return this.#judged(key, meant, deleted[0]);
      await this.#late.outlast();
      const live = await this.#api.head(key);
      return isUntouched(live, meant) ? { outcome: 'put-back', revision: meant } : { outcome: 'moved' };
    }
    const deleted = await this.#late.known(write, look);
    if (guard === 'unmodified-since') return this.#judged(key, meant, deleted);
    if (guard !== 'marker') return { outcome: 'moved' };
    await this.#unhide(key, meant, versionId);
    if (this.#late.isAny || wasLate) {
      this.#late.lookAgain(async () => this.#unhide(key, meant, versionId));
    }
    return { outcome: 'moved' };
  }

  /** A server that has another time for an object than it tells refuses to delete what nobody touched. */
  async #judged(key: Key, meant: S3Revision, deleted: unknown): Promise<MoveOutcome> {
    const isStill = deleted === 'changed' && isUntouched(await this.#api.head(key), meant);
    return isStill ? { outcome: 'put-back', revision: meant } : { outcome: 'moved' };
  }

  #conditions({ etag, modifiedAt }: S3Revision): DeleteOptions {
    const { versioning, deleteIfMatch, deleteUnmodifiedSince } = this.#capabilities;
    if (deleteIfMatch) return { ifMatch: etag };
    return deleteUnmodifiedSince && versioning !== 'enabled' ? { unmodifiedSince: modifiedAt } : {};
  }

  /** Takes a marker off again that hides another version than the one copied. */
  async #unhide(key: Key, meant: S3Revision, versionId: string | undefined): Promise<void> {
    for (let round = 0; round < MARKERS; round++) {
      const [latest, ...older] = await versionsOf(this.#api, key);
      if (latest?.isMarker !== true) return;
      const hidden = older.find(({ isMarker }) => !isMarker);
      if (hidden === undefined) return;
      const isCopied = versionId === undefined ? isListed(hidden, meant) : hidden.versionId === versionId;
      if (isCopied || isOlder(hidden, older, meant, versionId)) return;
      await this.#late.known<unknown>(
        async () => this.#api.delete(key, { versionId: latest.versionId }),
        async () => {
          const [now] = await versionsOf(this.#api, key);
          return now?.versionId === latest.versionId ? 'not-yet' : { result: now, isProof: true };
        },
      );
    }
    throw new TombstonedError('failed', `${printable(key)} is deleted again and again by somebody else`, {
      key,
      hint: 'look at its versions: a delete marker hides a content that has no tombstone',
    });
  }

  /**
   * Whether a live object is the very one that was listed. RGW's look at a version says when it was
   * last tagged, and its listing when it was written.
   */
  async #isUntouched(key: Key, live: Head | undefined, meant: S3Revision): Promise<boolean> {
    if (live === undefined || isUntouched(live, meant)) return live !== undefined;
    if (this.#capabilities.versioning !== 'enabled' || !sameRevision(revisionOf(live), meant)) return false;
    const [latest] = await versionsOf(this.#api, key);
    return (
      latest?.isMarker === false &&
      latest.versionId === (live.versionId ?? NULL_VERSION) &&
      wholeSeconds(latest.modifiedAt) === meant.modifiedAt
    );
  }

  /** Goes on from what a crash has left: own pending name first, and nothing is begun (R2). */
  async #finish(key: Key, id: string, pending: string, meant: S3Revision): Promise<MoveOutcome> {
    const copy = await this.#api.head(pending);
    if (copy === undefined) return { outcome: 'gone' };
    if (!isCopyOf(id, revisionOf(copy), meant)) {
      const error = new TombstonedError('failed', `${printable(pending)} is not what was to be moved there`, {
        key,
        hint: 'look at what is there; the live object was left alone',
      });
      return { outcome: 'failed', error };
    }
    const live = await this.#api.head(key);
    if (live === undefined) {
      if (deleteGuardOf(this.#capabilities) === 'marker') await this.#unhide(key, meant, undefined);
      return { outcome: 'moved' };
    }
    if (!(await this.#isUntouched(key, live, meant))) return { outcome: 'moved' };
    const date = this.#api.lastDate?.date;
    if (date === undefined || date - copy.modifiedAt > FINISHED_WITHIN_MS)
      return { outcome: 'put-back', revision: meant };
    return this.#delete(key, meant, { guard: this.#deleteGuard(meant), versionId: undefined });
  }
}

type DeleteGuard = ReturnType<typeof deleteGuardOf>;

function followsError(key: Key): Error {
  const why = 'while versioning is suspended, a copy in this store loses its content with its source';
  return new TombstonedError('failed', `${printable(key)} is not moved: ${why}`, {
    key,
    hint: "enable the bucket's versioning again",
  });
}

/** What keeps one object from being copied; what keeps all, or leaves something unknown, is thrown. */
export function errorOfObject(error: unknown): Error {
  const isOfAll = error instanceof OutcomeUnknown || error instanceof Unreachable;
  if (error instanceof TombstonedError && error.code === 'failed' && !isOfAll) return error;
  throw error;
}

/**
 * Whether what a marker hides is from before what was copied, and that one has gone
 * for good (a purge of its, a lifecycle rule): uncovered, an old content would be live.
 */
function isOlder(
  hidden: ListedVersion,
  versions: readonly ListedVersion[],
  meant: S3Revision,
  versionId: string | undefined,
): boolean {
  const isThere = versions.some((version) =>
    versionId === undefined ? isListed(version, meant) : version.versionId === versionId,
  );
  return !isThere && wholeSeconds(hidden.modifiedAt) <= wholeSeconds(meant.modifiedAt);
}

function isListed({ isMarker, etag, size }: ListedVersion, meant: S3Revision): boolean {
  return !isMarker && etag === meant.etag && size === meant.size;
}

function listOf<T>(seen: Seen<T>): Seen<T[]> {
  return seen === 'not-yet' ? seen : { ...seen, result: [seen.result] };
}

/** Whether a live object is the very one that was listed: the same bytes put again are not. */
function isUntouched(live: Head | undefined, meant: S3Revision): boolean {
  if (live === undefined) return false;
  const now = revisionOf(live);
  return sameRevision(now, meant) && now.modifiedAt === meant.modifiedAt;
}
