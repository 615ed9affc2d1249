import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import { leasePath, leaseText, removeLease } from '../../lib/store/leases.ts';
import { nodeFs } from '../../lib/store/local/local-fs.ts';
import { DAY } from '../support/place.ts';
import { AptosPlace, backupOf, compactIn } from './aptos-place.ts';
import { compactAsTheOriginal } from './original.ts';

describe('a compaction beside others', () => {
  let place: AptosPlace;
  const all = [...backupOf(10).values()].map((text) => text.trim());
  beforeEach(async () => {
    place = await AptosPlace.make();
  });
  afterEach(() => place.temp.remove());

  /** Something happens just before a compaction makes its first name, or moves its first file. */
  function meanwhile(call: 'link' | 'rename', deed: () => void): ReturnType<AptosPlace['open']> {
    let isDone = false;
    const fs = {
      ...nodeFs,
      [call]: (from: string, to: string) => {
        if (!isDone && !to.includes('fences')) {
          isDone = true;
          deed();
        }
        nodeFs[call](from, to);
      },
    };
    return place.open({ fs });
  }

  function original(): void {
    compactAsTheOriginal(place.temp.root, { factor: 4, now: place.now, removeAfter: DAY / 1000 });
    place.date();
  }

  it('of its own loses nothing, and each file is tombstoned once', async () => {
    await place.compact();
    place.temp.clock.advance(DAY + 2000);
    place.addAll(backupOf(2, 10));
    const lines = place.lines();
    const [one, other] = await Promise.all([compactIn(place.open()), compactIn(place.open())]);
    expect(one.tombstoned + other.tombstoned).to.equal(25);
    expect([...place.lines()]).to.have.members([...lines]);
    const tombstones = place.open().catalog.tombstones.page({ limit: 100 });
    expect(new Set(tombstones.map(({ key }) => key)).size).to.equal(25);
  });

  it('of the original that writes the same files takes them as they are, when they are whole', async () => {
    const { written } = await compactIn(meanwhile('link', original));
    expect(written).to.equal(8);
    expect([...place.lines()]).to.have.members(all);
    place.date();
    place.temp.clock.advance(DAY + 2000);
    expect((await place.compact()).tombstoned).to.be.greaterThan(24);
    expect([...place.lines()]).to.have.members(all);
  });

  it('of the original that moves the same files away ends well: they are gone, and in compacted files', async () => {
    await place.compact();
    place.temp.clock.advance(DAY + 2000);
    const { tombstoned, failed, outcomes } = await compactIn(meanwhile('rename', original));
    expect(failed).to.equal(0);
    expect(tombstoned).to.be.lessThan(25);
    expect([...outcomes.values()].map(({ outcome }) => outcome)).to.include('gone');
    expect([...place.lines()]).to.have.members(all);
    await recover(place.open());
    expect((await place.compact()).there).to.equal(8);
  });

  it('of a backup leaves what comes meanwhile for the next run', async () => {
    const first = await compactIn(meanwhile('link', () => place.addAll(backupOf(2, 10))));
    expect(first.written).to.equal(8);
    expect(place.names()).to.include('transaction_100-109.meta');
    const second = await place.compact();
    expect(place.names()).to.include('transaction_compacted_80-119.meta');
    expect(second.redone).to.equal(0);
  });

  it('of a restore moves nothing while that lists', async () => {
    await place.compact();
    place.temp.clock.advance(DAY + 2000);
    const { store } = place.open();
    const lease = { id: 'l-20261122T101500123Z-000001', holder: 'spec', host: 'elsewhere', pid: 1 } as const;
    const term = { ttlSeconds: 3600, acquiredAt: '2026-11-22T10:15:00.123Z', renewal: 0 } as const;
    const text = leaseText({ ...lease, ...term, prefixes: ['metadata/'], blocks: 'sweep' });
    await store.control.create(leasePath(lease.id), text);
    const { kept, tombstoned } = await place.compact();
    expect([tombstoned, kept.get('lease')]).to.deep.equal([0, 25]);
    await removeLease(store.control, `${lease.id}.json`);
    expect((await place.compact()).tombstoned).to.equal(25);
  });
});
