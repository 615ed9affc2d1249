import type { CachedHold } from '../catalog/holds.ts';
import { idOfFile } from '../domain/ids.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import type { Lease } from '../store/leases.ts';
import { leaseOn, leaseText } from './leases.ts';
import type { Place } from './place.ts';

/** What keeps an object: a hold, an exemption, a lease, a run that has begun to move it, or metadata that nothing else has. */
export type Keeper =
  | { readonly as: 'run'; readonly run: string }
  | { readonly as: 'coverage'; readonly detail: string }
  | { readonly as: 'hold'; readonly hold: CachedHold }
  | { readonly as: 'lease'; readonly lease: Lease };

/** Who asks: policies respect exemptions, an operator's own command does not. */
export type Asker = 'policy' | 'hand' | 'purge';

/**
 * What claims keep, of a list of objects: the keeper, by place in the list. Called
 * in the transaction that takes the objects (R7). A purge is kept by claims of
 * both kinds of blocking, a move only by those that block sweeps. `leases` are
 * those that were seen after the fence.
 */
export function keepersOf(
  place: Pick<Place, 'catalog' | 'row' | 'clock'>,
  leases: readonly Lease[],
  objects: readonly { key: string; id?: string }[],
  asker: Asker,
): Map<number, Keeper> {
  const keepers = new Map<number, Keeper>();
  const isFirst = (index: number): boolean => {
    const known = keepers.get(index);
    return known?.as !== 'hold' || known.hold.kind !== 'hold';
  };
  const { catalog, row, clock } = place;
  for (const { hold, index } of catalog.holds.covering(row.n, catalog.clock.sureTime(clock), objects)) {
    const keeps = hold.kind === 'exempt' ? asker === 'policy' : asker === 'purge' || hold.blocks === 'sweep';
    if (keeps && isFirst(index)) keepers.set(index, { as: 'hold', hold });
  }
  if (leases.length === 0) return keepers;
  for (const [index, { key }] of objects.entries()) {
    const lease = leaseOn(leases, key, asker === 'purge' ? 'purge' : 'sweep');
    if (lease !== undefined && isFirst(index)) keepers.set(index, { as: 'lease', lease });
  }
  return keepers;
}

/** The reason of the closed list. */
export function reasonOf(keeper: Keeper): KeptReason {
  if (keeper.as === 'lease') return 'lease';
  if (keeper.as === 'run') return 'fence';
  if (keeper.as === 'coverage') return 'coverage';
  return keeper.hold.kind === 'exempt' ? 'exempt' : 'hold';
}

/** A keeper in words. */
export function keeperText(keeper: Keeper): string {
  if (keeper.as === 'lease') return leaseText(keeper.lease);
  if (keeper.as === 'run') return `run ${keeper.run}, which has begun to move it`;
  if (keeper.as === 'coverage') return keeper.detail;
  const { name, kind, reason } = keeper.hold;
  return `${kind === 'exempt' ? 'exemption' : 'hold'} ${idOfFile(name)}: ${reason}`;
}
