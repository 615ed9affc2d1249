import type { Readable } from 'node:stream';
import type { Key } from '../domain/key.ts';
import type { Revision } from '../domain/revision.ts';

/**
 * A store, in the core's words. Whatever a method's outcome says has happened is
 * durable when it resolves. What was asked about comes back as a value; anything
 * else (403, EIO, a time-out) is thrown and never reads as "gone" (R9).
 */
export interface Store {
  /** As in the config: `file:///srv/backups/mainnet`. */
  readonly url: string;
  /** Where pending copies are: a key prefix that ends in `/`. */
  readonly pendingPrefix: string;
  readonly control: ControlSpace;
  /** Of a store that is a directory of this host: its path, for other threads to read there. */
  readonly directory?: string;

  /**
   * Everything live below a byte prefix, in pages; complete, or it throws (R6).
   * The objects of one directory come together. Nothing below the pending prefix
   * or a `.tombstoned` segment is listed.
   */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<Listed[]>;

  /** Every pending copy whose key is below a byte prefix, in pages; complete, or it throws. */
  listPending(prefix: string, signal?: AbortSignal): AsyncIterable<ListedPending[]>;

  /** The live object, or undefined where there is none. */
  head(key: Key): Promise<LiveObject | undefined>;

  /** Opens the live object, or undefined where there is none. */
  openLive(key: Key): Promise<OpenObject | undefined>;

  /**
   * Lets many live objects be opened one after the other, as `openLive` does, where that is faster than one
   * by one. Takes some ms: what is moved meanwhile may not be noticed.
   */
  openingMany?<T>(use: (open: (key: Key) => OpenObject | undefined) => T): T;

  /** Ids of the key's pending copies, newest first. */
  pendingIds(key: Key): Promise<string[]>;

  /** The same of many keys at once, where a look at one is a look at its whole directory; a key that has none may be left out. */
  pendingIdsOf?(keys: readonly Key[]): Promise<ReadonlyMap<Key, readonly string[]>>;

  /**
   * Some of them, in no order, that were seen when others were looked for, where a look
   * is a request: they may have gone since, and others may be missing.
   */
  rememberedIds?(key: Key): Promise<string[]>;

  /** Opens one pending copy, or undefined where there is none. */
  openPending(key: Key, id: string): Promise<OpenObject | undefined>;

  /** Opens the live object, else the newest pending copy: `openLive`, `pendingIds` and `openPending` at once, where that is faster. */
  openNewest?(key: Key): Promise<{ object: OpenObject; id: string | null } | undefined>;

  /** How a pending copy stands, or undefined where there is none. */
  headPending(key: Key, id: string): Promise<PendingCopy | undefined>;

  /**
   * Phase one of a batch: each live object that is still the revision meant goes
   * to its pending name (R1–R3). A key occurs once. With `resume`, only own pending
   * names are looked at (R2): what a crash left is finished or put back, and what had
   * not been moved is `gone` for this id, its live object left alone.
   */
  move(batch: readonly MoveItem[], options: { resume: boolean; pulse?: Pulse }): Promise<MoveOutcome[]>;

  /**
   * What is in a directory that a move caught in a file's place and could not
   * rename back. Removes it when there is nothing.
   */
  strayFiles(key: Key, id: string): Promise<Stray[]>;

  /** Gives a stray file a pending name of its own; removes the directory when it was the last. */
  adoptStray(stray: StrayFile, id: string): Promise<MoveOutcome>;

  /** Makes live objects where there is nothing, each whole and durable before it has its name. */
  create(batch: readonly NewObject[]): Promise<('created' | 'exists')[]>;

  /** Brings pending copies back to live keys where there is nothing; copies stay (R4). */
  putBack(batch: readonly PutBackItem[]): Promise<PutBackOutcome[]>;

  /**
   * Phase two of a batch: removes pending copies that still are what was tombstoned. With
   * `allVersions`, what was tombstoned does not stay as an old version either, however the
   * store is set up.
   */
  remove(
    batch: readonly RemoveItem[],
    options?: { pulse?: Pulse | undefined; allVersions?: boolean | undefined },
  ): Promise<RemoveOutcome[]>;

  /**
   * Of a store that may keep what is removed: what it keeps of a key, by the names where
   * nothing is live and no pending copy is.
   */
  hidden?(key: Key): Promise<Hidden[]>;

  /** Removes for good what `hidden` has found, where still nothing is live there. */
  removeHidden?(batch: readonly Hidden[], options?: { pulse?: Pulse | undefined }): Promise<HiddenOutcome[]>;

  /** Of a store of files: which file a pending copy is, or undefined where there is none. */
  fileOf?(key: Key, id: string): Promise<NamedFile | undefined>;

  /** Of a store where what is removed may leave something behind: whether nothing is left to remove of a pending copy. */
  isRemoved?(key: Key, id: string): Promise<boolean>;

  /** Of a store that may keep what is removed as old versions: whether it does, so that no space is freed. */
  hidesRemoved?(): Promise<boolean>;

  /** Throws when nothing here can be moved or removed at all: the store is mounted read-only. */
  checkWritable(): Promise<void>;

  /**
   * How old a listing here can be, ms: 0 on local disks and S3, more on network
   * file systems, whose caches show what was there a while ago (design, "Stale listings").
   */
  readonly settle: number;

  /** How many objects one batch moves at the most, where it takes so long that a signal would have to wait. */
  readonly batch?: number;

  /** How many pending copies one batch removes at the most, where many requests for them may be under way at once. */
  readonly removalBatch?: number;

  /** Of a store whose requests may take effect after who sent them has died (R5). */
  readonly late?: LateEffects;

  /** Of a store that is guarded by what it was found to honour: how, and what that leaves open. */
  guards?(): Promise<readonly GuardLine[]>;

  /** Gives back what the store holds open. */
  close(): void;
}

/**
 * Called between the parts of a batch, where nothing is half-done: a run that has
 * been at it for long looks whether it still may go on, and throws when not (R5).
 */
export type Pulse = () => Promise<void>;

/** How something is guarded, for people; `isOpen` where something can be lost. */
export interface GuardLine {
  readonly text: string;
  readonly isOpen: boolean;
}

/** How long requests of a process that has died may still take effect. */
interface LateEffects {
  /** ms, however wrong its clock was. */
  readonly for: number;
  /** The store's own time, ms since 1970. */
  time(): Promise<number>;
  /** Whether it is served by this host, and so has its clock. */
  readonly isHere?: boolean;
  /** Whether all that this process has asked was answered. */
  isQuiet(): boolean;
}

/** An object of a listing, or something there that is no object or can't be tombstoned. */
export type Listed = LiveObject | { readonly type: 'refused'; readonly path: string; readonly why: string };

export interface LiveObject {
  readonly type: 'object';
  readonly key: Key;
  readonly revision: Revision;
  /** Bytes. */
  readonly size: number;
  /** ms since 1970. */
  readonly modifiedAt: number;
  /** Why it can't be tombstoned (too long a name, no permission, …), or null. */
  readonly refusal: string | null;
}

export type ListedPending =
  | {
      readonly type: 'pending';
      readonly key: Key;
      readonly id: string;
      readonly copy: PendingCopy;
      /** Since when it is there at the latest, by the store's own time, ms since 1970. */
      readonly since: number;
    }
  | { readonly type: 'refused'; readonly path: string; readonly why: string };

export interface PendingCopy {
  readonly revision: Revision;
  readonly size: number;
  /** As `headPending` says it: the MD5 of its bytes, in hex, where the store itself says it, or null. */
  readonly md5?: string | null;
}

/** An open object. `read` may be called once; `close` frees it if it was not. */
export interface OpenObject {
  readonly revision: Revision;
  readonly size: number;
  /** The MD5 of all bytes, in hex, where the store itself says it. */
  readonly md5?: string;
  /** Who may read, write and execute it, as `chmod` takes it; undefined where a store knows no such thing. */
  readonly mode?: number;
  /** The bytes; ends in an error if there are fewer or more of them than `size`. */
  read(): Readable;
  /** All bytes at once, instead of `read`: of a small object, where a store can do that faster. Throws as `read` ends. */
  readAll?(): Buffer;
  close(): void;
}

export interface MoveItem {
  readonly key: Key;
  readonly id: string;
  readonly revision: Revision;
}

export type MoveOutcome =
  /** The pending copy is there, is the revision meant, and the live object is gone. */
  | { readonly outcome: 'moved' }
  /** The live object is another revision; nothing was done. */
  | { readonly outcome: 'changed' }
  /** There is no live object, and no pending copy of this id. */
  | { readonly outcome: 'gone' }
  /** Another revision was moved and linked back; its pending name stays for the purger. */
  | { readonly outcome: 'put-back'; readonly revision: Revision }
  /** Another revision was moved, and the key was taken again: a tombstone of its own. */
  | { readonly outcome: 'moved-other'; readonly revision: Revision }
  /** A directory was moved, and its name was taken again: see `strayFiles`. */
  | { readonly outcome: 'stray-directory' }
  /** Nothing was moved, for this reason. */
  | { readonly outcome: 'failed'; readonly error: Error };

/** A file that a stray directory holds, or something there that can have no key. */
export type Stray = StrayFile | { readonly type: 'refused'; readonly path: string; readonly why: string };

export interface StrayFile {
  readonly type: 'stray';
  readonly key: Key;
  readonly revision: Revision;
  /** Where it is now: the store's own name for it. */
  readonly at: string;
}

/** A file, and how many names (hard links) it has. */
export interface NamedFile {
  readonly inode: string;
  readonly names: number;
}

/** Old versions of a key, or of a pending copy of it that has gone. */
export interface Hidden {
  readonly key: Key;
  /** Of the copy; null of the key itself. */
  readonly id: string | null;
  /** What can be removed, by the store's own ids, in this order. */
  readonly versionIds: readonly string[];
  /** How many contents there are, and their bytes. */
  readonly count: number;
  readonly bytes: number;
  /** What stays in any case, and why, for people, or null. */
  readonly left: string | null;
}

export type HiddenOutcome = Extract<RemoveOutcome, { outcome: 'removed' | 'locked' | 'failed' }>;

export interface NewObject {
  readonly key: Key;
  readonly body: Uint8Array;
  /** Who may read it is as with this live object, where a store knows such a thing. */
  readonly like?: Key | undefined;
}

export interface PutBackItem {
  readonly key: Key;
  readonly id: string;
  readonly revision: Revision;
  /** The live key to make; another than `key` gets bytes of its own. */
  readonly to: Key;
}

export type PutBackOutcome =
  | { readonly outcome: 'restored' }
  /** The live key is that revision already. */
  | { readonly outcome: 'unchanged' }
  /** Another object has the live key; nothing was done. */
  | { readonly outcome: 'conflict' }
  /** There is no such pending copy. */
  | { readonly outcome: 'gone' }
  | { readonly outcome: 'failed'; readonly error: Error };

export interface RemoveItem {
  readonly key: Key;
  readonly id: string;
  readonly revision: Revision;
  /** `restored`: the copy goes only if the live key has that revision. */
  readonly from: 'pending' | 'restored';
}

export type RemoveOutcome =
  /** `left`: what of it the store keeps nevertheless, for people. */
  | { readonly outcome: 'removed'; readonly left?: string }
  | { readonly outcome: 'gone' }
  /** The pending copy is not what was tombstoned; it stays. */
  | { readonly outcome: 'changed'; readonly detail: string }
  /** A restored copy whose live key is no longer that revision; it stays. */
  | { readonly outcome: 'not-live' }
  /** The store itself keeps a version of it, until then (ms since 1970), or until somebody lets it go (null); the copy stays. */
  | { readonly outcome: 'locked'; readonly until: number | null; readonly detail: string }
  | { readonly outcome: 'failed'; readonly error: Error };

/** Control objects (design, section 3): small files below `.tombstoned/`, by name below it. */
export interface ControlSpace {
  /** Makes room for each kind of claim while there is some: a full disk must not keep a purge from its fence. */
  prepare(): Promise<void>;
  /** The object's bytes, or undefined where there is none. */
  read(name: string): Promise<Buffer | undefined>;
  /** The names in one directory, complete, or it throws; none where the directory is missing. */
  list(directory: string): Promise<string[]>;
  /**
   * Makes an object whole and durable where there is none. With `orEmpty`, on a full
   * disk an empty one: for objects that count in their strictest reading then. With
   * `passing`, a power cut may undo it: for what says nothing once this machine is down.
   */
  create(
    name: string,
    body: string,
    options?: { orEmpty?: boolean; passing?: boolean },
  ): Promise<'created' | 'exists'>;
  /**
   * Writes an object again in place, in one write at its beginning, durable, if it
   * still is what it was: of the same length, so that no listing or reading finds
   * anything else than one of the two.
   */
  rewrite(name: string, before: string, after: string): Promise<'rewritten' | 'gone' | 'changed'>;
  /** Replaces an object, whole and durable. Only for `owner.json`: others are never replaced. */
  replace(name: string, body: string): Promise<void>;
  /** Removes an object; it may be gone already. With `passing`, a power cut may bring it back. */
  remove(name: string, options?: { passing?: boolean }): Promise<void>;
  /** What is in `tmp/`: there for moments, unless a process died. */
  temporaries(): Promise<Temporary[]>;
  /**
   * Removes something of `tmp/`; it may be gone already. Whoever still uses it fails, with
   * nothing lost. Throws where its name is not one of ours.
   */
  removeTemporary(name: string): Promise<void>;
}

/** Something in `tmp/`. */
export interface Temporary {
  /** Below `tmp/`. */
  readonly name: string;
  /** When it was last changed, ms since 1970, by the store's time. */
  readonly changedAt: number;
  /** Whether it has a name that this program gives. */
  readonly isOurs: boolean;
}
