import { systemClock } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { printable, quote } from '../domain/key.ts';
import { formatSize } from '../domain/quantities.ts';
import { type FetchResult, fetchAll, type Source } from '../fetch/fetch.ts';
import { Target } from '../fetch/target.ts';
import type { RefusedName } from '../reader/reader.ts';
import { usageError } from './fail.ts';
import type { Failures } from './failures.ts';
import { durationOf } from './filters.ts';
import type { Output } from './output.ts';
import { withProgress } from './progress.ts';
import { untilSignalled } from './signals.ts';
import { counted } from './wording.ts';

const MAX_CONCURRENCY = 256;
/** From how many objects on threads are worth their start. */
const MANY = 2000;

/** What a command that fetches is told about how. */
export interface FetchChoices {
  readonly to: string;
  readonly concurrency: number;
  readonly fenceTimeout: number | undefined;
  readonly ttl: number | undefined;
  readonly isUnleased: boolean;
}

/** Reads the options of a command that fetches; tells what goes without a lease. */
export function fetchChoicesOf(
  out: Output,
  command: string,
  given: {
    readonly to: string | undefined;
    readonly concurrency: string;
    readonly 'fence-timeout': string | undefined;
    readonly ttl: string | undefined;
    readonly 'no-lease': boolean;
  },
): FetchChoices {
  const { to } = given;
  if (to === undefined || to === '')
    throw usageError(`${command} needs --to DIR`, `see tombstonectl ${command} --help`);
  const choices = {
    to,
    concurrency: concurrencyOf(given.concurrency),
    fenceTimeout: durationOf('--fence-timeout', given['fence-timeout']),
    ttl: durationOf('--ttl', given.ttl),
    isUnleased: given['no-lease'],
  };
  if (choices.isUnleased)
    out.talk('warning: without a lease nothing keeps sweeps and purges away while this goes on');
  return choices;
}

/** Opens the directory for as long as `work` takes, which a signal ends. */
export async function intoTarget(
  out: Output,
  to: string,
  work: (target: Target, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  return untilSignalled(out, async (signal) => {
    const target = await Target.open(to);
    try {
      return await work(target, signal);
    } catch (error) {
      if (signal.aborted && error === signal.reason) return 0; // the signal has an exit code of its own
      throw error;
    } finally {
      await target.close();
    }
  });
}

/** Brings what a source has into a directory, and shows how far it is. */
export async function bring(
  out: Output,
  { source, target, failures }: { source: Source; target: Target; failures: Failures },
  how: {
    readonly prefixes: readonly string[];
    readonly concurrency: number;
    readonly signal: AbortSignal;
    /** What is said of a file of an earlier fetch that is not in the source. */
    readonly left: string;
  },
): Promise<FetchResult> {
  const { prefixes, concurrency, signal, left } = how;
  return withProgress(out, 'fetch', async (progress) =>
    fetchAll(source, target, {
      clock: systemClock,
      prefixes,
      concurrency,
      threadsFrom: MANY,
      signal,
      onProblem: (error) => failures.add(error),
      onEmpty: (prefix) => out.talk(`nothing is live below ${quote(prefix)}`),
      onLeft: (key) => out.talk(`${printable(`${target.name}/${key}`)} is from an earlier fetch; ${left}`),
      onProgress: (done, of) => progress.update(done, of),
    }),
  );
}

/** What was brought, in words. */
export function broughtText(to: string, result: FetchResult): string {
  const { objects, bytes, already, fromPending, isStopped } = result;
  const notes = [
    ...(already > 0 ? [`${already} were there already`] : []),
    ...(fromPending > 0 ? [`${fromPending} from pending copies`] : []),
  ];
  const noted = notes.length > 0 ? ` (${notes.join(', ')})` : '';
  const more = isStopped ? '; stopped before the end: run it again' : '';
  return `${counted(objects, 'object')}, ${formatSize(bytes)}, in ${printable(to)}${noted}${more}`;
}

/** What a listing leaves out, as what it makes of a fetch. */
export function noObject({ path, why }: RefusedName): TombstonedError {
  return new TombstonedError('incomplete', `${printable(path)} is no object, and was not fetched: ${why}`, {
    key: path,
    hint: 'copy it by hand if it is needed',
  });
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
