import { statSync } from 'node:fs';
import { AuditLog } from '../../app/audit-log.ts';
import { checkLog, type LogCheck, type SeenEntry } from '../../app/check-log.ts';
import { knownStores } from '../../app/known-stores.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Event } from '../../catalog/events.ts';
import { selectStores } from '../../config/load.ts';
import { isoTime, systemClock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { parseTombstoneId } from '../../domain/ids.ts';
import { parseKey, printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { configOf } from '../config-of.ts';
import { usageError } from '../fail.ts';
import { limitOf, timeOf } from '../filters.ts';
import { withCatalog } from '../opened.ts';
import type { Output } from '../output.ts';
import { PatientLines } from '../patient-lines.ts';
import { withProgress } from '../progress.ts';
import { untilSignalled } from '../signals.ts';
import { counted } from '../wording.ts';

/** How often `--follow` looks. ms. */
const POLL_MS = 500;

export const manual = {
  synopsis: [
    'log [--since T] [--until T] [--limit N] [--follow] [[--key] KEY|ID]',
    'log --check [--seen N:HASH]',
  ],
  description: [
    'Shows what was done in the stores: when, what, to how much, why, how it ended, by which',
    'user, on which host, by which command. Entries are only ever added, each with the hash of',
    'the one before. A batch is one entry; of a KEY or ID those about its batches are shown too.',
    'A time is ISO 8601, now, or a duration before now. What is older than historyFor in the',
    'config is removed by purges.',
    '',
    '--check follows the chain, compares the tombstones with it, and ends with 7 when an entry',
    'is not as it was written, or the newest ones are missing. Whoever may write the catalog',
    'could make a whole new chain: only an entry that was noted elsewhere, given as --seen, rules',
    'that out. The daemon notes one in its own log with each purge.',
  ],
  examples: [
    ['log --since 24h', 'the last day'],
    ['log --key metadata/a.meta', 'all about one key'],
    ['--json log --follow', 'for a program, as it happens'],
    ['log --check', 'is it as it was written?'],
  ],
} as const satisfies Page;

export const options = {
  since: { takes: 'T', says: 'Only from then on.' },
  until: { takes: 'T', says: 'Only before then.' },
  limit: { takes: 'N', says: 'The newest so many; 0 is all.', default: '100' },
  follow: { says: 'Goes on with what is added, until SIGINT or SIGTERM.' },
  check: { says: 'Proves that it is unbroken.' },
  seen: { takes: 'N:HASH', says: 'With --check: an entry that must be there with that hash.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { operands, options: given } = call;
  const [operand, more] = operands;
  if (more !== undefined) throw usageError('log takes one key or id', 'see tombstonectl log --help', more);
  if (given.key && operand === undefined)
    throw usageError('--key needs a key', 'see tombstonectl log --help');
  if (given.seen !== undefined && !given.check)
    throw usageError('--seen goes with --check', 'see tombstonectl log --help');
  const isFiltered = given.since !== undefined || given.until !== undefined || given.store !== undefined;
  if (given.check && (isFiltered || given.follow || operand !== undefined)) {
    throw usageError(
      '--check looks at the whole log',
      'the chain is one for all stores: give nothing but --seen',
    );
  }
  if (given.follow && given.until !== undefined) throw usageError('--follow has no end', 'leave --until out');
  if (given.check) return check(call, given.seen === undefined ? undefined : seenOf(given.seen));
  return show(call, operand);
}

async function show(call: Call<typeof options>, operand: string | undefined): Promise<number> {
  const { out, options: given } = call;
  const limit = limitOf(given.limit);
  const since = given.since === undefined ? undefined : timeOf('--since', given.since, 'ago');
  const until = given.until === undefined ? undefined : timeOf('--until', given.until, 'ago');
  const about =
    operand === undefined
      ? undefined
      : !given.key && parseTombstoneId(operand) !== undefined
        ? { id: operand }
        : { key: parseKey(operand) };
  const config = configOf(call);
  return withCatalog(config, async (catalog) => {
    const rows = knownStores(catalog, selectStores(config, given.store)).map(({ row }) => row);
    const store = given.store === undefined ? undefined : rows[0];
    const log = new AuditLog(catalog, { store, since, until, about }, rows);
    const head = log.head();
    const names = Math.max(0, ...config.stores.map(({ name }) => name.length));
    const text = (entry: Event): string =>
      out.isJson ? JSON.stringify(objectOf(entry)) : lineOf(entry, names);
    if (given.follow) {
      const work = async (signal: AbortSignal): Promise<number> =>
        follow({ catalog, log, out, head, limit, text, signal });
      return untilSignalled(out, work, { isQuiet: true });
    }
    let shown = 0;
    for (const entry of log.newest(head, limit, () =>
      out.talk('there are older ones: add --limit 0 for all'),
    )) {
      if (out.isClosed) return 0;
      out.line(text(entry));
      shown++;
    }
    if (shown === 0 && !out.isJson) out.talk('no entries');
    return 0;
  });
}

/** Shows what there is, then what is added; between two looks it holds nothing of the catalog. */
async function follow(of: {
  catalog: Catalog;
  log: AuditLog;
  out: Output;
  head: number;
  limit: number;
  text: (entry: Event) => string;
  signal: AbortSignal;
}): Promise<number> {
  const { catalog, log, out, head, limit, text, signal } = of;
  const file = identityOf(catalog.file);
  const lines = new PatientLines(out);
  try {
    let some: string[] = [];
    for (const entry of log.newest(head, limit, () => undefined)) {
      some.push(text(entry));
      if (some.length < 100) continue;
      await lines.write(some, signal);
      some = [];
      if (signal.aborted || lines.isClosed) return 0;
    }
    await lines.write(some, signal);
    for (let after = head; !signal.aborted && !lines.isClosed; ) {
      const found = log.following(after);
      await lines.write(found.entries.map(text), signal);
      if (found.after === after) {
        await systemClock.sleep(POLL_MS, signal);
        if (!signal.aborted) requireSame(catalog.file, file);
      }
      after = found.after;
    }
    return 0;
  } finally {
    lines.close();
  }
}

function identityOf(file: string): string | undefined {
  const stats = statSync(file, { throwIfNoEntry: false });
  return stats && `${stats.dev}:${stats.ino}`;
}

function requireSame(file: string, identity: string | undefined): void {
  if (identityOf(file) === identity) return;
  throw new TombstonedError('failed', `the catalog ${file} was taken away or replaced`, {
    key: file,
    hint: 'run the command again',
  });
}

async function check(call: Call<typeof options>, seen: SeenEntry | undefined): Promise<number> {
  const { out } = call;
  return withCatalog(configOf(call), async (catalog) =>
    untilSignalled(out, async (signal) => {
      const result = await withProgress(out, 'log', async (progress) =>
        checkLog(catalog, { seen, signal, onProgress: (done, all) => progress.update(done, all) }),
      );
      const { entries, removed, head, compared, broken, isCut } = result;
      if (isCut) return 0; // the signal's code counts
      out.result(
        { type: 'log-check', entries, removed, head: head.n, hash: head.hash, compared, broken },
        () => verdict(result),
      );
      if (broken === null) return 0;
      throw new TombstonedError('unwell', `log entry ${broken.n}: ${broken.problem}`, {
        key: String(broken.n),
        hint: 'compare the catalog with a backup; the store is untouched',
      });
    }),
  );
}

function verdict({ entries, removed, head, compared, broken }: LogCheck): string {
  const before = removed === 0 ? '' : `, after ${removed} that retention has removed`;
  const looked = `${counted(entries, 'entry').replace(/entrys$/, 'entries')} ${entries === 1 ? 'is' : 'are'} as written${before}`;
  if (broken !== null) return `broken at entry ${broken.n}; before it ${looked}`;
  return `unbroken: ${looked}, ${compared} of them compared with their tombstones; the newest is ${head.n}:${head.hash}`;
}

function seenOf(text: string): SeenEntry {
  const [, n, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (n !== undefined && hash !== undefined) return { n: Number(n), hash };
  throw usageError(
    `--seen ${JSON.stringify(text)} is no entry`,
    'give N:HASH, as log --check ends with',
    text,
  );
}

function objectOf(entry: Event): { type: string; [member: string]: unknown } {
  return { type: 'event', ...entry, at: isoTime(entry.at) };
}

function lineOf(entry: Event, names: number): string {
  const { n, at, what, store, count, bytes, key, tombstone, cause, detail, by, uid, via } = entry;
  const size = bytes === null ? '' : `, ${formatSize(bytes)}`;
  const user =
    by === null
      ? null
      : `by ${by}${uid === null ? '' : ` (uid ${uid})`}${via === null ? '' : ` through ${via}`}`;
  const about = [
    count === null ? null : `${counted(count, what === 'log-removed' ? 'record' : 'object')}${size}`,
    key,
    tombstone,
    cause,
    detail,
    user,
  ];
  const told = about.flatMap((part) => (part === null ? [] : [printable(part)])).join(', ');
  const where = printable(store ?? '-').padEnd(names);
  return `${String(n).padStart(6)}  ${isoTime(at)}  ${where}  ${what.padEnd(14)}  ${told}`;
}
