import { type LocalFs, nodeFs } from '../../lib/store/local/local-fs.ts';

/** One call of a store to its disk. */
export interface FsCall {
  /** Its place among the calls, from 1. */
  readonly n: number;
  readonly name: keyof LocalFs;
  readonly values: readonly unknown[];
}

/** Calls whose failures are always told by a promise. */
export const NEVER_THROWS: ReadonlySet<keyof LocalFs> = new Set(['unlinkAsync', 'fsyncAsync', 'closeAsync']);

/**
 * A disk, with somebody who acts just before each call; what `before`
 * throws is what the call throws. `after` sees what the call gave.
 */
export function watchedFs(
  before: (call: FsCall) => void,
  after: (call: FsCall, result: unknown) => void = () => undefined,
  disk: LocalFs = nodeFs,
): LocalFs {
  let n = 0;
  const wrap = <K extends keyof LocalFs>(name: K): LocalFs[K] => {
    const real: (...values: never[]) => unknown = disk[name];
    const watched = (...values: never[]): unknown => {
      const call = { n: ++n, name, values };
      before(call);
      const result = real(...values);
      after(call, result);
      return result;
    };
    if (!NEVER_THROWS.has(name)) return watched as LocalFs[K];
    return (async (...values: never[]) => watched(...values)) as unknown as LocalFs[K];
  };
  const names = Object.keys(disk) as (keyof LocalFs)[];
  return Object.fromEntries(names.map((name) => [name, wrap(name)])) as unknown as LocalFs;
}

/** What a system call throws. */
export function errno(code: string): Error {
  return Object.assign(new Error(`${code}: made by a spec`), { code });
}
