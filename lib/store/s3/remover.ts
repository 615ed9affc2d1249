import type { Clock } from '../../domain/clock.ts';
import { isCopyOf, pendingName } from '../../domain/ids.ts';
import { commonPrefix, compareKeys } from '../../domain/key.ts';
import { sameRevision } from '../../domain/revision.ts';
import type { Pulse, RemoveItem, RemoveOutcome } from '../store.ts';
import { type S3Api, Unanswered } from './api.ts';
import { LateRequests } from './late.ts';
import { revisionOf, type Seen, s3Revision } from './revisions.ts';
import { haveSameBytes } from './same-bytes.ts';

/** How many names of others a listing may have for each of a batch, before each is looked at by itself. */
const OTHERS = 10;
const PAGE = 1000;

interface Named {
  readonly item: RemoveItem;
  readonly name: string;
}

/** Phase two of a batch: what still is what was tombstoned is removed, many at a time. */
export class Remover {
  readonly #api: S3Api;
  readonly #pendingPrefix: string;
  readonly #concurrency: number;
  readonly #pulse: Pulse | undefined;

  readonly #late: LateRequests;

  constructor(options: {
    api: S3Api;
    clock: Clock;
    pendingPrefix: string;
    concurrency: number;
    pulse: Pulse | undefined;
  }) {
    this.#api = options.api;
    this.#pulse = options.pulse;
    this.#late = new LateRequests(options, options.pulse);
    this.#pendingPrefix = options.pendingPrefix;
    this.#concurrency = options.concurrency;
  }

  async remove(batch: readonly RemoveItem[]): Promise<RemoveOutcome[]> {
    const named = batch.map((item) => ({ item, name: pendingName(this.#pendingPrefix, item.key, item.id) }));
    const seen = await this.#look(named);
    const judged = new Map<Named, RemoveOutcome>();
    await this.#inFlight(named, async (one) => {
      const outcome = await this.#judge(one, seen.get(one.name));
      if (outcome !== undefined) judged.set(one, outcome);
    });
    const doomed = named.filter((one) => !judged.has(one));
    const unclear: Named[] = [];
    for (let from = 0; from < doomed.length; from += PAGE) {
      await this.#pulse?.();
      const some = doomed.slice(from, from + PAGE);
      const ends = await this.#api.deleteMany(some.map(({ name }) => ({ name })));
      for (const [i, one] of some.entries()) {
        const end = ends[i] ?? new Error('the store has said nothing of it');
        if (end instanceof Unanswered) {
          this.#late.note(end);
          unclear.push(one);
        } else
          judged.set(one, end === 'deleted' ? { outcome: 'removed' } : { outcome: 'failed', error: end });
      }
    }
    // A hold must not be in force while a removal may still take effect (R5).
    await this.#late.outlast();
    await this.#inFlight(unclear, async (one) => {
      const isThere = (await this.#api.head(one.name)) !== undefined;
      const error = new Error('the store has not answered, and has not removed it');
      judged.set(one, isThere ? { outcome: 'failed', error } : { outcome: 'removed' });
    });
    return named.map((one) => judged.get(one) ?? { outcome: 'failed', error: new Error('not looked at') });
  }

  /** What keeps a copy from being removed; undefined where nothing does. */
  async #judge({ item, name }: Named, copy: Seen | undefined): Promise<RemoveOutcome | undefined> {
    if (copy === undefined) return { outcome: 'gone' };
    const meant = s3Revision(item.revision);
    if (!isCopyOf(item.id, revisionOf(copy), meant)) {
      return { outcome: 'changed', detail: `it has ${copy.size} bytes and ETag ${copy.etag}` };
    }
    if (item.from === 'pending') return undefined;
    const live = await this.#api.head(item.key);
    if (live === undefined) return { outcome: 'not-live' };
    const isBack =
      sameRevision(revisionOf(live), meant) ||
      (await haveSameBytes(this.#api, { name: item.key, head: live }, { name, head: copy }));
    return isBack ? undefined : { outcome: 'not-live' };
  }

  /** How the copies stand: by one listing where they are close together, else each by itself. */
  async #look(named: readonly Named[]): Promise<Map<string, Seen>> {
    const names = named.map(({ name }) => name).toSorted(compareKeys);
    const [first] = names;
    const last = names.at(-1);
    const seen = new Map<string, Seen>();
    if (first === undefined || last === undefined) return seen;
    const wanted = new Set(names);
    let others = OTHERS * names.length;
    // Ids are ASCII: without its last character it comes just before.
    for await (const page of this.#api.list(commonPrefix(first, last), { after: first.slice(0, -1) })) {
      await this.#pulse?.();
      for (const listed of page) {
        if (wanted.delete(listed.name)) seen.set(listed.name, listed);
        else others -= 1;
      }
      const end = page.at(-1);
      // What was to come before here is not there.
      if (end !== undefined && compareKeys(end.name, last) >= 0) return seen;
      if (others < 0) {
        const rest = end === undefined ? [] : [...wanted].filter((name) => compareKeys(name, end.name) > 0);
        await this.#inFlight(rest, async (name) => {
          const head = await this.#api.head(name);
          if (head !== undefined) seen.set(name, head);
        });
        return seen;
      }
    }
    return seen;
  }

  async #inFlight<Item>(items: readonly Item[], act: (item: Item) => Promise<void>): Promise<void> {
    const rest = items.values();
    const work = async (): Promise<void> => {
      for (const item of rest) await act(item);
    };
    const outcomes = await Promise.allSettled(Array.from({ length: this.#concurrency }, work));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }
}
