import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type KnownMetadata, metadataText } from '../../lib/aptos/metadata.ts';
import { compactionPolicy, payloadPolicy } from '../../lib/cover/policies.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { LiveFiles } from '../../lib/metadata/live-files.ts';
import type { Policy } from '../../lib/policy/policy.ts';
import type { Place } from '../../lib/run/place.ts';
import type { SweepResult } from '../../lib/sweep/sweep.ts';
import { snapshot, transactions } from '../aptos/lines.ts';
import { tinyBackup } from '../aptos/tiny-backup.ts';
import {
  allTombstones,
  bringBack,
  eraseNow,
  FAST,
  purgeDue,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { age, DAY, HOUR, NO_LIMITS, TempPlace } from '../support/place.ts';

describe('policies that ask metadata', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    temp.format = 'aptos';
    place = temp.open();
  });
  afterEach(() => temp.remove());

  function meta(name: string, ...lines: readonly KnownMetadata[]): void {
    temp.write(`metadata/${name}.meta`, lines.map((line) => `${metadataText(line)}\n`).join(''), 10 * DAY);
  }

  function tiny(): void {
    for (const [key, bytes] of tinyBackup()) temp.write(key, bytes.toString(), 10 * DAY);
  }

  async function swept(policy: Policy): Promise<{ result: SweepResult; moved: string[] }> {
    const before = new Set(allTombstones(place).map(({ id }) => id));
    const result = await sweepOld(place, { policies: [policy] });
    const moved = allTombstones(place).filter(({ id }) => !before.has(id));
    return { result, moved: moved.map(({ key }) => key).toSorted() };
  }

  describe('aptos-compaction', () => {
    const compaction = compactionPolicy({ name: 'compacted', removeAfter: DAY, limits: NO_LIMITS });
    const stamps = (at: number, times: Record<string, number | null>): KnownMetadata => ({
      kind: 'compaction-timestamps',
      fileCompactedAt: BigInt(at),
      timestamps: new Map(
        Object.entries(times).map(([name, time]) => [
          parseKey(`metadata/${name}.meta`),
          time === null ? null : BigInt(time),
        ]),
      ),
    });

    it('names what the newest timestamps say is replaced for so long, to the second, and nothing else', async () => {
      const now = Math.floor(temp.clock.wall / 1000);
      const [old, young] = [now - 86_400, now - 86_399];
      for (const i of [0, 1, 2, 3])
        meta(`transaction_${i * 10}-${i * 10 + 9}`, transactions(i * 10, i * 10 + 9));
      meta('transaction_compacted_0-39', ...[0, 1, 2, 3].map((i) => transactions(i * 10, i * 10 + 9)));
      meta(`compaction_timestamps_${old - 9}`, stamps(old - 9, { 'transaction_10-19': old - 9 }));
      meta(
        `compaction_timestamps_${now}`,
        stamps(now, {
          'transaction_0-9': old,
          'transaction_10-19': null,
          'transaction_20-29': young,
          [`compaction_timestamps_${old - 9}`]: old,
        }),
      );
      const { moved } = await swept(compaction);
      expect(moved).to.deep.equal([
        `metadata/compaction_timestamps_${old - 9}.meta`,
        'metadata/transaction_0-9.meta',
      ]);
    });

    it('keeps what is said to be replaced and is in no other whole file: a compacted file that was cut short', async () => {
      meta('transaction_0-9', transactions(0, 9));
      meta('transaction_10-19', transactions(10, 19));
      meta('compacted', transactions(0, 9)); // by its name nobody knows what it should have
      meta('compaction_timestamps_7', stamps(7, { 'transaction_0-9': 1, 'transaction_10-19': 1 }));
      const { moved, result } = await swept(compaction);
      expect(moved).to.deep.equal(['metadata/transaction_0-9.meta']);
      expect(result.kept.get('coverage')).to.equal(1);
    });

    it('names nothing without timestamps, and ends in an error while a file can not be read', async () => {
      meta('transaction_0-9', transactions(0, 9));
      expect((await swept(compaction)).moved).to.deep.equal([]);
      temp.write('metadata/x.meta', '');
      const { result } = await swept(compaction);
      expect(result.problems.map(({ key }) => key)).to.deep.equal(['metadata/x.meta']);
    });
  });

  describe('aptos-payload', () => {
    const payload = (keepSnapshots: number | null = null, olderThan = 5 * DAY): Policy =>
      payloadPolicy({ name: 'payload', olderThan, keepSnapshots, limits: NO_LIMITS });

    it('names directories that nothing refers to, whole, by their newest object', async () => {
      tiny();
      temp.write('transaction_0-.99/a', 'left behind', 9 * DAY);
      temp.write('transaction_0-.99/b', 'left behind', 9 * DAY);
      temp.write('state_epoch_7_ver_7.aa/a', 'half old', 9 * DAY);
      temp.write('state_epoch_7_ver_7.aa/b', 'being written', HOUR);
      temp.write('other/a', 'anybody’s', 9 * DAY);
      const { moved } = await swept(payload());
      expect(moved).to.deep.equal(['transaction_0-.99/a', 'transaction_0-.99/b']);
    });

    it('names nothing that a pending line refers to, nor a manifest with chunks elsewhere', async () => {
      tiny();
      temp.write(
        'transaction_50-.5/transaction.manifest',
        '{"chunks":["epoch_ending_9-.9/0.chunk"]}',
        9 * DAY,
      );
      temp.write('epoch_ending_9-.9/0.chunk', 'x', 9 * DAY);
      meta('a', transactions(50, 59, 'transaction_50-.5/transaction.manifest'));
      expect((await swept(payload())).moved).to.deep.equal([]);
      // Tombstoned before the store had its format.
      await sweepOld(
        { ...place, format: 'plain' },
        { policies: [age({ prefix: 'metadata/', match: 'a.meta' })] },
      );
      expect(temp.live('metadata/a.meta')).to.equal(undefined);
      expect((await swept(payload())).moved).to.deep.equal([]);
    });

    it('names nothing that an unknown line refers to, whatever that is', async () => {
      tiny();
      temp.write('metadata/new.meta', '{"Other":{"at":["transaction_7-.7/x", "v2"]}}\n', 9 * DAY);
      temp.write('transaction_7-.7/x', 'x', 9 * DAY);
      temp.write('transaction_8-.8/x', 'x', 9 * DAY);
      expect((await swept(payload())).moved).to.deep.equal(['transaction_8-.8/x']);
    });

    it('names nothing while a manifest of a live line is missing or malformed', async () => {
      tiny();
      temp.write('transaction_0-.99/a', 'left behind', 9 * DAY);
      temp.write('transaction_0-.10/transaction.manifest', '{"chunks": [', 9 * DAY);
      const { moved, result } = await swept(payload());
      expect(moved).to.deep.equal([]);
      expect(result.problems.map(({ code, key }) => [code, key])).to.deep.equal([
        ['failed', 'transaction_0-.10/transaction.manifest'],
      ]);
    });

    it('names nothing while a live file can not be read that is protected: it may refer to anything', async () => {
      tiny();
      temp.write('transaction_50-.5/transaction.manifest', '{"chunks":[]}', 9 * DAY);
      meta('transaction_50-59', transactions(50, 59, 'transaction_50-.5/transaction.manifest'));
      const whole = temp.live('metadata/transaction_50-59.meta') ?? '';
      temp.write('metadata/transaction_50-59.meta', whole.slice(0, -9), 9 * DAY);
      temp.close(place);
      temp.protect = ['metadata/transaction_50-59.meta'];
      place = temp.open();
      const isProtected = (key: string): boolean => key === 'metadata/transaction_50-59.meta';
      for (const policy of [payload(), age({ prefix: 'transaction_50' })]) {
        const { moved, problems } = await sweepOld(place, {
          policies: [policy],
          guards: { minimumAge: 0, isProtected },
        });
        expect(moved).to.equal(0);
        expect(problems.map(({ code, key }) => [code, key])).to.deep.equal([
          ['failed', 'metadata/transaction_50-59.meta'],
        ]);
      }
    });

    it('goes on beside a pending copy that was cut short, where live files have what is left of it', async () => {
      tiny();
      temp.write('transaction_0-.99/a', 'left behind', 9 * DAY);
      const [whole = ''] = (temp.live('metadata/transaction_0-9.meta') ?? '').split('\n');
      temp.write('metadata/cut.meta', `${whole}\n${whole.slice(0, 40)}`, 9 * DAY);
      temp.write('metadata/other.meta', '{"TransactionBackup":{"first_version":77', 9 * DAY);
      await sweepOld(
        { ...place, format: 'plain' },
        { policies: [age({ prefix: 'metadata/', match: '{cut,other}.meta' })] },
      );
      const { result } = await swept(payload());
      expect(result.problems.map(({ key }) => key)).to.deep.equal(['metadata/other.meta']);
      await eraseNow({ ...place, format: 'plain' }, ['metadata/other.meta']);
      expect((await swept(payload())).moved).to.deep.equal(['transaction_0-.99/a']);
    });

    it('lets old snapshots go but for the newest that are usable: first the metadata, its payload when that is purged', async () => {
      tiny();
      // Newer than the last transaction: no restore can begin there.
      meta('state_snapshot_ver_99', snapshot(9, 99, 'state_epoch_9_ver_99.29/state.manifest'));
      temp.write('state_epoch_9_ver_99.29/state.manifest', '{}', 10 * DAY);
      expect((await swept(payload(2))).moved, 'both are needed').to.deep.equal([]);
      expect((await swept(payload(1))).moved).to.deep.equal(['metadata/state_snapshot_ver_9.meta']);
      expect((await swept(payload(1))).moved, 'its line is pending').to.deep.equal([]);
      await bringBack(place, tombstonesOf(place, 'metadata/state_snapshot_ver_9.meta'), { exemptFor: 0 });
      expect((await swept(payload(1))).moved).to.deep.equal([]);
      temp.clock.advance(8 * DAY);
      await purgeDue(place); // the copy that was brought back
      expect((await swept(payload(1))).moved).to.deep.equal(['metadata/state_snapshot_ver_9.meta']);
      temp.clock.advance(8 * DAY);
      const purged = await purgeDue(place);
      expect([purged.purged, purged.kept.get('coverage')]).to.deep.equal([1, undefined]);
      const { moved } = await swept(payload(1));
      expect(moved.every((key) => key.startsWith('state_epoch_0_ver_9.20/'))).to.equal(true);
      expect(moved).to.have.length(4);
      expect(existsSync(path.join(temp.root, 'state_epoch_1_ver_19.21/state.manifest'))).to.equal(true);
      expect(await restorable()).to.deep.equal([29n, 19n]);
    });

    it('keeps a compacted file of snapshots as long as one of them stays, and with it all of them', async () => {
      tiny();
      meta('state_snapshot_compacted_epoch_0_1', snapshot(0, 9, S9), snapshot(1, 19, S19));
      const { moved } = await swept(payload(1));
      expect(moved).to.deep.equal([]);
      expect(await restorable()).to.deep.equal([29n, 19n]);
    });

    it('purges the metadata of an old snapshot only as long as newer ones are live', async () => {
      tiny();
      await swept(payload(1));
      rmSync(path.join(temp.root, 'metadata/state_snapshot_ver_19.meta'));
      temp.clock.advance(8 * DAY);
      const { purged, kept } = await purgeDue(place);
      expect([purged, kept.get('coverage')]).to.deep.equal([0, 1]);
    });
  });

  const S9 = 'state_epoch_0_ver_9.20/state.manifest';
  const S19 = 'state_epoch_1_ver_19.21/state.manifest';

  async function restorable(): Promise<(bigint | null | undefined)[]> {
    const live = LiveFiles.of(place.store);
    await live.refresh();
    const { version, snapshot: from } = live.view().restorable();
    return [version, from?.version];
  }
});
