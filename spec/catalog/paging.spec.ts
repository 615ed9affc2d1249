import { expect } from 'chai';
import fc from 'fast-check';
import type { PageFilter, Tombstone } from '../../lib/catalog/tombstones.ts';
import { DAY, HOUR, START } from '../support/place.ts';
import { intent, TempCatalog, WINDOW } from './temp-catalog.ts';

/** Characters of one to four bytes, and those at the ends of each length. */
const CHARACTERS = [
  'a',
  'b',
  '~',
  '\x7f',
  '\x80',
  'é',
  '\u07ff',
  '\u0800',
  '\uffff',
  '\u{10000}',
  '\u{10ffff}',
];
const PARTS = fc.array(fc.constantFrom(...CHARACTERS), { minLength: 1, maxLength: 3 }).map((c) => c.join(''));
const KEY = fc.array(PARTS, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
/** What a text begins with, cut between characters. */
function startOf(text: string): fc.Arbitrary<string> {
  const characters = Array.from(text);
  return fc.nat(characters.length).map((length) => characters.slice(0, length).join(''));
}

const STATE = fc.constantFrom(
  'moving',
  'pending',
  'purging',
  'purged',
  'restoring',
  'restored',
  'abandoned',
) satisfies fc.Arbitrary<Tombstone['state']>;

/** What a page must be, by looking at everything. */
function wanted(
  all: readonly Tombstone[],
  filter: PageFilter,
  stores: ReadonlyMap<string, number>,
): string[] {
  const { store, state, prefix, sweep, dueBefore, after, since } = filter;
  const bytes = Buffer.from(prefix ?? '');
  return all
    .filter(
      (t) =>
        (store === undefined || stores.get(t.store) === store) &&
        (state === undefined || t.state === state) &&
        Buffer.from(t.key).subarray(0, bytes.length).equals(bytes) &&
        (sweep === undefined || t.sweep === sweep) &&
        (since === undefined || t.tombstonedAt >= since) &&
        (after === undefined || t.id > after) &&
        (dueBefore === undefined ||
          ((t.state === 'pending' || t.state === 'restored') && (t.purgeAfter ?? 0) < dueBefore)),
    )
    .map(({ id }) => id)
    .toSorted();
}

/** All pages of a filter, one after the other; each but the last is full. */
function paged(temp: TempCatalog, filter: PageFilter): string[] {
  const ids: string[] = [];
  for (let after = filter.after; ; after = ids.at(-1)) {
    const page = temp.catalog.tombstones.page({ ...filter, after });
    expect(page.length).to.be.at.most(filter.limit);
    ids.push(...page.map(({ id }) => id));
    if (page.length < filter.limit) return ids;
  }
}

describe('paging through tombstones', () => {
  let temp: TempCatalog;
  const stores = new Map<string, number>();
  const sweeps: string[] = [];
  const ids: string[] = [];
  before(() => {
    temp = new TempCatalog();
    for (const name of ['a', 'b', 'empty']) stores.set(name, temp.addStore(name).n);
  });
  after(() => {
    temp.remove();
  });

  /** One sweep of two batches; those of an open one are left in moving. */
  function addSweep(store: number, keys: readonly string[], isOpen: boolean): void {
    const run = temp.beginRun(store);
    const sweep = temp.beginSweep(store, run);
    const cause = temp.catalog.sweeps.cause('old', 'older than 1d');
    const items = keys.map((key, i) => intent(key, cause, i + 1));
    const half = Math.ceil(items.length / 2);
    for (const part of [items.slice(0, half), items.slice(half)]) {
      const open = temp.intend(store, run, sweep.n, part);
      ids.push(...open.moves.map(({ id }) => id));
      if (!isOpen) temp.settle(store, run, open, abandonSome(open.moves));
      temp.now += 1000;
    }
    sweeps.push(sweep.id);
  }

  function abandonSome(moves: readonly { id: string }[]): { id: string; to: 'abandoned'; why: string }[] {
    return moves.filter((_, i) => i % 7 === 6).map(({ id }) => ({ id, to: 'abandoned', why: 'changed' }));
  }

  /** Takes some tombstones to each of the other states. */
  function spread(store: number): void {
    const { tombstones } = temp.catalog;
    const run = temp.beginRun(store);
    const some = (share: number): string[] =>
      tombstones
        .page({ store, state: 'pending', limit: 10_000 })
        .filter((_, i) => i % share === 0)
        .map(({ id }) => id);
    const now = temp.now + 2 * WINDOW;
    const settle = { store, run, now, at: now, window: WINDOW };
    const due = (share: number) => tombstones.takeForPurge({ store, run, ids: some(share), now, window: 0 });
    tombstones.settlePurges({ ...settle, ends: due(3).map((tombstone) => ({ tombstone, to: 'purged' })) });
    tombstones.settlePurges({ ...settle, ends: due(7).map((tombstone) => ({ tombstone, to: 'pending' })) });
    due(5);
    for (const tombstone of tombstones.takeForRestore({ store, run, ids: some(4) })) {
      tombstones.settleRestore({ store, run, tombstone, to: 'restored', now, window: DAY });
    }
    tombstones.takeForRestore({ store, run, ids: some(5) });
  }

  it('gives each that a filter lets through once, oldest first, whatever the filter', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uniqueArray(KEY, { minLength: 20, maxLength: 40 }), { minLength: 6, maxLength: 6 }),
        (keys) => {
          for (const [i, some] of keys.entries()) addSweep(i % 3 === 2 ? 2 : 1, some, i === 5);
        },
      ),
      { numRuns: 1, seed: 3 },
    );
    spread(1);
    spread(2);
    const all = temp.catalog.tombstones.page({ limit: 10_000 });
    expect(all.map(({ id }) => id)).to.deep.equal(ids.toSorted());
    expect(new Set(all.map(({ state }) => state)).size).to.equal(7);
    const members = fc.record({
      store: fc.constantFrom(...stores.values()),
      state: STATE,
      prefix: fc.oneof(PARTS, fc.constantFrom('', ...all.map(({ key }) => key)).chain(startOf)),
      sweep: fc.constantFrom(...sweeps, 's-20261122T101500123Z-000000'),
      since: fc.integer({ min: -2000, max: 14_000 }).map((ms) => START + ms),
      dueBefore: fc.integer({ min: -HOUR, max: 3 * WINDOW }).map((ms) => START + ms),
      after: fc.constantFrom(...ids, ''),
    });
    const names = fc.subarray(['store', 'state', 'prefix', 'sweep', 'since', 'dueBefore', 'after'] as const, {
      maxLength: 4,
    });
    const filter = fc.tuple(members, names, fc.integer({ min: 1, max: 60 })).map(
      ([all7, some, limit]): PageFilter => ({
        ...Object.fromEntries(some.map((name) => [name, all7[name]])),
        limit,
      }),
    );
    let hits = 0;
    fc.assert(
      fc.property(filter, (f) => {
        const want = wanted(all, f, stores);
        hits += want.length > 0 ? 1 : 0;
        expect(paged(temp, f)).to.deep.equal(want);
      }),
      { numRuns: 600 },
    );
    expect(hits).to.be.greaterThan(200);
  });

  it('gives the same where a filter lets so many through that they can’t be sorted', function () {
    this.timeout(30_000);
    const store = temp.addStore('large');
    stores.set('large', store.n);
    const run = temp.beginRun(store.n);
    const sweep = temp.beginSweep(store.n, run);
    const cause = temp.catalog.sweeps.cause('old', 'older than 1d');
    for (let batch = 0; batch < 24; batch++) {
      const items = Array.from({ length: 1000 }, (_, i) =>
        intent(
          `${i % 20 === 0 ? 'few' : 'many'}/${String((batch * 7919 + i * 31) % 100_003)}-${batch}`,
          cause,
          i,
        ),
      );
      temp.settle(store.n, run, temp.intend(store.n, run, sweep.n, items));
      temp.now += DAY;
    }
    const all = temp.catalog.tombstones.page({ store: store.n, limit: 100_000 });
    expect(all).to.have.length(24_000);
    const middle = all[11_000]?.id;
    const filters: Omit<PageFilter, 'limit'>[] = [
      {},
      { prefix: 'many/' },
      { prefix: 'm', state: 'pending' },
      { prefix: 'many/', after: middle },
      { prefix: 'many/', since: temp.now - 3 * DAY },
      { dueBefore: temp.now + WINDOW },
      { dueBefore: temp.now + WINDOW, after: middle },
      { dueBefore: temp.now - 20 * DAY + WINDOW },
      { prefix: 'many/', dueBefore: temp.now + WINDOW },
      { sweep: sweep.id, prefix: 'many/' },
      { prefix: 'few/', state: 'pending' },
    ];
    for (const filter of filters) {
      const f = { ...filter, store: store.n, limit: 5000 };
      expect(paged(temp, f), JSON.stringify(filter)).to.deep.equal(wanted(all, f, stores));
    }
  });

  it('pages through what is due in the order of its time, with today’s window', () => {
    const due: string[] = [];
    const page = { store: 1, now: temp.now + 3 * WINDOW, window: WINDOW, limit: 7 };
    for (let after: { purgeAfter: number; id: string } | undefined; ; ) {
      const rows = temp.catalog.tombstones.duePage({ ...page, after });
      due.push(...rows.map(({ id }) => id));
      const last = rows.at(-1);
      if (last === undefined) break;
      after = { purgeAfter: last.purgeAfter ?? 0, id: last.id };
    }
    const rows = temp.catalog.tombstones
      .page({ store: 1, limit: 10_000 })
      .filter(
        (t) =>
          (t.state === 'pending' || t.state === 'restored') &&
          (t.purgeAfter ?? 0) <= page.now &&
          (t.goneAt ?? 0) <= page.now - page.window,
      )
      .toSorted((a, b) => (a.purgeAfter ?? 0) - (b.purgeAfter ?? 0) || (a.id < b.id ? -1 : 1));
    expect(rows.length).to.be.greaterThan(20);
    expect(due).to.deep.equal(rows.map(({ id }) => id));
  });
});
