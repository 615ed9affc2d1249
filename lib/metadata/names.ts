/** Where the tools keep the metadata of a backup. */
export const METADATA_PREFIX = 'metadata/';

/** Whether a key is a metadata file: `*.meta` in the directory itself. */
export function isMetadataKey(key: string, prefix = METADATA_PREFIX): boolean {
  return key.startsWith(prefix) && key.endsWith('.meta') && !key.includes('/', prefix.length);
}
