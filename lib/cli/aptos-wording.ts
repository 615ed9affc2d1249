import { MOST_U64 } from '../aptos/exact-json.ts';
import type { Gap } from '../aptos/restore-plan.ts';
import { usageError } from './fail.ts';

/** A version as people read it: `66,100,000`. */
export function versionText(version: bigint | null): string {
  return version === null ? 'none' : version.toLocaleString('en-US');
}

/** `epoch 150 is missing`, `versions 300,001-400,000 are there twice`. */
export function gapText({ of, kind, first, last }: Gap): string {
  const isOne = first === last;
  const what = of === 'epochs' ? 'epoch' : 'version';
  const range = isOne ? versionText(first) : `${versionText(first)}-${versionText(last)}`;
  return `${what}${isOne ? '' : 's'} ${range} ${isOne ? 'is' : 'are'} ${kind === 'missing' ? 'missing' : 'there twice'}`;
}

/** The value of `--target-version`, digits, perhaps with commas as they are shown. */
export function targetVersionOf(text: string | undefined): bigint | undefined {
  if (text === undefined) return undefined;
  const version = /^(?:\d+|\d{1,3}(?:,\d{3})+)$/.test(text) ? BigInt(text.replaceAll(',', '')) : undefined;
  if (version !== undefined && version <= MOST_U64) return version;
  throw usageError(
    `--target-version ${JSON.stringify(text)} is no whole number from 0 to ${MOST_U64}`,
    'such as 66100000',
    text,
  );
}
