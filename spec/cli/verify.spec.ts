import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { TempStore } from '../support/temp-store.ts';
import { OLD } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, tempStores } from './ctl.ts';

const DAY = 86_400_000;

describe('tombstonectl verify', () => {
  beforeAllBuild();
  const stores = tempStores();
  let store: TempStore;
  beforeEach(async () => {
    store = await stores.make({ safetyWindow: '7d', policies: [OLD] });
    for (const key of ['a', 'it’s b']) store.write(key, key, DAY);
    expect(await ctl(store, 'sweep')).to.include({ code: 0 });
  });

  const pending = (name: string): string => path.join(store.root, 'pending_deletion', name);

  it('says that all is well, in one line, and exits with 0', async () => {
    const { code, lines } = await ctl(store, 'verify', '--checksums');
    expect(lines).to.deep.equal([
      'main: 2 pending copies, 2 tombstones and 0 live objects compared; 2 read (9 B), 0 by MD5; all is well',
    ]);
    expect(code).to.equal(0);
  });

  it('names each difference with the command that mends it, and exits with 7', async () => {
    rmSync(pending(store.pending().find((name) => name.startsWith('it')) ?? ''));
    writeFileSync(pending('note'), '');
    const { code, lines, stdout } = await ctl(store, 'verify');
    expect(code).to.equal(7);
    expect(lines[0]).to.match(/^malformed-name {2}pending_deletion\/note: .* \(mv -n \/\S+\/note \S+\)$/);
    expect(lines[1]).to.match(/^missing-copy {2}it’s b {2}2\S+: .*tombstonectl --store main verify --repair/);
    expect(stdout).to.match(/main: .*; 2 differences: 1 malformed-name, 1 missing-copy\n$/);
  });

  it('with --json tells a program the same', async () => {
    rmSync(pending(store.pending()[0] ?? ''));
    const { code, objects } = await ctl(store, '--json', 'verify');
    expect(code).to.equal(7);
    const [difference, sum] = objects;
    expect(difference).to.include({
      type: 'difference',
      store: 'main',
      problem: 'missing-copy',
      key: 'a',
      repair: null,
    });
    expect(difference).to.have.all.keys(
      'type',
      'store',
      'problem',
      'key',
      'id',
      'detail',
      'remedy',
      'repair',
    );
    expect(sum).to.deep.equal({
      type: 'verify',
      store: 'main',
      copies: 1,
      rows: 2,
      live: 0,
      checksums: null,
      differences: { 'missing-copy': 1 },
      found: 1,
      repaired: 0,
      dryRun: false,
    });
  });

  it('mends with --repair, not with --dry-run, and exits with 0 when all is mended', async () => {
    rmSync(pending(store.pending()[0] ?? ''));
    const dry = await ctl(store, 'verify', '--repair', '--dry-run');
    expect(dry.code).to.equal(7);
    expect(dry.stdout).to.include('(would be mended)');
    const mended = await ctl(store, 'verify', '--repair');
    expect(mended.code).to.equal(0);
    expect(mended.stdout).to.include('(mended)').and.include('1 mended');
    expect(await ctl(store, 'verify')).to.include({ code: 0 });
  });

  it('exits with 1 where the store could not be checked, and with 2 where it was asked wrongly', async () => {
    rmSync(path.join(store.root, '.tombstoned/store.json'));
    rmSync(path.join(store.root, 'pending_deletion'), { recursive: true });
    const { code, stdout, stderr } = await ctl(store, 'verify', '--repair');
    expect({ code, stdout }).to.deep.equal({ code: 1, stdout: '' });
    expect(stderr).to.include('is the disk mounted?');
    for (const wrong of [['--dry-run'], ['--after', '20261122T101500123Z-k3v0q8tzm2xj4d'], ['key']])
      expect(await ctl(store, 'verify', ...wrong), wrong.join(' ')).to.include({ code: 2 });
  });
});
