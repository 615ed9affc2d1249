import { systemClock } from '../../domain/clock.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { printable, quote } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import { type FetchResult, fetchAll } from '../../fetch/fetch.ts';
import { Target } from '../../fetch/target.ts';
import type { RefusedName } from '../../reader/reader.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { usageError } from '../fail.ts';
import { Failures } from '../failures.ts';
import { durationOf } from '../filters.ts';
import type { Output } from '../output.ts';
import { withProgress } from '../progress.ts';
import { openedSession } from '../reading.ts';
import { untilSignalled } from '../signals.ts';
import { counted } from '../wording.ts';

export const manual = {
  synopsis: ['fetch PREFIX... --to DIR', '--url URL fetch PREFIX... --to DIR [--no-lease]'],
  description: [
    'Brings all live objects below the prefixes into a directory, as they are when it',
    'begins. A lease keeps them from being purged meanwhile; inside with-lease, its lease is',
    'used. A file has its name in DIR only when it is whole and durable. When it was stopped,',
    'run it again: what is there already is not fetched again, and what an earlier fetch',
    'brought that the store no longer lists is told, and stays. Files of others are left as',
    'they are, and the exit code is 4 when they are in the way. The exit code is 6 when an',
    'object is not there as it was listed, or something below the prefixes is no object (a',
    'link, a name that is no key): each is told on stderr. The prefix "" is everything.',
  ],
  examples: [
    ['fetch metadata/ --to /restore', 'by the config'],
    ['--url file:///srv/backups/mainnet fetch metadata/ blocks/ --to /restore', 'by the store alone'],
  ],
} as const satisfies Page;

export const options = {
  to: { takes: 'DIR', says: 'Where to; made where it is missing.' },
  concurrency: { takes: 'N', says: 'How many objects are in flight.', default: '16' },
  'fence-timeout': { takes: 'T', says: 'How long to wait for sweeps and purges under way; 60s.' },
  ttl: { takes: 'T', says: 'How long the lease outlives this process, at the most; 1h.' },
  'no-lease': { says: 'Without a lease: nothing keeps sweeps and purges away. For a read-only mount.' },
} as const satisfies OptionTable;

const MAX_CONCURRENCY = 256;
/** From how many objects on threads are worth their start. */
const MANY = 2000;

export async function run(call: Call<typeof options>): Promise<number> {
  const { out, options: given, operands: prefixes } = call;
  if (prefixes.length === 0) throw usageError('fetch needs a prefix', '"" is everything; see fetch --help');
  const { to } = given;
  if (to === undefined || to === '')
    throw usageError('fetch needs --to DIR', 'see tombstonectl fetch --help');
  const concurrency = concurrencyOf(given.concurrency);
  const asked = {
    prefixes,
    fenceTimeout: durationOf('--fence-timeout', given['fence-timeout']),
    ttl: durationOf('--ttl', given.ttl),
    isUnleased: given['no-lease'],
  };
  if (asked.isUnleased) {
    out.talk('warning: without a lease nothing keeps sweeps and purges away while this goes on');
  }
  return untilSignalled(out, async (signal) => {
    const target = await Target.open(to);
    try {
      return await intoTarget(call, target, { ...asked, concurrency }, signal);
    } catch (error) {
      if (signal.aborted && error === signal.reason) return 0; // the signal has an exit code of its own
      throw error;
    } finally {
      target.close();
    }
  });
}

async function intoTarget(
  call: Call,
  target: Target,
  asked: Omit<Parameters<typeof openedSession>[1], 'onRefusal' | 'signal'> & { concurrency: number },
  signal: AbortSignal,
): Promise<number> {
  const { out } = call;
  const failures = new Failures(out);
  const onRefusal = (refused: RefusedName): void => failures.add(noObject(refused));
  const session = await openedSession(call, { ...asked, signal, onRefusal });
  try {
    const result = await withProgress(out, 'fetch', async (progress) =>
      fetchAll(session, target, {
        clock: systemClock,
        prefixes: asked.prefixes,
        concurrency: asked.concurrency,
        threadsFrom: MANY,
        signal,
        onProblem: (error) => failures.add(error),
        onEmpty: (prefix) => out.talk(`nothing is live below ${quote(prefix)}`),
        onLeft: (key) =>
          out.talk(
            `${printable(`${target.name}/${key}`)} is from an earlier fetch; the store has it no more`,
          ),
        onProgress: (done, of) => progress.update(done, of),
      }),
    );
    summarize(out, target.name, result);
  } finally {
    await session.close();
  }
  return failures.end();
}

function concurrencyOf(text: string): number {
  const count = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= MAX_CONCURRENCY) return count;
  throw usageError(
    `--concurrency ${JSON.stringify(text)} is no whole number from 1 to ${MAX_CONCURRENCY}`,
    'such as 16',
    text,
  );
}

function noObject({ path, why }: RefusedName): TombstonedError {
  return new TombstonedError('incomplete', `${printable(path)} is no object, and was not fetched: ${why}`, {
    key: path,
    hint: 'copy it by hand if it is needed',
  });
}

function summarize(out: Output, to: string, result: FetchResult): void {
  const { objects, bytes, already, fromPending, missing, isStopped } = result;
  out.result({ type: 'fetch', objects, bytes, fromPending, missing, already, isStopped }, () => {
    const notes = [
      ...(already > 0 ? [`${already} were there already`] : []),
      ...(fromPending > 0 ? [`${fromPending} from pending copies`] : []),
    ];
    const noted = notes.length > 0 ? ` (${notes.join(', ')})` : '';
    const more = isStopped ? '; stopped before the end: run it again' : '';
    return `${counted(objects, 'object')}, ${formatSize(bytes)}, in ${printable(to)}${noted}${more}`;
  });
}
