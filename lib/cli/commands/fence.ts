import { type BrokenFence, breakFence } from '../../app/break-claims.ts';
import { type FenceLife, type FenceStanding, fencesIn } from '../../app/standing-claims.ts';
import { idOfFile } from '../../domain/ids.ts';
import { printable, quote } from '../../domain/key.ts';
import { formatDuration } from '../../domain/quantities.ts';
import { prefixesText, subcommandOf } from '../claim-lines.ts';
import { inClaimPlace, inEachClaimPlace, pastFailures } from '../claim-places.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { fenceObject } from '../fence-object.ts';
import { reasonOf } from '../hold-lines.ts';
import type { Output } from '../output.ts';
import { idsOf, needTargets } from '../targets.ts';

export const manual = {
  synopsis: [
    'fence ls',
    'fence break ID... [--from-file F] --reason TEXT [--force] [--dry-run]',
    '--url URL fence ls|break ...',
  ],
  description: [
    'Shows the batches that sweeps and purges have announced, or takes down what a dead',
    'process left. Sessions, holds and restores wait for them. What a dead run left is best',
    'recovered: any sweep, purge or restore with its catalog does that, and takes the fence',
    'down last. A fence is not broken while the lock of its run is held. Where its catalog is',
    'not at hand, or nothing proves that its process is gone, break needs --force: you vouch',
    'for it. If the process lives after all, it may remove what is claimed from then on,',
    'until it looks for its fence again.',
  ],
  examples: [
    ['fence ls', 'what is under way, and what was left'],
    ['fence break r-20261122T101500123Z-k3v0q8-1 --reason "host h2 is gone" --force', ''],
  ],
} as const satisfies Page;

export const options = {
  reason: { takes: 'TEXT', says: 'With break: why, for the record.' },
  force: { says: 'With break: you know that its process is gone.' },
  'from-file': { takes: 'F', says: 'With break: more ids, one a line; - is stdin.' },
  'dry-run': { says: 'With break: shows what would be broken, and changes nothing.' },
} as const satisfies OptionTable;

type Options = typeof options;

export async function run(call: Call<Options>): Promise<number> {
  const { action, rest } = subcommandOf(call, 'fence', ['reason', 'force', 'from-file', 'dry-run']);
  return action === 'ls' ? list(call) : end({ ...call, operands: rest });
}

async function list(call: Call<Options>): Promise<number> {
  const { out } = call;
  return inEachClaimPlace(call, async (place) => {
    const fences = await fencesIn(place);
    for (const one of fences) {
      out.result({ type: 'fence', store: place.name, ...fenceObject(one) }, () => lineOf(one, place.name));
    }
    if (fences.length === 0 && !out.isJson) out.talk(`${place.name}: no fences`);
    return [];
  });
}

const LIVES = {
  running: 'running',
  died: 'died: the next sweep, purge or restore finishes what it left',
  elsewhere: 'in a catalog that is not at hand',
  unclear: 'nothing proves that its process is gone',
} as const satisfies Record<FenceLife, string>;

function lineOf({ fence, life, age }: FenceStanding, store: string): string {
  const { name, owner, kind, prefixes, startedAt, problem } = fence;
  const id = idOfFile(name);
  if (owner === null) {
    return `${quote(id)}  ${store}  .tombstoned/fences/${name} ${problem ?? ''}: a fence on everything  (${LIVES[life]})`;
  }
  const since = age === null ? '' : `, since ${startedAt} (${formatDuration(age)})`;
  return `${id}  ${store}  ${kind} of ${printable(owner.host)}, pid ${owner.pid}${since}  (${prefixesText(prefixes)}, ${LIVES[life]})`;
}

async function end(call: Call<Options>): Promise<number> {
  const { out, options: given } = call;
  const reason = reasonOf(given.reason, 'fence break');
  const ids = await idsOf(call, given['from-file']);
  needTargets(ids, 'fence break', "a fence's id", 'fence');
  const { force } = given;
  const dryRun = given['dry-run'];
  return inClaimPlace(call, async (place, signal) =>
    pastFailures(ids.each(signal), async (id) => {
      const broken = await breakFence(place, id, { force, reason, dryRun });
      tell(out, place.name, broken);
      if (broken.standing.life === 'died') {
        const when = dryRun ? 'better than breaking it' : 'it may have left something half-done';
        out.talk(`${printable(id)}: ${when}: any sweep or purge recovers its run, by itself`);
      }
    }),
  );
}

function tell(out: Output, store: string, { standing, outcome }: BrokenFence): void {
  const object = fenceObject(standing);
  out.result({ type: 'fence-broken', store, ...object, outcome }, () => {
    return `${printable(object.id)}  ${outcome === 'broken' ? 'broken' : 'would be broken'}`;
  });
}
