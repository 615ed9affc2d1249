import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  renameSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { checkLog } from '../../lib/app/check-log.ts';
import type { OpenPlace } from '../../lib/app/open.ts';
import { type LeftCopy, rebuild } from '../../lib/app/rebuild.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { idTime, makeTombstoneId } from '../../lib/domain/ids.ts';
import { revisionHash, revisionText } from '../../lib/domain/revision.ts';
import type { Place } from '../../lib/run/place.ts';
import { replaceOwner } from '../../lib/store/owner.ts';
import {
  again,
  allTombstones,
  bringBack,
  purgeDue,
  revisionOfFile,
  sweepOld,
  tombstonesOf,
} from '../support/phases.ts';
import { DAY, DrivenClock, HOUR } from '../support/place.ts';
import { type BucketInMemory, memoryPlace, verified } from './damaged-place.ts';
import { OwnedStore, type Rebuilt } from './owned-store.ts';

/** What a listing can know of a tombstone. */
function knowable({ id, key, size, state, revision, tombstonedAt }: Tombstone) {
  return { id, key, size, state, revision: revisionText(revision), tombstonedAt };
}

const withCopy = (place: Place): Tombstone[] =>
  allTombstones(place).filter(({ state }) => state === 'pending' || state === 'restored');

describe('a rebuild of the catalog', function () {
  this.timeout(30_000);
  let owned: OwnedStore;
  let place: OpenPlace;
  beforeEach(async () => {
    owned = await OwnedStore.make();
    place = await owned.open();
  });
  afterEach(() => {
    owned.remove();
  });

  const write = (key: string, content?: string): void => owned.write(key, content);
  const pendingFile = (name: string): string => path.join(owned.temp.root, 'pending_deletion', name);
  const nameOf = ({ key, id }: Tombstone): string => `${key}~${id}`;
  const one = (key: string): Tombstone => {
    const [newest] = tombstonesOf(place, key);
    if (newest === undefined) throw new Error(`${key} is not tombstoned`);
    return newest;
  };

  /** Things in every state that leaves a trace: two generations, restored, written to since, purged. */
  async function history(): Promise<void> {
    for (const key of ['gone/a', 'gone/b']) write(key);
    await sweepOld(place);
    owned.clock.advance(8 * DAY);
    await purgeDue(place);
    for (const key of ['a/x', 'a/y', 'b', 'c', 'd', 'it’s ünusual~']) write(key);
    await sweepOld(place);
    owned.clock.advance(DAY);
    write('b', 'its second generation');
    await sweepOld(place);
    owned.clock.advance(HOUR);
    await bringBack(place, [one('c'), one('d')]);
    appendFileSync(path.join(owned.temp.root, 'd'), 'written to since it was restored');
  }

  it('is, by the listing alone, equal to the one that was lost in all that a listing can know', async () => {
    await history();
    const lost = withCopy(place).map((tombstone) => ({ ...tombstone }));
    expect(lost.map(({ state }) => state)).to.include.members(['pending', 'restored']);
    owned.lose();
    const { place: found, added, copies, left } = await owned.rebuild();
    expect({ added, copies, left: left.size }).to.deep.equal({
      added: lost.length,
      copies: lost.length,
      left: 0,
    });
    const rebuilt = allTombstones(found);
    const isWritten = ({ key }: Tombstone): boolean => key === 'd'; // the one file that is both has another content by now
    expect(rebuilt.filter((t) => !isWritten(t)).map(knowable)).to.deep.equal(
      lost.filter((t) => !isWritten(t)).map(knowable),
    );
    expect(rebuilt.filter(isWritten).map(({ id, state }) => ({ id, state }))).to.deep.equal(
      lost.filter(isWritten).map(({ id, state }) => ({ id, state })),
    );
    for (const [i, { key, purgeAfter }] of rebuilt.entries()) {
      expect(purgeAfter, key).to.be.at.least(lost[i]?.purgeAfter ?? Infinity);
    }
    expect(
      found.catalog.tombstones.tallies(found.row.n).toSorted((x, y) => (x.state < y.state ? -1 : 1)),
    ).to.deep.equal(
      (['pending', 'restored'] as const).map((state) => {
        const ofState = rebuilt.filter((t) => t.state === state);
        return { state, count: ofState.length, bytes: ofState.reduce((sum, { size }) => sum + size, 0) };
      }),
    );
    expect((await verified(found)).problems).to.deep.equal([]);
    expect((await checkLog(found.catalog)).broken).to.equal(null);
  });

  it('holds everything until it is resumed, and then purges what is due, and only that', async () => {
    await history();
    owned.lose();
    const { place: found } = await owned.rebuild();
    owned.clock.advance(20 * DAY);
    const held = await purgeDue(found);
    expect({ purged: held.purged, hold: held.kept.get('hold') }).to.deep.equal({ purged: 0, hold: held.due });
    expect(await owned.resume(found)).to.deep.equal(['rebuilt']);
    const live = owned.temp.live();
    const { purged, failed } = await purgeDue(found);
    expect({ purged, failed }).to.deep.equal({ purged: held.due, failed: 0 });
    expect(owned.temp.pending()).to.deep.equal([]);
    expect(owned.temp.live()).to.deep.equal(live);
    const { problems } = await verified(found);
    expect(problems.filter((problem) => !problem.startsWith('expired-exemption'))).to.deep.equal([]);
  });

  it('puts its hold there before anything is recorded', async () => {
    write('a');
    await sweepOld(place);
    owned.lose();
    await owned.rebuild({
      onProgress: () =>
        expect(readdirSync(path.join(owned.temp.root, '.tombstoned/holds'))).to.have.length(1),
    });
  });

  it('lets a second generation of it know the same, and gives out only ids after all it has found', async () => {
    await history();
    owned.lose();
    const first = await owned.rebuild();
    await owned.resume(first.place);
    place = first.place;
    // The wall clock is behind the newest id: the lost catalog's was ahead.
    owned.clock.wall -= 30 * DAY;
    owned.clock.booted = 0;
    owned.clock.boot = 'another';
    const newest = allTombstones(place).at(-1)?.id ?? '';
    write('after');
    utimesSync(path.join(owned.temp.root, 'after'), 1, 1);
    await sweepOld(place);
    expect(one('after').id > newest).to.equal(true);
    const before = withCopy(place).map(knowable);
    owned.lose();
    owned.clock.wall += 30 * DAY;
    const second = await owned.rebuild();
    expect(allTombstones(second.place).map(knowable)).to.deep.equal(before);
    expect((await verified(second.place)).problems).to.deep.equal([]);
  });

  it('of a catalog that is there adds what is missing, and changes, doubles and shortens nothing', async () => {
    await history();
    const all = allTombstones(place);
    const [gone] = all.filter(({ state }) => state === 'pending');
    const sql = forget(owned.temp.catalogFile, [gone?.id ?? '']);
    expect(sql).to.equal(1);
    const rest = allTombstones(place);
    for (const _ of [1, 2]) {
      const { place: found, told } = await owned.rebuild({ mayTakeOver: false });
      expect(told).to.deep.equal([]);
      expect(allTombstones(found).filter(({ id }) => id !== gone?.id)).to.deep.equal(rest);
      expect(allTombstones(found).map(knowable)).to.deep.equal(all.map(knowable));
      expect((await checkLog(found.catalog)).broken).to.equal(null);
    }
  });

  it('revives nothing that the catalog says was purged, and says that its copy is there', async () => {
    write('a');
    await sweepOld(place);
    const tombstone = one('a');
    const file = pendingFile(nameOf(tombstone));
    copyFileSync(file, `${file}.saved`);
    owned.clock.advance(8 * DAY);
    await purgeDue(place);
    mkdirSync(path.dirname(file), { recursive: true });
    renameSync(`${file}.saved`, file);
    const { told, added } = await owned.rebuild({ mayTakeOver: false });
    expect({ added, told: told.map(({ problem, id }) => ({ problem, id })) }).to.deep.equal({
      added: 0,
      told: [{ problem: 'left-copy', id: tombstone.id }],
    });
    expect(again(place, tombstone)?.state).to.equal('purged');
  });

  it('says what it can’t be sure of, and leaves it: no ids, other contents, an id twice, a time after which there is none', async () => {
    for (const key of ['a', 'b', 'c']) write(key);
    await sweepOld(place);
    const [a, b, c] = [one('a'), one('b'), one('c')];
    owned.lose();
    writeFileSync(pendingFile('note'), '');
    appendFileSync(pendingFile(nameOf(a)), 'more');
    copyFileSync(pendingFile(nameOf(b)), pendingFile(`z~${b.id}`));
    const { mtimeNs } = revisionOfFile(pendingFile(nameOf(b))) as { mtimeNs: bigint };
    utimesSync(pendingFile(`z~${b.id}`), Number(mtimeNs) / 1e9, Number(mtimeNs) / 1e9);
    const last = makeTombstoneId(idTime(Date.UTC(9999, 11, 31)), revisionHash(c.revision), 0, () => 0);
    renameSync(pendingFile(nameOf(c)), pendingFile(`c~${last}`));
    const { told, added, place: found } = await owned.rebuild();
    expect(told.map(({ problem, key }) => `${problem} ${key}`).toSorted()).to.deep.equal([
      'changed-copy a',
      'future-id c',
      'malformed-name pending_deletion/note',
      'other-key z',
    ]);
    expect({ added, keys: allTombstones(found).map(({ key }) => key) }).to.deep.equal({
      added: 1,
      keys: ['b'],
    });
    await owned.resume(found);
    owned.clock.advance(30 * DAY);
    await purgeDue(found);
    expect(owned.temp.pending()).to.have.members([nameOf(a), `z~${b.id}`, `c~${last}`, 'note']);
    write('d');
    await sweepOld(found); // ids go on
  });

  it('that is stopped goes on when it is run again', async () => {
    const sample = path.join(owned.temp.directory, 'sample');
    writeFileSync(sample, 'a');
    utimesSync(sample, 1_700_000_000, 1_700_000_000);
    const hash = revisionHash(revisionOfFile(sample));
    mkdirSync(pendingFile(''));
    for (let i = 0; i < 6000; i++) {
      const time = idTime(owned.clock.wall - DAY + Math.floor(i / 1500)); // four batches
      const copy = pendingFile(`k${i}~${makeTombstoneId(time, hash, i % 1500, () => 0)}`);
      writeFileSync(copy, 'a');
      utimesSync(copy, 1_700_000_000, 1_700_000_000);
    }
    owned.lose();
    const stop = new AbortController();
    const cut = await owned.rebuild({
      signal: stop.signal,
      onProgress: (_, total) => (total === undefined ? undefined : stop.abort()),
    });
    expect({ added: cut.added, isCut: cut.isCut }).to.deep.equal({ added: 1500, isCut: true }); // whole batches
    owned.close(cut.place);
    const whole = await owned.rebuild();
    expect({ added: whole.added, known: whole.known, isCut: whole.isCut }).to.deep.equal({
      added: 4500,
      known: 1500,
      isCut: false,
    });
    expect((await verified(whole.place)).problems).to.deep.equal([]);
    expect((await checkLog(whole.place.catalog)).broken).to.equal(null);
  });

  it('by a clock that is wrong begins windows now, and no sooner', async () => {
    write('a');
    await sweepOld(place);
    forget(owned.temp.catalogFile, [one('a').id]);
    owned.clock.advance(6 * DAY);
    owned.clock.wall += 300 * DAY;
    const counted = place.catalog.clock.counted(owned.clock);
    const { place: found, clock } = await owned.rebuild({ mayTakeOver: false });
    expect(clock).to.contain('forward while this machine ran');
    const [tombstone] = allTombstones(found);
    expect(tombstone?.goneAt).to.be.at.least(counted);
    expect(tombstone?.purgeAfter).to.equal((tombstone?.goneAt ?? 0) + 7 * DAY);
  });

  it('in counted time begins windows when the wall clock was what the id says', async () => {
    // The machine was off for 100 days, which nobody has counted, and somebody vouches for the clock.
    await sweepOld(place);
    owned.clock.restart(100 * DAY);
    place.catalog.transaction(() => place.catalog.clock.accept(owned.clock));
    write('a');
    await sweepOld(place);
    const before = one('a');
    forget(owned.temp.catalogFile, [before.id]);
    owned.clock.advance(DAY);
    const { place: found } = await owned.rebuild({ mayTakeOver: false });
    expect(again(found, before)?.goneAt).to.equal(before.goneAt);
    expect((before.goneAt ?? 0) < before.tombstonedAt - 99 * DAY).to.equal(true);
  });

  it('changes nothing in a dry run', async () => {
    await history();
    const [gone] = withCopy(place);
    forget(owned.temp.catalogFile, [gone?.id ?? '']);
    const before = allTombstones(place);
    const dry = await rebuild(place, { dryRun: true, onLeft: () => undefined });
    expect({ added: dry.added, known: dry.known }).to.deep.equal({ added: 1, known: withCopy(place).length });
    expect(allTombstones(place)).to.deep.equal(before);
  });
});

describe('a rebuild of the catalog of a bucket', function () {
  this.timeout(30_000);
  let bucket: BucketInMemory;
  let place: Place;
  const catalogs: Catalog[] = [];
  beforeEach(async () => {
    bucket = await memoryPlace();
    ({ place } = bucket);
  });
  afterEach(() => {
    for (const catalog of catalogs.splice(0)) catalog.close();
    bucket.remove();
  });

  /** A new catalog that owns the bucket, without what the other one knows; nothing is held. */
  async function rebuilt(clock: DrivenClock = bucket.clock): Promise<Rebuilt & { found: Place }> {
    const catalog = Catalog.create(
      `${place.catalog.file}.${catalogs.length}`,
      `catalog ${catalogs.length}`,
      0,
    );
    catalogs.push(catalog);
    const { name, uuid, url, pendingPrefix } = place.row;
    const row = catalog.addStore({ name, uuid, url, pendingPrefix });
    await replaceOwner(place.store.control, { catalog: catalog.uuid, host: 'there', since: '' });
    const found = { ...place, clock, catalog, row };
    const told: LeftCopy[] = [];
    const result = await rebuild(found, { dryRun: false, onLeft: (left) => told.push(left) });
    return { ...result, told, found };
  }

  it('is equal to the one that was lost in all that a listing can know', async () => {
    for (const key of ['a/x', 'a/y', 'b', 'c']) await bucket.make(key);
    await sweepOld(place);
    bucket.clock.advance(DAY);
    await bucket.make('b');
    await sweepOld(place);
    bucket.clock.advance(HOUR);
    await bringBack(place, tombstonesOf(place, 'c'));
    const lost = allTombstones(place);
    const { found, told } = await rebuilt();
    expect(told).to.deep.equal([]);
    // Of the source a listing has the ETag and the size, and not when it was written.
    const known = (all: readonly Tombstone[]) =>
      all.map(({ revision, ...rest }) => {
        const { etag } = revision as { etag: string };
        return { ...knowable({ ...rest, revision }), revision: etag };
      });
    expect(known(allTombstones(found))).to.deep.equal(known(lost));
    for (const [i, { key, purgeAfter }] of allTombstones(found).entries()) {
      // The store tells whole seconds.
      expect(purgeAfter, key).to.be.at.least((lost[i]?.purgeAfter ?? Infinity) - 1000);
    }
    expect((await verified(found)).problems).to.deep.equal([]);
    bucket.clock.advance(20 * DAY);
    const { purged, failed } = await purgeDue(found);
    expect({ purged, failed }).to.deep.equal({ purged: 5, failed: 0 });
    expect([...(await bucket.contents()).keys()]).to.deep.equal(['c']);
  });

  it('begins a window no sooner than the store has had the copy, and that of a key that was restored then', async () => {
    await bucket.make('a');
    await bucket.make('b');
    await sweepOld(place);
    const [a, b] = [tombstonesOf(place, 'a')[0], tombstonesOf(place, 'b')[0]];
    bucket.clock.advance(2 * DAY);
    const name = `pending_deletion/a~${a?.id}`;
    await bucket.rename(name, 'aside');
    await bucket.rename('aside', name); // somebody has put it there anew: the same bytes
    await bringBack(place, [b]);
    await bucket.drop('b');
    const { found } = await rebuilt();
    for (const tombstone of [a, b]) {
      const { goneAt } = again(found, tombstone) ?? {};
      expect((goneAt ?? 0) - (tombstone?.goneAt ?? 0), tombstone?.key).to.be.within(
        2 * DAY - 1000,
        2 * DAY + 1000,
      );
    }
  });

  it('on a host whose clock is ahead of the store’s begins windows now: a new catalog has seen no other', async () => {
    await bucket.make('a');
    await sweepOld(place);
    const clock = new DrivenClock();
    clock.wall = bucket.clock.wall + 30 * DAY;
    const { found, clock: why } = await rebuilt(clock);
    expect(why).to.contain('ahead of the store');
    expect(allTombstones(found)[0]?.goneAt).to.equal(clock.wall);
  });

  it('takes a copy with another ETag than its source for one that its mover has made, if it was made then', async () => {
    await bucket.make('a');
    await bucket.make('b');
    await sweepOld(place);
    const [a, b] = [tombstonesOf(place, 'a')[0], tombstonesOf(place, 'b')[0]];
    // As servers do with what was put in parts: the copy has an ETag of its own.
    await bucket.write(`pending_deletion/a~${a?.id}`, 'content of A');
    bucket.clock.advance(2 * HOUR);
    await bucket.write(`pending_deletion/b~${b?.id}`, 'content of B');
    const { found, told } = await rebuilt();
    expect(told.map(({ problem, key }) => ({ problem, key }))).to.deep.equal([
      { problem: 'changed-copy', key: 'b' },
    ]);
    expect(again(found, a)?.state).to.equal('pending');
    bucket.clock.advance(20 * DAY);
    expect((await purgeDue(found)).purged).to.equal(1);
    expect([...(await bucket.contents()).keys()]).to.deep.equal([`pending_deletion/b~${b?.id}`]);
  });
});

/** Removes rows behind the program's back; says how many there were. */
function forget(file: string, ids: readonly string[]): number {
  const db = new Database(file);
  try {
    return db
      .prepare(`DELETE FROM tombstones WHERE id IN (SELECT value FROM json_each(?))`)
      .run(JSON.stringify(ids)).changes;
  } finally {
    db.close();
  }
}
