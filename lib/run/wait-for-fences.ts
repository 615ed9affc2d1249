import type { Clock } from '../domain/clock.ts';
import { TombstonedError } from '../domain/errors.ts';
import { type Fence, fenceOverlaps, listFences, readFence } from '../store/fences.ts';
import type { Store } from '../store/store.ts';

/** How long a claimer waits for the batches it saw, unless it is told otherwise. ms. */
const FENCE_TIMEOUT_MS = 60_000;

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 500;

export interface FenceWait {
  readonly clock: Clock;
  /** How long to wait for the batches, beyond `settle`. ms. */
  readonly timeout?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called once, when there is something to wait for. */
  readonly onWait?: ((fences: readonly Fence[]) => void) | undefined;
}

/** How long one fence stands, once it was looked under, where each costs a `settle`. ms. */
export const SHARED_MS = 60_000;

/**
 * How long a claimer waits for the batches that it saw, ms: where listings may be
 * stale, the mover's own `settle`, the work under a shared fence, and the caches of
 * this host, which may still show what is down, do not count.
 */
function patience({ settle: ms }: Store, timeout: number): number {
  return ms === 0 ? timeout : timeout + 2 * ms + SHARED_MS;
}

/**
 * What a claimer does once its claim is written (R5): looks at the fences, and
 * waits until each batch that it saw there, and that is about something below its
 * prefixes, is over. Later batches have seen the claim. Throws `blocked` (fence)
 * when one is not over in time: the claim is not in force then.
 */
export async function waitForFences(
  store: Store,
  prefixes: readonly string[],
  wait: FenceWait,
): Promise<void> {
  const standing = await fencesAfterWait(store, prefixes, wait);
  const [first] = standing;
  if (first !== undefined) throw stillUp(first, standing.length);
}

/** The same, and gives the fences whose batches are not over in time. */
export async function fencesAfterWait(
  store: Store,
  prefixes: readonly string[],
  wait: FenceWait,
): Promise<Fence[]> {
  const { clock, signal, timeout = FENCE_TIMEOUT_MS } = wait;
  await settle(store, wait);
  const seen = new Map<string, Fence>();
  for (const name of await listFences(store.control)) {
    const fence = await readFence(store.control, name);
    if (fence !== undefined && fenceOverlaps(fence, prefixes)) seen.set(name, fence);
  }
  if (seen.size === 0) return [];
  wait.onWait?.([...seen.values()]);
  const began = clock.monotonic();
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    const up = new Set(await listFences(store.control));
    for (const name of seen.keys()) if (!up.has(name)) seen.delete(name);
    if (seen.size === 0 || clock.monotonic() - began >= patience(store, timeout)) break;
    await clock.sleep(pause, signal);
    signal?.throwIfAborted();
  }
  await settle(store, wait);
  return [...seen.values()];
}

async function settle({ settle: ms }: Store, { clock, signal }: FenceWait): Promise<void> {
  if (ms === 0) return;
  await clock.sleep(ms, signal);
  signal?.throwIfAborted();
}

/** What keeps a claim from being in force. */
function stillUp(fence: Fence, count: number): TombstonedError {
  const more = count > 1 ? `, and ${count - 1} more,` : '';
  return new TombstonedError('blocked', `${fenceText(fence)}${more} is not over`, {
    reason: 'fence',
    key: fence.name,
    hint: 'try again; if its process is dead, any sweep or purge on its host recovers it, else see tombstonectl fence ls',
  });
}

/** A fence in words. */
export function fenceText({ name, owner, kind, startedAt, problem }: Fence): string {
  return owner === null
    ? `fence ${name}${problem === null ? '' : ` (it ${problem})`}`
    : `a ${kind} of ${owner.host}, pid ${owner.pid}, since ${startedAt} (fence ${name})`;
}
