import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, hold, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const FREE = { limits: { maxFraction: null } };

describe('tombstonectl tombstone', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function made(settings = {}): Promise<TempStore> {
    const store = await stores.make({ ...FREE, ...settings });
    for (const key of ['a', 'b', 'c']) store.write(key, key, DAY);
    return store;
  }

  it('moves what is named, with a line each and its reason on record', async () => {
    const store = await made();
    const answer = await ctl(store, '--json', 'tombstone', 'a', 'b', '--reason', 'asked for');
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.stderr).to.equal('');
    for (const [i, key] of ['a', 'b'].entries()) {
      const object = answer.objects[i] ?? {};
      expect(Object.keys(object)).to.deep.equal(['type', 'key', 'id', 'outcome', 'detail']);
      expect(object).to.include({ type: 'tombstoned', key, outcome: 'tombstoned', detail: null });
      expect(object['id']).to.match(/^\d{8}T\d{9}Z-/);
    }
    expect(store.live()).to.deep.equal({ c: 'c' });
    const listed = await ctl(store, '--json', 'ls');
    for (const one of listed.objects) expect(one).to.include({ policy: null, reason: 'asked for' });
  });

  it('is also called delete; what is pending already is success', async () => {
    const store = await made();
    expect((await ctl(store, 'delete', 'a')).stdout).to.match(/^tombstoned {2}a {2}\(\d{8}T/);
    const again = await ctl(store, '--json', 'delete', 'a');
    expect(again.code).to.equal(0);
    expect(again.objects[0]).to.include({ outcome: 'already', detail: 'it is pending already' });
  });

  it('exits with 3 for what is not there, in one line', async () => {
    const store = await made();
    const [text, json] = [await ctl(store, 'tombstone', 'zz'), await ctl(store, '--json', 'tombstone', 'zz')];
    expect(text.code).to.equal(3);
    expect(text.stdout).to.equal('');
    expect(text.errorLines.filter((line) => !line.includes('warning'))).to.deep.equal([
      'tombstonectl: zz: gone: there is no such object (see what there is: tombstonectl explain KEY)',
    ]);
    expect(json.objects[0]).to.include({ key: 'zz', id: null, outcome: 'gone' });
    expect(json.error).to.include({ code: 'not-found', key: 'zz' });
  });

  it('exits with 5 for what a guard, a hold or a limit keeps', async () => {
    const store = await made({ protect: ['b'], minimumAge: '1h' });
    store.write('new', 'n');
    hold(store, 'c');
    const answer = await ctl(store, '--json', 'tombstone', 'a', 'b', 'c', 'new');
    expect(answer.code).to.equal(5);
    const outcomes = Object.fromEntries(answer.objects.map(({ key, outcome }) => [String(key), outcome]));
    expect(outcomes).to.deep.equal({ a: 'tombstoned', b: 'blocked', c: 'blocked', new: 'blocked' });
    expect(answer.error).to.include({ code: 'blocked' });
    store.configure({ main: { limits: { maxObjects: 1 } } });
    store.write('d', 'd', DAY);
    store.write('e', 'e', DAY);
    const limited = await ctl(store, '--json', 'tombstone', 'd', 'e');
    expect(limited.code).to.equal(5);
    expect(limited.error).to.include({ reason: 'limit' });
    expect(store.live()).to.include({ d: 'd', e: 'e' });
  });

  it('goes on past a failure, lists it, and ends with the worst code', async () => {
    const store = await made({ protect: ['b'] });
    const answer = await ctl(store, 'tombstone', 'zz', 'a', 'b');
    expect(answer.code).to.equal(5);
    expect(answer.lines).to.have.length(1);
    expect(answer.stderr).to.include('tombstonectl: zz: gone: ').and.include('tombstonectl: b: blocked: ');
    expect(answer.errorLines.at(-1)).to.match(/^tombstonectl: 2 of 3 failed, such as b: blocked/);
    expect(store.live()).to.deep.equal({ b: 'b', c: 'c' });
  });

  it('moves nothing with --dry-run', async () => {
    const store = await made();
    const answer = await ctl(store, '--json', 'tombstone', 'a', 'zz', '--dry-run');
    expect(answer.code).to.equal(3);
    expect(answer.objects.find(({ key }) => key === 'a')).to.include({ outcome: 'tombstoned', id: null });
    expect(Object.keys(store.live())).to.have.length(3);
    expect(store.pending()).to.deep.equal([]);
  });

  it('takes any key: a dash after --, a newline, spaces, what looks like an id, an option’s name', async () => {
    const store = await stores.make(FREE);
    const id = '20261122T101500123Z-k3v0q8tzm2xj4d';
    const keys = ['-x', '--json', 'a\nb', ' ', '"q"', "'q'", 'ä/ö', '007', 'help', '{', '#', '~', '*', 'a=b'];
    for (const key of [...keys, id]) store.write(key, key, DAY);
    const answer = await ctl(store, '--json', 'tombstone', '--', ...keys);
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.objects.map(({ key }) => key)).to.have.members(keys);
    expect((await ctl(store, 'tombstone', '--key', id)).code).to.equal(0);
    expect(store.live()).to.deep.equal({});
    const text = await ctl(store, 'restore', 'a\nb');
    expect(text.stdout).to.match(/^restored {4}"a\\nb" {2}\(/);
  });

  it('reads keys from a file: comments, JSON, no newline at the end', async () => {
    const store = await made();
    store.write('#c', 'c', DAY);
    store.write('{d', 'd', DAY);
    const file = path.join(store.directory, 'keys.txt');
    writeFileSync(file, '# some\na\n\n{"key":"#c"}\n{"type":"key","key":"{d","id":null}\nb');
    const answer = await ctl(store, '--json', 'tombstone', '--from-file', file);
    expect(answer.code, answer.stderr).to.equal(0);
    expect(store.live()).to.deep.equal({ c: 'c' });
  });

  it('reads keys from stdin, many of them', async () => {
    const store = await stores.make(FREE);
    const keys = Array.from({ length: 1500 }, (_, i) => `logs/${i}`);
    for (const key of keys) store.write(key, '', DAY);
    const input = keys.map((key) => `${key}\n`).join('');
    const args = ['--config', store.configFile, '--json', 'tombstone', '--from-file', '-'];
    const answer = await ctlWith({ input }, ...args);
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.objects).to.have.length(1500);
    expect(store.live()).to.deep.equal({});
  });

  it('refuses a file with a line that is no key, whole, and names the line', async () => {
    const store = await made();
    const file = path.join(store.directory, 'keys.txt');
    for (const [bad, what] of [
      ['../x', 'is not a key: it has a ".." segment'],
      ['x\0y', 'is not a key: it contains a NUL'],
      ['x\r', 'ends in a carriage return'],
      ['{"key":7}', 'has no "key"'],
      ['{"key":', 'not valid JSON'],
      [Buffer.from([0x61, 0xff]), 'not valid UTF-8'],
      ['x'.repeat(70_000), 'too long for a key'],
    ] as const) {
      writeFileSync(file, Buffer.concat([Buffer.from('a\n'), Buffer.from(bad), Buffer.from('\nb\n')]));
      const answer = await ctl(store, '--json', 'tombstone', '--from-file', file);
      expect(answer.code, String(bad)).to.equal(2);
      expect(answer.stdout).to.equal('');
      expect(answer.error?.['message']).to.include(`${file}, line 2: `).and.include(what);
    }
    const piped = ['--config', store.configFile, 'tombstone', '--from-file', '-'];
    const answer = await ctlWith({ input: 'a\n/b\n' }, ...piped);
    expect(answer.code).to.equal(2);
    expect(answer.stderr).to.include('stdin, line 2: ');
    expect(Object.keys(store.live())).to.have.length(3);
  });

  it('has nothing to do with an empty file, and refuses one that is not there', async () => {
    const store = await made();
    const empty = await ctl(store, 'tombstone', '--from-file', '/dev/null');
    expect(empty).to.include({ code: 0, stdout: '' });
    expect(empty.stderr).to.include('nothing to do');
    const missing = await ctl(store, '--json', 'tombstone', '--from-file', '/nowhere');
    expect(missing.code).to.equal(2);
    expect(missing.error?.['message']).to.include('/nowhere');
  });
});
