import { readFileSync, realpathSync, statfsSync } from 'node:fs';
import path from 'node:path';
import { errnoOf, messageOf } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { formatSize } from '../../domain/quantities.ts';
import { shellWord } from '../explanation.ts';
import { examined, type Finding, failing, ok, warning } from './finding.ts';
import { type Mount, mountOf, mountsBelow } from './mounts.ts';

/** What is on a disk: a store, or the catalog with what is beside it. */
export interface OnDisk {
  readonly directory: string;
  readonly what: 'store' | 'catalog';
  /** Of a store: where pending copies are, below it. */
  readonly pending?: string;
  readonly mounts: readonly Mount[];
}

/** Below so much nothing goes on but purges; below the rest it is told. */
const FULL_BYTES = 1024 * 1024;
const FULL_INODES = 100;
const LOW_FRACTION = 0.01;
/** A catalog grows by its WAL too. Bytes. */
const LOW_BYTES = { store: 64 * 1024 * 1024, catalog: 256 * 1024 * 1024 } as const;

/** Examines the disk that a directory is on, which is there. */
export async function* examineDisk(on: OnDisk): AsyncGenerator<Finding> {
  const { directory, mounts } = on;
  let mount: Mount | undefined;
  try {
    mount = mountOf(directory, mounts);
  } catch (error) {
    yield failing('mount', `${printable(directory)} can't be opened: ${messageOf(error)}`, null);
    return;
  }
  yield await examined('mount', () => mountFinding(on, mount));
  if (mount !== undefined) yield await examined('journal', () => journalFinding(on, mount));
  yield await examined('space', () => spaceFinding(on));
}

function mountFinding({ directory, what, pending, mounts }: OnDisk, mount: Mount | undefined): Finding {
  const name = printable(directory);
  if (mount === undefined) {
    return warning('mount', `which disk ${name} is on is not known: no mount of this process has it`, null);
  }
  const { point, type, source, options } = mount;
  const where = `${name} is on ${source} (${type}), mounted at ${printable(point)}`;
  if (options.includes('ro')) {
    const remedy = `mount -o remount,rw ${shellWord(point)}`;
    return failing('mount', `${where}, read-only: nothing can be moved or purged`, remedy);
  }
  const below = what === 'store' ? mountsBelow(directory, mounts) : [];
  if (below.length > 0) {
    const points = below.map((one) => printable(one.point)).join(', ');
    const own = path.join(realpathSync(directory), pending ?? '.');
    return failing(
      'mount',
      `${where}; other disks are mounted in it, and nothing can be renamed into them or out of them: ${points}`,
      below.some((one) => one.point === own)
        ? `umount ${shellWord(own)}: it must be a plain directory of the store's disk`
        : 'make each a store of its own: an entry in the config, with a URL of its own',
    );
  }
  if (point === '/' || what === 'catalog') return ok('mount', where);
  return ok('mount', `${where}; if that is absent, .tombstoned/store.json is too, and nothing is done`);
}

/** What a power cut does to names that were renamed and fsynced: one of these, or it is not known. */
const JOURNALED = new Map([
  ['ext3', 'keeps a journal'],
  ['xfs', 'keeps a journal'],
  ['jfs', 'keeps a journal'],
  ['btrfs', 'writes no block over another, and needs no journal'],
  ['zfs', 'writes no block over another, and needs no journal'],
  ['bcachefs', 'keeps a journal'],
  ['f2fs', 'writes checkpoints, and needs no journal'],
]);
const IN_MEMORY = new Set(['tmpfs', 'ramfs', 'hugetlbfs']);
const NETWORK = /^(?:nfs\d?|cifs|smb[23]|9p|virtiofs|ceph|afs|coda|lustre|glusterfs|vboxsf|fuse(?:\..*)?)$/;

function journalFinding({ directory, what }: OnDisk, mount: Mount): Finding {
  const { type, source, options } = mount;
  const isBare = options.some((option) => option === 'nobarrier' || option === 'barrier=0');
  if (isBare) {
    return warning(
      'journal',
      `${source} is mounted without write barriers: a power cut may undo what was durable`,
      `mount -o remount,barrier ${shellWord(mount.point)}, and take nobarrier out of /etc/fstab`,
    );
  }
  if (type === 'ext4' || type === 'ext2') return extFinding(mount);
  const known = JOURNALED.get(type);
  if (known !== undefined && !options.includes('norecovery')) return ok('journal', `${type} ${known}`);
  if (IN_MEMORY.has(type)) {
    return warning(
      'journal',
      `${printable(directory)} is in memory (${type}): all of it is gone after a restart`,
      `put the ${what} on a disk`,
    );
  }
  if (type === 'overlay') {
    return warning(
      'journal',
      `${printable(directory)} is in a container's own layer: it goes with the container`,
      `mount a volume for the ${what}`,
    );
  }
  if (NETWORK.test(type)) return networkFinding(what, type);
  return warning(
    'journal',
    `what a power cut does to ${type} is not known to this program`,
    'ext4 with a journal, XFS, Btrfs and ZFS are known',
  );
}

function networkFinding(what: OnDisk['what'], type: string): Finding {
  if (what === 'catalog') {
    const text = `the catalog is on ${type}: SQLite's locks and its WAL can't be relied on over a network`;
    const remedy = 'put the catalog on a disk of this host: catalog in the config';
    // What is behind FUSE may well be a disk of this host.
    return type.startsWith('fuse') ? warning('journal', text, remedy) : failing('journal', text, remedy);
  }
  return warning(
    'journal',
    `the store is on ${type}: what is durable is the server's to say, and listings may be a minute old, so that each batch waits for settle`,
    'run tombstoned on the server itself, if that can be',
  );
}

/** `/proc/fs/ext4` says `data=…` of a file system with a journal, and nothing of one without. */
function extFinding({ device, source, point, type }: Mount): Finding {
  const disk = readIfThere(() => path.basename(realpathSync(`/sys/dev/block/${device}`)));
  const options = disk === undefined ? undefined : readIfThere(() => read(`/proc/fs/ext4/${disk}/options`));
  if (disk === undefined || options === undefined) {
    return warning(
      'journal',
      `whether ${source} (${type}) keeps a journal is not known: the kernel does not show it here`,
      `dumpe2fs -h ${shellWord(source)} | grep has_journal`,
    );
  }
  const errors = readIfThere(() => read(`/sys/fs/ext4/${disk}/errors_count`))?.trim() ?? '0';
  if (errors !== '0') {
    return failing(
      'journal',
      `the kernel has found ${errors} errors in the file system on ${source}`,
      offline(point, `e2fsck -f ${shellWord(source)}`),
    );
  }
  const mode = /^data=(\w+)$/m.exec(options)?.[1];
  if (mode !== undefined) return ok('journal', `${source} (${type}) keeps a journal, data=${mode}`);
  return warning(
    'journal',
    `${source} (${type}) keeps no journal: after a power cut it must be checked, and what was moved at the time may be in neither place, or in lost+found`,
    offline(point, `tune2fs -O has_journal ${shellWord(source)}`),
  );
}

/** What is done to a file system that is not in use. */
function offline(point: string, command: string): string {
  return point === '/' ? `from a rescue system: ${command}` : `umount ${shellWord(point)} && ${command}`;
}

function spaceFinding({ directory, what }: OnDisk): Finding {
  const { bavail, blocks, bsize, files, ffree } = statfsSync(directory);
  const free = bavail * bsize;
  const total = blocks * bsize;
  // Where inodes are made as they are needed, they are not counted.
  const inodes = files === 0 ? '' : `, ${ffree.toLocaleString('en')} of ${files.toLocaleString('en')} inodes`;
  const text = `${formatSize(free)} of ${formatSize(total)} free${inodes}`;
  const stays = what === 'store' ? 'nothing is moved until there is room; purges go on' : 'only purges go on';
  if (free < FULL_BYTES || (files > 0 && ffree < FULL_INODES)) {
    return failing('space', `${text}: the disk is full: ${stays}`, 'tombstonectl purge, or free some space');
  }
  const isLow =
    free < LOW_BYTES[what] || free < total * LOW_FRACTION || (files > 0 && ffree < files * LOW_FRACTION);
  const low = 'free some space: tombstonectl status says what goes when';
  return isLow ? warning('space', `${text}: not much is left`, low) : ok('space', text);
}

function read(name: string): string {
  return readFileSync(name, 'utf8');
}

/** What is read of the kernel, or undefined where it shows no such thing, or not to this process. */
function readIfThere<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
