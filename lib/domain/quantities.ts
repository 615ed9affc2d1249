const DURATION = /^(\d{1,15}(?:\.\d{1,6})?)(ms|s|m|h|d|w)$/;
const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

const SIZE = /^(\d{1,15}(?:\.\d{1,6})?)\s?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$/;
const UNIT_BYTES = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
} as const;

/** `90s`, `15m`, `36h`, `7d` as ms; undefined when it is no duration. */
export function parseDuration(text: string): number | undefined {
  return quantity(DURATION.exec(text), UNIT_MS);
}

/** `10MiB` as bytes; undefined when it is no size. */
export function parseSize(text: string): number | undefined {
  return quantity(SIZE.exec(text), UNIT_BYTES);
}

function quantity(
  match: RegExpExecArray | null,
  units: Readonly<Record<string, number>>,
): number | undefined {
  const factor = units[match?.[2] ?? ''];
  if (match?.[1] === undefined || factor === undefined) return undefined;
  const value = Math.round(Number(match[1]) * factor);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** ms as the two largest units that matter: `7d`, `1d 4h`, `12m 3s`, `250ms`. */
export function formatDuration(ms: number): string {
  if (ms <= 0) return '0s';
  if (ms < 1000) return `${Math.round(ms)}ms`;
  let rest = Math.round(ms / 1000) * 1000;
  const parts: string[] = [];
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const count = Math.floor(rest / UNIT_MS[unit]);
    rest -= count * UNIT_MS[unit];
    if (count > 0) parts.push(`${count}${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(' ');
}

/** Bytes for people: `17 B`, `1.5 KiB`, `3.2 GiB`. */
export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes;
  let unit = 'B';
  for (const next of ['KiB', 'MiB', 'GiB', 'TiB', 'PiB']) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

const ISO_TIME = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(?:Z|[+-]\d{2}:?\d{2})?)?$/;

/**
 * A time on the command line: ISO 8601 (UTC unless it says otherwise), `now`, or
 * a duration, `ago` or ahead of `now`. ms since 1970; undefined when it is none.
 */
export function parseTime(text: string, now: number, direction: 'ago' | 'ahead'): number | undefined {
  if (text === 'now') return now;
  const duration = parseDuration(text);
  if (duration !== undefined) return asTime(direction === 'ago' ? now - duration : now + duration);
  if (!ISO_TIME.test(text)) return undefined;
  // Date.parse reads February 30 as a day in March.
  const day = text.slice(0, 10);
  const midnight = asTime(Date.parse(day));
  if (midnight === undefined || !new Date(midnight).toISOString().startsWith(day)) return undefined;
  const zoned = /T/.test(text) && !/(?:Z|[+-]\d{2}:?\d{2})$/.test(text) ? `${text}Z` : text;
  return asTime(Date.parse(zoned));
}

/** A time that a Date can hold, or undefined. */
function asTime(ms: number): number | undefined {
  return Number.isNaN(new Date(ms).getTime()) ? undefined : ms;
}
