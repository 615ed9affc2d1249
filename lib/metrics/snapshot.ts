import type { KeptReason } from '../domain/kept-reason.ts';
import type { State } from '../domain/state.ts';

/** Objects and their bytes. */
export interface Amount {
  readonly count: number;
  readonly bytes: number;
}

/** How a store stands, in figures; null: not known. Times in ms since 1970. No key is in it. */
export interface StoreSnapshot {
  readonly states: ReadonlyMap<State, Amount> | null;
  /** `first`: since when the first of it is due; null where nothing is. */
  readonly due: (Amount & { readonly first: number | null }) | null;
  /** What stays, by reason. */
  readonly kept: ReadonlyMap<KeptReason, Amount>;
  /** Plans that wait for approval. */
  readonly waiting: number | null;
  readonly isPaused: boolean | null;
  /** Those that are not dead; since when the oldest is held. */
  readonly leases: { readonly count: number; readonly oldest: number | null } | null;
  /** Since when the oldest fence is up; null where none is, or that is not known. */
  readonly oldestFence: number | null;
  /** Whether it could be looked at, and is the one that the catalog knows. */
  readonly standing: 'ours' | 'wrong' | 'away' | null;
  readonly isClockWrong: boolean;
  /** When the last run of a kind ended that did what it was to do. */
  readonly lastSuccess: ReadonlyMap<string, number>;
  /** Of the file system it is on; null of a bucket, or where it does not say. Bytes. */
  readonly room: Room | null;
}

interface Room {
  readonly free: number;
  readonly size: number;
}

/** How the catalog stands. */
export interface CatalogSnapshot {
  readonly isReadable: boolean;
  /** The database and its log, bytes; null where it is gone. */
  readonly bytes: number | null;
  readonly room: Room | null;
  /** When figures were last read from it, ms since 1970; null: never. */
  readonly readAt: number | null;
}
