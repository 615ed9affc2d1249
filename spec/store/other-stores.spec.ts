import { cpSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { initStore } from '../../lib/app/init.ts';
import { recover } from '../../lib/app/recover.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { Reader } from '../../lib/reader/reader.ts';
import type { Place } from '../../lib/run/place.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  purgeDue,
  readThrough,
  sweepOld,
} from '../support/phases.ts';
import { ACTOR, age, DAY, seeded, TempPlace } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

async function failure(work: () => Promise<unknown>): Promise<TombstonedError> {
  const error = await work().catch((e: unknown) => e);
  if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
  return error;
}

describe('a store inside another', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
  });
  afterEach(() => {
    temp.remove();
  });

  async function init(directory: string): Promise<unknown> {
    const config = { ...storeConfigFromUrl(`file://${directory}`), name: 'other' };
    const report = (): void => undefined;
    const surroundings = { clock: temp.clock, random: seeded(1), actor: ACTOR, report };
    return initStore({ catalog: temp.catalogFile }, config, surroundings);
  }

  it('is not made: not below one, however deep, nor through a link, nor around one', async () => {
    const deep = path.join(temp.root, 'some/where');
    mkdirSync(deep, { recursive: true });
    const link = path.join(temp.directory, 'link');
    symlinkSync(deep, link);
    for (const directory of [deep, link]) {
      const error = await failure(async () => init(directory));
      expect(error.message).to.match(/is inside the store .*\/store$/);
    }
    const around = await failure(async () => init(temp.directory));
    expect(around.message).to.include('store/ is another store inside this one');
    expect(filesBelow(temp.root)).to.deep.equal(['.tombstoned/owner.json', '.tombstoned/store.json']);
    expect(readdirSync(temp.directory)).not.to.include('.tombstoned');
  });

  it('stops a sweep that comes there, before anything moves; other prefixes go on', async () => {
    temp.write('a/x', 'old', 3 * DAY);
    temp.write('b/c/x', 'of the other', 3 * DAY);
    temp.write('b/c/.tombstoned/store.json', '{}\n');
    const place = temp.open();
    for (const prefix of ['', 'b', 'b/', 'b/c/', 'b/c/x', 'b/c/d/']) {
      const error = await failure(async () => sweepOld(place, { policies: [age({ prefix })] }));
      expect(error.message, prefix).to.include('store/b/c/ is another store inside this one');
    }
    expect(allTombstones(place)).to.deep.equal([]);
    expect((await sweepOld(place, { policies: [age({ prefix: 'a/' })] })).moved).to.equal(1);
    expect(temp.live('b/c/x')).to.equal('of the other');
  });

  it('is none without an identity: `.tombstoned` alone is only not listed', async () => {
    temp.write('b/x', 'old', 3 * DAY);
    temp.write('b/.tombstoned/y', 'old', 3 * DAY);
    expect((await sweepOld(temp.open())).moved).to.equal(1);
    expect(temp.live('b/.tombstoned/y')).to.equal('old');
  });

  it('that appears between planning and moving stops the sweep: nothing of it is touched', async () => {
    for (const key of ['a/x', 'b/x', 'c/x']) temp.write(key, `old ${key}`, 3 * DAY);
    const fs = watchedFs(({ name }) => {
      if (name === 'rename') temp.write('b/.tombstoned/store.json', '{}\n');
    });
    const sweeping = temp.open({ fs });
    const error = await failure(async () => sweepOld(sweeping));
    expect(error.message).to.include('store/b is another store inside this one');
    const place = temp.open({ seed: 3 });
    await recover(place);
    expect(temp.live('b/x')).to.equal('old b/x');
    const states = allTombstones(place).map(({ key, state }) => [key, state]);
    expect(states).to.deep.include(['a/x', 'pending']);
    expect(states).to.deep.include(['b/x', 'abandoned']);
    for (const key of ['a/x', 'c/x']) expect(await readThrough(place, key)).to.equal(`old ${key}`);
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
  });

  it('where something was before is no place to restore to', async () => {
    temp.write('b/x', 'old', 3 * DAY);
    const place = temp.open();
    await sweepOld(place);
    temp.write('b/.tombstoned/store.json', '{}\n');
    const [outcome] = await bringBack(place, allTombstones(place));
    expect(outcome?.outcome).to.equal('failed');
    expect(outcome?.detail).to.include('another store');
    expect(temp.live('b/x')).to.equal(undefined);
  });
});

const REPLACEMENTS: Record<string, (temp: TempPlace) => void> = {
  'an empty directory': (temp) => mkdirSync(temp.root),
  nothing: () => undefined,
  'another store': (temp) => {
    mkdirSync(path.join(temp.root, '.tombstoned'), { recursive: true });
    const from = path.join(temp.directory, 'away/.tombstoned/owner.json');
    cpSync(from, path.join(temp.root, '.tombstoned/owner.json'));
    temp.write('.tombstoned/store.json', identity('11111111-1111-4111-8111-111111111111'));
    temp.write('foreign', 'of the other store', 3 * DAY);
  },
};

function identity(uuid: string): string {
  const pendingPrefix = 'pending_deletion/';
  return `${JSON.stringify({ uuid, layout: 1, minReader: 1, pendingPrefix, createdAt: '2026-11-22T10:00:00.000Z' })}\n`;
}

describe('where the store should be there is', () => {
  let temp: TempPlace;
  let seed: number;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    for (const key of ['a', 'b/c']) temp.write(key, `content of ${key}`, 3 * DAY);
    seed = 0;
  });
  afterEach(() => {
    temp.remove();
  });

  function away(): string {
    return path.join(temp.directory, 'away');
  }

  function comeBack(): void {
    rmSync(temp.root, { recursive: true, force: true });
    renameSync(away(), temp.root);
  }

  type Work = (place: Place) => Promise<unknown>;
  const WORKS: Record<string, { prepare: Work; work: Work; must: (place: Place) => void }> = {
    sweep: {
      prepare: async () => undefined,
      work: async (place) => sweepOld(place),
      must: (place) => {
        for (const { state } of allTombstones(place)) expect(state).to.equal('pending');
      },
    },
    purge: {
      prepare: async (place) => {
        await sweepOld(place);
        temp.clock.advance(temp.window + DAY);
      },
      work: async (place) => purgeDue(place),
      must: (place) => {
        for (const { key, id, state } of allTombstones(place)) {
          expect(temp.live(`pending_deletion/${key}~${id}`) === undefined).to.equal(state === 'purged');
        }
      },
    },
    restore: {
      prepare: async (place) => sweepOld(place),
      work: async (place) => bringBack(place, allTombstones(place)),
      must: (place) => {
        for (const { key, state } of allTombstones(place)) {
          expect(temp.live(key) !== undefined).to.equal(state === 'restored');
        }
      },
    },
  };

  for (const [what, put] of Object.entries(REPLACEMENTS)) {
    for (const [name, { prepare, work, must }] of Object.entries(WORKS)) {
      it(`${what}, before or in the middle of a ${name}: refused, and nothing is marked as gone`, async () => {
        const first = temp.open({ seed: ++seed });
        await prepare(first);
        temp.close(first);
        let nth = 1;
        for (let isDone = false; !isDone; nth++) {
          let looks = 0;
          const fs = watchedFs((call) => {
            const isLook = call.name === 'open' && call.values[0] === temp.root;
            if (!isLook || ++looks !== nth + 1) return; // the first is the opening of the store
            renameSync(temp.root, away());
            put(temp);
          });
          const place = temp.open({ fs, seed: ++seed });
          const end = await work(place).catch((error: unknown) => error);
          temp.close(place);
          isDone = looks <= nth;
          if (isDone) expect(end).not.to.be.instanceOf(Error);
          else {
            expect(end, `replaced at ${nth}`).to.be.instanceOf(TombstonedError);
            expect(temp.live('foreign') ?? 'of the other store').to.equal('of the other store');
            comeBack();
          }
          const after = temp.open({ seed: ++seed });
          await recover(after);
          must(after);
          expect(after.catalog.runs.open(after.row.n)).to.deep.equal([]);
          temp.close(after);
        }
        expect(nth).to.be.greaterThan(5);
      });
    }

    it(`${what}: opened there anew, a sweep is refused, and a reader never says missing`, async () => {
      renameSync(temp.root, away());
      put(temp);
      if (what === 'nothing') {
        expect(() => temp.open()).to.throw(TombstonedError, /can't be opened: ENOENT/);
        return;
      }
      const place = temp.open();
      const error = await failure(async () => sweepOld(place));
      expect(error.message).to.match(/not our store|and the catalog knows it as/);
      if (what === 'another store') expect(temp.live('foreign')).to.equal('of the other store');
      else
        expect((await failure(async () => new Reader(place.store).open(parseKey('a')))).code).to.equal(
          'failed',
        );
    });
  }
});
