import type { Clock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { isCopyOf, pendingName } from '../../domain/ids.ts';
import { type Key, printable } from '../../domain/key.ts';
import { type S3Revision, sameRevision } from '../../domain/revision.ts';
import type { MoveItem, MoveOutcome, Pulse } from '../store.ts';
import type { Capabilities, Copied, Head, S3Api } from './api.ts';
import { copyGuardOf, deleteGuardOf } from './guards.ts';
import { LateRequests } from './late.ts';
import { revisionOf, STANDARD, s3Revision } from './revisions.ts';
import { versionsOf } from './versions.ts';

/** A copy that is older than this, beside a live object that is still its source, was put back meanwhile. ms. */
const FINISHED_WITHIN_MS = 3_600_000;
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
  readonly #late: LateRequests;

  constructor({ api, clock, pendingPrefix, capabilities, resume }: Workings & { readonly resume: boolean }) {
    this.#api = api;
    this.#pendingPrefix = pendingPrefix;
    this.#capabilities = capabilities;
    this.#resume = resume;
    this.#late = new LateRequests({ api, clock });
  }

  async outlast(pulse: Pulse | undefined): Promise<void> {
    await this.#late.outlast(pulse);
  }

  async move({ key, id, revision }: MoveItem): Promise<MoveOutcome> {
    const meant = s3Revision(revision);
    const pending = pendingName(this.#pendingPrefix, key, id);
    if (this.#resume) return this.#finish(key, id, pending, meant);
    const copied = await this.#copy(key, pending, meant);
    if (copied instanceof Error) return { outcome: 'failed', error: copied };
    if ('outcome' in copied) return copied;
    return this.#delete(key, meant, copied.versionId);
  }

  /** Copies what was meant: `versionId` is that of the source, where one was read. */
  async #copy(
    key: Key,
    pending: string,
    meant: S3Revision,
  ): Promise<{ versionId: string | null } | MoveOutcome | Error> {
    const guard = copyGuardOf(this.#capabilities);
    const isByEtag = guard === 'if-match' || guard === 'rgw-if-match';
    let versionId: string | null = null;
    // No ETag tells the same bytes put again, and no guard tells nothing; the look before a delete does.
    if (guard !== 'unmodified-since' && !(isByEtag && deleteGuardOf(this.#capabilities) === 'head-before')) {
      const live = await this.#api.head(key);
      if (live === undefined) return { outcome: 'gone' };
      if (!isUntouched(live, meant)) return { outcome: 'changed' };
      ({ versionId } = live);
    }
    const source = { ...meant, versionId, storageClass: meant.storageClass ?? STANDARD };
    const copied = await this.#late.known<Copied | 'changed' | 'gone' | 'exists'>(
      async () => this.#api.copy(key, pending, { source, guard }),
      async () => {
        const head = await this.#api.head(pending);
        return head === undefined ? 'not-yet' : { result: head };
      },
    );
    if (copied === 'changed' || copied === 'gone') return { outcome: copied };
    if (copied === 'exists') throw new TypeError(`${pending} was to be made whatever is there`);
    // R2: the answer to a copy is the sight of it, where it has the ETag of its source.
    if (copied.etag === meant.etag) return { versionId };
    const seen = await this.#api.head(pending);
    if (seen === undefined) {
      return new TombstonedError('failed', `the copy of ${printable(key)} has gone again`, {
        key,
        hint: `see who removes names below ${this.#pendingPrefix}`,
      });
    }
    // Copies of some objects have ETags of their own (multipart, KMS): then the source must be what it was.
    if (seen.size === meant.size && isUntouched(await this.#api.head(key), meant)) return { versionId };
    return { outcome: 'moved-other', revision: revisionOf(seen) };
  }

  /** Deletes what was copied, if it still is that (R3). What came in its place since stays. */
  async #delete(key: Key, meant: S3Revision, versionId: string | null): Promise<MoveOutcome> {
    const guard = deleteGuardOf(this.#capabilities);
    if (guard === 'head-before' && !isUntouched(await this.#api.head(key), meant))
      return { outcome: 'moved' };
    const options = this.#capabilities.deleteIfMatch ? { ifMatch: meant.etag } : {};
    await this.#late.known<unknown>(
      async () => this.#api.delete(key, options),
      async () => {
        const live = await this.#api.head(key);
        return live !== undefined && isUntouched(live, meant) ? 'not-yet' : { result: live };
      },
    );
    if (guard === 'marker') await this.#unhide(key, meant, versionId);
    return { outcome: 'moved' };
  }

  /** Takes a marker off again that hides another version than the one copied. */
  async #unhide(key: Key, meant: S3Revision, versionId: string | null): Promise<void> {
    for (let round = 0; round < MARKERS; round++) {
      const [latest, ...older] = await versionsOf(this.#api, key);
      if (latest?.isMarker !== true) return;
      const hidden = older.find(({ isMarker }) => !isMarker);
      if (hidden === undefined) return;
      const isCopied =
        versionId === null
          ? hidden.etag === meant.etag && hidden.size === meant.size
          : hidden.versionId === versionId;
      if (isCopied) return;
      await this.#late.known<unknown>(
        async () => this.#api.delete(key, { versionId: latest.versionId }),
        async () => {
          const [now] = await versionsOf(this.#api, key);
          return now?.versionId === latest.versionId ? 'not-yet' : { result: now };
        },
      );
    }
    throw new TombstonedError('failed', `${printable(key)} is deleted again and again by somebody else`, {
      key,
      hint: 'look at its versions: a delete marker hides a content that has no tombstone',
    });
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
      if (deleteGuardOf(this.#capabilities) === 'marker') await this.#unhide(key, meant, null);
      return { outcome: 'moved' };
    }
    if (!isUntouched(live, meant)) return { outcome: 'moved' };
    const date = this.#api.lastDate?.date;
    if (date === undefined || date - copy.modifiedAt > FINISHED_WITHIN_MS)
      return { outcome: 'put-back', revision: meant };
    return this.#delete(key, meant, live.versionId);
  }
}

/** Whether a live object is the very one that was listed: the same bytes put again are not. */
function isUntouched(live: Head | undefined, meant: S3Revision): boolean {
  if (live === undefined) return false;
  const now = revisionOf(live);
  return sameRevision(now, meant) && now.modifiedAt === meant.modifiedAt;
}
