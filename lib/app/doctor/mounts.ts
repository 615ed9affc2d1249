import { closeSync, constants, openSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';

/** A line of `/proc/self/mountinfo`. */
export interface Mount {
  readonly id: string;
  /** `MAJOR:MINOR` of what is mounted. */
  readonly device: string;
  /** Where. */
  readonly point: string;
  readonly type: string;
  /** What is mounted: `/dev/sdb1`, `server:/export`. */
  readonly source: string;
  /** Of this mount, and of the file system. */
  readonly options: readonly string[];
}

/** All mounts that this process sees, in the order in which they were mounted. */
export function readMounts(): Mount[] {
  return parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
}

function parseMounts(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [before = '', after] = line.split(' - ');
    const [id = '', , device = '', , point = '', options = ''] = before.split(' ');
    if (after === undefined) return [];
    const [type = '', source = '', superOptions = ''] = after.split(' ');
    return {
      id,
      device,
      point: unescaped(point),
      type,
      source: unescaped(source),
      options: [...options.split(','), ...superOptions.split(',')],
    };
  });
}

/** By which mount a directory or file is reached. Throws what opening it throws. */
export function mountOf(name: string, mounts: readonly Mount[]): Mount | undefined {
  const fd = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
    const id = /^mnt_id:\s*(\d+)$/m.exec(info)?.[1];
    return mounts.find((mount) => mount.id === id);
  } finally {
    closeSync(fd);
  }
}

/** Mounts below a directory: what is there is on another disk. */
export function mountsBelow(directory: string, mounts: readonly Mount[]): Mount[] {
  const inside = `${realpathSync(directory)}/`;
  return mounts.filter(({ point }) => point.startsWith(inside));
}

/** Of what the host mounts by itself (`/etc/fstab`): where a path would be, if that is not mounted now. */
export function missingMount(name: string, mounts: readonly Mount[], fstab: string): string | undefined {
  const wanted = fstab
    .split('\n')
    .map((line) => unescaped(line.trim().split(/\s+/)[1] ?? ''))
    .filter((point) => point.startsWith('/') && (name === point || name.startsWith(`${point}/`)));
  return wanted
    .toSorted((a, b) => b.length - a.length)
    .find((point) => mounts.every((mount) => mount.point !== path.resolve(point)));
}

/** As the kernel writes what would end a word: `\040` is a space. */
function unescaped(word: string): string {
  return word.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
