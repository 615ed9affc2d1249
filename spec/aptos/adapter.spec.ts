import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { beforeAllBuild, ctl, tempStores } from '../cli/ctl.ts';
import { builtProgram } from '../support/built-cli.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { AdapterTool } from './adapter-tool.ts';

const LINE = '{"EpochEndingBackup":{"first_epoch":0,"last_epoch":0}}\n';
const HOUR = 3_600_000;

describe('the command adapter on a local store', () => {
  beforeAllBuild();
  const stores = tempStores();
  const tools: AdapterTool[] = [];
  afterEach(() => {
    for (const tool of tools.splice(0)) tool.remove();
  });

  type Variables = Readonly<Record<string, string>>;

  function toolOf(store: TempStore, set: Variables = {}, env: Variables = {}): AdapterTool {
    const tool = new AdapterTool({
      set: { TOMBSTONED_URL: store.url, ...set },
      env: { TOMBSTONED_CONFIG: store.configFile, ...env },
    });
    tools.push(tool);
    return tool;
  }

  /** What is there under a temporary name. */
  function temporaries(store: TempStore): string[] {
    return readdirSync(path.join(store.root, '.tombstoned/tmp'));
  }

  for (const { how, set, unpacked } of [
    { how: 'packed', set: {}, unpacked: gunzipSync },
    { how: 'plain', set: { PACK: 'cat', UNPACK: 'cat' }, unpacked: (bytes: Buffer) => bytes },
  ] as const) {
    it(`writes, lists and reads, ${how}, by the handles that it gives`, async () => {
      const store = await stores.make();
      const tool = toolOf(store, set);
      const data = Buffer.alloc(300_000, 'some\0bytes\n');
      const backup = await tool.createBackup('epoch_ending_0-.1234');
      const handle = backup.stdout.toString().trimEnd();
      const chunk = await tool.write(handle, '0-.chunk', data);
      const saved = await tool.saveMetadata('epoch_ending_0-0.meta', LINE.repeat(2000));
      expect([backup, chunk, saved].map(({ code, stderr }) => `${String(code)}${stderr}`)).to.deep.equal([
        '0',
        '0',
        '0',
      ]);
      expect(chunk.stdout.toString()).to.equal('epoch_ending_0-.1234/0-.chunk\n');
      expect(saved.stdout.toString()).to.equal('metadata/epoch_ending_0-0.meta\n');
      const file = path.join(store.root, 'epoch_ending_0-.1234/0-.chunk');
      expect(unpacked(readFileSync(file)).equals(data)).to.equal(true);
      expect(temporaries(store)).to.deep.equal([]);

      const listed = await tool.listMetadata();
      expect([listed.code, listed.handles]).to.deep.equal([0, ['metadata/epoch_ending_0-0.meta']]);
      expect((await tool.read('epoch_ending_0-.1234/0-.chunk')).stdout.equals(data)).to.equal(true);
      const read = await tool.read('metadata/epoch_ending_0-0.meta');
      expect([read.code, read.stdout.toString()]).to.deep.equal([0, LINE.repeat(2000)]);
    });
  }

  it('gives a file its name when it is whole, or never', async () => {
    const store = await stores.make();
    const broken = path.join(store.directory, 'broken-pack');
    writeFileSync(broken, '#!/bin/sh\nhead -c 5\nexit 1\n');
    chmodSync(broken, 0o755);
    const tool = toolOf(store, { PACK: broken });
    const chunk = await tool.write('b.1', '0-.chunk', 'many bytes');
    const saved = await tool.saveMetadata('a.meta', LINE);
    expect([chunk.code, saved.code]).to.deep.equal([1, 1]);
    expect(store.live()).to.deep.equal({});
    expect(temporaries(store)).to.deep.equal([]);
  });

  it('saves no lines that were cut short, and none at all', async () => {
    const store = await stores.make();
    const tool = toolOf(store);
    for (const lines of [LINE.slice(0, -1), `${LINE}{"Ep`, '', '\n', `${LINE}\n`]) {
      const { code, stderr } = await tool.saveMetadata('a.meta', lines);
      expect([code, stderr], JSON.stringify(lines)).to.deep.equal([
        1,
        'command adapter: metadata/a.meta is not saved: its last line has no end\n',
      ]);
    }
    expect(store.live()).to.deep.equal({});
  });

  it('never takes a name from another file, and does twice what is the same', async () => {
    const store = await stores.make();
    const tool = toolOf(store);
    for (const [lines, code] of [
      [LINE, 0],
      [LINE, 0],
      [`${LINE}${LINE}`, 1],
    ] as const) {
      const saved = await tool.saveMetadata('a.meta', lines);
      expect(saved.code, saved.stderr).to.equal(code);
    }
    const read = await tool.read('metadata/a.meta');
    expect(read.stdout.toString()).to.equal(LINE);
    expect(temporaries(store)).to.deep.equal([]);
  });

  it('takes names with odd characters for what they are', async () => {
    const store = await stores.make();
    const tool = toolOf(store, { PACK: 'cat', UNPACK: 'cat' });
    const odd = ['a b  c', `$(touch trap)';*?|<>"~`, '-rf', 'ü\\n'];
    const ends = await Promise.all(
      odd.map(async (name) => {
        const saved = await tool.saveMetadata(`${name}.meta`, LINE);
        const written = await tool.write(name, 'x', name);
        const read = await tool.read(`${name}/x`);
        return [saved.code, written.code, read.code, read.stdout.toString()];
      }),
    );
    expect(ends).to.deep.equal(odd.map((name) => [0, 0, 0, name]));
    expect(existsSync('trap')).to.equal(false);
    const { code, handles } = await tool.listMetadata();
    expect([code, handles.length]).to.deep.equal([0, 4]);
    expect((await tool.backupMetadata('-rf.meta')).code).to.equal(0);
    expect(Object.keys(store.live())).not.to.include('metadata/-rf.meta');
  });

  it('fails a read of what is missing, cut short, no key or in no store', async () => {
    const store = await stores.make();
    const whole = gzipSync(LINE.repeat(1000));
    mkdirSync(path.join(store.root, 'metadata'));
    writeFileSync(path.join(store.root, 'metadata/cut.meta'), whole.subarray(0, -9));
    writeFileSync(path.join(store.root, 'metadata/empty.meta'), '');
    const packed = toolOf(store);
    const plain = toolOf(store, { UNPACK: 'cat' }); // cat itself never fails
    const cases = [
      [plain, 'metadata/none.meta', 'metadata/none.meta is neither live nor pending'],
      [packed, 'metadata/none.meta', 'metadata/none.meta is neither live nor pending'],
      [packed, 'metadata/cut.meta', 'unexpected end of file'],
      [packed, 'metadata/empty.meta', 'unexpected end of file'],
      [plain, '../../../etc/passwd', 'is not a key'],
      [plain, '/etc/passwd', 'is not a key'],
      [plain, '.tombstoned/store.json', 'is not a key'],
    ] as const;
    const reads = await Promise.all(cases.map(async ([tool, handle]) => tool.read(handle)));
    for (const [i, [, handle, says]] of cases.entries()) {
      expect(reads[i]?.code, handle).not.to.equal(0);
      expect(reads[i]?.stderr).to.include(says);
    }
  });

  it('fails, and makes nothing, where there is no store', async () => {
    const store = await stores.make();
    rmSync(path.join(store.root, '.tombstoned'), { recursive: true }); // as on a disk that is not mounted
    const tool = toolOf(store);
    const listed = await tool.listMetadata();
    expect([listed.code, listed.handles]).to.deep.equal([1, []]);
    for (const done of [
      await tool.write('b.1', '0-.chunk', 'data'),
      await tool.saveMetadata('a.meta', LINE),
      await tool.read('metadata/a.meta'),
      await tool.backupMetadata('a.meta'),
    ])
      expect(done.code).not.to.equal(0);
    expect(readdirSync(store.root)).to.deep.equal([]);
    for (const url of ['file://localhost/a', 'file:///a%20b', '/srv/backups', '']) {
      const elsewhere = toolOf(store, { TOMBSTONED_URL: url });
      const { code, stderr } = await elsewhere.write('b.1', '0-.chunk', 'data');
      expect([code, stderr.includes('command adapter: ')], url).to.deep.equal([1, true]);
    }
  });

  it('tombstones what the tool moves away: it can be read on, and again is a success', async () => {
    const store = await stores.make();
    store.write('metadata/a.meta', gzipSync(LINE).toString('latin1'));
    const tool = toolOf(store);
    expect((await tool.saveMetadata('b.meta', LINE)).code).to.equal(0);
    for (const says of ['tombstoned', 'already']) {
      const moved = await tool.backupMetadata('b.meta');
      expect([moved.code, moved.stdout.length], moved.stderr).to.deep.equal([0, 0]);
      expect(moved.stderr).to.match(new RegExp(`^${says} +metadata/b\\.meta`, 'm'));
    }
    expect((await tool.listMetadata()).handles).to.deep.equal(['metadata/a.meta']);
    expect((await tool.read('metadata/b.meta')).stdout.toString()).to.equal(LINE);
    expect(existsSync(path.join(store.root, 'metadata_backup'))).to.equal(false);
    expect((await tool.backupMetadata('none.meta')).code).to.equal(3);
    expect((await ctl(store, 'restore', 'metadata/b.meta')).code).to.equal(0);
    expect((await tool.listMetadata()).handles).to.have.length(2);
  });

  it('writes, lists and reads while the store is paused, and moves nothing away', async () => {
    const store = await stores.make({ limits: { maxFraction: null } });
    const tool = toolOf(store);
    expect((await ctl(store, 'pause', '--reason', 'a new disk')).code).to.equal(0);
    expect((await tool.saveMetadata('a.meta', LINE)).code).to.equal(0);
    const { code, stderr } = await tool.backupMetadata('a.meta');
    expect([code, stderr.includes('a new disk')], stderr).to.deep.equal([5, true]);
    expect((await tool.listMetadata()).handles).to.deep.equal(['metadata/a.meta']);
    expect((await tool.read('metadata/a.meta')).stdout.toString()).to.equal(LINE);
  });

  it('moves away in the store that its URL names, of all in the config', async () => {
    const store = await stores.make();
    store.configure({ other: {}, main: { limits: { maxFraction: null } } });
    await store.init();
    store.write('metadata/a.meta', 'a');
    store.write('metadata/a.meta', 'a', 0, store.rootOf('other'));
    const tool = toolOf(store);
    expect((await tool.backupMetadata('a.meta')).code).to.equal(0);
    expect([Object.keys(store.live()), Object.keys(store.live(store.rootOf('other')))]).to.deep.equal([
      [],
      ['metadata/a.meta'],
    ]);
    store.configure({ other: {} });
    const { code, stderr } = await tool.backupMetadata('a.meta');
    expect([code, stderr.includes('has no such store')], stderr).to.deep.equal([2, true]);
    expect(Object.keys(store.live(store.rootOf('other')))).to.deep.equal(['metadata/a.meta']);
  });

  describe('for a restore that has listed', () => {
    it('all can be read within the safety window, when the original compactor has moved it away', async () => {
      const store = await stores.make({ format: 'aptos', safetyWindow: '1h', limits: { maxFraction: null } });
      const tool = toolOf(store);
      const lines = [0, 100, 200].map(
        (first) =>
          `{"TransactionBackup":{"first_version":${first},"last_version":${first + 99},"manifest":"t_${first}-.1/transaction.manifest"}}\n`,
      );
      const contents: Readonly<Record<string, string>> = {
        'transaction_0-99.meta': lines[0] ?? '',
        'transaction_100-199.meta': lines[1] ?? '',
        'transaction_200-299.meta': lines[2] ?? '',
        'transaction_compacted_0-299.meta': lines.join(''),
      };
      for (const [name, text] of Object.entries(contents))
        expect((await tool.saveMetadata(name, text)).code).to.equal(0);
      const { handles } = await tool.listMetadata();
      const names = Object.keys(contents);
      expect(handles).to.deep.equal(names.map((name) => `metadata/${name}`));

      const moved = [];
      for (const name of names) moved.push((await tool.backupMetadata(name)).code);
      expect(moved, 'the last one has lines that are in no other').to.deep.equal([0, 0, 0, 5]);
      expect((await ctl(store, 'purge')).code).to.equal(0);
      expect(Object.keys(store.live())).to.deep.equal(['metadata/transaction_compacted_0-299.meta']);
      const read = await Promise.all(handles.map(async (handle) => tool.read(handle)));
      expect(read.map(({ code, stdout }) => [code, stdout.toString()])).to.deep.equal(
        names.map((name) => [0, contents[name]]),
      );
    });

    it('all can be read under a lease, however long it takes; after it, what is purged is an error', async () => {
      const store = await stores.make({ safetyWindow: '0s', policies: [{ ...OLD, prefix: 'metadata/' }] });
      const handles = ['metadata/a.meta', 'metadata/b.meta', 'metadata/c.meta'];
      for (const handle of handles) store.write(handle, handle, 2 * HOUR);
      const restore = spawn(
        process.execPath,
        [builtProgram('cli'), '--url', store.url, 'with-lease', '--allow-sweeps'].concat(
          '--',
          'sh',
          '-c',
          'echo "$TOMBSTONED_LEASE"; exec cat',
        ),
        { stdio: ['pipe', 'pipe', 'inherit'] },
      );
      const ended = once(restore, 'exit');
      const [lease]: unknown[] = await once(restore.stdout, 'data');
      const tool = toolOf(store, { PACK: 'cat', UNPACK: 'cat' }, { TOMBSTONED_LEASE: String(lease).trim() });
      expect((await tool.listMetadata()).handles).to.deep.equal(handles);
      for (const phase of ['sweep', 'purge']) {
        const { code, stderr } = await ctl(store, phase);
        expect(code, stderr).to.equal(0);
      }
      expect(store.live()).to.deep.equal({});
      const read = await Promise.all(handles.map(async (handle) => tool.read(handle)));
      expect(read.map(({ code, stdout }) => [code, stdout.toString()])).to.deep.equal(
        handles.map((handle) => [0, handle]),
      );
      restore.stdin.end();
      expect(await ended).to.deep.equal([0, null]);
      expect((await tool.read('metadata/a.meta')).code, 'its lease is over').to.equal(5);

      const without = toolOf(store, { UNPACK: 'cat' });
      expect((await without.read('metadata/a.meta')).code).to.equal(0);
      expect((await ctl(store, 'purge')).code).to.equal(0);
      const purged = await without.read('metadata/a.meta');
      expect([purged.code, purged.stdout.length]).to.deep.equal([3, 0]);
    });
  });
});
