import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
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
/** Where libfaketime is: it gives a process another wall clock. */
const LIBRARY = [
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib64',
  '/usr/lib',
  '/usr/local/lib',
]
  .map((directory) => path.join(directory, 'faketime/libfaketimeMT.so.1'))
  .find((file) => existsSync(file));

describe('a host whose wall clock is wrong (faketime)', function () {
  this.timeout(60_000);
  let temp: TempPlace;
  let place: Place;
  let child: Child | undefined;
  before(function () {
    if (LIBRARY === undefined) this.skip();
  });
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

  function setClock(offset: string): void {
    writeFileSync(path.join(temp.directory, 'offset'), `${offset}\n`);
  }

  /** A process that has stopped in the middle of a read, with its wall clock that far off. */
  async function stopped(offset: string): Promise<Child> {
    setClock(offset);
    const reading: Reading = { directory: temp.directory, ttl: 30_000, key: 'big', next: 'next' };
    child = new Child(CHILD, [JSON.stringify(reading)], {
      LD_PRELOAD: LIBRARY ?? '',
      FAKETIME_TIMESTAMP_FILE: path.join(temp.directory, 'offset'),
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    });
    await child.stop();
    return child;
  }

  /** Everything is swept, and purged as far as leases let it. */
  async function sweepAndPurge(): Promise<number> {
    await sweepOld(place);
    const { purged } = await purgeDue(place);
    await lookAtLeases({ ...place, clock: systemClock, actor: { ...ACTOR, boot: 'real' } });
    return purged;
  }

  for (const offset of ['+1d', '-1d', '+30d', '-30d']) {
    it(`by ${offset}: a session there keeps what it listed from others, and reads every byte`, async () => {
      const stopping = await stopped(offset);
      const [lease = ''] = readdirSync(path.join(temp.root, '.tombstoned/leases'));
      const day = new Date(Date.now() + Number.parseInt(offset, 10) * DAY).toISOString().slice(0, 10);
      expect(lease, 'its clock is wrong').to.include(day.replaceAll('-', ''));
      expect(await sweepAndPurge()).to.equal(0);
      stopping.wake();
      expect(await stopping.hear()).to.include({ error: null, bytes: BIG.length });
      expect(await stopping.hear()).to.deep.equal({ error: null, location: 'pending' });
      expect(await stopping.hear()).to.deep.equal({ aborted: false });
      await stopping.end();
      expect(await sweepAndPurge()).to.equal(2);
    });
  }

  it('that leaps 30 days: a session there ends with LeaseLost, before another byte', async () => {
    const stopping = await stopped('+0d');
    expect(await sweepAndPurge()).to.equal(0);
    setClock('+30d');
    stopping.wake();
    expect(await stopping.hear()).to.include({ error: 'LeaseLost', after: 0 });
    expect(await stopping.hear()).to.deep.equal({ error: 'LeaseLost' });
    expect(await stopping.hear()).to.deep.equal({ aborted: true });
    await stopping.end();
    expect(await sweepAndPurge()).to.equal(2);
  });

  it('that goes back 30 days: a session there goes on', async () => {
    const stopping = await stopped('+0d');
    expect(await sweepAndPurge()).to.equal(0);
    setClock('-30d');
    stopping.wake();
    expect(await stopping.hear()).to.include({ error: null, bytes: BIG.length });
    expect(await stopping.hear()).to.deep.equal({ error: null, location: 'pending' });
    expect(await stopping.hear()).to.deep.equal({ aborted: false });
    await stopping.end();
  });
});
