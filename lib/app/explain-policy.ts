import type { KeptReason } from '../domain/kept-reason.ts';
import { compareKeys, type Key } from '../domain/key.ts';
import { formatDuration } from '../domain/quantities.ts';
import { guard, type Policy } from '../policy/policy.ts';
import { keepersOf, reasonOf } from '../run/claims.ts';
import type { LiveObject } from '../store/store.ts';
import { guardsOf, type OpenPlace } from './open.ts';

/** Why a policy leaves an object that it selects. */
export interface Against {
  readonly reason: KeptReason;
  readonly until: number | null;
  readonly detail: string;
  readonly change: string;
}

interface Asked {
  readonly place: OpenPlace;
  readonly policy: Policy;
  /** The policy's, ms; null of one that goes by something else. */
  readonly olderThan: number | null;
  readonly live: LiveObject;
  readonly now: number;
  readonly signal: AbortSignal | undefined;
}

/** A policy's unit as a whole: the object by itself, or a directory. */
interface Unit {
  readonly name: string;
  readonly newest: number;
}

/** Whether a policy takes a live object that it selects, as the next sweep would plan it; or why not. */
export async function verdictOf(asked: Asked): Promise<'takes' | Against> {
  const { policy, olderThan, live, now, place } = asked;
  const unit = await unitOf(asked);
  if ('reason' in unit) return unit;
  const where = `policy ${policy.name} in ${place.config.name}'s config`;
  if (!policy.isExpired({ key: live.key, modifiedAt: unit.newest }, now)) {
    if (olderThan === null) {
      const detail = `policy ${policy.name} does not name it: it is not ${policy.reason}`;
      return { reason: 'no-policy', until: null, detail, change: where };
    }
    const what = unit.name === live.key ? 'it' : `the newest in ${unit.name}`;
    return {
      reason: 'too-young',
      until: unit.newest + olderThan,
      detail: `${what} is not yet ${policy.reason} (${formatDuration(Math.max(0, now - unit.newest))} old)`,
      change: `olderThan of ${where}`,
    };
  }
  if (policy.keepLast === 0) return 'takes';
  const newer = await countNewer(asked, unit);
  if (newer >= policy.keepLast) return 'takes';
  return {
    reason: 'keep-last',
    until: null,
    detail: `${policy.name} keeps the newest ${policy.keepLast}, and ${newer} ${newer === 1 ? 'is' : 'are'} newer`,
    change: `keepLast of ${where}`,
  };
}

/** The object's unit; or, of a directory, what keeps another object in it and so the whole. */
async function unitOf({ place, policy, live, now, signal }: Asked): Promise<Unit | Against> {
  const name = policy.unitOf(live.key);
  if (name === null) return { name: live.key, newest: Math.trunc(live.modifiedAt) };
  const guards = guardsOf(place.config);
  let newest = 0;
  for await (const objects of membersOf(place, policy, name, signal)) {
    const members = objects.filter(({ key }) => policy.unitOf(key) === name);
    const [claimed] = keepersOf(place, [], members, 'policy');
    if (claimed !== undefined) {
      const [index, keeper] = claimed;
      const until = keeper.as === 'hold' ? keeper.hold.until : null;
      return keptWhole(name, members[index]?.key, reasonOf(keeper), until);
    }
    for (const member of members) {
      const guarded = guard(guards, member, now);
      if (guarded !== null && member.key !== live.key) {
        const until = guarded.reason === 'too-young' ? member.modifiedAt + guards.minimumAge : null;
        return keptWhole(name, member.key, guarded.reason, until);
      }
      newest = Math.max(newest, Math.trunc(member.modifiedAt));
    }
  }
  return { name, newest };
}

function keptWhole(unit: string, key: Key | undefined, reason: KeptReason, until: number | null): Against {
  const detail = `${unit} goes as a whole, and ${key ?? 'an object'} in it is kept`;
  return { reason, until, detail, change: `tombstonectl explain ${key ?? unit}` };
}

/** How many units of the policy are newer, up to its keepLast. Exempt and held ones do not count. */
async function countNewer({ place, policy, signal }: Asked, own: Unit): Promise<number> {
  let count = 0;
  let open: { name: string; newest: number; isClaimed: boolean } | undefined;
  const close = (): void => {
    if (open === undefined || open.isClaimed || open.name === own.name) return;
    const isNewer =
      open.newest === own.newest ? compareKeys(open.name, own.name) > 0 : open.newest > own.newest;
    if (isNewer) count++;
  };
  for await (const objects of membersOf(place, policy, policy.prefix, signal)) {
    const claims = keepersOf(place, [], objects, 'policy');
    for (const [i, object] of objects.entries()) {
      const name = policy.unitOf(object.key) ?? object.key;
      // The objects of one directory come together.
      if (open?.name !== name) {
        close();
        open = { name, newest: 0, isClaimed: false };
      }
      open.newest = Math.max(open.newest, Math.trunc(object.modifiedAt));
      open.isClaimed ||= claims.has(i);
    }
    if (count >= policy.keepLast) return count;
  }
  close();
  return count;
}

/** Live objects below a prefix that a policy selects, in pages. */
async function* membersOf(
  place: OpenPlace,
  policy: Policy,
  prefix: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<LiveObject[]> {
  for await (const page of place.store.list(prefix, signal)) {
    yield page.filter((item) => item.type === 'object').filter(({ key }) => policy.selects(key));
  }
}
