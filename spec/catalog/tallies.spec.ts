import { expect } from 'chai';
import fc from 'fast-check';
import type { OpenBatch, Settled, Tombstone } from '../../lib/catalog/tombstones.ts';
import { mayMove, STATES } from '../../lib/domain/state.ts';
import { DAY } from '../support/place.ts';
import { intent, revision, TempCatalog, WINDOW } from './temp-catalog.ts';

interface Known {
  readonly store: number;
  state: Tombstone['state'];
  size: number;
}

/** What happens next; numbers choose among what there is. */
const STEP = fc.record({
  what: fc.constantFrom('intend', 'settle', 'take', 'give-back', 'restore', 'put-back', 'forget'),
  store: fc.constantFrom(0, 1),
  count: fc.integer({ min: 1, max: 6 }),
  choice: fc.nat(1000),
});
type Step = typeof STEP extends fc.Arbitrary<infer T> ? T : never;

/** A catalog, and what it must hold, side by side. */
class Model {
  readonly temp = new TempCatalog();
  readonly known = new Map<string, Known>();
  readonly #stores: { n: number; run: number; sweep: number; open: OpenBatch | undefined }[];
  readonly #cause: number;
  #keys = 0;

  constructor() {
    const { temp } = this;
    this.#cause = temp.catalog.sweeps.cause('old', null);
    this.#stores = ['a', 'b'].map((name) => {
      const { n } = temp.addStore(name);
      const run = temp.beginRun(n);
      return { n, run, sweep: temp.beginSweep(n, run).n, open: undefined };
    });
  }

  do(step: Step): void {
    const store = this.#stores[step.store];
    if (store === undefined) throw new Error('no such store');
    const { temp } = this;
    const { tombstones } = temp.catalog;
    temp.now += DAY;
    const base = { store: store.n, run: store.run };
    switch (step.what) {
      case 'intend': {
        if (store.open !== undefined) return;
        const items = Array.from({ length: step.count }, () =>
          intent(`k${this.#keys++}`, this.#cause, step.choice),
        );
        store.open = temp.intend(store.n, store.run, store.sweep, items);
        for (const { id, size } of store.open.moves)
          this.known.set(id, { store: store.n, state: 'moving', size });
        return;
      }
      case 'settle': {
        if (store.open === undefined) return;
        const ends = store.open.moves.flatMap(({ id }, i) => endOf(id, step.choice + i));
        temp.settle(store.n, store.run, store.open, ends);
        for (const { id } of store.open.moves) {
          const end = ends.find((some) => some.id === id) ?? ({ to: 'pending' } as const);
          if (end.to === 'dropped' || end.to === 'untried') this.known.delete(id);
          else if (end.to !== 'open') this.#move(id, end);
        }
        store.open = tombstones.openBatch(store.run);
        return;
      }
      case 'take': {
        const ids = this.#some(store.n, step, ['pending', 'restored', 'purged']);
        const taken = tombstones.takeForPurge({ ...base, ids, now: temp.now + 3 * WINDOW, window: WINDOW });
        for (const { id } of taken) this.#move(id, { to: 'purging' });
        return;
      }
      case 'restore': {
        const ids = this.#some(store.n, step, ['pending', 'restored', 'purging']);
        for (const { id } of tombstones.takeForRestore({ ...base, ids })) this.#move(id, { to: 'restoring' });
        return;
      }
      case 'give-back': {
        const ends = tombstones.taken(store.run, 'purging', '', step.count).map((tombstone, i) => ({
          tombstone,
          to: (['purged', 'prior', 'pending'] as const)[(step.choice + i) % 3] ?? 'purged',
        }));
        tombstones.settlePurges({ ...base, now: temp.now, at: temp.now, window: WINDOW, ends });
        for (const { tombstone, to } of ends) {
          this.#move(tombstone.id, { to: to === 'prior' ? (tombstone.prior ?? 'moving') : to });
        }
        return;
      }
      case 'put-back': {
        const to = step.choice % 2 === 0 ? 'restored' : 'prior';
        for (const tombstone of tombstones.taken(store.run, 'restoring', '', step.count)) {
          tombstones.settleRestore({ ...base, tombstone, to, now: temp.now, window: WINDOW });
          this.#move(tombstone.id, { to: to === 'prior' ? (tombstone.prior ?? 'moving') : to });
        }
        return;
      }
      case 'forget': {
        const gone = [...this.known].filter(([, { state }]) => state === 'purged' || state === 'abandoned');
        expect(tombstones.forget(temp.now + 1, step.count)).to.equal(Math.min(step.count, gone.length));
        for (const [id] of gone) if (tombstones.get(id) === undefined) this.known.delete(id);
      }
    }
  }

  #some(store: number, { count, choice }: Step, states: readonly Tombstone['state'][]): string[] {
    const ids = [...this.known].flatMap(([id, k]) =>
      k.store === store && states.includes(k.state) ? [id] : [],
    );
    return ids.slice(choice % (ids.length + 1)).slice(0, count);
  }

  #move(id: string, end: { to: Tombstone['state']; revision?: { size: number } }): void {
    const known = this.known.get(id);
    if (known === undefined) throw new Error(`${id} is not known`);
    expect(mayMove(known.state, end.to), `${known.state} to ${end.to}`).to.equal(true);
    known.state = end.to;
    known.size = end.revision?.size ?? known.size;
  }

  check(): void {
    for (const { n } of this.#stores) {
      const rows = this.temp.catalog.tombstones.page({ store: n, limit: 10_000 });
      expect(rows.map(({ id, state, size }) => [id, state, size])).to.deep.equal(
        [...this.known]
          .filter(([, known]) => known.store === n)
          .map(([id, { state, size }]) => [id, state, size])
          .toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
      );
      expect(this.temp.catalog.tombstones.tallies(n)).to.have.deep.members(counted(rows));
    }
  }
}

function endOf(id: string, choice: number): Settled[] {
  switch (choice % 7) {
    case 0:
      return [{ id, to: 'abandoned', why: 'gone' }];
    case 1:
      return [{ id, to: 'restored', revision: revision(choice * 10) }];
    case 2:
      return [{ id, to: 'pending', revision: revision(choice * 20) }];
    case 3:
      return [{ id, to: 'dropped' }];
    case 4:
      return [{ id, to: 'open' }];
    default:
      return [];
  }
}

function counted(rows: readonly Tombstone[]): { state: Tombstone['state']; count: number; bytes: number }[] {
  return STATES.map((state) => rows.filter((row) => row.state === state))
    .filter((some) => some.length > 0)
    .map((some) => ({
      state: some[0]?.state ?? 'moving',
      count: some.length,
      bytes: some.reduce((sum, { size }) => sum + size, 0),
    }));
}

describe('tallies', () => {
  it('equal a recount after every change, and states move only as they may', function () {
    this.timeout(60_000);
    const reached = new Set<string>();
    fc.assert(
      fc.property(fc.array(STEP, { minLength: 40, maxLength: 80 }), (steps) => {
        const model = new Model();
        try {
          for (const step of steps) {
            model.do(step);
            model.check();
            for (const { state } of model.known.values()) reached.add(state);
          }
        } finally {
          model.temp.remove();
        }
      }),
      { numRuns: 25 },
    );
    expect([...reached]).to.have.members([...STATES]);
  });
});
