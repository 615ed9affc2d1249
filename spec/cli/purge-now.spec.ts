import { linkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { putLease } from './claims.ts';
import { beforeAllBuild, ctl, ctlWith, hold, tempStores } from './ctl.ts';

const DAY = 86_400_000;
const WHY = ['--reason', 'erasure request 4711'];

describe('tombstonectl purge --now', () => {
  beforeAllBuild();
  const stores = tempStores();

  /** A store with these keys tombstoned in one sweep, a week before they are due. */
  async function swept(...keys: string[]): Promise<TempStore> {
    const store = await stores.make({ safetyWindow: '7d', policies: [OLD] });
    await sweepAgain(store, ...keys);
    return store;
  }

  async function sweepAgain(store: TempStore, ...keys: string[]): Promise<void> {
    for (const key of keys) store.write(key, key, DAY);
    expect((await ctl(store, 'sweep')).code).to.equal(0);
  }

  async function idsOf(store: TempStore, key: string): Promise<string[]> {
    const { objects } = await ctl(store, '--json', 'ls', '--prefix', key);
    return objects.map(({ id }) => String(id));
  }

  async function now(store: TempStore, ...args: string[]) {
    const answer = await ctl(store, '--json', 'purge', '--now', ...WHY, ...args);
    const lines = answer.objects.filter(({ type }) => type === 'purged');
    return {
      ...answer,
      lines,
      outcomes: lines.map(({ key, outcome }) => `${String(key)} ${String(outcome)}`),
      summary: answer.objects.at(-1),
    };
  }

  it('gives a proof of each, and a summary', async () => {
    const store = await swept('logs/a', 'logs/b');
    const [id] = await idsOf(store, 'logs/a');
    const answer = await now(store, 'logs/a');
    expect(answer.code, answer.stderr).to.equal(0);
    expect(answer.stderr).to.equal('');
    const [proof] = answer.lines;
    expect(proof).to.deep.include({
      type: 'purged',
      key: 'logs/a',
      id,
      outcome: 'purged',
      bytes: 6,
      size: 6,
      store: 'main',
      reason: 'erasure request 4711',
      kept: null,
      detail: null,
      stays: [],
      dryRun: false,
    });
    expect(proof?.['revision']).to.match(/^6\|\d+$/);
    expect(proof?.['by']).to.match(/^.+@.+$/);
    const [at, absent] = [proof?.['at'], proof?.['checkedAbsentAt']].map((time) => Date.parse(String(time)));
    expect(Date.now() - (at ?? 0)).to.be.within(0, 60_000);
    expect(absent).to.be.at.least(at ?? Infinity);
    expect(answer.summary).to.deep.equal({
      type: 'purge',
      store: 'main',
      due: 1,
      purged: 1,
      kept: {},
      failed: 0,
      bytes: 6,
      dryRun: false,
    });
    expect(store.pending()).to.have.length(1);
    const text = await ctl(store, 'purge', '--now', 'logs/b', ...WHY);
    expect(text.code).to.equal(0);
    expect(text.stdout).to.match(
      /^purged {4}logs\/b {2}6 B {2}\(\d{8}T.*, revision 6\|\d+, removed 20\S+Z by \S+@\S+, not found 20\S+Z\)\n$/,
    );
    const shown = await ctl(store, 'show', id ?? '');
    expect(shown.stdout).to.match(/purged .*before its window was over: erasure request 4711$/m);
    expect((await ctl(store, 'log', '--check')).code).to.equal(0);
    const { objects } = await ctl(store, '--json', 'log', '--key', 'logs/a');
    expect(objects.filter(({ what, tombstone }) => what === 'purged' && tombstone === id)).to.have.length(1);
  });

  it('shows with --dry-run what would go and what stays, with the exit code that it would have', async () => {
    const store = await swept('a', 'b', 'c', 'd');
    await sweepAgain(store, 'b');
    store.write('c', 'live');
    linkSync(
      path.join(store.root, 'pending_deletion', store.pending().at(-1) ?? ''),
      path.join(store.directory, 'x'),
    );
    const pending = store.pending();
    for (const [args, outcomes, code] of [
      [['a', 'b', '--all-versions'], ['a purged', 'b purged', 'b purged'], 0],
      [['a', 'zz'], ['a purged', 'zz gone'], 3],
      [['a', 'b', 'c', 'd', 'zz'], ['a purged', 'b blocked', 'c live', 'd hidden', 'zz gone'], 4],
    ] as const) {
      const answer = await now(store, ...args, '--dry-run');
      expect(answer.outcomes, answer.stderr).to.have.members(outcomes);
      expect(answer.code, answer.stderr).to.equal(code);
      expect(answer.summary).to.include({ dryRun: true });
    }
    expect(store.pending()).to.deep.equal(pending);
    const text = await ctl(store, 'purge', '--now', 'b', ...WHY, '--dry-run');
    for (const id of await idsOf(store, 'b')) expect(text.stderr).to.include(id);
    expect(text.stderr).to.include('--all-versions');
  });

  it('is blocked by a hold and a lease: exit 5, and nothing is removed', async () => {
    const store = await swept('logs/a', 'b');
    hold(store, 'logs/');
    const held = await now(store, 'logs/a', 'b');
    expect(held.code).to.equal(5);
    expect(held.outcomes).to.deep.equal(['logs/a blocked', 'b purged']);
    expect(held.lines[0]).to.include({ kept: 'hold', bytes: 0, at: null, checkedAbsentAt: null });
    expect(held.error).to.include({ code: 'blocked', reason: 'hold', key: 'logs/a' });
    await ctl(store, 'release', 'h-20261122T101500123Z-k3v0q8');
    putLease(store, { prefixes: ['logs/'], blocks: 'purge' });
    const leased = await now(store, 'logs/a');
    expect(leased.code).to.equal(5);
    expect(leased.lines[0]).to.include({ outcome: 'blocked', kept: 'lease' });
    expect(store.pending()).to.have.length(1);
  });

  it('says that nothing is left to do of what was purged before: exit 0', async () => {
    const store = await swept('a');
    const [id = ''] = await idsOf(store, 'a');
    await now(store, 'a');
    const again = await now(store, 'a', id);
    expect(again.code, again.stderr).to.equal(0);
    for (const line of again.lines) {
      expect(line).to.include({ key: 'a', id, outcome: 'gone', bytes: 0 });
      expect(line['checkedAbsentAt']).to.be.a('string');
    }
  });

  it('takes ids and keys from a file and from stdin, as ls writes them', async () => {
    const store = await swept('a', 'b', 'c', 'd');
    const listed = await ctl(store, '--json', 'ls', '--prefix', 'a');
    const file = path.join(store.directory, 'names');
    writeFileSync(file, `# by ticket\n${listed.stdout}b\n`);
    expect((await now(store, '--from-file', file)).outcomes).to.deep.equal(['a purged', 'b purged']);
    const input = `${(await idsOf(store, 'c'))[0]}\n{"key":"d"}\n`;
    const args = ['--config', store.configFile, 'purge', '--now', ...WHY, '--from-file', '-'];
    const answer = await ctlWith({ input }, ...args);
    expect(answer.code, answer.stderr).to.equal(0);
    expect(store.pending()).to.deep.equal([]);
  });

  it('refuses what it can’t take: exit 2, and nothing is removed', async () => {
    const store = await swept('a');
    const refused = async (...args: string[]): Promise<string> => {
      const answer = await ctl(store, 'purge', ...args);
      expect(answer).to.include({ code: 2, stdout: '' });
      return answer.errorLines.at(-1) ?? '';
    };
    expect(await refused('--now', 'a')).to.include('needs a --reason');
    expect(await refused('--now', ...WHY)).to.include('needs an id or a key');
    expect(await refused('a')).to.include('--now --reason TEXT');
    expect(await refused(...WHY)).to.include('--reason goes with --now');
    expect(await refused('--now', `pending_deletion/${store.pending()[0]}`, ...WHY)).to.include('explain 20');
    expect(store.pending()).to.have.length(1);
  });

  it('asks for the store where there are several, and for the right one of an id', async () => {
    const store = await stores.make();
    store.configure({ main: { policies: [OLD], safetyWindow: '7d' }, other: {} });
    await store.init();
    await sweepAgain(store, 'a');
    expect((await now(store, 'a')).code).to.equal(2);
    const [id = ''] = await idsOf(store, 'a');
    const other = await now(store, '--store', 'other', id);
    expect(other.code).to.equal(2);
    expect(other.error?.['hint']).to.equal('add --store main');
    expect((await now(store, '--store', 'main', id)).outcomes).to.deep.equal(['a purged']);
  });
});
