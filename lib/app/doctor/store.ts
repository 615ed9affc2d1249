import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Catalog } from '../../catalog/catalog.ts';
import type { StoreConfig } from '../../config/config.ts';
import type { Clock } from '../../domain/clock.ts';
import { printable } from '../../domain/key.ts';
import { formatDuration } from '../../domain/quantities.ts';
import { aptosKeyIn, PLAIN_LAYOUT } from '../../metadata/layout.ts';
import { aheadOfStore, storeClockText } from '../../run/clock.ts';
import { checkIdentity, checkPendingPrefix, readIdentity } from '../../store/identity.ts';
import { LocalStore } from '../../store/local/local-store.ts';
import { currentRights } from '../../store/local/may-move.ts';
import { checkOwner } from '../../store/owner.ts';
import type { Store } from '../../store/store.ts';
import { shellWord } from '../explanation.ts';
import { openStore } from '../open-store.ts';
import { accessFindings, whoActs } from './access.ts';
import { examineDisk } from './disk.ts';
import { examined, type Finding, failed, failing, ok, warning } from './finding.ts';
import { type Mount, missingMount } from './mounts.ts';

/** What a store is examined with. */
export interface Around {
  /** To look at; undefined where there is none that can be relied on. */
  readonly catalog: Catalog | undefined;
  readonly clock: Clock;
  readonly mounts: readonly Mount[];
  readonly signal: AbortSignal;
}

/** From so much on, what takes a moment elsewhere takes long here. ms. */
const SLOW_SYNC_MS = 1000;
/** How many objects are looked at for what could not be moved, and for how long: objects, ms. */
const SAMPLE = 2000;
const SAMPLE_MS = 2000;

/**
 * Examines a store as it is: changes nothing but scratch names of its own below
 * `.tombstoned/tmp/`, and those only in a store that is known to be the one meant.
 */
export async function* examineStore(config: StoreConfig, around: Around): AsyncGenerator<Finding> {
  const { location } = config;
  if (location.kind === 'local') yield* examineDirectory(location.directory, config, around);
  let store: Store;
  try {
    store = await openStore(config, 'read', around.clock);
  } catch (error) {
    if (location.kind === 's3') yield failed('identity', error);
    return; // of a directory it is told already
  }
  try {
    const identity = await identityFinding(store, config, around.catalog);
    yield identity;
    if (identity.level === 'fail') return;
    yield* examineOpen(store, config, around);
  } finally {
    store.close();
  }
}

async function* examineDirectory(
  directory: string,
  { pendingPrefix, policies }: StoreConfig,
  { mounts }: Around,
): AsyncGenerator<Finding> {
  if (!existsSync(directory)) {
    const point = missingMount(directory, mounts, readFstab());
    yield failing(
      'mount',
      `${printable(directory)} is not there, or can't be reached`,
      point === undefined ? `namei -l ${shellWord(directory)}` : `mount ${shellWord(point)}`,
    );
    return;
  }
  const control = path.join(directory, '.tombstoned');
  const pending = pendingPrefix.slice(0, -1);
  const later = { isOptional: true, to: 'write' } as const;
  yield* accessFindings('permissions', [
    { path: directory, to: 'write', others: 'fine' },
    { path: path.join(directory, pending), ...later, others: 'warn' },
    { path: control, ...later, others: 'warn' },
    ...['tmp', 'leases', 'fences', 'holds'].map(
      (name) => ({ path: path.join(control, name), ...later, others: 'warn' }) as const,
    ),
  ]);
  for (const policy of policies) {
    if (policy.type !== 'drop-in') continue;
    yield* accessFindings(`policy ${policy.name}`, [{ path: policy.directory, to: 'write', others: 'warn' }]);
  }
  yield* examineDisk({ directory, what: 'store', pending, mounts });
}

async function identityFinding(
  store: Store,
  config: StoreConfig,
  catalog: Catalog | undefined,
): Promise<Finding> {
  return examined('identity', async () => {
    const row = catalog?.storeByName(config.name);
    const identity = await readIdentity(store.control, 'write');
    if (identity === undefined) {
      return failing(
        'identity',
        `${store.url} has no .tombstoned/store.json: it is no store, or another disk is mounted there`,
        remedyOfAbsence(config, row !== undefined),
      );
    }
    checkPendingPrefix(store, identity);
    if (catalog === undefined) {
      const text = `${store.url} is a store (${identity.uuid}); whether it is the catalog's is not known`;
      return warning('identity', text, 'see what is said of the catalog');
    }
    if (row === undefined) {
      const init = `tombstonectl init --store ${config.name}`;
      return failing('identity', `the catalog does not know the store ${config.name}`, init);
    }
    await checkIdentity(store, row.uuid);
    return `${store.url} is the store that the catalog knows`;
  });
}

/** What to do where no store is found: only one that the catalog does not know may be a new one. */
function remedyOfAbsence({ name, location }: StoreConfig, isKnown: boolean): string {
  const point = location.kind === 's3' ? undefined : missingMount(location.directory, [], readFstab());
  const mount = point === undefined ? '' : `mount ${shellWord(point)}`;
  if (!isKnown)
    return `${mount === '' ? '' : `${mount}, or for `}a new store: tombstonectl init --store ${name}`;
  if (mount !== '') return mount;
  const disk = location.kind === 's3' ? '' : 'mount its disk, or ';
  return `the catalog knows it as a store that is in use: ${disk}set its url in the config right`;
}

async function* examineOpen(store: Store, config: StoreConfig, around: Around): AsyncGenerator<Finding> {
  const { catalog } = around;
  if (catalog !== undefined) {
    yield await examined('owner', async () => {
      await checkOwner(store, catalog.uuid);
      return 'this catalog owns it';
    });
  }
  yield await examined('writable', async () => {
    await store.checkWritable();
    if (!(store instanceof LocalStore)) return 'objects can be written here';
    store.checkPending();
    await store.checkLinks();
    return 'objects can be moved here, and linked back; live and pending are on one file system';
  });
  if (store instanceof LocalStore) {
    yield await examined('fsync', async () => syncFinding(await store.checkSync()));
    yield linksFinding();
    yield await examined('objects', async () => objectsFinding(store, around));
  }
  yield* examineFormat(store, config, around.signal);
  if (store.settle > 0) {
    yield warning(
      'listings',
      `listings may be ${formatDuration(store.settle)} old: each batch waits for so long`,
      'settle in the config says how long, if you know better',
    );
  }
  if (catalog !== undefined && store.late !== undefined)
    yield await examined('clock', async () => storeClockFinding(store, config, catalog, around.clock));
  yield* examineGuards(store);
  yield* examineVersions(store);
}

/** Whether it holds what the config says; nothing is said of a plain store that looks like one. */
async function* examineFormat(
  store: Store,
  { format }: StoreConfig,
  signal: AbortSignal,
): AsyncGenerator<Finding> {
  try {
    const key = await aptosKeyIn(store, signal);
    if (format === 'plain' && key !== undefined)
      yield warning('format', PLAIN_LAYOUT.text, PLAIN_LAYOUT.remedy);
    if (format === 'plain') return;
    yield key === undefined
      ? warning(
          'format',
          'its format is aptos, and it has no metadata file that the backup tools have named',
          'is url in the config the directory that has metadata/?',
        )
      : ok('format', `it has metadata files of an Aptos-family node, such as ${printable(key)}`);
  } catch (error) {
    yield failed('format', error);
  }
}

async function* examineGuards(store: Store): AsyncGenerator<Finding> {
  try {
    for (const { text, isOpen } of (await store.guards?.()) ?? [])
      yield isOpen ? warning('guards', text, 'see docs/s3.md') : ok('guards', text);
  } catch (error) {
    yield failed('guards', error);
  }
}

/** Whether a purge frees space; nothing is said of a store where it always does. */
async function* examineVersions(store: Store): AsyncGenerator<Finding> {
  if (store.hidesRemoved === undefined) return;
  try {
    yield (await store.hidesRemoved())
      ? warning(
          'space',
          'purges free no space: the bucket keeps old versions, and s3.versions is keep',
          'give the bucket a lifecycle rule for noncurrent versions, or set s3.versions: purge',
        )
      : ok('space', 'purges free space');
  } catch (error) {
    yield failed('space', error);
  }
}

function syncFinding(ms: number): Finding {
  const text = `a file was written, renamed and made durable in ${formatDuration(ms)}`;
  if (ms < SLOW_SYNC_MS) return ok('fsync', text);
  return warning('fsync', `${text}: the disk is slow, or busy`, 'iostat -x 1 5, and smartctl -a of the disk');
}

/** What the kernel lets this user do with files of others (R2: what was moved by mistake is linked back). */
function linksFinding(): Finding {
  const { foreign, protectedLinks, uid } = currentRights();
  if (uid === 0 || foreign) return ok('links', `${whoActs()} may move and link the files of every user`);
  if (!protectedLinks) return ok('links', 'the kernel lets every user link what it can see');
  return ok(
    'links',
    `fs.protected_hardlinks is on: files of others are moved where ${whoActs()} may read and write them`,
  );
}

/** What of the first objects of a listing could not be moved, and why. */
async function objectsFinding(store: LocalStore, { clock, signal }: Around): Promise<Finding> {
  const end = clock.monotonic() + SAMPLE_MS;
  let seen = 0;
  const refused: { name: string; why: string }[] = [];
  for await (const page of store.list('', signal)) {
    for (const item of page) {
      seen++;
      const why = item.type === 'refused' ? item.why : item.refusal;
      if (why !== null) refused.push({ name: item.type === 'refused' ? item.path : item.key, why });
    }
    if (seen >= SAMPLE || clock.monotonic() > end) break;
  }
  const [first] = refused;
  if (first === undefined) return ok('objects', `each of the first ${seen} could be moved`);
  const text = `${refused.length} of the first ${seen} can't be moved, such as ${printable(first.name)}: ${first.why}`;
  return warning('objects', text, remedyOf(store, first));
}

function remedyOf({ directory }: LocalStore, { name, why }: { name: string; why: string }): string | null {
  const file = path.join(directory, name);
  const word = shellWord(/directory can't be written/.test(why) ? path.dirname(file) : file);
  if (/symbolic link|not a regular file|too long/.test(why)) return null;
  return `chown ${shellWord(whoActs())} ${word}, or let its group: chmod g+rwX ${word}`;
}

async function storeClockFinding(
  store: Store,
  { name }: StoreConfig,
  catalog: Catalog,
  clock: Clock,
): Promise<Finding | string> {
  const ahead = await aheadOfStore({ store, clock });
  const row = catalog.storeByName(name);
  if (ahead === null || row === undefined) return "the store's clock is not known";
  const { accepted } = catalog.clock.ofStore(row.n);
  if (Math.abs(ahead - accepted) <= catalog.clock.tolerance) return "it agrees with the store's";
  return failing(
    'clock',
    `nothing is purged: ${storeClockText(ahead)}`,
    'set it right; or if it is right now: tombstonectl clock accept',
  );
}

/** What this host mounts by itself; nothing where it does not say. */
function readFstab(): string {
  return existsSync('/etc/fstab') ? readFileSync('/etc/fstab', 'utf8') : '';
}
