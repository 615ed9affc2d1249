import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, ctlWith, hold, tempStores } from './ctl.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

interface Because {
  readonly reason: string;
  readonly until: string | null;
  readonly detail: string;
  readonly change: string;
}

interface Live {
  readonly size: number;
  readonly takenBy: string | null;
  readonly kept: readonly Because[];
}

interface Copy {
  readonly id: string;
  readonly state: string | null;
  readonly size: number | null;
  readonly dueAt: string | null;
  readonly kept: readonly Because[];
}

interface Explanation {
  readonly key: string;
  readonly store: string;
  readonly live: Live | null;
  readonly copies: readonly Copy[];
}

describe('tombstonectl explain', () => {
  beforeAllBuild();
  const stores = tempStores();

  async function explain(store: TempStore, ...args: string[]): Promise<Explanation> {
    const answer = await ctl(store, '--json', 'explain', ...args);
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.objects).to.have.length(1);
    return answer.objects[0] as unknown as Explanation;
  }

  /** Why a live key is kept, each with a change; checked against what a sweep would take. */
  async function whyLive(store: TempStore, key: string): Promise<string[]> {
    const { live } = await explain(store, key);
    const { objects } = await ctl(store, '--json', 'sweep', '--dry-run');
    const isPlanned = objects.some((object) => object['type'] === 'planned' && object['key'] === key);
    expect(live?.takenBy !== null, `${key} taken`).to.equal(isPlanned);
    for (const { detail, change } of live?.kept ?? []) {
      expect(detail).not.to.equal('');
      expect(change).not.to.equal('');
    }
    return (live?.kept ?? []).map(({ reason }) => reason);
  }

  it('names the policy that takes a live key', async () => {
    const store = await stores.make({
      policies: [
        { ...OLD, name: 'never', olderThan: '90d' },
        { ...OLD, name: 'soon', prefix: 'logs/' },
      ],
    });
    store.write('logs/a', 'aa', DAY);
    expect(await whyLive(store, 'logs/a')).to.deep.equal([]);
    expect((await explain(store, 'logs/a')).live).to.deep.include({ size: 2, takenBy: 'soon', kept: [] });
    expect((await ctl(store, 'explain', 'logs/a')).stdout).to.include(
      'goes with the next sweep: policy soon',
    );
  });

  it('says when no policy selects it', async () => {
    const store = await stores.make({ policies: [{ ...OLD, prefix: 'logs/', match: '*.meta' }] });
    for (const key of ['x', 'logs/x', 'logs/d/x.meta']) {
      store.write(key, '', DAY);
      expect(await whyLive(store, key)).to.deep.equal(['no-policy']);
    }
    const { live } = await explain(store, 'logs/d/x.meta');
    expect(live?.kept[0]?.change).to.include('tombstonectl --store main tombstone logs/d/x.meta');
  });

  it('says how long it is too young, for the policy and for minimumAge', async () => {
    const store = await stores.make({ policies: [{ ...OLD, olderThan: '3h' }], minimumAge: '1h' });
    store.write('a', '', 2 * HOUR);
    store.write('b', '', HOUR / 2);
    expect(await whyLive(store, 'a')).to.deep.equal(['too-young']);
    expect(await whyLive(store, 'b')).to.deep.equal(['too-young', 'too-young']);
    const [minimum, policy] = (await explain(store, 'b')).live?.kept ?? [];
    const left = (because?: Because): number => Date.parse(because?.until ?? '') - Date.now();
    expect(left(minimum)).to.be.within(HOUR / 2 - 60_000, HOUR / 2);
    expect(left(policy)).to.be.within(2.5 * HOUR - 60_000, 2.5 * HOUR);
    expect(minimum?.change).to.include('minimumAge');
    expect(policy?.change).to.include('olderThan of policy old');
  });

  it('says when it is protected, or held', async () => {
    const store = await stores.make({ policies: [OLD], protect: ['**/identity.meta'] });
    store.write('a/identity.meta', '', DAY);
    store.write('held/a', '', DAY);
    const id = hold(store, 'held/');
    expect(await whyLive(store, 'a/identity.meta')).to.deep.equal(['protected']);
    expect(await whyLive(store, 'held/a')).to.deep.equal(['hold']);
    const [held] = (await explain(store, 'held/a')).live?.kept ?? [];
    expect(held?.detail).to.include(id).and.include('audit');
  });

  it('counts what keepLast counts', async () => {
    const store = await stores.make({ policies: [{ ...OLD, prefix: 'logs/', keepLast: 2 }] });
    for (const [i, key] of ['a', 'b', 'c', 'd'].entries()) store.write(`logs/${key}`, key, (9 - i) * DAY);
    expect(await whyLive(store, 'logs/d')).to.deep.equal(['keep-last']);
    expect(await whyLive(store, 'logs/c')).to.deep.equal(['keep-last']);
    expect(await whyLive(store, 'logs/b')).to.deep.equal([]);
    expect((await explain(store, 'logs/c')).live?.kept[0]?.detail).to.include('newest 2, and 1 is newer');
    store.write('logs/young', '');
    expect(await whyLive(store, 'logs/c')).to.deep.equal([]);
    // What is held does not count.
    hold(store, 'logs/d');
    expect(await whyLive(store, 'logs/c')).to.deep.equal(['keep-last']);
  });

  it('takes a directory as a whole where the policy does', async () => {
    const policies = [{ ...OLD, prefix: 'epochs/', unit: 'directory', keepLast: 1 }];
    const store = await stores.make({ policies, protect: ['**/keep'] });
    for (const [i, epoch] of ['e1', 'e2', 'e3', 'e4', 'e5'].entries()) {
      store.write(`epochs/${epoch}/a`, '', (9 - i) * DAY);
      store.write(`epochs/${epoch}/sub/b`, '', (9 - i) * DAY);
    }
    store.write('epochs/e2/sub/new', '');
    store.write('epochs/e3/keep', '', 8 * DAY);
    hold(store, 'epochs/e4/sub/');
    expect(await whyLive(store, 'epochs/e1/a')).to.deep.equal([]);
    expect(await whyLive(store, 'epochs/e2/a')).to.deep.equal(['too-young']);
    expect(await whyLive(store, 'epochs/e3/sub/b')).to.deep.equal(['protected']);
    expect(await whyLive(store, 'epochs/e4/a')).to.deep.equal(['hold']);
    // The newest of all is e2, by its new file.
    expect(await whyLive(store, 'epochs/e5/a')).to.deep.equal([]);
    rmSync(path.join(store.root, 'epochs/e2'), { recursive: true });
    expect(await whyLive(store, 'epochs/e5/a')).to.deep.equal(['keep-last']);
  });

  it('says of a restored key that it is exempt, and of its copy what keeps that', async () => {
    const store = await stores.make({ policies: [OLD], safetyWindow: '2d' });
    store.write('a', 'aa', DAY);
    await ctl(store, 'sweep');
    const before = await explain(store, 'a');
    expect(before.live).to.equal(null);
    expect(before.copies).to.have.length(1);
    expect(before.copies[0]).to.include({ state: 'pending', size: 2 });
    expect(before.copies[0]?.kept.map(({ reason }) => reason)).to.deep.equal(['window']);
    expect(before.copies[0]?.kept[0]?.until).to.equal(before.copies[0]?.dueAt);
    expect(before.copies[0]?.kept[0]?.change).to.include('tombstonectl --store main restore ');
    await ctl(store, 'restore', 'a');
    expect(await whyLive(store, 'a')).to.deep.equal(['exempt']);
    const after = await explain(store, 'a');
    expect(after.live?.kept[0]?.change).to.include('tombstonectl --store main tombstone a');
    expect(after.copies[0]).to.include({ state: 'restored' });
    expect(after.copies[0]?.kept.map(({ reason }) => reason)).to.deep.equal(['window']);
    expect(after.copies[0]?.kept[0]?.change).to.include('live again');
  });

  it('says when a copy goes with the next purge, and when it has gone', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('a', 'aa', DAY);
    await ctl(store, 'sweep');
    expect((await ctl(store, 'explain', 'a')).stdout).to.include('goes with the next purge');
    await ctl(store, 'purge');
    const [copy] = (await explain(store, 'a')).copies;
    expect(copy).to.deep.include({ state: 'purged', size: null, dueAt: null, kept: [] });
  });

  it('explains one tombstone by its id', async () => {
    const store = await stores.make({ policies: [OLD] });
    for (const content of ['1', '22']) {
      store.write('a', content, DAY);
      await ctl(store, 'sweep');
    }
    const both = await explain(store, 'a');
    expect(both.copies.map(({ size }) => size)).to.deep.equal([2, 1]);
    const one = await explain(store, both.copies[1]?.id ?? '');
    expect(one).to.deep.include({ key: 'a', copies: [both.copies[1]] });
  });

  it('says when a copy was changed, is missing, or is unknown to the catalog', async () => {
    const store = await stores.make({ policies: [OLD] });
    for (const key of ['changed', 'missing']) store.write(key, key, DAY);
    await ctl(store, 'sweep');
    const directory = path.join(store.root, 'pending_deletion');
    for (const name of store.pending()) {
      if (name.startsWith('missing')) rmSync(path.join(directory, name));
      else writeFileSync(path.join(directory, name), 'other');
    }
    mkdirSync(path.join(directory, 'd'));
    writeFileSync(path.join(directory, 'd/unknown~20261122T101500123Z-k3v0q8tzm2xj4d'), 'x');
    const reasons = async (key: string): Promise<unknown> =>
      (await explain(store, key)).copies[0]?.kept.map(({ reason }) => reason);
    expect(await reasons('changed')).to.deep.equal(['changed']);
    expect(await reasons('missing')).to.deep.equal(['error']);
    expect(await reasons('d/unknown')).to.deep.equal(['error']);
    expect((await explain(store, 'd/unknown')).copies[0]).to.include({ state: null, dueAt: null });
  });

  it('refuses the name of a pending copy, and says what to ask instead', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('a', 'a', DAY);
    await ctl(store, 'sweep');
    const name = `pending_deletion/${store.pending()[0] ?? ''}`;
    for (const where of [
      ['--config', store.configFile],
      ['--url', store.url],
    ]) {
      const answer = await ctlWith({}, ...where, '--json', 'explain', name);
      expect(answer).to.include({ code: 2, stdout: '' });
      expect(answer.error?.['hint']).to.equal(`see tombstonectl explain ${name.slice(-34)}`);
    }
  });

  it('says when another catalog owns the store', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('a', '', DAY);
    const file = path.join(store.root, '.tombstoned/owner.json');
    const owner = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    writeFileSync(file, `${JSON.stringify({ ...owner, catalog: 'another' })}\n`);
    const { live } = await explain(store, 'a');
    expect(live?.kept.map(({ reason }) => reason)).to.deep.equal(['owner']);
    expect(live?.takenBy).to.equal(null);
  });

  it('looks into all stores, and exits with 3 when none has heard of it', async () => {
    const store = await stores.make();
    store.configure({ main: { policies: [OLD] }, other: {} });
    await store.init();
    store.write('a', '');
    store.write('a', '', 0, store.rootOf('other'));
    const answer = await ctl(store, '--json', 'explain', 'a');
    expect(answer.objects.map((object) => object['store'])).to.deep.equal(['main', 'other']);
    for (const target of ['zz', '20261122T101500123Z-k3v0q8tzm2xj4d']) {
      const unknown = await ctl(store, '--json', 'explain', target);
      expect(unknown).to.include({ code: 3, stdout: '' });
      expect(unknown.error).to.include({ code: 'not-found', key: target });
    }
  });

  it('tells by --url what the store alone can tell', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('held/a', 'aa', DAY);
    await ctl(store, 'sweep');
    store.write('held/a', 'new');
    hold(store, 'held/');
    const answer = await ctlWith({}, '--url', store.url, '--json', 'explain', 'held/a');
    expect(answer.code, answer.stderr).to.equal(0);
    const found = answer.objects[0] as unknown as Explanation;
    expect(found).to.include({ key: 'held/a', store: store.url });
    expect(found.live).to.include({ size: 3, takenBy: null });
    expect(found.live?.kept.map(({ reason }) => reason)).to.deep.equal(['hold']);
    expect(found.copies).to.have.length(1);
    expect(found.copies[0]).to.include({ state: null, size: 2, dueAt: null });
    expect(found.copies[0]?.kept.map(({ reason }) => reason)).to.deep.equal(['hold']);
    expect((await ctlWith({}, '--url', store.url, 'explain', 'zz')).code).to.equal(3);
    const id = found.copies[0]?.id ?? '';
    expect((await ctlWith({}, '--url', store.url, 'explain', id)).code).to.equal(2);
  });

  it('writes commands that a shell reads as they are meant', async () => {
    const store = await stores.make();
    for (const key of ["it's", 'a b', '$x', '-x', 'a\nb']) store.write(key, key, DAY);
    const changeOf = async (key: string): Promise<string> =>
      (await explain(store, '--', key)).live?.kept[0]?.change.replace(/, or a policy.*$/s, '') ?? '';
    const command = 'tombstonectl --store main tombstone ';
    expect(await changeOf("it's")).to.equal(`${command}'it'\\''s'`);
    expect(await changeOf('a b')).to.equal(`${command}'a b'`);
    expect(await changeOf('$x')).to.equal(`${command}'$x'`);
    expect(await changeOf('-x')).to.equal(`${command}-- '-x'`);
    expect(await changeOf('a\nb')).to.equal(String.raw`${command}$'a\u000ab'`);
  });
});
