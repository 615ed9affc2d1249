import type { PlanItem } from '../catalog/sweeps.ts';
import type { Coverage, PolicyCoverage } from '../cover/coverage.ts';
import { TombstonedError } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { sameRevision } from '../domain/revision.ts';
import { type Guards, guard, overLimit, type Policy, prepared } from '../policy/policy.ts';
import { refreshHolds } from '../run/batch.ts';
import { keepersOf, reasonOf } from '../run/claims.ts';
import type { Place } from '../run/place.ts';
import type { LiveObject } from '../store/store.ts';
import type { Planned } from './ledger.ts';
import type { SweepLedger } from './ledger-thread.ts';

/** Something a policy named, or would have, that can't be moved, and why. */
export interface Refusal {
  readonly key: string;
  readonly why: string;
}

/** What a policy comes to. */
export interface PlanSummary {
  readonly policy: string;
  /** How many objects the policy selects, and how many of them are planned. */
  readonly selected: number;
  readonly planned: number;
  readonly bytes: number;
  /** What it selects and does not plan, by reason (of those old enough). */
  readonly kept: ReadonlyMap<KeptReason, number>;
}

export interface PolicyPlan extends PlanSummary {
  /** Which limit it is over, and by what, or null. Then nothing of it may be moved. */
  readonly over: OverLimit | null;
  /** Why nothing of it may be moved, where that is no limit; or null. */
  readonly problem: TombstonedError | null;
  /** Row number of what its objects are planned for. */
  readonly cause: number;
  /** Of an approved plan: how many of its objects were found, and how many of those are others by now. */
  readonly found: number;
  readonly changed: number;
}

export interface OverLimit {
  /** In words. */
  readonly limit: string;
  readonly objects: number;
  readonly bytes: number;
}

export interface PlanOptions {
  /** Row number of the sweep. */
  readonly sweep: number;
  readonly policy: Policy;
  readonly guards: Guards;
  readonly coverage: Coverage | undefined;
  /** Row number of a waiting plan: only what that names, as it was then, is planned. */
  readonly approved?: number | undefined;
  readonly onRefusal: (refusal: Refusal) => void;
  /** After each page of the listing: how many objects are selected so far. */
  readonly onListed?: ((selected: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Plans one policy: streams the listing, passes the guards, and writes what is
 * left into the catalog as the sweep's plan; also one that is over a limit, which
 * the caller sees to. Touches nothing in the store.
 */
export async function planPolicy(place: Place, ledger: SweepLedger, plan: PlanOptions): Promise<PolicyPlan> {
  const { guards, signal } = plan;
  await refreshHolds(place);
  const { store, catalog, clock } = place;
  const now = catalog.clock.sureTime(clock);
  const look = { store, now, isProtected: guards.isProtected, signal };
  let policy: Policy;
  try {
    policy = await prepared(plan.policy, look);
  } catch (error) {
    if (!(error instanceof TombstonedError)) throw error;
    return new Planner(place, ledger, plan).finish({ kept: 0, problem: error }); // the others go on
  }
  const planner = new Planner(place, ledger, { ...plan, policy });
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
  const { sweep, coverage } = plan;
  const { cause } = planner;
  await planner.close();
  return planner.finish(await coverage?.ofPolicy({ sweep, cause, policy, signal }));
}

/** A unit that is being listed: its objects come together. */
interface OpenUnit {
  readonly name: string;
  isYoung: boolean;
  /** Exempt or held: it does not count for keepLast. */
  isClaimed: boolean;
  isKept: boolean;
  /** Of an approved plan: how many objects it names here, how many of those are counted as kept, and why the first is. */
  approved: number;
  counted: number;
  why: KeptReason | undefined;
}

/** What a plan that was approved says of an object: it names it as it is, as another revision, or not at all. */
type Named = 'as-is' | 'changed' | 'not';

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
  readonly #approved: number | undefined;
  readonly #onRefusal: (refusal: Refusal) => void;
  readonly #kept = new Map<KeptReason, number>();
  #rows: PlanItem[] = [];
  #selected = 0;
  #young = 0;
  #found = 0;
  #changed = 0;
  /** Whether something was planned that only counts for keepLast. */
  #hasKept = false;
  #unit: OpenUnit | undefined;

  constructor(place: Place, ledger: SweepLedger, plan: PlanOptions) {
    this.#place = place;
    this.#ledger = ledger;
    this.#policy = plan.policy;
    this.#guards = plan.guards;
    this.#sweep = plan.sweep;
    this.#onRefusal = plan.onRefusal;
    this.#approved = plan.approved;
    // By a clock that is ahead, what is young would seem old.
    this.#now = place.catalog.clock.sureTime(place.clock);
    this.#cause = place.catalog.sweeps.cause(plan.policy.name, plan.policy.reason);
  }

  get cause(): number {
    return this.#cause;
  }

  get selected(): number {
    return this.#selected;
  }

  add(objects: readonly LiveObject[]): void {
    // Leases are looked at when it moves: what one covers now may be free by then.
    const keepers = keepersOf(this.#place, [], objects, 'policy');
    const named = this.#namedOf(objects);
    for (const [i, object] of objects.entries()) {
      this.#selected++;
      const keeper = keepers.get(i);
      this.#addOne(object, keeper === undefined ? undefined : reasonOf(keeper), named(object));
    }
  }

  /** What the plan that was approved says of objects; without one, each is as a plan would name it. */
  #namedOf(objects: readonly LiveObject[]): (object: LiveObject) => Named {
    if (this.#approved === undefined) return () => 'as-is';
    const keys = objects.map(({ key }) => key);
    const planned = this.#place.catalog.waiting.revisions(this.#approved, keys);
    return ({ key, revision }) => {
      const then = planned.get(key);
      if (then === undefined) return 'not';
      this.#found++;
      if (sameRevision(then, revision)) return 'as-is';
      this.#changed++;
      return 'changed';
    };
  }

  #addOne(object: LiveObject, claim: KeptReason | undefined, named: Named): void {
    const unitName = this.#policy.unitOf(object.key);
    if (unitName !== this.#unit?.name) this.#closeUnit(unitName);
    const isExpired = this.#policy.isExpired(object, this.#now);
    const guarded = guard(this.#guards, object, this.#now);
    const isYoung = !isExpired || guarded?.reason === 'too-young';
    const isNamed = named === 'as-is';
    // What an approved plan names is accounted for, whatever its age is today.
    const young = this.#approved === undefined || isExpired ? undefined : 'too-young';
    const reason =
      isNamed && (isExpired || young !== undefined) ? (claim ?? guarded?.reason ?? young) : undefined;
    if (reason !== undefined) this.#keep(reason, 1);
    if (reason === 'error') {
      this.#onRefusal({ key: object.key, why: guarded?.detail ?? "it can't be moved" });
    }
    const unit = this.#unit;
    if (unit !== undefined) {
      unit.isYoung ||= isYoung;
      unit.isClaimed ||= claim !== undefined;
      unit.isKept ||= guarded !== null || !isNamed;
      if (isNamed) unit.approved++;
      if (reason !== undefined) unit.counted++;
      unit.why ??= claim ?? (isNamed ? reason : isYoung ? 'too-young' : 'changed');
    } else {
      if (claim !== undefined) return;
      if (isYoung) {
        this.#young++;
        return;
      }
      if ((guarded !== null || !isNamed) && this.#policy.keepLast === 0) return;
    }
    const isKept = guarded !== null || !isNamed;
    this.#hasKept ||= isKept;
    this.#rows.push({
      key: object.key,
      size: object.size,
      revision: object.revision,
      modifiedAt: object.modifiedAt,
      cause: this.#cause,
      unit: unitName,
      isKept, // ranked for keepLast with the others, and taken out after that
    });
  }

  /** A directory expires as a whole or not at all. */
  #closeUnit(next: string | null): void {
    const unit = this.#unit;
    if (unit !== undefined) {
      this.#flush();
      const { sweeps } = this.#place.catalog;
      if (unit.isYoung || unit.isClaimed) sweeps.unplanUnit(this.#sweep, this.#cause, unit.name);
      else if (unit.isKept) {
        sweeps.keepUnit(this.#sweep, this.#cause, unit.name);
        this.#hasKept = true;
      }
      if (unit.isYoung && !unit.isClaimed) this.#young++;
      const isWhole = !unit.isYoung && !unit.isClaimed && !unit.isKept;
      if (this.#approved !== undefined && !isWhole)
        this.#keep(unit.why ?? 'too-young', unit.approved - unit.counted);
    }
    const fresh = {
      isYoung: false,
      isClaimed: false,
      isKept: false,
      approved: 0,
      counted: 0,
      why: undefined,
    };
    this.#unit = next === null ? undefined : { name: next, ...fresh };
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

  /** What is planned is all there is. */
  async close(): Promise<void> {
    this.#closeUnit(null);
    this.#flush();
    const { sweeps } = this.#place.catalog;
    const older = this.#policy.keepLast - this.#young;
    const before = older > 0 ? await this.#planned() : undefined;
    if (older > 0) sweeps.unplanNewest(this.#sweep, this.#cause, older);
    if (this.#hasKept) sweeps.unplanKept(this.#sweep, this.#cause);
    if (before !== undefined) this.#keep('keep-last', before.count - (await this.#planned()).count);
  }

  /** What the catalog has of this policy. */
  async #planned(): Promise<Planned> {
    return this.#ledger.plannedOf(this.#sweep, this.#cause);
  }

  async finish({ kept, problem }: PolicyCoverage = { kept: 0, problem: null }): Promise<PolicyPlan> {
    this.#keep('coverage', kept);
    const policy = this.#policy;
    const { count, bytes } = await this.#planned();
    const selected = this.#selected;
    const limit = overLimit(policy.limits, { objects: count, bytes, selected });
    if (limit !== null) this.#keep('limit', count);
    return {
      policy: policy.name,
      selected,
      planned: limit === null ? count : 0,
      bytes: limit === null ? bytes : 0,
      kept: this.#kept,
      over: limit === null ? null : { limit, objects: count, bytes },
      problem,
      cause: this.#cause,
      found: this.#found,
      changed: this.#changed,
    };
  }
}
