import { rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { DAY } from '../support/place.ts';
import type { TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctl, hold, tempStores } from './ctl.ts';

const WIDE = { name: 'old', type: 'age', olderThan: '1h', limits: { maxObjects: 1, maxFraction: null } };
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe('tombstonectl, of a plan over a limit', () => {
  beforeAllBuild();
  const stores = tempStores();

  /** A store where a plan of `a`, `b` and `c` waits. */
  async function waiting(): Promise<{ store: TempStore; id: string }> {
    const store = await stores.make({ policies: [WIDE], safetyWindow: '7d' });
    for (const key of ['a', 'b', 'c']) store.write(key, key, DAY);
    const answer = await ctl(store, '--json', 'sweep');
    expect(answer.code).to.equal(5);
    expect(answer.objects[0]).to.deep.include({ moved: 0, waiting: ['old'] });
    const [plan] = partsOf(answer.objects[0], 'plans');
    expect(plan).to.include({ policy: 'old', objects: 3, bytes: 3 });
    expect(answer.error?.['hint']).to.include(`tombstonectl --store main approve ${String(plan?.['sweep'])}`);
    return { store, id: String(plan?.['sweep']) };
  }

  it('shows it, its keys and what to type, in sweeps', async () => {
    const { store, id } = await waiting();
    const [first] = (await ctl(store, '--json', 'sweeps', '--limit', '1')).objects;
    expect(first).to.deep.include({ sweep: id, state: 'waiting', waiting: ['old'], planned: 3, moved: 0 });
    const page = await ctl(store, '--json', 'sweeps', id, '--limit', '2');
    expect(page.objects.slice(1).map(({ type, key, size }) => [type, key, size])).to.deep.equal([
      ['planned', 'a', 1],
      ['planned', 'b', 1],
    ]);
    expect(page.objects[1]?.['revision']).to.match(/^1\|\d+$/);
    expect(page.stderr).to.include('there are more: add --after b, or --limit 0 for all');
    const text = await ctl(store, 'sweeps', id, '--after', 'b');
    expect(text).to.include({ code: 0, stdout: 'c  1 B\n', stderr: '' });
    expect((await ctl(store, 'sweeps', id)).stdout)
      .to.include(`approve ${id}`)
      .and.to.match(/^c {2}1 B$/m);
  });

  it('shows it, and what to type, in status and explain', async () => {
    const { store, id } = await waiting();
    const status = await ctl(store, '--json', 'status');
    const [one] = partsOf(status.objects[0], 'stores');
    const [plan] = partsOf(one, 'waiting');
    expect(plan).to.include({ sweep: id, policy: 'old', objects: 3, bytes: 3 });
    expect(plan?.['expiresAt']).to.match(ISO);
    expect(one?.['lastSweep']).to.include({ state: 'blocked', moved: 0 });
    const forPeople = (await ctl(store, 'status')).stdout;
    expect(forPeople).to.match(
      /^ {2}waiting {5}policy old, 3 objects, 3 B, until \S+: it would move 3 objects/m,
    );
    expect(forPeople).to.include(
      `tombstonectl --store main sweeps ${id}, then approve ${id} or reject ${id}`,
    );
    const [explained] = (await ctl(store, '--json', 'explain', 'b')).objects;
    const live = explained?.['live'] as { takenBy: unknown; kept: Record<string, unknown>[] };
    expect(live.takenBy).to.equal(null);
    expect(live.kept.map(({ reason, change }) => [reason, change])).to.deep.equal([
      ['limit', `tombstonectl --store main approve ${id}`],
    ]);
  });

  it('approves it: first a dry run, then for good', async () => {
    const { store, id } = await waiting();
    rmSync(path.join(store.root, 'a'));
    const dry = await ctl(store, '--json', 'approve', id, '--dry-run');
    expect(dry).to.include({ code: 0, stderr: '' });
    expect(dry.objects.map(({ type, key }) => [type, key])).to.deep.equal([
      ['planned', 'b'],
      ['planned', 'c'],
      ['sweep', undefined],
    ]);
    expect(dry.objects[2]).to.include({ planned: 2, abandoned: 1, moved: 0, bytes: 2, dryRun: true });
    expect(store.pending()).to.deep.equal([]);
    const text = await ctl(store, 'approve', id);
    expect(text).to.include({ code: 0, stderr: '' });
    expect(text.stdout).to.equal(
      `main: moved 2 of the 3 objects that old planned, 2 B, 1 changed or gone (sweep ${id})\n`,
    );
    expect(store.pending()).to.have.length(2);
    expect((await ctl(store, '--json', 'approve', id)).objects[0]).to.include({
      outcome: 'already',
      moved: 0,
    });
    expect((await ctl(store, 'restore', '--sweep', id)).code).to.equal(0);
    expect(store.live()).to.deep.equal({ b: 'b', c: 'c' });
  });

  it('exits with 5 while a hold keeps some of it, which waits on', async () => {
    const { store, id } = await waiting();
    hold(store, 'b');
    const answer = await ctl(store, '--json', 'approve', id);
    expect(answer.code).to.equal(5);
    expect(answer.objects[0]).to.deep.include({ moved: 2, kept: { hold: 1 }, waiting: ['old'] });
    expect(answer.error).to.include({ code: 'blocked', reason: 'hold', key: id });
    expect((await ctl(store, '--json', 'sweeps', id)).objects[0]).to.include({ state: 'waiting', moved: 2 });
  });

  it('rejects it for a reason, and then moves nothing of it', async () => {
    const { store, id } = await waiting();
    expect((await ctl(store, 'reject', id)).code).to.equal(2);
    const [rejected] = (await ctl(store, '--json', 'reject', id, '--reason', 'a typo')).objects;
    expect(rejected).to.include({ type: 'rejected', sweep: id, outcome: 'rejected', store: 'main' });
    const late = await ctl(store, '--json', 'approve', id);
    expect(late.code).to.equal(4);
    expect(late.error).to.include({ code: 'conflict', message: `the plan ${id} was rejected: a typo` });
    const [shown] = (await ctl(store, '--json', 'sweeps', id)).objects;
    expect(shown).to.deep.include({ state: 'rejected', reason: 'a typo', waiting: [] });
    expect(Object.keys(store.live())).to.deep.equal(['a', 'b', 'c']);
    expect((await ctl(store, 'approve', 's-20261122T101500123Z-k3v0q8')).code).to.equal(3);
    expect((await ctl(store, 'approve', 'x')).code).to.equal(2);
  });
});

/** The objects that a member of an object holds. */
function partsOf(object: Record<string, unknown> | undefined, member: string): Record<string, unknown>[] {
  return (object?.[member] ?? []) as Record<string, unknown>[];
}
