import { type HistoryLine, historyOf } from '../../app/history.ts';
import { keptDetail, type StandingTombstone, standingOf } from '../../app/kept.ts';
import { knownStores, lookAtClaims } from '../../app/known-stores.ts';
import { NO_CLAIMS } from '../../app/standing-claims.ts';
import { realSurroundings } from '../../app/surroundings.ts';
import { selectStores } from '../../config/load.ts';
import { isoTime, systemClock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { parseTombstoneId } from '../../domain/ids.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { withCatalog } from '../opened.ts';
import { tombstoneObject } from '../tombstone-object.ts';
import { until } from '../wording.ts';

export const manual = {
  synopsis: ['show ID'],
  description: [
    'Shows all that the catalog knows of a tombstone: what it was, why and when it went,',
    'when it goes for good, what keeps it, and what happened to it.',
  ],
  examples: [['show 20261122T101500123Z-k3v0q8tzm2xj4d', 'one that ls has listed']],
} as const satisfies Page;

export const options = {} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { operands, out, options: given } = call;
  const [id, more] = operands;
  if (id === undefined || more !== undefined) {
    throw usageError("show needs one tombstone's id", 'see tombstonectl ls', more);
  }
  if (given.key || parseTombstoneId(id) === undefined) {
    throw usageError(`${JSON.stringify(id)} is no tombstone's id`, 'of a key: tombstonectl explain KEY', id);
  }
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    const tombstone = catalog.tombstones.get(id);
    const known = knownStores(catalog, selectStores(config, given.store)).filter(
      ({ row }) => row.name === tombstone?.store,
    );
    const [store] = known;
    if (tombstone === undefined || store === undefined) {
      const hint = tombstone === undefined ? 'see tombstonectl ls' : `it is of the store ${tombstone.store}`;
      throw new TombstonedError('not-found', `there is no tombstone ${id}`, { key: id, hint });
    }
    const looked = await lookAtClaims(catalog, known, realSurroundings(out.report));
    const { safetyWindow, name } = store.config;
    const moment = { safetyWindow, clock: systemClock, claims: looked.get(name) ?? NO_CLAIMS };
    const [one] = standingOf(catalog, store.row, moment, [tombstone]);
    if (one === undefined) throw new TypeError(`no standing of ${id}`);
    const events = historyOf(catalog, tombstone);
    const object = tombstoneObject(one, store.row.pendingPrefix);
    out.result(
      { ...object, events: events.map((event) => ({ ...event, at: isoTime(event.at) })) },
      () => `${details(one, object.pendingKey)}\n${history(events)}`,
    );
    return 0;
  });
}

function details({ tombstone, dueAt, kept }: StandingTombstone, pendingKey: string | null): string {
  const { id, key, store, state, size, policy, reason, sweep, tombstonedAt } = tombstone;
  const cause = policy === null ? 'by hand' : `policy ${policy}`;
  const keeps = kept.map((one) => {
    const ends = one.until === null ? '' : ` until ${isoTime(one.until)}`;
    const { by, detail } = keptDetail(one);
    return `${one.reason}${ends}${by === null ? '' : ` (${printable(detail)})`}`;
  });
  return [
    id,
    `  key         ${printable(key)}`,
    `  store       ${store}`,
    `  state       ${state}`,
    `  size        ${formatSize(size)}`,
    `  why         ${cause}${reason === null ? '' : `: ${printable(reason)}`}`,
    `  sweep       ${sweep}`,
    `  tombstoned  ${isoTime(tombstonedAt)}`,
    `  goes        ${dueAt === null ? '-' : `${until(dueAt, Date.now())} (${isoTime(dueAt)})`}`,
    `  kept by     ${keeps.length === 0 ? 'nothing' : keeps.join(', ')}`,
    `  pending at  ${pendingKey === null ? '-' : printable(pendingKey)}`,
  ].join('\n');
}

function history(events: readonly HistoryLine[]): string {
  const lines = events.map(({ at, what, by, detail }) => {
    const about = [by === null ? [] : [`by ${by}`], detail === null ? [] : [printable(detail)]].flat();
    return `  ${isoTime(at)}  ${what.padEnd(14)}  ${about.join(', ')}`.trimEnd();
  });
  return ['history', ...lines].join('\n');
}
