import { statSync } from 'node:fs';

/** What tells a file from a copy of it: inode and time of birth. Not the device, whose number may be another after a boot. */
export function fileIdentity(file: string): string | undefined {
  const stats = statSync(file, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? undefined : `${stats.ino}:${stats.birthtimeNs}`;
}
