import type { PlanItem } from '../catalog/sweeps.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { type Guards, guard, overLimit, type Policy } from '../policy/policy.ts';
import { refreshHolds } from '../run/batch.ts';
import { keepersOf, reasonOf } from '../run/claims.ts';
import type { Place } from '../run/place.ts';
import type { LiveObject } from '../store/store.ts';
import type { SweepLedger } from './ledger-thread.ts';

/** Something a policy named, or would have, that can't be moved, and why. */
export interface Refusal {
  readonly key: string;
  readonly why: string;
}

export interface PolicyPlan {
  readonly policy: string;
  /** How many objects the policy selects, and how many of them are planned. */
  readonly selected: number;
  readonly planned: number;
  readonly bytes: number;
  /** What it selects and does not plan, by reason (of those old enough). */
  readonly kept: ReadonlyMap<KeptReason, number>;
  /** Which limit it is over, or null. Then nothing of it is planned. */
  readonly over: string | null;
}

/**
 * Plans one policy: streams the listing, passes the guards, and writes what is
 * left into the catalog as the sweep's plan. Touches nothing in the store.
 */
export async function planPolicy(
  place: Place,
  ledger: SweepLedger,
  plan: {
    sweep: number;
    policy: Policy;
    guards: Guards;
    /** Then also a plan that is over a limit is written, to be looked at. */
    dryRun: boolean;
    onRefusal: (refusal: Refusal) => void;
    /** After each page of the listing: how many objects are selected so far. */
    onListed?: ((selected: number) => void) | undefined;
    signal?: AbortSignal | undefined;
  },
): Promise<PolicyPlan> {
  const { policy, signal } = plan;
  await refreshHolds(place);
  const planner = new Planner(place, ledger, plan);
  for await (const page of place.store.list(policy.prefix, signal)) {
    const objects: LiveObject[] = [];
    for (const item of page) {
      if (item.type === 'object') {
        if (policy.selects(item.key)) objects.push(item);
      } else if (policy.selects(item.path)) {
        plan.onRefusal({ key: item.path, why: item.why });
      }
    }
    planner.add(objects);
    await planner.flush(ROWS);
    plan.onListed?.(planner.selected);
  }
  await planner.flush(1);
  await ledger.planned();
  return planner.finish();
}

/** A unit that is being listed: its objects come together. */
interface OpenUnit {
  readonly name: string;
  isYoung: boolean;
  /** Exempt or held: it does not count for keepLast. */
  isClaimed: boolean;
  isKept: boolean;
}

/** How many planned objects one commit writes. */
const ROWS = 5000;

class Planner {
  readonly #place: Place;
  readonly #ledger: SweepLedger;
  readonly #policy: Policy;
  readonly #guards: Guards;
  readonly #sweep: number;
  readonly #cause: number;
  readonly #now: number;
  readonly #dryRun: boolean;
  readonly #onRefusal: (refusal: Refusal) => void;
  readonly #kept = new Map<KeptReason, number>();
  #rows: PlanItem[] = [];
  #selected = 0;
  #young = 0;
  #unit: OpenUnit | undefined;

  constructor(
    place: Place,
    ledger: SweepLedger,
    plan: {
      sweep: number;
      policy: Policy;
      guards: Guards;
      dryRun: boolean;
      onRefusal: (refusal: Refusal) => void;
    },
  ) {
    this.#place = place;
    this.#ledger = ledger;
    this.#policy = plan.policy;
    this.#guards = plan.guards;
    this.#sweep = plan.sweep;
    this.#onRefusal = plan.onRefusal;
    this.#dryRun = plan.dryRun;
    this.#now = place.clock.now();
    this.#cause = place.catalog.sweeps.cause(plan.policy.name, plan.policy.reason);
  }

  get selected(): number {
    return this.#selected;
  }

  add(objects: readonly LiveObject[]): void {
    // Leases are looked at when it moves: what one covers now may be free by then.
    const keepers = keepersOf(this.#place, [], objects, 'policy');
    for (const [i, object] of objects.entries()) {
      this.#selected++;
      const keeper = keepers.get(i);
      this.#addOne(object, keeper === undefined ? undefined : reasonOf(keeper));
    }
  }

  #addOne(object: LiveObject, claim: KeptReason | undefined): void {
    const unitName = this.#policy.unitOf(object.key);
    if (unitName !== this.#unit?.name) this.#closeUnit(unitName);
    const isExpired = this.#policy.isExpired(object.modifiedAt, this.#now);
    const guarded = guard(this.#guards, object, this.#now);
    const isYoung = !isExpired || guarded?.reason === 'too-young';
    if (isExpired) {
      const reason = claim ?? guarded?.reason;
      if (reason !== undefined) this.#keep(reason, 1);
      if (guarded?.reason === 'error' && claim === undefined) {
        this.#onRefusal({ key: object.key, why: guarded.detail ?? "it can't be moved" });
      }
    }
    const unit = this.#unit;
    if (unit !== undefined) {
      unit.isYoung ||= isYoung;
      unit.isClaimed ||= claim !== undefined;
      unit.isKept ||= guarded !== null;
    } else {
      if (claim !== undefined) return;
      if (isYoung) {
        this.#young++;
        return;
      }
      if (guarded !== null && this.#policy.keepLast === 0) return;
    }
    this.#rows.push({
      key: object.key,
      size: object.size,
      revision: object.revision,
      modifiedAt: object.modifiedAt,
      cause: this.#cause,
      unit: unitName,
      // Ranked for keepLast with the others, and taken out after that.
      isKept: guarded !== null,
    });
  }

  /** A directory expires as a whole or not at all. */
  #closeUnit(next: string | null): void {
    const unit = this.#unit;
    if (unit !== undefined) {
      this.#flush();
      const { sweeps } = this.#place.catalog;
      if (unit.isYoung || unit.isClaimed) sweeps.unplanUnit(this.#sweep, this.#cause, unit.name);
      else if (unit.isKept) sweeps.keepUnit(this.#sweep, this.#cause, unit.name);
      if (unit.isYoung && !unit.isClaimed) this.#young++;
    }
    this.#unit = next === null ? undefined : { name: next, isYoung: false, isClaimed: false, isKept: false };
  }

  /** Writes what is planned, once it is so much. */
  async flush(atLeast: number): Promise<void> {
    if (this.#rows.length < atLeast) return;
    if (this.#unit !== undefined) {
      this.#flush(); // what becomes of a unit is decided here, by statements on what is written
      return;
    }
    const rows = this.#rows;
    this.#rows = [];
    await this.#ledger.plan(this.#sweep, rows);
  }

  #flush(): void {
    if (this.#rows.length === 0) return;
    this.#place.catalog.sweeps.plan(this.#sweep, this.#rows);
    this.#rows = [];
  }

  #keep(reason: KeptReason, count: number): void {
    if (count > 0) this.#kept.set(reason, (this.#kept.get(reason) ?? 0) + count);
  }

  finish(): PolicyPlan {
    this.#closeUnit(null);
    this.#flush();
    const { sweeps } = this.#place.catalog;
    const policy = this.#policy;
    const before = sweeps.plannedOf(this.#sweep, this.#cause).count;
    const older = policy.keepLast - this.#young;
    if (older > 0) sweeps.unplanNewest(this.#sweep, this.#cause, older);
    sweeps.unplanKept(this.#sweep, this.#cause);
    const { count, bytes } = sweeps.plannedOf(this.#sweep, this.#cause);
    if (older > 0) this.#keep('keep-last', before - count);
    const selected = this.#selected;
    const over = overLimit(policy.limits, { objects: count, bytes, selected });
    if (over !== null && !this.#dryRun) {
      sweeps.unplanCause(this.#sweep, this.#cause);
    }
    if (over !== null) this.#keep('limit', count);
    return {
      policy: policy.name,
      selected,
      planned: over === null ? count : 0,
      bytes: over === null ? bytes : 0,
      kept: this.#kept,
      over,
    };
  }
}
