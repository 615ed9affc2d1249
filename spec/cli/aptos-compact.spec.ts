import { readdirSync, rmSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { backupOf, IDENTITY } from '../compact/aptos-place.ts';
import type { StoreSettings, TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, tempStores } from './ctl.ts';

describe('tombstonectl aptos compact', () => {
  beforeAllBuild();
  const stores = tempStores();
  const FOUR = ['epoch-ending', 'state-snapshot', 'transaction'].flatMap((kind) => [
    `--${kind}-file-compact-factor`,
    '4',
  ]);

  async function backup(settings: StoreSettings = {}): Promise<TempStore> {
    const store = await stores.make({
      format: 'aptos',
      safetyWindow: '7d',
      limits: { maxFraction: null },
      ...settings,
    });
    for (const [name, content] of backupOf(10)) store.write(`metadata/${name}`, content, 7_200_000);
    store.write('metadata/identity.meta', IDENTITY, 7_200_000);
    return store;
  }

  const names = (store: TempStore): string[] => readdirSync(path.join(store.root, 'metadata')).toSorted();

  /** What an earlier run of the original has left: all were replaced long ago. */
  function replacedLongAgo(store: TempStore): void {
    const times = names(store).map((name) => `"metadata/${name}":100`);
    const line = `{"CompactionTimestamps":{"file_compacted_at":100,"compaction_timestamps":{${times.join(',')}}}}\n`;
    store.write('metadata/compaction_timestamps_100.meta', line, 7_200_000);
  }

  it('writes, tombstones what was replaced long ago, and says so', async () => {
    const store = await backup();
    const first = await ctl(store, 'aptos', 'compact', ...FOUR);
    expect(first, first.stderr).to.include({ code: 0, stderr: '' });
    expect(first.lines).to.have.length(10);
    expect(first.lines[0]).to.equal('metadata/epoch_ending_compacted_0-3.meta  4 lines, written');
    expect(first.lines.slice(-2)).to.deep.equal([
      'main: 25 lines in 26 metadata files: written 8 compacted files',
      'main: tombstoned 0 of 0 replaced for long enough, 26 wait',
    ]);
    const [timestamps = ''] = names(store).filter((name) => name.startsWith('compaction_'));
    rmSync(path.join(store.root, 'metadata', timestamps));
    replacedLongAgo(store);
    const again = await ctl(store, '--json', 'aptos', 'compact', ...FOUR);
    expect(again.code).to.equal(0);
    expect(again.objects.filter(({ type }) => type === 'compacted')).to.have.length(8);
    expect(again.objects.at(-1)).to.deep.include({
      type: 'compact',
      written: 0,
      there: 8,
      expired: 26,
      tombstoned: 25,
      kept: { coverage: 1 },
      failed: 0,
      dryRun: false,
    });
    expect(names(store)).to.include('identity.meta').and.not.to.include('transaction_0-9.meta');
    const status = await ctl(store, 'aptos', 'status');
    expect(status.lines[1]).to.contain('10 epochs (0-9)').and.to.contain('no gap');
    const undone = await ctl(store, 'undo', '--sweep', 'last');
    expect(undone.code).to.equal(0);
    expect(names(store)).to.include('transaction_0-9.meta');
  });

  it('takes its settings from the config where none are given', async () => {
    const store = await backup({ aptos: { factors: { transactions: 5 } } });
    const { objects } = await ctl(store, '--json', 'aptos', 'compact', '--dry-run');
    expect(objects.map(({ key, lines }) => `${String(key)} ${String(lines)}`).slice(0, 4)).to.deep.equal([
      'metadata/epoch_ending_compacted_0-9.meta 10',
      'metadata/transaction_compacted_0-49.meta 5',
      'metadata/transaction_compacted_50-99.meta 5',
      'metadata/state_snapshot_compacted_epoch_1_9.meta 5',
    ]);
    expect(names(store)).to.have.length(26);
  });

  it('fails for a gap, and for a file that is cut short, and has changed nothing', async () => {
    const store = await backup();
    truncateSync(path.join(store.root, 'metadata/transaction_0-9.meta'), 20);
    const cut = await ctl(store, 'aptos', 'compact');
    expect(cut.code).to.equal(1);
    expect(cut.stderr).to.contain(
      'nothing is compacted: metadata file "metadata/transaction_0-9.meta", line 1',
    );
    rmSync(path.join(store.root, 'metadata/transaction_0-9.meta'));
    rmSync(path.join(store.root, 'metadata/transaction_50-59.meta'));
    const gap = await ctl(store, 'aptos', 'compact');
    expect(gap.code).to.equal(1);
    expect(gap.stderr).to.contain('would have lines for version 49 and then 60');
    expect(names(store)).to.have.length(24);
  });

  it('says which limit keeps what was replaced, once, and exits with 5', async () => {
    const store = await backup({ limits: { maxObjects: 3 } });
    replacedLongAgo(store);
    const { code, stderr } = await ctl(store, 'aptos', 'compact', '--remove-compacted-file-after', '36h');
    expect(code).to.equal(5);
    expect(stderr.match(/maxObjects is 3/g)).to.have.length(1);
  });

  it('refuses what makes no sense', async () => {
    const store = await backup();
    for (const [args, said] of [
      [['--transaction-file-compact-factor', '0'], '--transaction-file-compact-factor is "0"'],
      [['--epoch-ending-file-compact-factor', '1.5'], '--epoch-ending-file-compact-factor is "1.5"'],
      [['--remove-compacted-file-after', 'soon'], '--remove-compacted-file-after is "soon"'],
      [['--target-version', '5'], 'aptos compact takes no --target-version'],
    ] as const) {
      const { code, stderr } = await ctl(store, 'aptos', 'compact', ...args);
      expect(code, said).to.equal(2);
      expect(stderr).to.contain(said);
    }
    const plain = await stores.make({});
    const { code, stderr } = await ctl(plain, 'aptos', 'compact');
    expect(code).to.equal(2);
    expect(stderr).to.contain('no store has format: aptos');
  });
});
