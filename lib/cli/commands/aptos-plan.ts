import { type LookedAtPlan, missingKey, planIn, type VersionPlan } from '../../app/aptos-restore.ts';
import { openForReading } from '../../app/open-store.ts';
import type { Backup } from '../../aptos/metadata.ts';
import { planRestore } from '../../aptos/restore-plan.ts';
import { TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { gapText, targetVersionOf, versionText } from '../aptos-wording.ts';
import { Failures } from '../failures.ts';
import type { Output } from '../output.ts';
import { storeOf } from '../reading.ts';
import { untilSignalled } from '../signals.ts';
import { counted } from '../wording.ts';
import type { AptosCall } from './aptos.ts';
import { gapObject } from './aptos-status.ts';

/** `aptos plan`: the manifests that a restore needs, a line each, in the order in which they are read. */
export async function plan(call: AptosCall): Promise<number> {
  const { out } = call;
  const target = targetVersionOf(call.options['target-version']) ?? null;
  const config = await storeOf(call);
  return untilSignalled(out, async (signal) => {
    const store = await openForReading(config);
    try {
      return tell(out, await planIn(store, { target, concurrency: config.throttle.concurrency, signal }));
    } catch (error) {
      if (signal.aborted && error === signal.reason) return 0; // the signal has an exit code of its own
      throw error;
    } finally {
      store.close();
    }
  });
}

function tell(out: Output, found: LookedAtPlan): number {
  const { backups, locations, target, gaps, survey } = found;
  const failures = new Failures(out);
  for (const { error } of survey.unread) failures.add(error);
  for (const error of gapErrors(found)) failures.add(error);
  const { withPending } = survey;
  if (gaps.length > 0 && planRestore(withPending, target).gaps.length === 0)
    out.talk('with pending metadata files there is no gap: tombstonectl restore --prefix metadata/');
  let [missing, pending] = [0, 0];
  for (const [i, backup] of backups.entries()) {
    const location = locations[i] ?? null;
    if (location === null) failures.add(missingKey(backup.manifest));
    missing += Number(location === null);
    pending += Number(location === 'pending');
    out.result(manifestObject(backup, location), () => printable(backup.manifest));
  }
  const summary = { manifests: backups.length, missing, pending, gaps: gaps.map(gapObject) };
  if (out.isJson) out.result({ type: 'plan', targetVersion: target.toString(), ...summary }, () => '');
  else {
    const notes = `${pending > 0 ? `, ${pending} of them pending` : ''}${missing > 0 ? `, ${missing} of them missing` : ''}`;
    out.talk(`version ${versionText(target)} needs ${counted(backups.length, 'manifest')}${notes}`);
  }
  return failures.end();
}

/** Each gap on the way to a version, as what it makes of a restore. */
export function gapErrors({ target, gaps }: VersionPlan): TombstonedError[] {
  return gaps.map(
    (gap) =>
      new TombstonedError(
        'incomplete',
        `version ${versionText(target)} can't be restored to: ${gapText(gap)}`,
        { key: 'metadata/', hint: 'see what can be: tombstonectl aptos status' },
      ),
  );
}

function manifestObject(backup: Backup, location: 'live' | 'pending' | null) {
  const { kind, manifest } = backup;
  const common = { type: 'manifest', kind, manifest, location } as const;
  switch (backup.kind) {
    case 'epoch-ending':
      return { ...common, first: backup.firstEpoch.toString(), last: backup.lastEpoch.toString() };
    case 'state-snapshot':
      return { ...common, first: backup.version.toString(), last: backup.version.toString() };
    case 'transaction':
      return { ...common, first: backup.firstVersion.toString(), last: backup.lastVersion.toString() };
  }
}
