import { knownStores } from '../../app/known-stores.ts';
import type { Sweep } from '../../catalog/sweeps.ts';
import { selectStores } from '../../config/load.ts';
import { isoTime } from '../../domain/clock.ts';
import { formatSize } from '../../domain/quantities.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { limitOf } from '../filters.ts';
import { withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { sweepIdOf } from '../sweep-choice.ts';
import { sweepObject } from '../sweep-object.ts';
import { counted } from '../wording.ts';

export const manual = {
  synopsis: ['sweeps [--limit N]', 'sweeps ID|last'],
  description: [
    'Shows each turn at moving: by policies, by hand, or to make way for a forced restore.',
    'What one of them moved is shown by ls --sweep ID, and undone by restore --sweep ID.',
  ],
  examples: [
    ['sweeps', 'the newest ones'],
    ['sweeps last', 'the newest that moved something'],
  ],
} as const satisfies Page;

export const options = {
  limit: { takes: 'N', says: 'At most so many; 0 is all.', default: '20' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { operands, out, options: given } = call;
  const [id, more] = operands;
  if (more !== undefined) throw usageError('sweeps takes one id', 'see tombstonectl sweeps --help', more);
  const limit = limitOf(given.limit);
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    const rows = knownStores(catalog, selectStores(config, given.store)).map(({ row }) => row);
    const one = id === undefined ? undefined : catalog.sweeps.get(sweepIdOf(catalog, rows, id));
    if (one !== undefined) {
      out.result(sweepObject(one), () => details(one));
      return 0;
    }
    const most = limit === 0 ? Number.MAX_SAFE_INTEGER : limit;
    const newest = rows
      .flatMap((row) => catalog.sweeps.latest(row.n, most))
      .toSorted((a, b) => b.startedAt - a.startedAt)
      .slice(0, most);
    list(out, newest);
    return 0;
  });
}

function list(out: Output, sweeps: readonly Sweep[]): void {
  if (sweeps.length === 0 && !out.isJson) out.talk('no sweeps yet');
  const names = Math.max(5, ...sweeps.map(({ store }) => store.length));
  if (sweeps.length > 0 && !out.isJson) {
    const head = `${'ID'.padEnd(28)}  ${'STORE'.padEnd(names)}  ${'STATE'.padEnd(11)}  ${'MOVED'.padStart(7)}`;
    out.line(out.styled('bold', `${head}  ${'FAILED'.padStart(6)}  ${'SIZE'.padStart(8)}  STARTED`));
  }
  for (const sweep of sweeps) {
    if (out.isClosed) return;
    out.result(sweepObject(sweep), () => {
      const { id, store, state, moved, failed, bytes, startedAt } = sweep;
      const head = `${id}  ${store.padEnd(names)}  ${state.padEnd(11)}  ${String(moved).padStart(7)}`;
      const tail = `${String(failed).padStart(6)}  ${formatSize(bytes).padStart(8)}  ${isoTime(startedAt)}`;
      return `${head}  ${tail}`;
    });
  }
}

function details(sweep: Sweep): string {
  const { id, store, state, reason, planned, moved, abandoned, failed, bytes, startedAt, endedAt } = sweep;
  return [
    id,
    `  store    ${store}`,
    `  state    ${state}`,
    ...(reason === null ? [] : [`  reason   ${JSON.stringify(reason)}`]),
    `  started  ${isoTime(startedAt)}`,
    `  ended    ${isoTime(endedAt) ?? '-'}`,
    `  moved    ${moved} of ${counted(planned, 'planned object')}, ${formatSize(bytes)}`,
    `  left     ${abandoned} changed or gone meanwhile, ${failed} failed`,
  ].join('\n');
}
