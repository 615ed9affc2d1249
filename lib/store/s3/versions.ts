import type { ListedVersion, S3Api } from './api.ts';

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
