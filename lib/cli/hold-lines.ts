import type { ClaimPlace } from '../app/claim-place.ts';
import type { PutHold } from '../app/put-hold.ts';
import type { ListedHold } from '../app/release-holds.ts';
import { isoTime } from '../domain/clock.ts';
import { quote } from '../domain/key.ts';
import { parseDuration } from '../domain/quantities.ts';
import type { Hold } from '../store/holds.ts';
import type { OptionTable } from './command.ts';
import { usageError } from './fail.ts';
import { timeOf } from './filters.ts';
import type { Output } from './output.ts';
import { counted } from './wording.ts';

/** Options of `hold` and `pause`. */
export const HOLD_OPTIONS = {
  until: {
    takes: 'T',
    says: 'When it ends by itself: ISO 8601, or 7d from now. Otherwise when it is released.',
  },
  reason: { takes: 'TEXT', says: 'Why: whoever wonders what is kept is told.' },
  'fence-timeout': {
    takes: 'T',
    says: 'How long to wait for batches that are under way.',
    default: '60s',
  },
  'dry-run': { says: 'Shows what would be held, and writes nothing.' },
} as const satisfies OptionTable;

/** `--until T`: ms since 1970, or null. */
export function untilOf(text: string | undefined): number | null {
  if (text === undefined) return null;
  const time = timeOf('--until', text, 'ahead');
  if (time > Date.now()) return time;
  throw usageError(`--until ${JSON.stringify(text)} is over already`, 'such as 2031-01-01 or 7d', text);
}

/** That in a place: what is so long from now would end too soon by a clock that is behind. */
export function untilIn(
  { known, clock }: Pick<ClaimPlace, 'known' | 'clock'>,
  text: string | undefined,
  until: number | null,
): number | null {
  if (until === null || text === undefined || parseDuration(text) === undefined) return until;
  const standing = known?.catalog.clock.standing(clock);
  if (standing === undefined || standing.isRight) return until;
  return until + Math.max(0, standing.vouched - standing.wall);
}

/** `--reason TEXT`, which a command needs. */
export function reasonOf(text: string | undefined, command: string): string {
  if (text !== undefined && text.trim() !== '') return text;
  throw usageError(`${command} needs a --reason`, 'say why, for whoever wonders later');
}

/** `--fence-timeout T`, ms. */
export function fenceTimeoutOf(text: string): number {
  const duration = parseDuration(text);
  if (duration !== undefined) return duration;
  throw usageError(`--fence-timeout ${JSON.stringify(text)} is no duration`, 'such as 60s or 5m', text);
}

/** Tells of a hold that is in force, or would be. */
export function tellHold(out: Output, store: string, { hold, outcome }: PutHold): void {
  const { blocks, until, reason, by, createdAt, kind } = hold;
  const inForce = outcome !== 'would be';
  const id = inForce ? hold.id : null;
  out.result(
    {
      type: 'held',
      id,
      store,
      kind,
      blocks,
      ...scopeObject(hold),
      until: isoTime(until),
      reason,
      outcome,
      inForce,
    },
    () => {
      const what = `${scopeText(hold)}, ${endText(hold)}`;
      switch (outcome) {
        case 'held':
          return `${hold.id}  in force: ${what}`;
        case 'already':
          return `${hold.id}  in force already, of ${by}, since ${createdAt}: ${what}: ${reason}`;
        case 'would be':
          return `would hold ${what}`;
      }
    },
  );
}

/** A hold as `holds` has it. */
export function holdObject(store: string, { hold }: ListedHold) {
  const { id, kind, blocks, until, reason, by, host, createdAt, problem } = hold;
  return {
    type: 'hold',
    id,
    store,
    kind,
    blocks,
    ...scopeObject(hold),
    until: isoTime(until),
    reason,
    by,
    host,
    createdAt: createdAt === '' ? null : createdAt,
    problem,
  } as const;
}

function scopeObject({ scope }: Hold) {
  return {
    keys: scope.by === 'keys' ? scope.keys : null,
    prefix: scope.by === 'prefix' ? scope.prefix : null,
    ids: scope.by === 'ids' ? scope.ids : null,
  };
}

/** What a hold is on, in words. */
export function scopeText({ scope }: Hold): string {
  switch (scope.by) {
    case 'prefix':
      return scope.prefix === '' ? 'everything' : `all below ${quote(scope.prefix)}`;
    case 'keys':
      return scope.keys.length === 1 ? quote(scope.keys[0] ?? '') : counted(scope.keys.length, 'key');
    case 'ids':
      return scope.ids.length === 1 ? (scope.ids[0] ?? '') : counted(scope.ids.length, 'tombstone');
  }
}

/** When a hold ends, in words. */
export function endText({ until }: Hold): string {
  return until === null ? 'until it is released' : `until ${isoTime(until)}`;
}

/** Tells of a hold that is taken away, or would be. */
export function tellRelease(out: Output, store: string, { hold, name }: ListedHold, dryRun: boolean): void {
  const outcome = dryRun ? 'would be' : 'released';
  out.result({ ...holdObject(store, { hold, name }), type: 'released', outcome }, () => {
    const what = hold.problem === null ? `${hold.kind} on ${scopeText(hold)}: ${hold.reason}` : hold.problem;
    return `${hold.id}  ${dryRun ? 'would be released' : 'released'} (${what})`;
  });
}
