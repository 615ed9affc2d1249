import { messageOf, TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import { commonPrefix, printable } from '../domain/key.ts';
import { waitForFences } from '../run/wait-for-fences.ts';
import { createHold, type Hold, listHolds, readHold } from '../store/holds.ts';
import { type ClaimPlace, note } from './claim-place.ts';

/** What is to be held. Ids keep pending copies from purges, keys and prefixes keep all from sweeps too. */
export type HeldScope = Hold['scope'];

export interface HoldOptions {
  /** ms since 1970, or null: until it is released. */
  readonly until: number | null;
  readonly reason: string;
  /** How long to wait for the batches that were announced before, ms. */
  readonly fenceTimeout: number;
  readonly dryRun: boolean;
  /** Whether only a hold of the same reason counts as this one, though it be a pause. */
  readonly isOwn?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** A hold that was asked for: one that is written now, or one that was there already. */
export interface PutHold {
  readonly hold: Hold;
  readonly outcome: 'held' | 'already' | 'would be';
}

/** How many keys or ids one object names, and how long they may be together. Characters. */
const MOST = 20_000;
const LONGEST = 4 * 1024 * 1024;
/** How many prefixes are waited for one by one; more of them are waited for as what they have in common. */
const PREFIXES = 500;

/** Gathers what is to be held, writes it, and waits until it is in force (R5). */
export class Holding {
  readonly #place: ClaimPlace;
  readonly #options: HoldOptions;
  readonly #put: PutHold[] = [];
  #members: { keys: string[]; ids: string[] } = { keys: [], ids: [] };
  #length = { keys: 0, ids: 0 };
  #prefixes: string[] = [];

  constructor(place: ClaimPlace, options: HoldOptions) {
    this.#place = place;
    this.#options = options;
  }

  async key(key: string): Promise<void> {
    this.#await(key);
    await this.#add('keys', key);
  }

  /** `key` is what it is a tombstone of, where that is known. */
  async id(id: string, key: string | undefined): Promise<void> {
    this.#await(key ?? '');
    await this.#add('ids', id);
  }

  async prefix(prefix: string): Promise<void> {
    this.#await(prefix);
    await this.#write({ by: 'prefix', prefix });
  }

  /**
   * Writes the rest, and waits until all is in force. Throws `blocked` (fence), and
   * says what is written, when a batch that was announced before does not end in time.
   */
  async end(onWait?: (text: string) => void): Promise<readonly PutHold[]> {
    await this.#flush('keys');
    await this.#flush('ids');
    const { dryRun, fenceTimeout: timeout, signal } = this.#options;
    if (dryRun || this.#put.length === 0) return this.#put;
    try {
      await waitForFences(this.#place.store, this.#prefixes, {
        clock: this.#place.clock,
        timeout,
        signal,
        onWait: ([first]) => onWait?.(`waiting for the batch that fence ${first?.name} announces`),
      });
    } catch (error) {
      throw this.#notInForce(error);
    }
    return this.#put;
  }

  async #add(by: 'keys' | 'ids', member: string): Promise<void> {
    this.#members[by].push(member);
    this.#length[by] += member.length;
    if (this.#members[by].length >= MOST || this.#length[by] >= LONGEST) await this.#flush(by);
  }

  async #flush(by: 'keys' | 'ids'): Promise<void> {
    const members = [...new Set(this.#members[by])];
    this.#members[by] = [];
    this.#length[by] = 0;
    if (members.length === 0) return;
    await this.#write(by === 'keys' ? { by, keys: members } : { by, ids: members });
  }

  async #write(scope: HeldScope): Promise<void> {
    const known = await this.#alike(scope);
    if (known !== undefined) {
      this.#put.push({ hold: known, outcome: 'already' });
      return;
    }
    const { clock, random, actor } = this.#place;
    const { until, reason, dryRun } = this.#options;
    const now = clock.now();
    const hold: Hold = {
      id: makePlainId('h', now, random),
      kind: 'hold',
      blocks: scope.by === 'ids' ? 'purge' : 'sweep',
      scope,
      until,
      reason,
      by: actor.by,
      host: actor.host,
      createdAt: new Date(now).toISOString(),
      problem: null,
    };
    if (!dryRun) await this.#create(hold);
    this.#put.push({ hold, outcome: dryRun ? 'would be' : 'held' });
  }

  async #create(hold: Hold): Promise<void> {
    try {
      await createHold(this.#place.store.control, hold);
    } catch (error) {
      const written = this.#put.filter(({ outcome }) => outcome === 'held');
      if (written.length > 0) {
        const ids = written.map(({ hold: { id } }) => id).join(', ');
        this.#place.report('warn', `written before that, and staying: ${ids}`);
      }
      throw error;
    }
    const { scope, until, reason } = hold;
    const ends = until === null ? '' : ` until ${new Date(until).toISOString()}`;
    const key = scope.by === 'keys' && scope.keys.length === 1 ? scope.keys[0] : undefined;
    note(this.#place, 'held', `hold ${hold.id} on ${scopeText(scope)}${ends}`, reason, key);
  }

  /** A hold that claims the same, or more of it, for the same reason and as long: it is not made twice. */
  async #alike(scope: HeldScope): Promise<Hold | undefined> {
    const { store, clock } = this.#place;
    const { until, reason, isOwn = false } = this.#options;
    for (const name of await listHolds(store.control)) {
      const hold = await readHold(store.control, name);
      if (hold === undefined || hold.problem !== null || hold.kind !== 'hold') continue;
      if (hold.blocks !== (scope.by === 'ids' ? 'purge' : 'sweep')) continue;
      const lasts = hold.until === null || (until !== null && hold.until >= until);
      if (!lasts || (hold.until !== null && hold.until <= clock.now())) continue;
      // A pause is a pause, for whatever reason: `resume` ends all of them.
      if ((hold.reason === reason || (isEverything(scope) && !isOwn)) && includes(hold.scope, scope))
        return hold;
    }
    return undefined;
  }

  #await(prefix: string): void {
    this.#prefixes.push(prefix);
    if (this.#prefixes.length <= PREFIXES) return;
    this.#prefixes = [this.#prefixes.reduce((common, one) => commonPrefix(common, one))];
  }

  #notInForce(error: unknown): TombstonedError {
    const ids = this.#put.map(({ hold: { id } }) => id).join(', ');
    const isAborted = this.#options.signal?.aborted === true;
    const why = isAborted ? 'the wait for batches that are under way was ended' : messageOf(error);
    const isFence = isAborted || (error instanceof TombstonedError && error.reason === 'fence');
    return new TombstonedError(
      isFence ? 'blocked' : 'failed',
      `${ids} is written and not yet in force: ${why}`,
      {
        reason: isFence ? 'fence' : 'error',
        key: this.#put[0]?.hold.id,
        hint: `the same command again waits for it; see ${this.#place.ctl} fence ls`,
        cause: error,
      },
    );
  }
}

/** Whether a scope is what `pause` holds. */
export function isEverything(scope: HeldScope): boolean {
  return scope.by === 'prefix' && scope.prefix === '';
}

function scopeText(scope: HeldScope): string {
  switch (scope.by) {
    case 'prefix':
      return scope.prefix === '' ? 'everything' : `all below ${printable(scope.prefix)}`;
    case 'keys':
      return scope.keys.length === 1 ? printable(scope.keys[0] ?? '') : `${scope.keys.length} keys`;
    case 'ids':
      return scope.ids.length === 1 ? (scope.ids[0] ?? '') : `${scope.ids.length} tombstones`;
  }
}

function includes(own: HeldScope, other: HeldScope): boolean {
  switch (other.by) {
    case 'prefix':
      return own.by === 'prefix' && own.prefix === other.prefix;
    case 'keys':
      return own.by === 'keys' && hasAll(own.keys, other.keys);
    case 'ids':
      return own.by === 'ids' && hasAll(own.ids, other.ids);
  }
}

function hasAll(own: readonly string[], others: readonly string[]): boolean {
  const set = new Set(own);
  return others.every((one) => set.has(one));
}
