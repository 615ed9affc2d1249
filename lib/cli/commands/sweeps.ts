import { ctlOf } from '../../app/claim-place.ts';
import { shellWord } from '../../app/explanation.ts';
import { knownStores } from '../../app/known-stores.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Sweep } from '../../catalog/sweeps.ts';
import { type WaitingPlan, waitingStateAt } from '../../catalog/waiting.ts';
import { selectStores } from '../../config/load.ts';
import { isoTime, systemClock } from '../../domain/clock.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import { revisionText } from '../../domain/revision.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { limitOf } from '../filters.ts';
import { withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { sweepIdOf } from '../sweep-choice.ts';
import { type ShownSweep, sweepObject, sweepState } from '../sweep-object.ts';
import { counted } from '../wording.ts';

export const manual = {
  synopsis: ['sweeps [--limit N]', 'sweeps ID|last [--limit N] [--after KEY]'],
  description: [
    'Shows what waits for approve or reject, then each turn at moving: by policies, by hand, or',
    'to make way for a forced restore. What one of them moved is shown by ls --sweep ID, and',
    'undone by restore --sweep ID. Of a plan that waits, ID also shows what it would move.',
  ],
  examples: [
    ['sweeps', 'what waits, and the newest ones'],
    ['sweeps last', 'the newest that moved something'],
    ['--json sweeps s-20261122T101500123Z-k3v0q8 --limit 0', 'all that a waiting plan names'],
  ],
} as const satisfies Page;

export const options = {
  limit: { takes: 'N', says: 'At most so many sweeps, or keys of a plan; 0 is all.', default: '20' },
  after: { takes: 'KEY', says: 'Of a plan that waits: only keys after this one.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { operands, out, options: given } = call;
  const [id, more] = operands;
  if (more !== undefined) throw usageError('sweeps takes one id', 'see tombstonectl sweeps --help', more);
  const limit = limitOf(given.limit);
  const config = configOf(call);
  const most = limit === 0 ? Number.MAX_SAFE_INTEGER : limit;
  return withCatalog(config, async (catalog) => {
    const rows = knownStores(catalog, selectStores(config, given.store)).map(({ row }) => row);
    const now = catalog.clock.sureTime(systemClock);
    const shown = (sweep: Sweep): ShownSweep => ({ sweep, plan: catalog.waiting.get(sweep.id) });
    const one = id === undefined ? undefined : catalog.sweeps.get(sweepIdOf(catalog, rows, id));
    if (one !== undefined) {
      showOne(catalog, out, shown(one), { now, after: given.after ?? '', most });
      return 0;
    }
    if (given.after !== undefined)
      throw usageError('--after is for the keys of a plan', 'name its sweep: sweeps ID');
    const waiting = rows.flatMap((row) => catalog.waiting.ofStore(row.n, now));
    const newest = rows
      .flatMap((row) => catalog.sweeps.latest(row.n, most))
      .toSorted((a, b) => b.startedAt - a.startedAt)
      .slice(0, most);
    const first = waiting.flatMap(({ sweep }) => catalog.sweeps.get(sweep) ?? []);
    list(out, [...first, ...newest].map(shown), now);
    return 0;
  });
}

function list(out: Output, sweeps: readonly ShownSweep[], now: number): void {
  if (sweeps.length === 0 && !out.isJson) out.talk('no sweeps yet');
  const names = Math.max(5, ...sweeps.map(({ sweep }) => sweep.store.length));
  if (sweeps.length > 0 && !out.isJson) {
    const head = `${'ID'.padEnd(28)}  ${'STORE'.padEnd(names)}  ${'STATE'.padEnd(11)}  ${'MOVED'.padStart(7)}`;
    out.line(out.styled('bold', `${head}  ${'FAILED'.padStart(6)}  ${'SIZE'.padStart(8)}  STARTED`));
  }
  for (const shown of sweeps) {
    if (out.isClosed) return;
    out.result(sweepObject(shown, now), () => {
      const { id, store, moved, failed, bytes, startedAt } = shown.sweep;
      const state = sweepState(shown, now);
      const head = `${id}  ${store.padEnd(names)}  ${state.padEnd(11)}  ${String(moved).padStart(7)}`;
      const tail = `${String(failed).padStart(6)}  ${formatSize(bytes).padStart(8)}  ${isoTime(startedAt)}`;
      return `${head}  ${tail}`;
    });
  }
}

/** How many keys are read at once. */
const PAGE = 1000;

/** A sweep; where its plan waits, with a page of what that names. */
function showOne(
  catalog: Catalog,
  out: Output,
  shown: ShownSweep,
  { now, after, most }: { now: number; after: string; most: number },
): void {
  const { plan } = shown;
  const isWaiting = plan !== undefined && waitingStateAt(plan, now) === 'waiting';
  if (out.isJson || after === '') out.result(sweepObject(shown, now), () => details(shown, now));
  if (!isWaiting) return;
  let last = after;
  for (let left = most; !out.isClosed; ) {
    const page = catalog.waiting.page(plan.n, last, Math.min(PAGE, left + 1));
    for (const { key, size, revision } of page.slice(0, left)) {
      const object = { type: 'planned', key, size, policy: plan.policy, reason: plan.cause };
      out.result(
        { ...object, revision: revisionText(revision) },
        () => `${printable(key)}  ${formatSize(size)}`,
      );
      last = key;
    }
    if (page.length > left) {
      out.talk(`there are more: add --after ${shellWord(last)}, or --limit 0 for all`);
      return;
    }
    if (page.length < Math.min(PAGE, left + 1)) return;
    left -= page.length;
  }
}

function details(shown: ShownSweep, now: number): string {
  const { sweep, plan } = shown;
  const { id, store, planned, moved, abandoned, failed, bytes, startedAt, endedAt } = sweep;
  const state = sweepState(shown, now);
  const reason = plan?.reason ?? sweep.reason;
  return [
    id,
    `  store    ${store}`,
    `  state    ${state}`,
    ...(reason === null ? [] : [`  reason   ${JSON.stringify(reason)}`]),
    `  started  ${isoTime(startedAt)}`,
    `  ended    ${isoTime(endedAt) ?? '-'}`,
    `  moved    ${moved} of ${counted(planned, 'planned object')}, ${formatSize(bytes)}`,
    `  left     ${abandoned} changed or gone meanwhile, ${failed} failed`,
    ...(plan === undefined ? [] : planLines(store, plan, state === 'waiting')),
  ].join('\n');
}

function planLines(store: string, plan: WaitingPlan, isWaiting: boolean): string[] {
  const { sweep, policy, over, objects, bytes, expiresAt } = plan;
  const ctl = ctlOf(store);
  return [
    `  plan     ${counted(objects, 'object')}, ${formatSize(bytes)}, of policy ${policy}: ${over}`,
    ...(isWaiting
      ? [
          `  waits    until ${isoTime(expiresAt)} for ${ctl} approve ${sweep}`,
          `           or ${ctl} reject ${sweep} --reason TEXT`,
        ]
      : []),
  ];
}
