import type { ListedVersion, S3Api } from './api.ts';

/** The id of what was written while no versions were kept: not of one content for good, so nothing is removed by it. */
export const NULL_VERSION = 'null';

/** All versions and markers of one name, newest first. */
export async function versionsOf(api: S3Api, name: string): Promise<ListedVersion[]> {
  const versions: ListedVersion[] = [];
  for await (const page of api.listVersions(name)) {
    const own = page.filter((version) => version.name === name);
    versions.push(...own);
    if (own.length < page.length) break; // what only begins with the name comes after it
  }
  return versions;
}
