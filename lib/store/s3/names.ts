import { PENDING_SUFFIX_BYTES } from '../../domain/ids.ts';
import { CONTROL_SEGMENT, keyProblem } from '../../domain/key.ts';

/** How long a name may be on S3. Bytes. */
const MAX_NAME = 1024;
/** Storage classes whose objects can't be copied before they are restored. */
const ARCHIVED = new Set(['GLACIER', 'DEEP_ARCHIVE']);

/** Whether a name has a segment that holds control objects. */
export function isControlName(name: string): boolean {
  return name.includes(CONTROL_SEGMENT) && name.split('/').includes(CONTROL_SEGMENT);
}

/** Whether a name below the root is another store's identity. */
export function isNestedStore(name: string): boolean {
  return name.endsWith(`/${CONTROL_SEGMENT}/store.json`);
}

/** Why a name can be no key, for people; undefined when it can. */
export function nameProblem(name: string): string | undefined {
  if (name.endsWith('/') && keyProblem(name.slice(0, -1)) === undefined) return 'it is the mark of a folder';
  const problem = keyProblem(name);
  return problem === undefined ? undefined : `its name ${problem}`;
}

/** Why an object can't be tombstoned, or null. */
export function refusalOf(
  fullPendingPrefix: string,
  key: string,
  storageClass: string | undefined,
): string | null {
  if (Buffer.byteLength(fullPendingPrefix) + Buffer.byteLength(key) + PENDING_SUFFIX_BYTES > MAX_NAME)
    return `its name is too long: with ~ and an id it would have more than ${MAX_NAME} bytes`;
  if (storageClass !== undefined && ARCHIVED.has(storageClass))
    return `it is archived (${storageClass}) and can't be copied`;
  return null;
}
