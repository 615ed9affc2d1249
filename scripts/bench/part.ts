import type { Stopwatch } from './measure.ts';

/** What was wanted of something, and what it came to over the rounds. */
export interface Goal {
  readonly what: string;
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
  /** `times`: a ratio of speeds. */
  readonly unit: 'times' | 'ms' | 'MiB' | 'requests';
  /** One of the two; neither where the figure is only told. */
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** What every part of the benchmark works with. */
export interface Bench {
  readonly stopwatch: Stopwatch;
  /** A directory on a real disk, which goes at the end. */
  readonly scratch: string;
  readonly rounds: number;
  readonly files: number;
  readonly directories: number;
  readonly objects: number;
  readonly tombstones: number;
  /** Numbers of files for the growth part, ascending. */
  readonly sizes: readonly number[];
  /** Names of contenders that take part. */
  readonly only: ReadonlySet<string>;
  readonly say: (text: string) => void;
}

/** What a part has found. */
export interface Found {
  readonly goals: readonly Goal[];
  /** For people, in Markdown; may be empty. */
  readonly table: string;
  /** Everything that was measured. */
  readonly samples: unknown;
  /** What is drawn of it: SVG. */
  readonly chart?: string;
}

/** One part of the benchmark. Undefined where this machine lacks what it needs, which it says. */
export type Part = (bench: Bench) => Promise<Found | undefined>;

/** A goal of values that were measured, one a round. */
export function goalOf(
  what: string,
  values: readonly number[],
  wanted: Pick<Goal, 'unit' | 'atLeast' | 'atMost'>,
): Goal {
  return {
    what,
    median: median(values),
    lowest: Math.min(...values),
    highest: Math.max(...values),
    ...wanted,
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2;
}

/** Does `act` once a round with each of `ones`, which are first, second, … in turn: what one leaves behind hits all alike. */
export async function inTurn<T>(
  rounds: number,
  ones: readonly T[],
  act: (one: T, round: number) => Promise<void> | void,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const first = round % ones.length;
    for (const one of [...ones.slice(first), ...ones.slice(0, first)]) await act(one, round);
  }
}
