import path from 'node:path';
import { expect } from 'chai';
import { checkLog } from '../../lib/app/check-log.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { Child } from '../run/child.ts';
import { START } from '../support/place.ts';
import type { Answer, Task } from './catalog.child.ts';
import { TempCatalog, WINDOW } from './temp-catalog.ts';

const CHILD = path.join(import.meta.dirname, 'catalog.child.ts');

describe('several processes at one catalog', function () {
  this.timeout(60_000);
  let temp: TempCatalog;
  let children: Child[];
  beforeEach(() => {
    temp = new TempCatalog();
    children = [];
  });
  afterEach(async () => {
    for (const child of children) await child.kill();
    temp.remove();
  });

  /** Processes that are ready for a task. */
  async function start(count: number, file = temp.file): Promise<Child[]> {
    children = Array.from({ length: count }, (_, i) => new Child(CHILD, [file, String(i + 1)]));
    for (const child of children) expect(await child.hear()).to.equal('ready');
    return children;
  }

  /** Lets all do the same at once; gives what each answers. */
  async function all(task: Task): Promise<Answer[]> {
    for (const child of children) child.tell(task);
    const answers: Answer[] = [];
    for (const child of children) answers.push((await child.hear()) as Answer);
    for (const child of children) await child.end();
    return answers;
  }

  it('have the same settings', async () => {
    await start(1);
    const [answer] = await all({ do: 'settings' });
    expect(answer?.settings).to.deep.equal(['wal', 2, 1]);
  });

  it('wait for another’s transaction, and read beside it without waiting', async () => {
    const store = temp.addStore('a');
    const [child] = await start(1);
    child?.tell({ do: 'hold-transaction', ms: 1000 } satisfies Task);
    await child?.hear();
    expect(temp.catalog.storeByName('a')?.url, 'a read does not wait').to.equal('file:///a');
    temp.tombstone(store.n, ['k']);
    expect(temp.catalog.storeByName('a')?.url, 'a write does').to.equal('file:///changed');
    expect(temp.catalog.tombstones.page({ limit: 10 })).to.have.length(1);
    await child?.end();
  });

  it('make one catalog when they make it at once', async () => {
    const file = path.join(temp.directory, 'new/catalog.db');
    await start(4, file);
    const uuids = (await all({ do: 'create' })).map(({ uuid }) => uuid);
    expect(new Set(uuids).size, uuids.join()).to.equal(1);
    const catalog = Catalog.open(file);
    expect(catalog.uuid).to.equal(uuids[0]);
    catalog.close();
  });

  it('add to one chain of log entries, in the order of their commits', async () => {
    const store = temp.addStore('a').n;
    await start(3);
    const answers = await all({ do: 'log', store, times: 100 });
    const logged = answers.flatMap((answer) => answer.logged ?? []);
    expect(logged.toSorted((a, b) => a - b)).to.deep.equal(
      Array.from({ length: 300 }, (_, i) => 2 * (i + 1)),
    );
    const writers = temp.catalog.events.following(0, 1000).map(({ by }) => by);
    expect(writers.filter((by, i) => by !== (writers[i - 1] ?? by)).length, 'turns').to.be.greaterThan(2);
    expect(await checkLog(temp.catalog)).to.deep.include({ entries: 600, broken: null });
  });

  it('never move in one batch time, and never take one tombstone twice', async () => {
    const store = temp.addStore('a').n;
    const due = temp.tombstone(
      store,
      Array.from({ length: 400 }, (_, i) => `k${i}`),
    );
    await start(3);
    const answers = await all({ do: 'move-and-take', store, now: START + WINDOW });
    const batches = answers.flatMap((answer) => answer.batches ?? []);
    expect(batches).to.have.length(180);
    expect(new Set(batches).size).to.equal(180);
    const taken = answers.flatMap((answer) => answer.taken ?? []);
    expect(taken.toSorted()).to.deep.equal(due.ids.toSorted());
    expect(temp.catalog.tombstones.tallies(store)).to.have.deep.members([
      { state: 'moving', count: 180, bytes: 180 },
      { state: 'purging', count: 400, bytes: (400 * 401) / 2 },
    ]);
  });
});
