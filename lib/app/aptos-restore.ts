import { readManifest } from '../aptos/manifest.ts';
import type { Backup } from '../aptos/metadata.ts';
import { planRestore, type RestorePlan } from '../aptos/restore-plan.ts';
import { type MetadataView, ViewBuilder } from '../aptos/view.ts';
import { ScratchView } from '../catalog/scratch.ts';
import { TombstonedError } from '../domain/errors.ts';
import { inFlight } from '../domain/in-flight.ts';
import { type Key, printable } from '../domain/key.ts';
import type { Source } from '../fetch/fetch.ts';
import { isMetadataKey, METADATA_PREFIX } from '../metadata/names.ts';
import { readInOrder, type Wanted } from '../metadata/read-all.ts';
import { type Survey, survey } from '../metadata/survey.ts';
import { Reader } from '../reader/reader.ts';
import type { Session, ViewedKey } from '../reader/session.ts';
import type { Store } from '../store/store.ts';

/** A restore to a version, as the metadata files that are whole have it. */
export interface VersionPlan extends RestorePlan {
  readonly target: bigint;
}

interface Options {
  /** Null is the newest that can be restored to. */
  readonly target: bigint | null;
  readonly concurrency: number;
  readonly signal?: AbortSignal | undefined;
}

export interface LookedAtPlan extends VersionPlan {
  readonly survey: Survey;
  /** Where each manifest is, in the order of `backups`; null is in neither place. */
  readonly locations: readonly ('live' | 'pending' | null)[];
}

/** Plans a restore by what is live, and looks for its manifests, live and pending. Throws where a listing is not complete. */
export async function planIn(store: Store, options: Options): Promise<LookedAtPlan> {
  const { signal } = options;
  const found = await survey(store, options);
  const plan = planOf(found.live, options.target);
  const places = new Map<Key, 'live' | 'pending' | null>();
  for (const { manifest } of plan.backups) places.set(manifest, null);
  for await (const page of store.list('', signal)) {
    signal?.throwIfAborted();
    for (const item of page) if (item.type === 'object' && places.has(item.key)) places.set(item.key, 'live');
  }
  // What was moved meanwhile is in neither listing, or was put back.
  const reader = new Reader(store);
  const unseen = [...places].flatMap(([manifest, place]) => (place === null ? [manifest] : []));
  await inFlight(options.concurrency, unseen, async (manifest) => {
    signal?.throwIfAborted();
    places.set(manifest, await placeOf(reader, manifest));
  });
  return {
    ...plan,
    survey: found,
    locations: plan.backups.map(({ manifest }) => places.get(manifest) ?? null),
  };
}

async function placeOf(reader: Reader, manifest: Key): Promise<'live' | 'pending' | null> {
  try {
    const object = await reader.open(manifest);
    object.close();
    return object.location;
  } catch (error) {
    if (error instanceof TombstonedError && error.code === 'not-found') return null;
    throw error;
  }
}

function planOf(view: MetadataView, asked: bigint | null): VersionPlan {
  const target = asked ?? view.restorable().version;
  if (target !== null) return { target, ...planRestore(view, target) };
  throw new TombstonedError('incomplete', 'there is no version that can be restored to', {
    hint: 'see why: tombstonectl aptos status',
  });
}

/** What a restore needs, as a session has it. */
export interface Needed extends VersionPlan {
  /** All of it that is there, for `fetchAll`. */
  readonly source: Source;
  /** Files that nothing can be relied on, and keys that are in neither place; the latter are `incomplete`. */
  readonly problems: readonly TombstonedError[];
  close(): Promise<void>;
}

/**
 * Finds in the view of a session, of everything, what a restore needs: metadata files, manifests, and the
 * files that those name. What the view does not have is taken from its newest pending copy. With a gap, that
 * is nothing. Memory does not grow with the number of chunks.
 */
export async function neededIn(session: Session, options: Options): Promise<Needed> {
  const problems: TombstonedError[] = [];
  const { metadata, view } = await metadataIn(session, options, problems);
  const plan = planOf(view, options.target);
  const needed = new ScratchView();
  try {
    if (plan.gaps.length === 0) {
      needed.add(metadata);
      await addPayload(session, plan.backups, options, needed, problems);
    }
    const { count } = await needed.finish();
    return {
      ...plan,
      problems,
      source: {
        count,
        signal: session.signal,
        directory: session.directory,
        check: () => session.check(),
        view: () => needed.pages(),
        openListed: async (listed) => session.openListed(listed),
      },
      close: async () => needed.close(),
    };
  } catch (error) {
    await needed.close();
    throw error;
  }
}

/** The metadata files of a session's view that are whole, and what they add up to. */
async function metadataIn(
  session: Session,
  { concurrency, signal }: Options,
  problems: TombstonedError[],
): Promise<{ metadata: ViewedKey[]; view: MetadataView }> {
  const builder = new ViewBuilder();
  const wanted: Wanted<ViewedKey | undefined>[] = [];
  for (const page of session.view()) {
    for (const viewed of page) {
      if (!isMetadataKey(viewed.key)) continue;
      const { key, size } = viewed;
      wanted.push({
        key,
        size,
        open: async () => session.openListed(viewed),
        as: ({ file, error }) => {
          if (file === undefined) problems.push(error);
          for (const { metadata } of file?.lines ?? []) builder.add(metadata);
          return file === undefined ? undefined : viewed;
        },
      });
    }
  }
  const metadata: ViewedKey[] = [];
  for await (const viewed of readInOrder(wanted, { concurrency, signal }))
    if (viewed !== undefined) metadata.push(viewed);
  session.check(); // where the lease was lost, that is what is wrong with the files
  if (metadata.length > 0) return { metadata, view: builder.view() };
  throw new TombstonedError('incomplete', `no metadata file below ${METADATA_PREFIX} is whole`, {
    key: problems[0]?.key ?? METADATA_PREFIX,
    hint: problems[0]?.message ?? 'is this the store of an Aptos-family backup?',
  });
}

async function addPayload(
  session: Session,
  backups: readonly Backup[],
  { concurrency, signal }: Options,
  needed: ScratchView,
  problems: TombstonedError[],
): Promise<void> {
  const missing = new Set<Key>();
  const find = async (key: Key): Promise<ViewedKey | undefined> => {
    const viewed = session.find(key) ?? (await session.findPending(key));
    if (viewed === undefined && !missing.has(key)) {
      missing.add(key);
      problems.push(missingKey(key));
    }
    return viewed;
  };
  await inFlight(concurrency, backups, async (backup) => {
    signal?.throwIfAborted();
    const manifest = await find(backup.manifest);
    if (manifest === undefined) return;
    try {
      const object = await session.openListed(manifest);
      const page = [manifest];
      for (const key of await readManifest(backup, object.read())) {
        const file = await find(key);
        if (file !== undefined) page.push(file);
      }
      needed.add(page);
    } catch (error) {
      session.check();
      if (!(error instanceof TombstonedError)) throw error;
      problems.push(error);
    }
  });
}

/** Why a file that a restore needs can't be had. */
export function missingKey(key: string): TombstonedError {
  return new TombstonedError('incomplete', `${printable(key)} is neither live nor pending`, {
    key,
    hint: 'without it this version can not be restored to: is it in another copy of the backup?',
  });
}
