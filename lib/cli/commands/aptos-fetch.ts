import { type Needed, neededIn } from '../../app/aptos-restore.ts';
import type { Target } from '../../fetch/target.ts';
import { METADATA_PREFIX } from '../../metadata/names.ts';
import type { RefusedName } from '../../reader/reader.ts';
import { targetVersionOf, versionText } from '../aptos-wording.ts';
import { Failures } from '../failures.ts';
import { bring, broughtText, fetchChoicesOf, intoTarget, noObject } from '../fetching.ts';
import type { Output } from '../output.ts';
import { openedSession } from '../reading.ts';
import type { AptosCall } from './aptos.ts';
import { gapErrors } from './aptos-plan.ts';
import { gapObject } from './aptos-status.ts';

/** `aptos fetch`: all that a restore to a version needs, as a session has it, in a directory. */
export async function fetch(call: AptosCall): Promise<number> {
  const { out, options: given } = call;
  const target = targetVersionOf(given['target-version']) ?? null;
  const concurrencyText = given.concurrency ?? '16';
  const { to, concurrency, ...leased } = fetchChoicesOf(out, 'aptos fetch', {
    ...given,
    concurrency: concurrencyText,
  });
  return intoTarget(out, to, async (directory, signal) => {
    const failures = new Failures(out);
    // A link among the metadata is a file to the tools; elsewhere it is missing where it is needed.
    const onRefusal = (refused: RefusedName): void => {
      if (refused.path.startsWith(METADATA_PREFIX)) failures.add(noObject(refused));
    };
    const session = await openedSession(call, { prefixes: [''], ...leased, signal, onRefusal });
    try {
      const needed = await neededIn(session, { target, concurrency, signal });
      try {
        await bringNeeded(out, directory, needed, { concurrency, signal, failures });
      } finally {
        await needed.close();
      }
    } finally {
      await session.close();
    }
    return failures.end();
  });
}

/** Brings what a restore needs, and says what there is of it. */
async function bringNeeded(
  out: Output,
  directory: Target,
  needed: Needed,
  { concurrency, signal, failures }: { concurrency: number; signal: AbortSignal; failures: Failures },
): Promise<void> {
  for (const error of [...needed.problems, ...gapErrors(needed)]) failures.add(error);
  const left = 'a restore to this version does not need it';
  const how = { prefixes: [''], concurrency, signal, left };
  const result =
    needed.gaps.length > 0
      ? { objects: 0, bytes: 0, already: 0, fromPending: 0, missing: [], isStopped: false }
      : await bring(out, { source: needed.source, target: directory, failures }, how);
  const absent = needed.problems.flatMap(({ code, key }) =>
    code === 'incomplete' && key !== undefined ? [key] : [],
  );
  const { objects, bytes, fromPending, already, isStopped } = result;
  const missing = [...absent, ...result.missing];
  const gaps = needed.gaps.map(gapObject);
  const targetVersion = needed.target.toString();
  out.result(
    { type: 'fetch', objects, bytes, fromPending, missing, already, isStopped, targetVersion, gaps },
    () => `version ${versionText(needed.target)}: ${broughtText(directory.name, result)}`,
  );
}
