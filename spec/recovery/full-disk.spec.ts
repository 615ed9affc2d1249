import { closeSync, existsSync, openSync, statfsSync, writeSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Place } from '../../lib/run/place.ts';
import { Mounts, mayMount } from '../support/mounts.ts';
import { allTombstones, eraseNow, purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

const OLD = 400;

describe('with nothing free on the disk', () => {
  const mounts = new Mounts();
  let host: TempPlace;
  let temp: TempPlace;

  before(function () {
    if (!mayMount()) this.skip();
  });
  beforeEach(async () => {
    host = await TempPlace.make();
    temp = await TempPlace.make(mounts.tmpfs(path.join(host.directory, 'disk'), '24m'));
    for (let i = 0; i < OLD; i++) temp.write(`d/${i}`.padEnd(150, 'x'), 'old', 9 * DAY);
    const place = temp.open();
    await sweepOld(place);
    temp.close(place);
    temp.clock.advance(temp.window + DAY);
  });
  afterEach(() => {
    temp.remove();
    mounts.remove();
    host.remove();
  });

  /** A sweep that dies after its move, before it is recorded. */
  async function dieInSweep(): Promise<void> {
    for (let i = 0; i < OLD; i++) temp.write(`e/${i}`.padEnd(150, 'x'), 'old', 2 * DAY);
    const dying = temp.open({ seed: 9 });
    const { store } = dying;
    const move = store.move.bind(store);
    store.move = async (...values) => {
      await move(...values);
      throw new Error('died');
    };
    let died: unknown;
    await sweepOld(dying).catch((error: unknown) => {
      died = error;
    });
    expect(String(died)).to.contain('died');
    temp.close(dying);
  }

  function fill(): void {
    for (const size of [65_536, 4096, 512, 1]) {
      const fd = openSync(path.join(host.directory, 'disk', `fill-${size}`), 'w');
      const block = Buffer.alloc(size, 1);
      expect(() => {
        for (;;) writeSync(fd, block);
      }).to.throw('ENOSPC');
      closeSync(fd);
    }
  }

  const hasReserve = (): boolean => existsSync(`${temp.catalogFile}.reserve`);
  const count = (place: Place, state: string): number =>
    allTombstones(place).filter((tombstone) => tombstone.state === state).length;

  it('a purge first finishes what a run that died has left, and purges', async () => {
    await dieInSweep();
    const other = temp.open(); // with it there is a WAL already
    fill();
    const place = temp.open({ seed: 21, mayUseReserve: true });
    await recover(place);
    const { purged, due } = await purgeDue(place);
    expect([purged, due]).to.deep.equal([OLD, OLD]);
    expect([count(place, 'purged'), count(place, 'pending')]).to.deep.equal([OLD, OLD]);
    expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
    temp.close(other);
  });

  it('what is named is purged before its window, and frees space, with its proof', async () => {
    for (let i = 0; i < OLD; i++) temp.write(`young/${i}`, 'young', 2 * DAY);
    const sweeping = temp.open({ seed: 20 });
    await sweepOld(sweeping);
    temp.close(sweeping);
    fill();
    const free = (): number => statfsSync(path.join(host.directory, 'disk')).ffree;
    const before = free();
    const place = temp.open({ seed: 21, mayUseReserve: true });
    await recover(place);
    const names = Array.from({ length: OLD }, (_, i) => `young/${i}`);
    const outcomes = await eraseNow(place, names);
    expect(new Set(outcomes.map(({ outcome }) => outcome))).to.deep.equal(new Set(['purged']));
    expect(outcomes.filter(({ checkedAbsentAt }) => checkedAbsentAt !== null)).to.have.length(OLD);
    expect([count(place, 'purged'), count(place, 'pending')]).to.deep.equal([OLD, OLD]);
    expect(free() - before).to.be.at.least(OLD - 5); // some files of its own
  });

  it('a purge counts each object once, when the disk is found full in its midst', async () => {
    const place = temp.open({ mayUseReserve: true });
    const { store } = place;
    const remove = store.remove.bind(store);
    store.remove = async (batch) => {
      const outcomes = await remove(batch);
      fill();
      return outcomes;
    };
    const { purged, due, bytes } = await purgeDue(place);
    expect([purged, due, bytes]).to.deep.equal([OLD, OLD, 3 * OLD]);
    expect(count(place, 'purged')).to.equal(OLD);
  });

  it('only a purge takes the room that is kept for it, and it is made again when there is room', async () => {
    await dieInSweep();
    fill();
    let failure: unknown;
    try {
      const reading = temp.open({ seed: 22 }); // in memory there is no room even for a WAL
      await recover(reading);
      temp.close(reading);
    } catch (error) {
      failure = error;
    }
    expect(hasReserve(), String(failure)).to.equal(true);
    const seen: boolean[] = [];
    const purging = temp.open({ seed: 23, mayUseReserve: true });
    expect((await purgeDue(purging, { onProgress: () => seen.push(hasReserve()) })).purged).to.equal(OLD);
    expect([...seen, hasReserve()]).to.deep.equal([false, true]);
  });

  it('what keeps the room from being made again does not hide what a purge has done', async () => {
    const place = temp.open();
    place.catalog.keepReserve = () => {
      throw new Error('no permission');
    };
    expect((await purgeDue(place)).purged).to.equal(OLD);
    expect(temp.talk.join()).to.contain('no permission');
    place.catalog.keepReserve = () => false;
    temp.clock.advance(1);
    await purgeDue(place);
    expect(temp.talk.join()).to.contain('the disk is full');
  });
});
