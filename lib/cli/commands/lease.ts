import { type BrokenLease, breakLease } from '../../app/break-claims.ts';
import { type LeaseStanding, leasesIn } from '../../app/standing-claims.ts';
import { printable, quote } from '../../domain/key.ts';
import { formatDuration } from '../../domain/quantities.ts';
import { prefixesText, subcommandOf } from '../claim-lines.ts';
import { inClaimPlace, inEachClaimPlace, pastFailures } from '../claim-places.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { reasonOf } from '../hold-lines.ts';
import type { Output } from '../output.ts';
import { idsOf, needTargets } from '../targets.ts';

export const manual = {
  synopsis: [
    'lease ls',
    'lease break ID... [--from-file F] --reason TEXT [--dry-run]',
    '--url URL lease ls|break ...',
  ],
  description: [
    'Shows the leases of restores, or ends some. A lease that blocks sweeps keeps all that it',
    'covers where it is; one that blocks purges lets it be moved, and read from there. One',
    'whose number stands still for its TTL, as seen through this catalog, is dead, and the',
    'next sweep or purge goes on without it. A broken lease is marked, its id is never valid',
    'again, and a restore that still uses it ends with an error: it can lose data no more,',
    'but what it has not read may go. One that cannot be read never dies by itself.',
  ],
  examples: [
    ['lease ls', 'which restores there are'],
    ['lease break l-20261122T101500123Z-k3v0q8 --reason "its host is gone"', 'one that is dead'],
  ],
} as const satisfies Page;

export const options = {
  reason: { takes: 'TEXT', says: 'With break: why; the holder is told.' },
  'from-file': { takes: 'F', says: 'With break: more ids, one a line; - is stdin.' },
  'dry-run': { says: 'With break: shows what would be broken, and changes nothing.' },
} as const satisfies OptionTable;

type Options = typeof options;

export async function run(call: Call<Options>): Promise<number> {
  const { action, rest } = subcommandOf(call, 'lease', ['reason', 'from-file', 'dry-run']);
  return action === 'ls' ? list(call) : end({ ...call, operands: rest });
}

async function list(call: Call<Options>): Promise<number> {
  const { out } = call;
  return inEachClaimPlace(call, async (place) => {
    const leases = await leasesIn(place);
    for (const one of leases) {
      out.result(objectOf(one, place.name), () => lineOf(one, place.name));
    }
    if (leases.length === 0 && !out.isJson) out.talk(`${place.name}: no leases`);
    return [];
  });
}

function objectOf({ lease, isDead, stillFor }: LeaseStanding, store: string) {
  const { id, holder, host, pid, prefixes, blocks, ttlSeconds, acquiredAt, renewal, problem } = lease;
  return {
    type: 'lease',
    id,
    store,
    holder,
    host,
    pid: problem === null ? pid : null,
    prefixes,
    blocks,
    ttlSeconds: problem === null ? ttlSeconds : null,
    acquiredAt: acquiredAt === '' ? null : acquiredAt,
    renewal: problem === null ? renewal : null,
    dead: isDead,
    stillSeconds: stillFor === null ? null : Math.floor(stillFor / 1000),
    problem,
  } as const;
}

function lineOf({ lease, isDead, stillFor }: LeaseStanding, store: string): string {
  const { id, name, holder, host, pid, prefixes, blocks, ttlSeconds, acquiredAt, renewal, problem } = lease;
  if (problem !== null)
    return `${quote(id)}  ${store}  .tombstoned/leases/${name} ${problem}: a lease on everything that never dies`;
  const what = blocks === 'sweep' ? 'sweeps and purges' : 'purges';
  const still = stillFor === null ? '' : `, unchanged for ${formatDuration(stillFor)}`;
  const life = isDead === true ? 'dead' : `renewed ${renewal} times${still}`;
  return `${id}  ${store}  ${printable(holder)} on ${printable(host)}, pid ${pid}, since ${acquiredAt}  (${prefixesText(prefixes)}, blocks ${what}, TTL ${formatDuration(ttlSeconds * 1000)}, ${life})`;
}

async function end(call: Call<Options>): Promise<number> {
  const { out, options: given } = call;
  const reason = reasonOf(given.reason, 'lease break');
  const ids = await idsOf(call, given['from-file']);
  needTargets(ids, 'lease break', "a lease's id", 'lease');
  const dryRun = given['dry-run'];
  return inClaimPlace(call, async (place, signal) =>
    pastFailures(ids.each(signal), async (id) => {
      tell(out, place.name, await breakLease(place, id, { reason, dryRun }));
    }),
  );
}

function tell(out: Output, store: string, broken: BrokenLease): void {
  const { id, outcome, holder, host, isMarked, problem } = broken;
  out.result({ type: 'lease-broken', id, store, holder, host, outcome, marked: isMarked, problem }, () => {
    const of =
      problem === null ? `the lease of ${printable(holder ?? '')} on ${printable(host ?? '')}` : problem;
    const shown = printable(id);
    switch (outcome) {
      case 'already':
        return `${shown}  was broken already`;
      case 'would be':
        return `${shown}  would be broken (${of})`;
      case 'broken':
        return `${shown}  broken (${of})${isMarked ? '' : '; it is no name of a lease, so no holder can be told'}`;
    }
  });
}
