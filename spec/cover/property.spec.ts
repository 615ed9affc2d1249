import { readdirSync, statSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { type KnownMetadata, metadataText } from '../../lib/aptos/metadata.ts';
import { type MetadataView, ViewBuilder } from '../../lib/aptos/view.ts';
import { compactionPolicy } from '../../lib/cover/policies.ts';
import { readAll } from '../../lib/metadata/read-all.ts';
import type { Place } from '../../lib/run/place.ts';
import { epoch, snapshot, transactions } from '../aptos/lines.ts';
import { compactIn } from '../compact/aptos-place.ts';
import { allTombstones, bringBack, FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { age, HOUR, NO_LIMITS, TempPlace } from '../support/place.ts';

type Step =
  | { readonly do: 'compact'; readonly factor: number; readonly removeAfter: number }
  | { readonly do: 'sweep'; readonly olderThan: number; readonly match: string }
  | { readonly do: 'purge' }
  | { readonly do: 'undo'; readonly nth: number }
  | { readonly do: 'backup'; readonly count: number }
  | { readonly do: 'twin'; readonly nth: number }
  | { readonly do: 'wait'; readonly hours: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('compact' as const),
      factor: fc.integer({ min: 1, max: 4 }),
      removeAfter: fc.constantFrom(0, 20 * HOUR),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('sweep' as const),
      olderThan: fc.constantFrom(0, 30 * HOUR),
      match: fc.constantFrom('**', '*_compacted_*', '[et]*', '*[0-9].meta'),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'purge' as const }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('undo' as const), nth: fc.nat(50) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('backup' as const), count: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('twin' as const), nth: fc.nat(50) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('wait' as const), hours: fc.integer({ min: 1, max: 200 }) }),
  },
);

/** A store with a backup that grows, and what is done to it. */
class World {
  readonly temp: TempPlace;
  readonly place: Place;
  #epochs = 0;

  private constructor(temp: TempPlace) {
    this.temp = temp;
    this.place = temp.open();
  }

  static async make(): Promise<World> {
    const temp = await TempPlace.make(FAST);
    temp.format = 'aptos';
    return new World(temp);
  }

  #write(name: string, ...lines: readonly KnownMetadata[]): void {
    this.temp.write(`metadata/${name}.meta`, lines.map((line) => `${metadataText(line)}\n`).join(''));
  }

  backup(count: number): void {
    for (let i = 0; i < count; i++) {
      const n = this.#epochs++;
      const [first, last] = [n * 10, n * 10 + 9];
      this.#write(`epoch_ending_${n}-${n}`, epoch([n, n], [last, last], `e${n}/m`));
      this.#write(`transaction_${first}-${last}`, transactions(first, last, `t${n}/m`));
      if (n % 2 === 0) this.#write(`state_snapshot_ver_${last}`, snapshot(n, last, `s${n}/m`));
    }
  }

  /** Some transaction once more, in a file of another name. */
  twin(nth: number): void {
    const n = nth % this.#epochs;
    this.#write(
      `again_${nth}`,
      transactions(n * 10, n * 10 + 9, `t${n}/m`),
      epoch([n, n], [n * 10 + 9, n * 10 + 9], `e${n}/m`),
    );
  }

  async view(): Promise<MetadataView> {
    const builder = new ViewBuilder();
    for await (const { file, error } of readAll(this.place.store, { concurrency: 4 })) {
      if (file === undefined) throw error;
      for (const { metadata } of file.lines) builder.add(metadata);
    }
    return builder.view();
  }

  /** What was written just now was, by the driven clock. */
  #date(): void {
    const directory = path.join(this.temp.root, 'metadata');
    const now = this.temp.clock.wall;
    for (const name of readdirSync(directory)) {
      const file = path.join(directory, name);
      if (statSync(file).mtimeMs > now) utimesSync(file, now / 1000, now / 1000);
    }
  }

  async take(one: Step): Promise<void> {
    const { place, temp } = this;
    switch (one.do) {
      case 'backup':
        return this.backup(one.count);
      case 'twin':
        return this.twin(one.nth);
      case 'wait':
        return temp.clock.advance(one.hours * HOUR);
      case 'purge':
        return void (await purgeDue(place));
      case 'compact': {
        const { factor, removeAfter } = one;
        await compactIn(place, { factor, removeAfter });
        return this.#date();
      }
      case 'sweep': {
        const { olderThan, match } = one;
        const policies = [
          compactionPolicy({ name: 'compacted', removeAfter: HOUR, limits: NO_LIMITS }),
          age({ name: 'old', prefix: 'metadata/', match, olderThan }),
        ];
        return void (await sweepOld(place, { policies }));
      }
      case 'undo': {
        const all = allTombstones(place).filter(({ state }) => state === 'pending');
        const tombstone = all[one.nth % Math.max(all.length, 1)];
        return void (await bringBack(place, [tombstone], { force: one.nth % 2 === 0, exemptFor: 0 }));
      }
    }
  }
}

/** All that a view says, as texts that only get more. */
function said(view: MetadataView): Set<string> {
  return new Set(
    [...view.epochEndings, ...view.snapshots, ...view.transactions].map((line) => metadataText(line)),
  );
}

describe('any sequence of compactions, sweeps, purges, undos and new backups', function () {
  this.timeout(60_000);

  it('keeps what can be restored from live files, or adds to it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 6, maxLength: 14 }), async (steps) => {
        const world = await World.make();
        try {
          world.backup(3);
          let before = await world.view();
          for (const one of steps) {
            await world.take(one);
            const after = await world.view();
            const now = said(after);
            expect(
              [...said(before)].filter((line) => !now.has(line)),
              JSON.stringify(one),
            ).to.deep.equal([]);
            const [from, to] = [before.restorable(), after.restorable()];
            expect((to.version ?? -1n) >= (from.version ?? -1n), JSON.stringify(one)).to.equal(true);
            expect(after.usableSnapshots() >= before.usableSnapshots(), JSON.stringify(one)).to.equal(true);
            before = after;
          }
        } finally {
          world.temp.remove();
        }
      }),
      { numRuns: 25 },
    );
  });
});
