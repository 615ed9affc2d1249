import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { lookAtLeases } from '../../lib/run/leases.ts';
import type { Place } from '../../lib/run/place.ts';
import { Child } from '../run/child.ts';
import { FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { ACTOR, DAY, TempPlace } from '../support/place.ts';
import type { Reading } from './session.child.ts';

const CHILD = path.join(import.meta.dirname, 'session.child.ts');
const BIG = 'abcdefgh'.repeat(500_000);

describe('a process that holds a session and is stopped (SIGSTOP)', function () {
  this.timeout(60_000);
  let temp: TempPlace;
  let place: Place;
  let child: Child | undefined;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    temp.window = 0;
    place = temp.open();
    temp.write('big', BIG, 3 * DAY);
    temp.write('next', 'next', 3 * DAY);
  });
  afterEach(async () => {
    await child?.kill();
    temp.remove();
  });

  async function stopped(ttl: number): Promise<Child> {
    const reading: Reading = { directory: temp.directory, ttl, key: 'big', next: 'next' };
    child = new Child(CHILD, [JSON.stringify(reading)]);
    await child.stop();
    return child;
  }

  /** The place by the real clock, which has nothing to do with the driven one: as if after another boot. */
  function watching(): Place {
    return { ...place, clock: systemClock, actor: { ...ACTOR, boot: 'real' } };
  }

  function leases(): string[] {
    return readdirSync(path.join(temp.root, '.tombstoned/leases'));
  }

  it('past its TTL: others go on after that, and when it goes on it hands out not another byte', async () => {
    const stopping = await stopped(1000);
    expect((await sweepOld(place)).moved).to.equal(2);
    const began = systemClock.monotonic();
    while ((await lookAtLeases(watching())).length > 0) await delay(20); // real time: it is another process's
    expect(systemClock.monotonic() - began, 'observed for its TTL').to.be.at.least(999);
    expect(leases().join()).to.match(/^l-\S+\.broken$/);
    expect((await purgeDue(place)).purged).to.equal(2);
    stopping.wake();
    const said = [await stopping.hear(), await stopping.hear(), await stopping.hear()];
    expect(said[0]).to.include({ error: 'LeaseLost', after: 0 });
    expect(said.slice(1)).to.deep.equal([{ error: 'LeaseLost' }, { aborted: true }]);
    await stopping.end();
    expect(leases().join(), 'the mark stays').to.match(/^l-\S+\.broken$/);
  });

  it('for less: nothing is purged meanwhile, and it reads on what was swept, every byte', async () => {
    const stopping = await stopped(30_000);
    expect((await sweepOld(place)).moved).to.equal(2);
    expect((await purgeDue(place)).purged).to.equal(0);
    expect(await lookAtLeases(watching())).to.have.length(1);
    expect(existsSync(path.join(temp.root, 'big'))).to.equal(false);
    stopping.wake();
    expect(await stopping.hear()).to.include({ error: null, bytes: BIG.length });
    expect(await stopping.hear()).to.deep.equal({ error: null, location: 'pending' });
    expect(await stopping.hear()).to.deep.equal({ aborted: false });
    await stopping.end();
    expect(leases()).to.deep.equal([]);
    expect((await purgeDue(place)).purged).to.equal(2);
  });
});
