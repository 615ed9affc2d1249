import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { compareKeys } from '../../lib/domain/key.ts';
import { tinyBackup } from '../aptos/tiny-backup.ts';
import { filesBelow } from '../support/phases.ts';
import { OLD, type StoreSettings, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

describe('tombstonectl aptos', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function tiny(settings: StoreSettings = {}): Promise<TempStore> {
    const store = await stores.make({ format: 'aptos', safetyWindow: '7d', ...settings });
    for (const [key, bytes] of tinyBackup({ isGzip: true })) {
      mkdirSync(path.dirname(path.join(store.root, key)), { recursive: true });
      writeFileSync(path.join(store.root, key), bytes);
    }
    return store;
  }

  /** Tombstones what others would have to cover, as before the store had its format. */
  async function putAway(store: TempStore, ...keys: readonly string[]): Promise<void> {
    store.configure({ main: { safetyWindow: '7d' } });
    expect((await ctl(store, 'tombstone', ...keys, '--reason', 'spec')).code).to.equal(0);
    store.configure({ main: { format: 'aptos', safetyWindow: '7d' } });
  }

  function lose(store: TempStore, ...keys: readonly string[]): void {
    for (const key of keys) rmSync(path.join(store.root, key));
  }

  function restored(store: TempStore): { to: string; there: () => Map<string, Buffer> } {
    const to = path.join(store.directory, 'restored');
    const names = () => filesBelow(to).filter((name) => !name.startsWith('.tombstoned/'));
    return { to, there: () => new Map(names().map((name) => [name, readFileSync(path.join(to, name))])) };
  }

  it('status says what could be restored now, and what policies would remove', async () => {
    const store = await tiny({ policies: [{ ...OLD, prefix: 'metadata/' }] });
    const text = await ctl(store, 'aptos', 'status');
    expect(text, text.stderr).to.include({ code: 0, stderr: '' });
    expect(text.lines).to.deep.equal([
      `main  ${store.url}`,
      '  live        3 epochs (0-2), 3 transaction files to version 29, 2 snapshots, no gap',
      '              restorable to version 29, from the snapshot at 19 (epoch 1)',
      '  files       8 metadata files live, 0 pending',
      '  policies    old would remove 0 objects, 0 B',
    ]);
    const { objects } = await ctl(store, '--json', 'aptos', 'status');
    expect(objects).to.have.length(1);
    expect(objects[0]).to.deep.include({ type: 'aptos-status', store: 'main', malformed: [] });
    expect(objects[0]?.['live']).to.deep.equal({
      files: 8,
      restorableTo: '29',
      reaches: '29',
      snapshot: '19',
      epochs: '3',
      lastEpoch: '2',
      transactions: 3,
      lastVersion: '29',
      snapshots: 2,
      usableSnapshots: 2,
      gaps: [],
    });
  });

  it('status tells a gap, what pending files would add, a malformed file, and ends with 7', async () => {
    const store = await tiny();
    await putAway(store, 'metadata/transaction_10-19.meta');
    writeFileSync(path.join(store.root, 'metadata/epoch_ending_9-9.meta'), '{"EpochEnding');
    writeFileSync(
      path.join(store.root, 'metadata/x.meta'),
      '{"CompactionTimestamps":{"file_compacted_at":18446744073709551615,"compaction_timestamps":{}}}\n',
    );
    mkdirSync(path.join(store.root, 'metadata_backup'));
    writeFileSync(path.join(store.root, 'metadata_backup/transaction_0-0.meta'), 'x');
    const { code, lines, errorLines } = await ctl(store, 'aptos', 'status');
    expect(code).to.equal(7);
    expect(lines.slice(1, 10)).to.deep.equal([
      '  live        3 epochs (0-2), 2 transaction files, 2 snapshots (1 usable), 1 gap',
      "              the original tools refuse it while 1 file can't be relied on; without: restorable to version 9, from the snapshot at 9 (epoch 0)",
      '              versions 10-19 are missing',
      '  + pending   3 epochs (0-2), 3 transaction files to version 29, 2 snapshots, no gap',
      "              the original tools refuse it while 1 file can't be relied on; without: restorable to version 29, from the snapshot at 19 (epoch 1)",
      '  files       8 metadata files live, 1 pending',
      '  malformed   metadata file "metadata/epoch_ending_9-9.meta", line 1: it has no end: every line ends in a newline',
      '  replaced    0 files, as of the compaction at second 18446744073709551615',
      '  policies    none, so nothing expires',
    ]);
    expect(lines[10]).to.match(
      /^ {2}warning {5}the original compactor still moves files to metadata_backup\/: 1 file, 1 B, the last at 20/,
    );
    expect(errorLines).to.deep.equal([
      "tombstonectl: main: 1 metadata file can't be relied on, and there is 1 gap (put back whole copies, or move them out of metadata/ where nothing can)",
    ]);
    const { objects, error } = await ctlWith({}, '--json', '--url', store.url, 'aptos', 'status');
    expect(error).to.include({ code: 'unwell', key: 'metadata/epoch_ending_9-9.meta' });
    expect(objects[0]).to.deep.include({ policies: null });
    expect(objects[0]?.['live']).to.deep.include({
      restorableTo: null,
      reaches: '9',
      gaps: [{ of: 'versions', kind: 'missing', first: '10', last: '19' }],
    });
  });

  it('status tells why a policy can not decide, and ends with that', async () => {
    const store = await tiny({
      minimumAge: '0s',
      policies: [{ ...OLD, olderThan: '0s', prefix: 'transaction_' }],
    });
    const text = await ctl(store, 'aptos', 'status');
    expect(text.code).to.equal(5);
    expect(text.lines.at(-1)).to.match(
      /^ {2}policies {4}old: not known, as it can't decide: .*metadata refers to that/,
    );
    expect(text.errorLines.join()).to.match(/policy old moves nothing/);
  });

  it('plan lists manifests in the order of the original tools, and ends with 6 where one is missing', async () => {
    const store = await tiny();
    const plan = await ctl(store, 'aptos', 'plan', '--target-version', '15');
    expect(plan, plan.stderr).to.include({ code: 0 });
    expect(plan.lines).to.deep.equal([
      'epoch_ending_0-.00/epoch_ending.manifest',
      'state_epoch_0_ver_9.20/state.manifest',
      'transaction_0-.10/transaction.manifest',
      'transaction_10-.11/transaction.manifest',
    ]);
    await putAway(store, 'transaction_0-.10/transaction.manifest');
    lose(store, 'state_epoch_0_ver_9.20/state.manifest', 'epoch_ending_0-.00/epoch_ending.manifest');
    const { code, objects, errorLines } = await ctl(
      store,
      '--json',
      'aptos',
      'plan',
      '--target-version',
      '15',
    );
    expect(code).to.equal(6);
    expect(objects.map(({ manifest, location }) => [manifest, location])).to.deep.equal([
      ['epoch_ending_0-.00/epoch_ending.manifest', null],
      ['state_epoch_0_ver_9.20/state.manifest', null],
      ['transaction_0-.10/transaction.manifest', 'pending'],
      ['transaction_10-.11/transaction.manifest', 'live'],
      [undefined, undefined],
    ]);
    expect(objects.at(-1)).to.include({
      type: 'plan',
      targetVersion: '15',
      manifests: 4,
      missing: 2,
      pending: 1,
    });
    expect(errorLines.map((line) => JSON.parse(line).key).toSorted(compareKeys)).to.deep.equal([
      'epoch_ending_0-.00/epoch_ending.manifest',
      'state_epoch_0_ver_9.20/state.manifest',
    ]);
  });

  it('plan ends with 6 at a gap, and says what pending files would do', async () => {
    const store = await tiny();
    await putAway(store, 'metadata/transaction_10-19.meta');
    const { code, stderr } = await ctl(store, 'aptos', 'plan', '--target-version', '29');
    expect(code).to.equal(6);
    expect(stderr).to.contain("version 29 can't be restored to: versions 10-19 are missing");
    expect(stderr).to.contain(
      'with pending metadata files there is no gap: tombstonectl restore --prefix metadata/',
    );
    expect((await ctl(store, 'aptos', 'plan', '--target-version', '9')).code).to.equal(0);
    expect((await ctl(store, 'aptos', 'plan', '--target-version', '30')).code).to.equal(6);
  });

  it('fetch brings all that a restore needs, whatever was tombstoned of it, and again only what is missing', async () => {
    const store = await tiny();
    const tombstoned = ['transaction_0-.10/transaction.manifest', 'transaction_10-.11/10-.chunk'];
    await putAway(store, ...tombstoned);
    const { to, there } = restored(store);
    const whole = tinyBackup({ isGzip: true });
    const first = await ctl(store, '--json', 'aptos', 'fetch', '--target-version', '15', '--to', to);
    expect(first, first.stderr).to.include({ code: 0, stderr: '' });
    expect(first.objects.at(-1)).to.include({
      type: 'fetch',
      fromPending: 2,
      targetVersion: '15',
      isStopped: false,
    });
    const needed = [...whole].filter(([key]) =>
      /^(?:metadata|epoch_ending_0-|state_epoch_0_|transaction_0-|transaction_10-)/.test(key),
    );
    expect([...there().keys()].toSorted()).to.deep.equal(needed.map(([key]) => key).toSorted());
    for (const [key, bytes] of there())
      expect(bytes.equals(whole.get(key) ?? Buffer.alloc(0)), key).to.equal(true);
    const newest = await ctlWith({}, '--url', store.url, 'aptos', 'fetch', '--to', to);
    expect(newest.code, newest.stderr).to.equal(0);
    expect(newest.stdout).to.match(/^version 29: \d+ objects, .*\(16 were there already\)/);
    expect(newest.stderr).to.contain('is from an earlier fetch; a restore to this version does not need it');
  });

  it('fetch names every file that is missing, brings the rest, and ends with 6', async () => {
    const store = await tiny();
    lose(
      store,
      'transaction_0-.10/0-.chunk',
      'transaction_10-.11/transaction.manifest',
      'state_epoch_1_ver_19.21/state.proof',
    );
    const { to, there } = restored(store);
    const { code, objects, errorLines } = await ctl(store, '--json', 'aptos', 'fetch', '--to', to);
    expect(code).to.equal(6);
    const missing = [
      'state_epoch_1_ver_19.21/state.proof',
      'transaction_0-.10/0-.chunk',
      'transaction_10-.11/transaction.manifest',
    ];
    expect([...new Set(errorLines.map((line) => JSON.parse(line).key))].toSorted(compareKeys)).to.deep.equal(
      missing,
    );
    const last = objects.at(-1);
    expect(last?.['missing']).to.have.members(missing);
    expect(there().has('transaction_0-.10/0-9.proof')).to.equal(true);
  });

  it('fetch brings nothing where there is a gap, and ends with 6', async () => {
    const store = await tiny();
    lose(store, 'metadata/epoch_ending_1-1.meta');
    const { to, there } = restored(store);
    const { code, stderr } = await ctl(store, 'aptos', 'fetch', '--target-version', '29', '--to', to);
    expect(code).to.equal(6);
    expect(stderr).to.contain("version 29 can't be restored to: epoch 1 is missing");
    expect([...there().keys()]).to.deep.equal([]);
  });

  it('fetch opens nothing outside of the backup, whatever a manifest or a line names', async () => {
    const store = await tiny();
    const hostile = 'transaction_0-.10/transaction.manifest';
    const range = { first_version: 0, last_version: 9 };
    const chunk = { ...range, transactions: '../../etc/passwd', proof: 'transaction_0-.10/0-9.proof' };
    writeFileSync(path.join(store.root, hostile), JSON.stringify({ ...range, chunks: [chunk] }));
    const line = { first_version: 30, last_version: 39, manifest: '/etc/passwd' };
    writeFileSync(
      path.join(store.root, 'metadata/x.meta'),
      `${JSON.stringify({ TransactionBackup: line })}\n`,
    );
    const { to, there } = restored(store);
    const { code, stderr } = await ctl(store, 'aptos', 'fetch', '--to', to);
    expect(code).to.equal(1);
    expect(stderr).to.contain(
      `manifest "${hostile}": "transactions" is "../../etc/passwd", which names no file`,
    );
    expect(stderr).to.contain(
      'metadata file "metadata/x.meta", line 1: "manifest" is "/etc/passwd", which names no file',
    );
    expect(
      [...there().keys()].filter((name) => name.includes('passwd') || name === 'metadata/x.meta'),
    ).to.deep.equal([]);
    expect(existsSync(path.join(store.directory, 'etc'))).to.equal(false);
  });

  it('refuses what makes no sense', async () => {
    const store = await stores.make();
    for (const [words, message] of [
      [['aptos', 'stauts'], 'there is no aptos "stauts"; there are status, plan, fetch, compact'],
      [['aptos', 'status', '--to', 'x'], 'aptos status takes no --to'],
      [['aptos', 'status'], 'no store has format: aptos'],
      [
        ['aptos', 'plan', '--target-version', '18446744073709551616'],
        '--target-version "18446744073709551616" is no whole number',
      ],
      [['aptos', 'fetch'], 'aptos fetch needs --to DIR'],
    ] as const) {
      const { code, stderr } = await ctl(store, ...words);
      expect(code, words.join(' ')).to.equal(2);
      expect(stderr).to.contain(message);
    }
    const { code, stderr } = await ctl(store, 'aptos', 'plan');
    expect(code).to.equal(6);
    expect(stderr).to.contain('there is no version that can be restored to');
  });
});
