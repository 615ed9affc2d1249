import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { payloadPolicy } from '../../lib/cover/policies.ts';
import { LiveFiles } from '../../lib/metadata/live-files.ts';
import type { Policy } from '../../lib/policy/policy.ts';
import type { Place } from '../../lib/run/place.ts';
import { compactIn } from '../compact/aptos-place.ts';
import { allTombstones, FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { age, DAY, NO_LIMITS, TempPlace } from '../support/place.ts';

/** Lies beside the repository, or where the environment says; without it this is skipped. */
const DATA = process.env['TOMBSTONED_SPEC_DATA'] ?? path.resolve(import.meta.dirname, '../../../shared/data');
const ARCHIVE = path.join(DATA, '0l-mainnet-backup.tar.xz');

describe('a real backup, swept and purged (needs 0l-mainnet-backup.tar.xz in TOMBSTONED_SPEC_DATA)', function () {
  this.timeout(60_000);
  let temp: TempPlace;
  let place: Place;

  before(async function () {
    if (!existsSync(ARCHIVE)) this.skip();
    temp = await TempPlace.make(FAST);
    temp.format = 'aptos';
    execFileSync('tar', ['--extract', '--xz', '--file', ARCHIVE, '--directory', temp.root]);
    place = temp.open();
  });
  after(() => temp?.remove());

  async function says() {
    const live = LiveFiles.of(place.store);
    await live.refresh();
    const view = live.view();
    const breaks = [...view.epochBreaks(), ...view.transactionBreaks()];
    const { version, lastEpoch, snapshot } = view.restorable();
    const counts = [view.epochEndings.length, view.transactions.length, view.snapshots.length];
    return { version, lastEpoch, snapshot: snapshot?.version, counts, breaks };
  }

  async function keysMoved(policy: Policy): Promise<string[]> {
    const known = new Set(allTombstones(place).map(({ id }) => id));
    await sweepOld(place, { policies: [policy] });
    return allTombstones(place).flatMap(({ id, key }) => (known.has(id) ? [] : [key]));
  }

  const everything = age({ prefix: 'metadata/', olderThan: 0 });
  const payload = (keepSnapshots: number | null): Policy =>
    payloadPolicy({ name: 'payload', olderThan: 0, keepSnapshots, limits: NO_LIMITS });

  it('says the same, compacted or not', async () => {
    const before = await says();
    expect(before).to.deep.equal({
      version: 66_100_000n,
      lastEpoch: 193n,
      snapshot: 65_795_482n,
      counts: [194, 662, 107],
      breaks: [],
    });
    expect(await keysMoved(everything), 'nothing of it is in another file').to.deep.equal([]);
    expect(await keysMoved(payload(null)), 'all is in use').to.deep.equal([]);
    await compactIn(place, { factor: 100, removeAfter: 100 * DAY });
    temp.clock.advance(30 * DAY);
    expect(await keysMoved(everything), 'all but the identity').to.have.length(963);
    expect(await says()).to.deep.equal(before);
    temp.clock.advance(8 * DAY);
    const { purged, kept } = await purgeDue(place);
    expect([purged, [...kept]]).to.deep.equal([963, []]);
    expect(await says()).to.deep.equal(before);
    expect(await keysMoved(payload(null))).to.deep.equal([]);
  });

  it('keeps the newest snapshots that a restore can begin with, by files of a hundred', async () => {
    const before = await says();
    const moved = await keysMoved(payload(6));
    expect(moved.map((key) => /compacted_epoch_/.test(key))).to.deep.equal([true]);
    const { version, lastEpoch, snapshot, counts } = await says();
    expect([version, lastEpoch, snapshot]).to.deep.equal([before.version, before.lastEpoch, before.snapshot]);
    expect(counts).to.deep.equal([194, 662, 7]);
  });
});
