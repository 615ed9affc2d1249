import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type MetadataView, ViewBuilder } from '../../lib/index.ts';
import { readAll } from '../../lib/metadata/read-all.ts';
import { DAY } from '../support/place.ts';
import { AptosPlace } from './aptos-place.ts';

/** Lies beside the repository, or where the environment says; without it this is skipped. */
const DATA = process.env['TOMBSTONED_SPEC_DATA'] ?? path.resolve(import.meta.dirname, '../../../shared/data');
const ARCHIVE = path.join(DATA, '0l-mainnet-backup.tar.xz');

describe('a real backup, compacted by 100 (needs 0l-mainnet-backup.tar.xz in TOMBSTONED_SPEC_DATA)', function () {
  this.timeout(30_000);
  let place: AptosPlace;

  before(async function () {
    if (!existsSync(ARCHIVE)) this.skip();
    place = await AptosPlace.make(new Map());
    const target = ['--directory', place.temp.root, '--wildcards', '*metadata/*'];
    execFileSync('tar', ['--extract', '--xz', '--file', ARCHIVE, ...target]);
  });
  after(() => place?.temp.remove());

  async function view(): Promise<MetadataView> {
    const builder = new ViewBuilder();
    const open = place.open();
    for await (const { file, error } of readAll(open.store, { concurrency: 8 })) {
      if (file === undefined) throw error;
      for (const { metadata } of file.lines) builder.add(metadata);
    }
    place.temp.close(open);
    return builder.view();
  }

  function says(of: MetadataView) {
    const { version, lastEpoch, lastTransaction, snapshot } = of.restorable();
    const breaks = [...of.epochBreaks(), ...of.transactionBreaks()];
    const counts = [of.epochEndings.length, of.transactions.length, of.snapshots.length];
    return { version, lastEpoch, lastTransaction, snapshot, breaks, counts };
  }

  it('says the same, and lists the compacted names only, when what they replace has gone', async () => {
    const before = says(await view());
    expect(before.counts).to.deep.equal([194, 662, 107]);
    const first = await place.compact({ factor: 100 });
    expect([first.files, first.lines, first.written]).to.deep.equal([964, 963, 11]);
    expect(says(await view())).to.deep.equal(before);
    place.temp.clock.advance(DAY + 2000);
    const second = await place.compact({ factor: 100 });
    expect(second.tombstoned, 'all but the identity').to.equal(963);
    expect(Object.fromEntries(second.kept)).to.deep.equal({ coverage: 1 });
    expect(says(await view())).to.deep.equal(before);
    expect(place.names().filter((name) => !name.startsWith('compaction_timestamps_'))).to.deep.equal([
      'epoch_ending_compacted_0-99.meta',
      'epoch_ending_compacted_100-193.meta',
      'identity.meta',
      ...snapshotNames(await view()),
      'transaction_compacted_0-9900000.meta',
      'transaction_compacted_19900001-29900000.meta',
      'transaction_compacted_29900001-39900000.meta',
      'transaction_compacted_39900001-49900000.meta',
      'transaction_compacted_49900001-59900000.meta',
      'transaction_compacted_59900001-66100000.meta',
      'transaction_compacted_9900001-19900000.meta',
    ]);
  });

  function snapshotNames({ snapshots }: MetadataView): string[] {
    const epochs = [...snapshots].map(({ epoch }) => epoch);
    return [
      `state_snapshot_compacted_epoch_${epochs[0]}_${epochs[99]}.meta`,
      `state_snapshot_compacted_epoch_${epochs[100]}_${epochs.at(-1)}.meta`,
    ].toSorted();
  }
});
