import { lstatSync } from 'node:fs';
import path from 'node:path';
import { errnoOf, TombstonedError } from '../domain/errors.ts';
import type { KeptReason } from '../domain/kept-reason.ts';
import { type Survey, survey } from '../metadata/survey.ts';
import type { Store } from '../store/store.ts';
import { sweep } from '../sweep/sweep.ts';
import { guardsOf, type OpenPlace, policiesOf } from './open.ts';

/** What a policy would remove, if a sweep began now. */
export type PolicyOutlook =
  | {
      readonly policy: string;
      readonly planned: number;
      readonly bytes: number;
      /** Old enough, and kept, by reason. */
      readonly kept: ReadonlyMap<KeptReason, number>;
      /** Which limit it is over, so that it would wait for somebody to decide; null is none. */
      readonly over: string | null;
    }
  /** It could not decide. */
  | { readonly policy: string; readonly error: TombstonedError };

/** Where the original compactor moves metadata files to, at once, while a restore may read them. */
interface MetadataBackup {
  readonly files: number;
  readonly bytes: number;
  /** When the last was moved there, as far as the store knows it; ms since 1970. */
  readonly lastMovedAt: number | null;
}

export interface AptosStatus {
  readonly survey: Survey;
  readonly metadataBackup: MetadataBackup;
}

const METADATA_BACKUP = 'metadata_backup/';

/** Looks at a store of format aptos. Throws where a listing is not complete. */
export async function aptosStatus(
  store: Store,
  options: { readonly concurrency: number; readonly signal?: AbortSignal | undefined },
): Promise<AptosStatus> {
  return {
    survey: await survey(store, options),
    metadataBackup: await metadataBackupOf(store, options.signal),
  };
}

/** What a sweep would plan now, by policy; nothing is moved. Requests are not among them. */
export async function policyOutlooks(
  place: OpenPlace,
  signal: AbortSignal | undefined,
  onRefusal: (key: string, why: string) => void,
): Promise<PolicyOutlook[]> {
  const outlooks: PolicyOutlook[] = [];
  for (const policy of policiesOf(place.config)) {
    try {
      const { plans, blocked, problems } = await sweep(place, {
        policies: [policy],
        guards: guardsOf(place.config),
        dryRun: true,
        signal,
        onRefusal: ({ key, why }) => onRefusal(key, why),
      });
      const [error] = problems;
      if (error !== undefined) outlooks.push({ policy: policy.name, error });
      else
        for (const { planned, bytes, kept } of plans)
          outlooks.push({ policy: policy.name, planned, bytes, kept, over: blocked[0]?.over ?? null });
    } catch (error) {
      if (!(error instanceof TombstonedError)) throw error;
      outlooks.push({ policy: policy.name, error });
    }
  }
  return outlooks;
}

async function metadataBackupOf(store: Store, signal: AbortSignal | undefined): Promise<MetadataBackup> {
  let [files, bytes, last] = [0, 0, 0];
  for await (const page of store.list(METADATA_BACKUP, signal)) {
    signal?.throwIfAborted();
    for (const item of page) {
      if (item.type !== 'object') continue;
      files += 1;
      bytes += item.size;
      last = Math.max(last, item.modifiedAt);
    }
  }
  if (files === 0) return { files, bytes, lastMovedAt: null };
  return { files, bytes, lastMovedAt: directoryChange(store) ?? last };
}

/** A file that is moved keeps its own time; the directory's says when the last came. */
function directoryChange({ directory }: Store): number | undefined {
  if (directory === undefined) return undefined;
  try {
    return Math.trunc(lstatSync(path.join(directory, METADATA_BACKUP.slice(0, -1))).mtimeMs);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
