/** What a line covers. */
export interface Covered {
  readonly first: bigint;
  readonly last: bigint;
}

/** Where lines do not follow on one another: numbers that none has, or that more than one has. */
export interface Break extends Covered {
  readonly kind: 'missing' | 'overlap';
  /** Where the line begins at which this was seen. */
  readonly at: bigint;
}

/**
 * Where lines, in their order, are not continuous from 0: each is to begin where the one before ended plus
 * one. The original tools refuse every target that reaches such a place, an overlap too.
 */
export function* breaksOf(ranges: Iterable<Covered>): Generator<Break> {
  let next = 0n;
  for (const { first, last } of ranges) {
    if (first > next) yield { kind: 'missing', first: next, last: first - 1n, at: first };
    else if (first < next) {
      yield { kind: 'overlap', first, last: last < next ? last : next - 1n, at: first };
    }
    if (last >= next) next = last + 1n;
  }
}

export interface Reach {
  /** The last number up to which lines are continuous from 0; null is none. */
  readonly last: bigint | null;
  /** Where the line begins that breaks it; null where none does. */
  readonly brokenAt: bigint | null;
}

/** How far lines, in their order, are continuous. */
export function reachOf(ranges: Iterable<Covered>): Reach {
  let last: bigint | null = null;
  for (const range of ranges) {
    if (range.first !== (last ?? -1n) + 1n) return { last, brokenAt: range.first };
    last = range.last;
  }
  return { last, brokenAt: null };
}
