import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { KnownMetadata } from '../../lib/aptos/metadata.ts';
import { metadataText } from '../../lib/aptos/metadata.ts';
import { type ReadMetadata, readAll, readAllPending } from '../../lib/metadata/read-all.ts';
import { survey } from '../../lib/metadata/survey.ts';
import type { Place } from '../../lib/run/place.ts';
import type { OpenObject, Store } from '../../lib/store/store.ts';
import { epoch, transactions } from '../aptos/lines.ts';
import { allTombstones, FAST, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

function text(...lines: readonly KnownMetadata[]): string {
  return lines.map((line) => `${metadataText(line)}\n`).join('');
}

async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** What was read of each: the kinds of its lines, or what is wrong. */
function summary({ key, file, error }: Pick<ReadMetadata, 'key' | 'file' | 'error'>): string {
  return `${key}: ${file?.lines.map(({ metadata }) => metadata.kind).join(' ') ?? error?.message}`;
}

describe('reading all metadata files of a store', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => temp.remove());

  async function live(store: Store = place.store, concurrency = 4): Promise<ReadMetadata[]> {
    return collected(readAll(store, { concurrency }));
  }

  /** The store, which opens one by one, with what is asked of one key in between. */
  function meddled(openLive: (key: string, open: () => Promise<OpenObject | undefined>) => unknown): Store {
    return new Proxy(place.store, {
      get(target, name) {
        if (name === 'openingMany') return undefined;
        if (name === 'openLive')
          return async (key: Parameters<Store['openLive']>[0]) =>
            openLive(key, async () => target.openLive(key));
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  it('gives each live file in key order, with its lines, size, time and revision', async () => {
    temp.write('metadata/transaction_0-9.meta', text(transactions(0, 9)), DAY);
    temp.write('metadata/epoch_ending_0-0.meta', text(epoch([0, 0], [0, 4])));
    temp.write('metadata/b.meta', text(transactions(0, 9), epoch([0, 0], [0, 4])));
    const all = await live();
    expect(all.map(summary)).to.deep.equal([
      'metadata/b.meta: transaction epoch-ending',
      'metadata/epoch_ending_0-0.meta: epoch-ending',
      'metadata/transaction_0-9.meta: transaction',
    ]);
    const last = all[2];
    if (last?.file === undefined) throw new Error('it was not read');
    const { key, size, modifiedAt, revision } = last;
    expect(await place.store.head(key))
      .to.include({ size, modifiedAt })
      .and.deep.include({ revision });
  });

  it('names each file that says nothing to rely on, in its place, and reads the others', async () => {
    temp.write('metadata/a.meta', text(epoch([0, 0], [0, 4])));
    temp.write('metadata/cut.meta', text(epoch([1, 1], [5, 9])).slice(0, -2));
    temp.write('metadata/huge.meta', 'x'.repeat(70 * 1024 * 1024));
    temp.write('metadata/z.meta', text(epoch([1, 1], [5, 9])));
    symlinkSync('a.meta', path.join(temp.root, 'metadata/link.meta'));
    expect((await live()).map(summary)).to.deep.equal([
      'metadata/a.meta: epoch-ending',
      'metadata/cut.meta: metadata file "metadata/cut.meta", line 1: it has no end: every line ends in a newline',
      'metadata/huge.meta: metadata file "metadata/huge.meta": it is larger than 64 MiB',
      'metadata/link.meta: metadata/link.meta is no object, and was not read: it is a symbolic link, not a regular file',
      'metadata/z.meta: epoch-ending',
    ]);
  });

  it('takes a file that went, was changed, or cannot be read since it was listed as an error', async () => {
    for (const name of ['changed', 'gone', 'refused', 'still'])
      temp.write(`metadata/${name}.meta`, text(epoch([0, 0], [0, 4])));
    const store = meddled(async (key, open) => {
      if (key === 'metadata/changed.meta') temp.write(key, text(epoch([0, 0], [0, 5])), DAY);
      if (key === 'metadata/gone.meta') rmSync(path.join(temp.root, key));
      if (key === 'metadata/refused.meta') throw new Error('403 Forbidden');
      return open();
    });
    expect((await live(store)).map(summary)).to.deep.equal([
      'metadata/changed.meta: metadata/changed.meta was changed since it was listed',
      'metadata/gone.meta: metadata/gone.meta has gone since it was listed',
      "metadata/refused.meta: metadata/refused.meta can't be read: 403 Forbidden",
      'metadata/still.meta: epoch-ending',
    ]);
  });

  it('takes the same as an error where the store opens many at once', async () => {
    for (const name of ['changed', 'gone', 'still'])
      temp.write(`metadata/${name}.meta`, text(epoch([0, 0], [0, 4])));
    let opened = 0;
    const store = new Proxy(place.store, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (name === 'openingMany') {
          opened += 1;
          temp.write('metadata/changed.meta', text(epoch([0, 0], [0, 5])), DAY);
          rmSync(path.join(temp.root, 'metadata/gone.meta'), { force: true });
        }
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    expect((await live(store)).map(summary)).to.deep.equal([
      'metadata/changed.meta: metadata/changed.meta was changed since it was listed',
      'metadata/gone.meta: metadata/gone.meta has gone since it was listed',
      'metadata/still.meta: epoch-ending',
    ]);
    expect(opened).to.be.greaterThan(0);
  });

  it('reads so many at once, and no more', async () => {
    for (let i = 0; i < 20; i++) temp.write(`metadata/${i + 10}.meta`, text(epoch([i, i], [i, i])));
    let [now, most] = [0, 0];
    const store = meddled(async (_, open) => {
      most = Math.max(most, ++now);
      await new Promise(setImmediate);
      now -= 1;
      return open();
    });
    expect(await live(store, 7)).to.have.length(20);
    expect(most).to.equal(7);
  });

  it('passes over what is no metadata file, and tells it', async () => {
    temp.write('metadata/a.meta', text(epoch([0, 0], [0, 4])));
    temp.write('metadata/a.meta.tmp', 'x');
    temp.write('metadata/old/b.meta', 'x');
    mkdirSync(path.join(temp.root, 'metadata/c.meta'));
    const others: string[] = [];
    const all = await collected(readAll(place.store, { concurrency: 1, onOther: (key) => others.push(key) }));
    expect(all.map(summary)).to.deep.equal(['metadata/a.meta: epoch-ending']);
    expect(others.toSorted()).to.deep.equal(['metadata/a.meta.tmp', 'metadata/old/b.meta']);
  });

  it('reads pending copies too, each with its tombstone', async () => {
    temp.write('metadata/a.meta', text(epoch([0, 0], [0, 4])), 3 * DAY);
    temp.write('metadata/b.meta', 'cut', 3 * DAY);
    temp.write('metadata/c.meta', text(epoch([1, 1], [5, 9])));
    await sweepOld(place);
    expect((await live()).map(summary)).to.deep.equal(['metadata/c.meta: epoch-ending']);
    const pending = await collected(readAllPending(place.store, { concurrency: 4 }));
    expect(pending.map(summary)).to.deep.equal([
      'metadata/a.meta: epoch-ending',
      'metadata/b.meta: metadata file "metadata/b.meta", line 1: it has no end: every line ends in a newline',
    ]);
    expect(pending.map(({ key, id }) => [key, id])).to.have.deep.members(
      allTombstones(place).map(({ key, id }) => [key, id]),
    );
  });

  it('is done again by a survey while files are moved away, and tells what never stands still', async () => {
    for (const name of ['a', 'b']) temp.write(`metadata/${name}.meta`, text(transactions(0, 9)), 3 * DAY);
    let looks = 0;
    const swept = meddled(async (_, open) => {
      looks += 1;
      if (looks === 1) await sweepOld(place);
      return open();
    });
    const found = await survey(swept, { concurrency: 1 });
    expect([found.files, found.pendingFiles, found.unread]).to.deep.equal([0, 2, []]);
    expect(found.withPending.restorable().version).to.equal(9n);
    temp.write('metadata/c.meta', text(transactions(0, 9)));
    const restless = meddled(async (key, open) => {
      looks += 1;
      temp.write(key, text(transactions(0, 9)), looks * DAY);
      return open();
    });
    const { unread, files } = await survey(restless, { concurrency: 1 });
    expect([files, unread.map(({ key }) => key)]).to.deep.equal([0, ['metadata/c.meta']]);
  });
});
