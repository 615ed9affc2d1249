import { messageOf, TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import type { S3Revision } from '../../domain/revision.ts';
import type { HiddenOutcome, RemoveItem, RemoveOutcome } from '../store.ts';
import type { ListedVersion, ObjectLock, S3Api } from './api.ts';
import type { LateRequests } from './late.ts';
import { errorOfObject } from './mover.ts';
import { statusOf } from './probe.ts';
import { s3Revision } from './revisions.ts';
import { removalAtKey, removalOfCopy } from './version-removal.ts';
import { versionsOf } from './versions.ts';

const FORBIDDEN = 403;

/** One version of a name, or, without an id, what is live there. */
export interface Last {
  readonly versionId: string | undefined;
  /** What stays after it has gone, for people. */
  readonly left: string | null;
}

/** What is live of a pending copy, as its newest version says. */
export type Newest = Pick<ListedVersion, 'etag' | 'size' | 'modifiedAt'>;

/**
 * Phase two where versions are kept and are to go: what was tombstoned is removed
 * for good, first at its key, and its pending copy last, so that whoever goes on
 * after a crash sees by the copy that there is something left to do.
 */
export class VersionRemover {
  readonly #api: S3Api;
  readonly #late: LateRequests;

  constructor(api: S3Api, late: LateRequests) {
    this.#api = api;
    this.#late = late;
  }

  /**
   * Removes all versions of one tombstone but the last of its copy, which is told.
   * `isBack` says whether what a restored copy was copied to is live.
   */
  async prepare(
    item: RemoveItem,
    name: string,
    isBack: (copy: Newest) => Promise<boolean>,
  ): Promise<Last | RemoveOutcome> {
    try {
      return await this.#prepare(item, name, isBack);
    } catch (error) {
      return { outcome: 'failed', error: errorOfObject(error) };
    }
  }

  async #prepare(
    item: RemoveItem,
    name: string,
    isBack: (copy: Newest) => Promise<boolean>,
  ): Promise<Last | RemoveOutcome> {
    const meant = s3Revision(item.revision);
    const versions = await versionsOf(this.#api, name);
    const removal = removalOfCopy(versions, item.id, meant);
    if (removal.as === 'gone') return { outcome: 'gone' };
    if (removal.as === 'changed') return { outcome: 'changed', detail: removal.detail };
    const copy = versions.find(({ isMarker }) => !isMarker);
    if (copy === undefined) {
      // Only markers: its last copy has gone, by somebody else or in a purge that was cut short.
      const kept = await this.#removeAll(name, removal.as === 'by-id' ? removal.ids : []);
      return kept ?? { outcome: 'gone' };
    }
    if (item.from === 'restored' && !(await isBack(copy))) return { outcome: 'not-live' };
    const atKey = await this.#removeAtKey(item, meant);
    if ('outcome' in atKey) return atKey;
    if (removal.as === 'by-name') return { versionId: undefined, left: joined(atKey.left, removal.left) };
    const kept = await this.#removeAll(name, removal.ids.slice(0, -1));
    return kept ?? { versionId: removal.ids.at(-1), left: atKey.left };
  }

  /** Removes versions of a name where nothing is live, in this order; what keeps one is told. */
  async removeHidden(name: string, ids: readonly string[]): Promise<HiddenOutcome> {
    const kept = await this.#removeAll(name, ids, { isHidden: true });
    return kept?.outcome === 'locked' || kept?.outcome === 'failed' ? kept : { outcome: 'removed' };
  }

  /** What a refusal to remove a version means: its lock, where the store shows one. */
  async refused(name: string, versionId: string, error: Error): Promise<RemoveOutcome> {
    if (statusOf(error) !== FORBIDDEN) return { outcome: 'failed', error };
    const version = `version ${versionId} of ${printable(name)}`;
    const lock = await this.#lockOf(name, versionId);
    if (lock?.isHeld === true)
      return { outcome: 'locked', until: null, detail: `${version} is under a legal hold (object lock)` };
    const until = lock?.until ?? null;
    if (until !== null && until > (this.#api.lastDate?.date ?? 0)) {
      const end = new Date(until).toISOString();
      return { outcome: 'locked', until, detail: `${version} is retained until ${end} (object lock)` };
    }
    // Who may not see a lock is told of it by the words of the refusal alone.
    if (!/object ?lock/i.test(messageOf(error.cause))) return { outcome: 'failed', error };
    return { outcome: 'locked', until: null, detail: `${version} is locked (object lock)` };
  }

  /** The version that was tombstoned, and markers with nothing below; looked at just before. */
  async #removeAtKey(
    { key, from }: RemoveItem,
    meant: S3Revision,
  ): Promise<{ left: string | null } | RemoveOutcome> {
    const { ids, left } = removalAtKey(await versionsOf(this.#api, key), meant, from === 'restored');
    return (await this.#removeAll(key, ids, { isHidden: true })) ?? { left };
  }

  /** Removes versions, one after the other; what keeps one, and so those after it, is told. */
  async #removeAll(
    name: string,
    ids: readonly string[],
    options: { isHidden?: boolean } = {},
  ): Promise<RemoveOutcome | undefined> {
    for (const versionId of ids) {
      const error = await this.#removeOne(name, versionId, options).catch(errorOfObject);
      if (error !== undefined) return this.refused(name, versionId, error);
    }
    return undefined;
  }

  async #removeOne(name: string, versionId: string, { isHidden = false }): Promise<undefined> {
    await this.#late.known<unknown>(
      async () => this.#api.delete(name, { versionId }),
      async () => {
        const there = (await versionsOf(this.#api, name)).find((one) => one.versionId === versionId);
        if (there === undefined) return { result: 'deleted', isProof: true };
        // It is not asked for again where that would take the live object away.
        if (!isHidden || !there.isLatest || there.isMarker) return 'not-yet';
        throw new TombstonedError(
          'failed',
          `${printable(name)} is not purged: version ${versionId} is live again`,
          {
            key: name,
            hint: 'look at its versions: somebody has taken a delete marker off it',
          },
        );
      },
    );
  }

  /** What the store shows of a version's lock; nothing where it may not be seen: then the refusal is told as it is. */
  async #lockOf(name: string, versionId: string): Promise<ObjectLock | undefined> {
    const head = await this.#api.head(name, { versionId }).catch(errorOfObject);
    return head instanceof Error ? undefined : head?.lock;
  }
}

function joined(a: string | null, b: string): string {
  return a === null ? b : `${a}; ${b}`;
}
