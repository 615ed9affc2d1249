import { isoTime } from '../domain/clock.ts';
import { type FenceKind, fenceName, putUpFence, takeDownFence } from '../store/fences.ts';
import type { Lease } from '../store/leases.ts';
import type { Store } from '../store/store.ts';
import type { Place } from './place.ts';

/** A fence that is up, and what was seen after it was. */
export interface StandingFence {
  readonly name: string;
  /** Since when, ms of the process's monotonic clock. */
  readonly since: number;
  readonly announcement: { readonly kind: FenceKind; readonly prefixes: readonly string[] };
  readonly leases: readonly Lease[];
  /** How many batches are under way under it. */
  users: number;
}

/** The fences of one run: each batch has its own, under a name that is used once. */
export class RunFences {
  /** Where listings may be stale: the fence that several batches share (design, "Stale listings"). */
  shared: StandingFence | undefined;
  /** Whether the run has waited for leases once. */
  hasWaited = false;
  readonly #run: string;
  readonly #up = new Set<string>();
  #batch = 0;

  constructor(run: string) {
    this.#run = run;
  }

  /** Puts up the next fence; gives its name. */
  async putUp(place: Place, { kind, prefixes }: StandingFence['announcement']): Promise<string> {
    const { store, catalog, clock, actor } = place;
    const { boot, host, pid } = actor;
    this.#batch += 1;
    // From here on it may be up, whatever the store answers.
    this.#up.add(fenceName(this.#run, this.#batch));
    return putUpFence(store.control, {
      run: this.#run,
      batch: this.#batch,
      catalog: catalog.uuid,
      boot,
      kind,
      prefixes,
      host,
      pid,
      startedAt: isoTime(clock.now()) ?? '',
      passing: isPassing(store),
    });
  }

  async takeDown(store: Store, name: string): Promise<void> {
    await takeDownFence(store.control, name, { passing: isPassing(store) });
    this.#up.delete(name);
  }

  /** A batch under a fence is over: the fence goes with the last, unless the next ones are to share it. */
  async leave(store: Store, fence: StandingFence): Promise<void> {
    fence.users -= 1;
    if (fence.users === 0 && this.shared !== fence) await this.takeDown(store, fence.name);
  }

  /** Lets no further batch under the shared fence; it goes when those under it are over. */
  async retireShared(store: Store): Promise<void> {
    const retired = this.shared;
    this.shared = undefined;
    if (retired?.users === 0) await this.takeDown(store, retired.name);
  }

  /** Takes down what is still up: the run has left nothing half-done. */
  async takeDownAll(store: Store): Promise<void> {
    for (const name of this.#up) await this.takeDown(store, name);
  }
}

/**
 * Whether a store's fences need not outlive a power cut: it ends whoever moves
 * there. A network file system's server may lose power alone.
 */
function isPassing({ settle }: Store): boolean {
  return settle === 0;
}
