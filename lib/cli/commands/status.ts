import { ctlOf } from '../../app/claim-place.ts';
import { shellWord } from '../../app/explanation.ts';
import { knownStores, lookAtClaims } from '../../app/known-stores.ts';
import { type FenceStanding, holdText } from '../../app/standing-claims.ts';
import { freesSpace, type OpenRun, type StoreStatus, storeStatus } from '../../app/status.ts';
import { realSurroundings } from '../../app/surroundings.ts';
import type { CachedHold } from '../../catalog/holds.ts';
import type { RunRow } from '../../catalog/runs.ts';
import type { Sweep } from '../../catalog/sweeps.ts';
import type { WaitingPlan } from '../../catalog/waiting.ts';
import { selectStores } from '../../config/load.ts';
import { isoTime, systemClock } from '../../domain/clock.ts';
import { idOfFile } from '../../domain/ids.ts';
import { printable } from '../../domain/key.ts';
import { formatDuration, formatSize } from '../../domain/quantities.ts';
import { STATES } from '../../domain/state.ts';
import { ownerRefusal } from '../../store/owner.ts';
import { orphanHint, orphanText } from '../../sweep/requests.ts';
import { type Call, type OptionTable, type Page, refuseOperands } from '../command.ts';
import { configOf } from '../config-of.ts';
import { fenceObject } from '../fence-object.ts';
import { histogram } from '../histogram.ts';
import { withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { sweepObject } from '../sweep-object.ts';
import { waitingObject } from '../waiting-object.ts';
import { byReason, counted, until } from '../wording.ts';

export const manual = {
  synopsis: ['status [--store NAME]'],
  description: [
    'Shows for each store how many tombstones, and bytes, are in each state; what is due,',
    'and what keeps some of it; leases, holds, fences and pauses; whether the store is another',
    "catalog's; plans that wait for approval; the last sweep and purge, and what runs now; what",
    'goes when.',
  ],
  examples: [
    ['status', 'all stores'],
    ['--json status | jq ".stores[].due"', 'for a program'],
  ],
} as const satisfies Page;

export const options = {} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  refuseOperands(call, 'status');
  const { out, options: given } = call;
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    const known = knownStores(catalog, selectStores(config, given.store));
    const looks = new Map<string, Pick<StoreStatus, 'spaceFreed' | 'owner'>>();
    const claims = await lookAtClaims(
      catalog,
      known,
      realSurroundings(out.report),
      async (store, { name }) => {
        const owner = (await ownerRefusal(store, catalog.uuid)) ?? null;
        looks.set(name, { owner, spaceFreed: await freesSpace(store, name, out.report) });
      },
    );
    const now = catalog.clock.sureTime(systemClock);
    const stores = known.map((store) => {
      const { name } = store.config;
      return storeStatus(catalog, store, claims.get(name), systemClock, looks.get(name));
    });
    out.result({ type: 'status', stores: stores.map((store) => objectOf(store, now)) }, () =>
      stores.map((store) => textOf(out, store, now)).join('\n\n'),
    );
    return 0;
  });
}

function objectOf(status: StoreStatus, now: number) {
  const { name, url, counts, bytes, due, kept, nextPurge, leases, holds, exemptions } = status;
  const { lastSweep, lastPurge, fences, pauses } = status;
  return {
    name,
    url,
    counts: Object.fromEntries(STATES.map((state) => [state, counts.get(state) ?? 0])),
    bytes: Object.fromEntries(STATES.map((state) => [state, bytes.get(state) ?? 0])),
    due,
    kept: Object.fromEntries(kept),
    nextPurge: isoTime(nextPurge),
    spaceFreed: status.spaceFreed,
    owner: status.owner?.message ?? null,
    clock: status.clock,
    leases,
    holds,
    pauses: pauses.map(({ name: file, reason, by, until: end, problem }) => ({
      hold: idOfFile(file),
      reason,
      by,
      until: isoTime(end),
      problem,
    })),
    exemptions,
    lastSweep: lastSweep === null ? null : sweepObject({ sweep: lastSweep, plan: undefined }, now),
    lastPurge: lastPurge === null ? null : runObject(lastPurge),
    openRuns: status.openRuns.map((open) => ({ ...runObject(open), life: open.life })),
    goes: status.goes,
    fences: fences.map((fence) => fenceObject(fence)),
    waiting: status.waiting.map(waitingObject),
    orphanedRequests: status.orphaned,
  };
}

function runObject({ id, kind, pid, by, startedAt, endedAt, outcome }: RunRow) {
  return { run: id, kind, pid, by, startedAt: isoTime(startedAt), endedAt: isoTime(endedAt), outcome };
}

function textOf(out: Output, status: StoreStatus, now: number): string {
  const { name, url, counts, bytes, due, kept, nextPurge, leases, holds, exemptions } = status;
  const lines = [out.styled('bold', `${name}  ${url}`)];
  for (const state of STATES) {
    const count = counts.get(state);
    if (count === undefined) continue;
    lines.push(`  ${state.padEnd(10)}  ${String(count).padStart(9)}  ${formatSize(bytes.get(state) ?? 0)}`);
  }
  if (counts.size === 0) lines.push('  no tombstones');
  const keeps = kept.size === 0 ? '' : `  kept: ${byReason(kept)}`;
  lines.push(`  ${'due'.padEnd(10)}  ${String(due).padStart(9)}${keeps}`);
  if (status.owner !== null) {
    const { message, hint } = status.owner;
    lines.push(`  owner       ${message}`, `              (${hint})`);
  }
  for (const pause of status.pauses) lines.push(pauseLine(name, pause));
  if (status.clock !== null) lines.push(`  clock       nothing is purged: ${status.clock}`);
  if (nextPurge !== null && due === 0) lines.push(`  next due    ${until(nextPurge, now)}`);
  if (leases === null || leases + holds + exemptions > 0) {
    const sessions = leases === null ? 'leases not known' : counted(leases, 'lease');
    lines.push(`  in force    ${sessions}, ${counted(holds, 'hold')}, ${counted(exemptions, 'exemption')}`);
  }
  lines.push(`  last sweep  ${sweepText(status.lastSweep)}`, `  last purge  ${runText(status.lastPurge)}`);
  for (const { kind, by, pid, startedAt, life } of status.openRuns) {
    const what = `${kind} by ${by}, pid ${pid}, since ${isoTime(startedAt)}`;
    lines.push(`  ${life.padEnd(10)}  ${what}${AFTER[life]}`);
  }
  if (status.spaceFreed === false) {
    lines.push(
      '  space       not freed by purges: the bucket keeps old versions, and s3.versions is keep',
      '              (give it a lifecycle rule for noncurrent versions, or set s3.versions: purge)',
    );
  }
  for (const fence of status.fences) lines.push(fenceLine(fence));
  for (const plan of status.waiting) lines.push(...waitingLines(name, plan));
  for (const group of status.orphaned) {
    lines.push(`  orphaned    ${orphanText(group)}:`, `              ${orphanHint(name)}`);
  }
  if (status.goes.some(({ count }) => count > 0)) {
    lines.push('  goes', ...histogram(status.goes, out.isUnicode).map((line) => `    ${line}`));
  }
  return lines.join('\n');
}

function pauseLine(store: string, hold: CachedHold): string {
  const id = idOfFile(hold.name);
  const command = hold.problem === null ? 'resume' : `release ${shellWord(id)}`;
  const end = hold.until === null ? `until ${ctlOf(store)} ${command}` : `until ${isoTime(hold.until)}`;
  const what = hold.blocks === 'purge' ? 'purged' : 'swept or purged';
  return `  paused      nothing is ${what} ${end}: ${printable(holdText(hold))}`;
}

function fenceLine({ fence, life, age }: FenceStanding): string {
  const { name, owner, kind, problem } = fence;
  const id = idOfFile(name);
  if (owner === null) return `  fence       ${printable(id)}, over everything: ${problem ?? ''} (${life})`;
  const since = age === null ? '' : `, for ${formatDuration(age)}`;
  return `  fence       ${kind} of ${printable(owner.host)}, pid ${owner.pid}${since}, ${life} (${id})`;
}

function waitingLines(store: string, plan: WaitingPlan): string[] {
  const { sweep, policy, objects, bytes, over, expiresAt, movedBy } = plan;
  const what = `policy ${policy}, ${counted(objects, 'object')}, ${formatSize(bytes)}`;
  const ctl = ctlOf(store);
  return [
    `  waiting     ${what}, until ${isoTime(expiresAt)}: ${over}`,
    movedBy === null
      ? `              ${ctl} sweeps ${sweep}, then approve ${sweep} or reject ${sweep} --reason TEXT`
      : `              run ${movedBy} is moving it (${sweep})`,
  ];
}

const AFTER = {
  running: '',
  died: ': the next sweep, purge or restore finishes what it left',
  unclear: ': its lock file is missing, so what it left is not touched',
} as const satisfies Record<OpenRun['life'], string>;

function sweepText(sweep: Sweep | null): string {
  if (sweep === null) return 'never';
  return `${isoTime(sweep.startedAt)}  ${sweep.state}, moved ${sweep.moved} (${sweep.id})`;
}

function runText(last: RunRow | null): string {
  return last === null ? 'never' : `${isoTime(last.startedAt)}  ${last.outcome ?? 'not ended'}`;
}
