import { holdText, type LeaseStanding, leaseDetail } from '../app/standing-claims.ts';
import { isoTime } from '../domain/clock.ts';
import { idOfFile } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { printable } from '../domain/key.ts';
import { type Keeper, keeperText, reasonOf } from '../run/claims.ts';
import type { Output } from './output.ts';
import { counted } from './wording.ts';

/** How many claims a summary names. */
const MOST = 20;

interface Kept {
  readonly reason: KeptReason;
  readonly by: string;
  readonly until: string | null;
  readonly detail: string;
  count: number;
}

/** What each claim has kept, of many objects. */
export class Keepers {
  readonly #kept = new Map<string, Kept>();

  add(keeper: Keeper): void {
    const by = nameOf(keeper);
    const known = this.#kept.get(by);
    if (known !== undefined) known.count++;
    else
      this.#kept.set(by, {
        reason: reasonOf(keeper),
        by,
        until: endOf(keeper),
        detail: detailOf(keeper),
        count: 1,
      });
  }

  /** For `--json`. */
  objects(): readonly Kept[] {
    return [...this.#kept.values()];
  }

  /** Tells people what each keeps, why, and until when. */
  tell(out: Output): void {
    if (out.isJson) return;
    const all = this.objects();
    for (const { count, detail, until } of all.slice(0, MOST)) {
      const ends = until === null ? '' : `, until ${until}`;
      out.talk(`kept ${counted(count, 'object')}: ${printable(detail)}${ends}`);
    }
    if (all.length > MOST) out.talk(`and what ${all.length - MOST} more claims keep: see tombstonectl holds`);
  }
}

function nameOf(keeper: Keeper): string {
  if (keeper.as === 'run') return keeper.run;
  if (keeper.as === 'coverage') return keeper.as;
  return keeper.as === 'lease' ? keeper.lease.id : idOfFile(keeper.hold.name);
}

function endOf(keeper: Keeper): string | null {
  return keeper.as === 'hold' ? isoTime(keeper.hold.until) : null;
}

function detailOf(keeper: Keeper): string {
  if (keeper.as === 'hold') return holdText(keeper.hold);
  if (keeper.as === 'run' || keeper.as === 'coverage') return keeperText(keeper);
  return leaseDetail({ lease: keeper.lease, isDead: null, stillFor: null } satisfies LeaseStanding);
}
