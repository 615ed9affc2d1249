import { TombstonedError } from '../../domain/errors.ts';
import { isCopyOf, pendingName } from '../../domain/ids.ts';
import { type Key, printable } from '../../domain/key.ts';
import { type S3Revision, sameRevision } from '../../domain/revision.ts';
import type { PutBackItem, PutBackOutcome } from '../store.ts';
import type { Capabilities, CopyOptions, Head, ListedVersion, S3Api } from './api.ts';
import { LateRequests, type Seen } from './late.ts';
import { errorOfObject, type Workings } from './mover.ts';
import { revisionOf, STANDARD, s3Revision } from './revisions.ts';
import { haveSameBytes } from './same-bytes.ts';
import { versionsOf } from './versions.ts';

/** Brings pending copies back to where there is nothing (R3, R4). */
export class PutterBack {
  readonly #api: S3Api;
  readonly #pendingPrefix: string;
  readonly #capabilities: Capabilities;
  readonly #late: LateRequests;

  constructor({ api, clock, pendingPrefix, capabilities }: Workings) {
    this.#api = api;
    this.#pendingPrefix = pendingPrefix;
    this.#capabilities = capabilities;
    this.#late = new LateRequests({ api, clock }, undefined);
  }

  async outlast(): Promise<void> {
    await this.#late.outlast();
  }

  async putBack(item: PutBackItem): Promise<PutBackOutcome> {
    try {
      return await this.#putBack(item);
    } catch (error) {
      return { outcome: 'failed', error: errorOfObject(error) };
    }
  }

  async #putBack({ key, id, revision, to }: PutBackItem): Promise<PutBackOutcome> {
    const meant = s3Revision(revision);
    const from = pendingName(this.#pendingPrefix, key, id);
    const copy = await this.#api.head(from);
    if (copy === undefined) return { outcome: 'gone' };
    if (!isCopyOf(id, revisionOf(copy), meant)) {
      return failed(key, 'its pending copy is not what was tombstoned', `look at ${printable(from)}`);
    }
    const before = await this.#api.head(to);
    const names = { from, to };
    if (before !== undefined) return this.#asItIs(names, before, copy, meant);
    const { copyIfAbsent, putIfAbsent, versioning } = this.#capabilities;
    const isGuarded = copyIfAbsent || putIfAbsent;
    if (!isGuarded && versioning === 'enabled') return this.#copyAndLook(from, to, copy, meant);
    if (!isGuarded) {
      const why = 'this store can replace what comes to the key meanwhile, without a word';
      return failed(key, why, `copy ${printable(from)} there by hand, when nobody writes`);
    }
    const outcome = await this.#late.known<'back' | 'gone' | 'changed' | 'exists'>(
      async () => {
        const written = copyIfAbsent
          ? await this.#api.copy(from, to, { source: sourceOf(copy), guard: 'none', ifAbsent: true })
          : await this.#api.copyByPut(from, to, copy);
        return typeof written === 'string' ? written : 'back';
      },
      async (): Promise<Seen<'back' | 'exists'>> => {
        const now = await this.#api.head(to);
        if (now === undefined) return 'not-yet';
        // One that is late does nothing where something is: at the worst it brings back what was swept again.
        const as = await this.#asItIs(names, now, copy, meant);
        return { result: as.outcome === 'unchanged' ? 'back' : 'exists', isProof: true };
      },
    );
    switch (outcome) {
      case 'back':
        return { outcome: 'restored' };
      case 'gone':
        return { outcome: 'gone' };
      case 'changed':
        return failed(key, 'its pending copy was changed just then', 'try again');
      case 'exists': {
        const now = await this.#api.head(to);
        return now === undefined ? { outcome: 'conflict' } : this.#asItIs(names, now, copy, meant);
      }
    }
  }

  /**
   * Where versions are kept and no condition holds: copies, and looks at the
   * versions. A copy that hides what came to the key just before it is taken off
   * again; that was live for a moment, and nothing is lost.
   */
  async #copyAndLook(from: string, to: Key, copy: Head, meant: S3Revision): Promise<PutBackOutcome> {
    const earlier = await versionsOf(this.#api, to);
    if (earlier[0]?.isMarker === false) {
      const live = await this.#api.head(to); // it has come since it was looked
      return live === undefined ? { outcome: 'conflict' } : this.#asItIs({ from, to }, live, copy, meant);
    }
    const before = new Set(earlier.map(({ versionId }) => versionId));
    const newOnes = async (): Promise<ListedVersion[]> =>
      (await versionsOf(this.#api, to)).filter(({ versionId }) => !before.has(versionId));
    const isOurs = ({ isMarker, etag, size }: ListedVersion, copied: string): boolean =>
      !isMarker && size === copy.size && (etag === copied || etag === copy.etag);
    const written = await this.#late.known<{ etag: string } | 'changed' | 'gone' | 'exists'>(
      async () => this.#api.copy(from, to, { source: sourceOf(copy), guard: 'version' }),
      async () => {
        const ours = (await newOnes()).find((version) => isOurs(version, copy.etag));
        return ours === undefined ? 'not-yet' : { result: ours, isProof: false };
      },
    );
    if (written === 'gone') return { outcome: 'gone' };
    if (typeof written === 'string') return failed(to, 'its pending copy was changed just then', 'try again');
    const uncover = async (): Promise<boolean> => {
      const found = await newOnes();
      const at = found.findIndex((version) => isOurs(version, written.etag));
      const ours = found[at];
      const hidden = found
        .slice(at + 1)
        .find((version) => !version.isMarker && !isOurs(version, written.etag));
      if (ours === undefined || hidden === undefined) return false;
      await this.#late.known<unknown>(
        async () => this.#api.delete(to, { versionId: ours.versionId }),
        async () => {
          const isThere = (await newOnes()).some(({ versionId }) => versionId === ours.versionId);
          return isThere ? 'not-yet' : { result: 'deleted', isProof: true };
        },
      );
      return true;
    };
    if (this.#late.isAny) this.#late.lookAgain(async () => void (await uncover()));
    if (await uncover()) return { outcome: 'conflict' };
    // What came after it is somebody else's, and stays.
    const live = await this.#api.head(to);
    // A copy in parts may have an ETag of its own.
    const isBack =
      live !== undefined &&
      (isSame(live, copy, meant) || (live.etag === written.etag && live.size === copy.size));
    return { outcome: isBack ? 'restored' : 'conflict' };
  }

  async #asItIs(
    { from, to }: { from: string; to: Key },
    live: Head,
    copy: Head,
    meant: S3Revision,
  ): Promise<PutBackOutcome> {
    const isIt =
      isSame(live, copy, meant) ||
      (await haveSameBytes(this.#api, { name: to, head: live }, { name: from, head: copy }));
    return { outcome: isIt ? 'unchanged' : 'conflict' };
  }
}

/** A copy names the class of its source, so that nobody has to look for it. */
function sourceOf(copy: Head): CopyOptions['source'] {
  return { ...copy, storageClass: copy.storageClass ?? STANDARD };
}

/** Whether a live object is what was tombstoned, or what its pending copy is by now. */
function isSame(live: Head, copy: Head, meant: S3Revision): boolean {
  const now = revisionOf(live);
  return sameRevision(now, meant) || sameRevision(now, revisionOf(copy));
}

function failed(key: string, why: string, hint: string): PutBackOutcome {
  const error = new TombstonedError('failed', `${printable(key)} is not put back: ${why}`, { key, hint });
  return { outcome: 'failed', error };
}
