import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import { exitCodeOf, TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import { tombstoneByHand } from '../../lib/sweep/by-hand.ts';
import { Child } from '../run/child.ts';
import type { Errand } from '../run/place.child.ts';
import { allTombstones, bringBack, FAST, filesBelow, purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, NO_GUARDS, NO_LIMITS, TempPlace } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

const CHILD = path.join(import.meta.dirname, '../run/place.child.ts');
const THEIRS = '{"catalog":"theirs","host":"elsewhere","since":"2026-11-22T09:00:00.000Z"}\n';

/** What `owner.json` may be, other than ours; null is no file. */
const OWNERS: Record<string, { body: string | null; says: RegExp }> = {
  'belongs to another catalog': { body: THEIRS, says: /belongs to catalog theirs on elsewhere since 2026/ },
  'has no owner': { body: null, says: /has no owner/ },
  'has an empty owner.json': { body: '', says: /unreadable .tombstoned\/owner.json/ },
  'has an owner.json that is cut short': { body: '{"catalog":"the', says: /unreadable/ },
  'has an owner.json of another kind': { body: '{"catalog":1}\n', says: /unreadable/ },
};

describe('a store that this catalog does not own', function () {
  this.timeout(30_000);
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    for (const key of ['a', 'b/c']) temp.write(key, `content of ${key}`, 3 * DAY);
    place = temp.open();
    await sweepOld(place);
    temp.clock.advance(temp.window + DAY);
    for (const key of ['d', 'e/f']) temp.write(key, `content of ${key}`, 3 * DAY);
  });
  afterEach(() => {
    temp.remove();
  });

  function setOwner(body: string | null): void {
    const file = path.join(temp.root, '.tombstoned/owner.json');
    if (body === null) rmSync(file);
    else writeFileSync(file, body);
  }

  const WORKS: Record<string, (at: Place) => Promise<unknown>> = {
    sweep: async (at) => sweepOld(at),
    purge: async (at) => purgeDue(at),
    restore: async (at) => bringBack(at, allTombstones(at)),
    'tombstone by hand': async (at) =>
      tombstoneByHand(at, {
        keys: [parseKey('d')],
        reason: null,
        guards: NO_GUARDS,
        limits: NO_LIMITS,
        dryRun: false,
        onOutcome: () => undefined,
      }),
  };

  async function blocked(work: () => Promise<unknown>): Promise<TombstonedError> {
    const error = await work().catch((e: unknown) => e);
    if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
    expect(error).to.include({ code: 'blocked', reason: 'owner', key: place.store.url });
    expect(exitCodeOf(error)).to.equal(5);
    expect(error.hint).to.be.a('string');
    return error;
  }

  function everything(): unknown {
    return [filesBelow(temp.root), allTombstones(place), place.catalog.runs.open(place.row.n)];
  }

  for (const [what, { body, says }] of Object.entries(OWNERS)) {
    it(`because it ${what}, is left as it is by everything that would change it`, async () => {
      setOwner(body);
      const before = everything();
      for (const [name, work] of Object.entries(WORKS)) {
        expect((await blocked(async () => work(place))).message, name).to.match(says);
        expect(everything(), name).to.deep.equal(before);
      }
    });
  }

  for (const name of ['sweep', 'purge', 'restore'] as const) {
    it(`any more, from the middle of a ${name}: what was begun is settled or left, and the rest is not touched`, async () => {
      const files = filesBelow(temp.root).length;
      let reads = 0;
      const fs = watchedFs(({ name: call, values }) => {
        // The first look is at the start, the second at the batch.
        if (call === 'open' && String(values[0]).endsWith('/owner.json') && ++reads === 2) setOwner(THEIRS);
      });
      const other = temp.open({ fs, seed: 3 });
      await blocked(async () => WORKS[name]?.(other));
      expect(filesBelow(temp.root)).to.have.length(files);
      expect(allTombstones(place).map(({ state }) => state)).to.deep.equal(['pending', 'pending']);
    });
  }

  /** A process of this catalog that dies in the middle of a phase, before the owner changes. */
  async function died(does: Errand['do'], call: string, nth: number): Promise<void> {
    const errand = {
      directory: temp.directory,
      now: temp.clock.wall,
      do: does,
      stop: { call, nth, when: 'after' },
    };
    const child = new Child(CHILD, [JSON.stringify(errand)]);
    await child.stop();
    await child.kill();
    setOwner(THEIRS);
  }

  const FENCES = '.tombstoned/fences/';

  it('is recovered as far as the fence goes that a dead run left: the new owner waits for that', async () => {
    const fs = watchedFs(({ name }) => {
      if (name !== 'unlinkAsync') return;
      setOwner(THEIRS);
      throw new Error('the disk is gone');
    });
    const dying = temp.open({ fs, seed: 3 });
    await purgeDue(dying).catch(() => undefined);
    expect(place.catalog.runs.open(place.row.n)).to.have.length(1);
    const files = filesBelow(temp.root);
    expect(files.filter((file) => file.startsWith(FENCES))).to.have.length(1);
    await recover(place);
    expect(filesBelow(temp.root)).to.deep.equal(files.filter((file) => !file.startsWith(FENCES)));
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    expect(allTombstones(place).map(({ state }) => state)).to.deep.equal(['pending', 'pending']);
    await blocked(async () => purgeDue(place));
    expect(filesBelow(temp.root)).to.deep.equal(files.filter((file) => !file.startsWith(FENCES)));
  });

  const LEFT: Record<string, () => Promise<void>> = {
    'a sweep whose fence was broken': async () => {
      await died('sweep', 'rename', 1);
      for (const file of filesBelow(path.join(temp.root, FENCES))) rmSync(path.join(temp.root, FENCES, file));
    },
    // The first link is that of the exemption.
    'a restore': async () => died('restore', 'link', 2),
  };
  for (const [what, leave] of Object.entries(LEFT)) {
    it(`is not recovered from ${what}: what it left waits for the owner`, async () => {
      await leave();
      const files = filesBelow(temp.root);
      const states = allTombstones(place).map(({ id, state }) => `${id} ${state}`);
      expect(states.filter((state) => / (moving|restoring)$/.test(state))).to.have.length(2);
      await recover(place);
      expect(filesBelow(temp.root)).to.deep.equal(files);
      expect(allTombstones(place).map(({ id, state }) => `${id} ${state}`)).to.deep.equal(states);
      expect(temp.talk.join('\n')).to.include('belongs to catalog theirs');
      setOwner(`{"catalog":"${place.catalog.uuid}","host":"h","since":"2026-11-22T09:00:00.000Z"}\n`);
      await recover(place);
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
      expect(allTombstones(place).map(({ state }) => state)).not.to.include.oneOf(['moving', 'restoring']);
    });
  }
});
