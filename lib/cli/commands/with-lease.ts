import { withLeaseAt } from '../../app/sessions.ts';
import { environmentUnder } from '../../config/environment.ts';
import { systemClock } from '../../domain/clock.ts';
import { exitCodeOf, messageOf } from '../../domain/errors.ts';
import { runCommand, SignalRelay } from '../../fetch/command.ts';
import type { LeaseHolder } from '../../reader/lease-holder.ts';
import { waitForFences } from '../../run/wait-for-fences.ts';
import type { Store } from '../../store/store.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { usageError } from '../fail.ts';
import { durationOf, prefixOf } from '../filters.ts';
import { storeOf, waitText } from '../reading.ts';

export const manual = {
  synopsis: [
    'with-lease [--prefix P]... [--allow-sweeps] -- COMMAND...',
    '--url URL with-lease [--prefix P]... [--allow-sweeps] -- COMMAND...',
  ],
  description: [
    'Runs COMMAND while nothing below the prefixes is swept or purged: for tools that list',
    'and read a store by themselves. What is under way is waited for first. COMMAND finds the',
    'lease in $TOMBSTONED_LEASE and the store in $TOMBSTONED_URL; cat, keys and fetch use',
    'them. Signals are passed on to COMMAND. When the lease is lost, COMMAND gets SIGTERM, and',
    'SIGKILL 10 s later. The exit code is that of COMMAND (126 and 127 when it can not be run,',
    '128 and its number after a signal), or 5 when the lease was lost meanwhile: then what',
    'COMMAND has read may have holes.',
  ],
  examples: [
    ['with-lease --prefix metadata/ -- cp -r /srv/backups/mainnet/metadata /restore', ''],
    ['with-lease --allow-sweeps -- ./restore.sh', 'where restore.sh reads by cat or fetch'],
  ],
} as const satisfies Page;

export const options = {
  prefix: { takes: 'P', says: 'Only keys that begin so; may be given again.', isRepeated: true },
  'allow-sweeps': { says: 'Keeps only purges away, for a COMMAND that reads by cat or fetch.' },
  ttl: { takes: 'T', says: 'How long the lease outlives this process, at the most; 1h.' },
  'fence-timeout': { takes: 'T', says: 'How long to wait for sweeps and purges under way; 60s.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { options: given, operands } = call;
  const [program, ...args] = operands;
  if (program === undefined)
    throw usageError('with-lease needs a COMMAND', 'such as with-lease -- cp -r A B');
  const prefixes = given.prefix.length === 0 ? [''] : given.prefix.map((text) => prefixOf(text));
  const ttl = durationOf('--ttl', given.ttl);
  const fenceTimeout = durationOf('--fence-timeout', given['fence-timeout']);
  const blocks = given['allow-sweeps'] ? 'purge' : 'sweep';
  const storeConfig = await storeOf(call);
  const relay = new SignalRelay();
  try {
    return await withLeaseAt(storeConfig, { prefixes, blocks, ttl }, async (lease, store) =>
      untilReleased(call, lease, async () => {
        const standing = await inForce(call, { lease, store, prefixes, fenceTimeout, relay });
        if (!standing) return relay.exitCode ?? 1;
        const env = environmentUnder(lease.id, storeConfig.url);
        return underLease(call, lease, { words: [program, ...args], env, relay });
      }),
    );
  } finally {
    relay.close();
  }
}

/** Waits until the lease is in force; false when a signal ends that. */
async function inForce(
  { out }: Call,
  claim: {
    lease: LeaseHolder;
    store: Store;
    prefixes: readonly string[];
    fenceTimeout: number | undefined;
    relay: SignalRelay;
  },
): Promise<boolean> {
  const { lease, store, prefixes, fenceTimeout, relay } = claim;
  try {
    await waitForFences(store, prefixes, {
      clock: systemClock,
      timeout: fenceTimeout,
      signal: AbortSignal.any([relay.signal, lease.signal]),
      onWait: (fences) => out.talk(waitText(fences)),
    });
    lease.check();
  } catch (error) {
    if (!relay.signal.aborted) throw error;
  }
  return !relay.signal.aborted;
}

async function underLease(
  { out }: Call,
  lease: LeaseHolder,
  command: Pick<Parameters<typeof runCommand>[0], 'words' | 'env' | 'relay'>,
): Promise<number> {
  out.flush();
  const { code, error } = await runCommand({
    ...command,
    clock: systemClock,
    mustEnd: lease.signal,
    onMustEnd: () => out.talk(`${messageOf(lease.signal.reason)}; ${command.words[0]} is told to end`),
  });
  if (error !== undefined) {
    out.fail(error);
    return code;
  }
  await lease.confirm(); // it may have been lost without this process being told
  return code;
}

/** What goes wrong with the release is told, and changes nothing: the lease ends by itself. */
async function untilReleased(
  { out }: Call,
  lease: LeaseHolder,
  work: () => Promise<number>,
): Promise<number> {
  let code: number;
  try {
    code = await work();
  } catch (error) {
    out.fail(error);
    code = exitCodeOf(error);
  }
  await lease.release().catch((error: unknown) => {
    out.talk(`warning: ${messageOf(error)}; lease ${lease.id} ends a TTL after its last renewal`);
  });
  return code;
}
