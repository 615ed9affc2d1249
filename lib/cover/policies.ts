import { compactedAt } from '../aptos/timestamps.ts';
import { asKey } from '../domain/key.ts';
import { type FileLines, type LineText, lineText } from '../metadata/lines.ts';
import { LiveFiles } from '../metadata/live-files.ts';
import { readAllPending } from '../metadata/read-all.ts';
import { referencesOf } from '../metadata/references.ts';
import { type AptosCompactionSettings, aptosCompactionPolicy } from '../policy/aptos-compaction.ts';
import { type AptosPayloadSettings, aptosPayloadPolicy, type PayloadInUse } from '../policy/aptos-payload.ts';
import type { Policy, PolicyLook } from '../policy/policy.ts';
import { oldestKept, snapshotVersion } from './snapshots.ts';
import { unreadableIn } from './unreadable.ts';

/** The `aptos-compaction` policy, by what the store's metadata says. */
export function compactionPolicy(settings: AptosCompactionSettings): Policy {
  return aptosCompactionPolicy(settings, async (look) => {
    const newest = await (await readable(look)).newestTimestamps();
    return (key) => {
      const handle = asKey(key);
      return handle === undefined ? null : compactedAt(newest, handle);
    };
  });
}

/** The `aptos-payload` policy, by what the store's metadata says. */
export function payloadPolicy(settings: AptosPayloadSettings): Policy {
  return aptosPayloadPolicy(settings, async (look, keepSnapshots): Promise<PayloadInUse> => {
    const live = await readable(look);
    const { store, signal, isProtected: isExcluded } = look;
    const { lines, doubt } = await referencesOf(store, live, { isExcluded, signal });
    if (doubt !== null) throw doubt;
    const retired = keepSnapshots === null ? new Set<LineText>() : retiredLines(live, keepSnapshots);
    if (retired.size > 0) {
      // What is pending could come back, and would need its snapshot.
      for await (const { file } of readAllPending(store, { concurrency: PENDING_AT_ONCE, signal }))
        for (const line of file?.lines ?? []) retired.delete(lineText(line));
      keepWithOthers(live, retired);
    }
    const retiredFiles = new Set<string>();
    for (const line of retired) for (const { key } of live.index.holders(line)) retiredFiles.add(key);
    return {
      isReferredTo: (directory) => lines.has(directory),
      retiredFiles,
      isRetired: (line) => retired.has(line),
    };
  });
}

const PENDING_AT_ONCE = 32;

/** The live files, all of which were read. Throws `failed`. */
async function readable(look: PolicyLook): Promise<LiveFiles> {
  const live = LiveFiles.of(look.store);
  await live.refresh(look.signal);
  const unreadable = unreadableIn(look, live);
  if (unreadable !== undefined) throw unreadable;
  return live;
}

/** The lines of snapshots that are older than the newest so many that a restore can begin with. */
function retiredLines(live: LiveFiles, keep: number): Set<LineText> {
  const retired = new Set<LineText>();
  const oldest = oldestKept(live.view(), keep);
  if (oldest === null) return retired;
  for (const line of live.index.lines()) {
    const version = snapshotVersion(line);
    if (version !== undefined && version < oldest) retired.add(line);
  }
  return retired;
}

/** A line stays as long as a file has it that says something else too. */
function keepWithOthers(live: LiveFiles, retired: Set<LineText>): void {
  for (let isMore = true; isMore; ) {
    isMore = false;
    const looked = new Set<FileLines>();
    for (const line of retired) {
      for (const file of live.index.holders(line)) {
        if (looked.has(file)) continue;
        looked.add(file);
        if (file.dated.length === 0 && file.lines.every((one) => retired.has(one))) continue;
        for (const one of file.lines) if (retired.delete(one)) isMore = true;
      }
    }
  }
}
