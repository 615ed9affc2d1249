import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { explainKey } from '../../lib/app/explain.ts';
import { keptDetail, reasonsOf, type StandingTombstone, standingOf } from '../../lib/app/kept.ts';
import type { OpenPlace } from '../../lib/app/open.ts';
import { claimsIn, type StoreClaims } from '../../lib/app/standing-claims.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { parseKey } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import { type LeaseBody, leaseText } from '../../lib/store/leases.ts';
import { Child } from '../run/child.ts';
import type { Errand } from '../run/place.child.ts';
import { allTombstones, FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

const CHILD = path.join(import.meta.dirname, '../run/place.child.ts');
const TTL = 3600;

describe('what is said of claims', function () {
  this.timeout(30_000);
  let temp: TempPlace;
  let place: Place;
  let children: Child[];
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    children = [];
    for (const key of ['k/1', 'k/2', 'k/3']) temp.write(key, key, 3 * DAY);
  });
  afterEach(async () => {
    for (const child of children) await child.kill();
    temp.remove();
  });

  async function claims(): Promise<StoreClaims> {
    return claimsIn({ ...place, known: place });
  }

  async function standing(): Promise<StandingTombstone[]> {
    const settings = { safetyWindow: 0, clock: temp.clock, claims: await claims() };
    return standingOf(place.catalog, place.row, settings, allTombstones(place));
  }

  function lease(members: Partial<LeaseBody> = {}): void {
    const body: LeaseBody = {
      id: 'l-20261122T100000000Z-000001',
      holder: 'fetch',
      host: 'h2',
      pid: 1,
      prefixes: ['k/1'],
      blocks: 'purge',
      ttlSeconds: TTL,
      acquiredAt: '2026-11-22T10:00:00.000Z',
      renewal: 0,
      ...members,
    };
    const file = path.join(temp.root, `.tombstoned/leases/${body.id}.json`);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, leaseText(body));
  }

  it('a lease is dead when its number has been seen to stand still for its TTL, as the next purge sees it', async () => {
    await sweepOld(place);
    temp.clock.advance(temp.window + DAY);
    lease();
    const life = async (): Promise<unknown[]> => {
      const [one] = (await claims()).leases;
      const kept = (await standing()).filter((each) => reasonsOf(each.kept).includes('lease'));
      return [one?.isDead, one?.stillFor, kept.map(({ tombstone }) => tombstone.key)];
    };
    expect(await life()).to.deep.equal([false, 0, ['k/1']]);
    temp.clock.advance(TTL * 1000 - 1);
    expect(await life()).to.deep.equal([false, TTL * 1000 - 1, ['k/1']]);
    lease({ renewal: 1 });
    expect(await life()).to.deep.equal([false, 0, ['k/1']]);
    temp.clock.wall += 30 * DAY; // what the wall clock says is no time seen
    expect(await life()).to.deep.equal([false, 0, ['k/1']]);
    temp.clock.wall -= 30 * DAY;
    temp.clock.advance(TTL * 1000);
    expect(await life()).to.deep.equal([true, TTL * 1000, []]);
    // To look has changed nothing: the purge is what takes it as dead, and says so.
    expect((await claims()).leases).to.have.length(1);
    expect((await purgeDue(place)).purged).to.equal(3);
    expect((await claims()).leases).to.deep.equal([]);
    expect(temp.talk.join('\n')).to.include('taken as dead');
  });

  for (const does of ['sweep', 'purge', 'restore'] as const) {
    it(`what a ${does} has taken is in its hands: its fence or run says so, and what becomes of it`, async () => {
      if (does !== 'sweep') await sweepOld(place);
      if (does === 'purge') temp.clock.advance(temp.window + DAY);
      const stop = { call: CALLS[does], nth: 3, when: 'before' } as const;
      const errand: Errand = {
        directory: temp.directory,
        now: temp.clock.wall,
        do: does,
        prefix: 'k/',
        stop,
      };
      const child = new Child(CHILD, [JSON.stringify(errand)]);
      children.push(child);
      await child.stop();
      const run = place.catalog.runs.open(place.row.n)[0]?.id ?? '';
      const says = async (): Promise<string> => {
        const all = await standing();
        expect(all).to.have.length(3);
        const texts = all.map(({ kept }) => {
          expect(reasonsOf(kept)).to.deep.equal(['fence']);
          const [one] = kept;
          if (one === undefined) throw new Error('nothing keeps it');
          const { by, detail } = keptDetail(one);
          expect(by).to.equal(run);
          return detail;
        });
        expect(new Set(texts).size).to.equal(1);
        return texts[0] ?? '';
      };
      const explained = async (): Promise<unknown> => {
        const url = `file://${temp.root}`;
        const config = { ...storeConfigFromUrl(url), name: 'spec' };
        const at: OpenPlace = { ...place, config };
        const [copy] = (await explainKey(at, parseKey('k/3')))?.copies ?? [];
        return copy?.kept.find(({ reason }) => reason === 'fence')?.change;
      };
      if (does === 'restore') {
        expect(await says()).to.equal(`run ${run} has taken it (restoring)`);
        expect(await explained()).to.include('when that has died');
        return;
      }
      expect(await says())
        .to.include(`a ${does} of spec-host, pid`)
        .and.include('it is under way');
      expect(await explained()).to.equal('it is over soon; look again');
      await child.kill();
      expect(await says()).to.include('its process died');
      expect(await explained()).to.include('any sweep, purge or restore finishes what it left');
    });
  }
});

const CALLS = { sweep: 'rename', purge: 'unlinkAsync', restore: 'link' } as const;
