import type { Catalog, StoreRow } from '../catalog/catalog.ts';
import type { Clock } from '../domain/clock.ts';
import type { RandomSource } from '../domain/ids.ts';
import type { StoreFormat } from '../domain/store-format.ts';
import type { Store } from '../store/store.ts';
import type { Pace } from './pace.ts';

/** Who acts: what runs, events and control objects name. */
export interface Actor {
  readonly pid: number;
  readonly host: string;
  /** The kernel's boot id. */
  readonly boot: string;
  /** As `user@host`. */
  readonly by: string;
  /** The user that started this process, whoever it has become; undefined where that is not known. */
  readonly uid?: number | undefined;
  /** The program, and its command. */
  readonly via?: string | undefined;
}

/** Where talk goes: the daemon's log, or the CLI's stderr. One line a call. */
export type Report = (
  level: 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

/** A store with its catalog, and what everything that acts on them needs. */
export interface Place {
  readonly store: Store;
  readonly catalog: Catalog;
  /** The store as the catalog knows it. */
  readonly row: StoreRow;
  /** What the store holds, as the config says. */
  readonly format: StoreFormat;
  /** What the config protects. A metadata file that is, may say anything, and keeps no others. */
  readonly isProtected?: ((key: string) => boolean) | undefined;
  /** Today's safety window, ms. */
  readonly safetyWindow: number;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly actor: Actor;
  readonly report: Report;
  /** What bounds moves and purges in time, where the store itself does not. */
  readonly pace?: Pace | undefined;
  /** Whether large sweeps and purges may write from a second thread, which knows only the real clock. */
  readonly isThreaded?: boolean;
}
