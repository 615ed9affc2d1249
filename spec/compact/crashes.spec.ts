import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Place } from '../../lib/run/place.ts';
import { type Fault, Faults, faultsAt } from '../support/faults.ts';
import { DAY } from '../support/place.ts';
import { AptosPlace, backupOf, compactIn } from './aptos-place.ts';

describe('a compaction that fails or is killed at any step', function () {
  this.timeout(60_000);
  const all = [...backupOf(3).values()].map((text) => text.trim());

  async function prepared(kind: Scenario): Promise<AptosPlace> {
    const place = await AptosPlace.make(backupOf(3));
    await kind.prepare(place);
    return place;
  }

  interface Scenario {
    /** Each run tries another part of all faults: one of so many. */
    readonly stride: number;
    prepare(place: AptosPlace): Promise<void>;
  }

  const SCENARIOS: Record<string, Scenario> = {
    'that writes': { stride: 17, prepare: async () => undefined },
    'that replaces, and writes again what was cut short': {
      stride: 97,
      prepare: async (place) => {
        await place.compact({ factor: 2 });
        place.temp.clock.advance(DAY + 2000);
        place.temp.write(
          'metadata/transaction_compacted_0-19.meta',
          place.content('transaction_0-9.meta'),
          5000,
        );
      },
    },
  };

  for (const [what, scenario] of Object.entries(SCENARIOS)) {
    it(`${what}, leaves no line out of live files, and no file cut short, and the next run finishes`, async () => {
      const calls = await stepsOf(scenario);
      const tried = calls
        .flatMap((call, i) => faultsAt(call, i + 1))
        .filter((_, i) => i % scenario.stride === turn() % scenario.stride);
      expect(tried.length).to.be.greaterThan(5);
      for (const fault of tried) await tryOne(scenario, fault);
    });
  }

  async function stepsOf(scenario: Scenario): Promise<string[]> {
    const place = await prepared(scenario);
    const faults = new Faults();
    const open = place.open({ fs: faults.fs(), catalog: (catalog) => faults.catalog(catalog) });
    const begun = faults.calls.length;
    await compactIn(open, { factor: 2 });
    const { calls } = faults;
    place.temp.remove();
    return calls.map((call, i) => (i < begun ? 'fstat' : call));
  }

  async function tryOne(scenario: Scenario, fault: Fault): Promise<void> {
    const place = await prepared(scenario);
    const at = `${fault.as} ${fault.when} call ${fault.at}`;
    const before = new Set(place.names());
    const faults = new Faults(fault);
    let open: Place | undefined;
    try {
      open = place.open({ fs: faults.fs(), catalog: (catalog) => faults.catalog(catalog) });
      await compactIn(open, { factor: 2 });
    } catch (error) {
      if (!faults.isDone) throw error;
    }
    if (open !== undefined) place.temp.abandon(open);
    faults.end();
    expect([...place.lines()], `${at}: live lines`).to.include.members(all);
    for (const name of place.names().filter((one) => !before.has(one))) {
      expect(place.content(name), `${at}: ${name}`).to.match(/\}\n$/);
    }
    place.date();
    const again = place.open();
    await recover(again);
    await compactIn(again, { factor: 2 });
    expect([...place.lines()], `${at}: live lines at the end`).to.have.members(all);
    expect(
      place.names().filter((name) => name.includes('_compacted_')),
      at,
    ).to.deep.equal(COMPACTED);
    for (const name of COMPACTED.filter((one) => one.startsWith('transaction')))
      expect(place.content(name).split('\n'), `${at}: ${name}`).to.have.length(name.includes('0-19') ? 3 : 2);
    place.temp.remove();
  }
});

const COMPACTED = [
  'epoch_ending_compacted_0-1.meta',
  'epoch_ending_compacted_2-2.meta',
  'state_snapshot_compacted_epoch_1_1.meta',
  'transaction_compacted_0-19.meta',
  'transaction_compacted_20-29.meta',
];

/** Changes each minute. */
function turn(): number {
  return Math.floor(Date.now() / 60_000);
}
