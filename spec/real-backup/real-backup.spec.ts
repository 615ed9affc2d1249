import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { compareKeys, parseKey } from '../../lib/domain/key.ts';
import { modifiedNs } from '../../lib/domain/revision.ts';
import { Reader } from '../../lib/reader/reader.ts';
import type { Place } from '../../lib/run/place.ts';
import { allTombstones, bringBack, filesBelow, purgeDue, sweepOld } from '../support/phases.ts';
import { age, DAY, HOUR, TempPlace } from '../support/place.ts';
import { extractRealBackup, hasRealBackup, NEEDS_REAL_BACKUP } from '../support/real-backup.ts';

const KEEP = 40;
const OLDER_THAN = 30 * DAY;

describe(`a real backup of a chain (${NEEDS_REAL_BACKUP})`, function () {
  this.timeout(60_000);
  let temp: TempPlace;
  let place: Place;
  let original: string;
  /** Every key, and its bytes in the archive. */
  const contents = new Map<string, Buffer>();
  /** What the policy is about, oldest first. */
  let transactions: string[] = [];
  let swept: Tombstone[] = [];
  let restored: Tombstone[] = [];
  let rest: Tombstone[] = [];
  let live: Map<string, bigint>;

  before(async function () {
    if (!hasRealBackup()) this.skip();
    original = mkdtempSync(path.join(tmpdir(), 'tombstoned-original-'));
    temp = await TempPlace.make();
    for (const directory of [original, temp.root]) {
      mkdirSync(directory, { recursive: true });
      extractRealBackup(directory);
    }
    for (const key of filesBelow(original)) contents.set(key, readFileSync(path.join(original, key)));
    const times = new Map([...contents.keys()].map((key) => [key, modifiedAt(key)]));
    temp.clock.wall = Math.max(...times.values()) + OLDER_THAN;
    transactions = [...contents.keys()]
      .filter((key) => key.startsWith('metadata/transaction_'))
      .toSorted((a, b) => (times.get(a) ?? 0) - (times.get(b) ?? 0) || compareKeys(a, b));
    place = temp.open();
  });
  after(() => {
    if (original === undefined) return;
    temp.remove();
    rmSync(original, { recursive: true });
  });

  function modifiedAt(key: string): number {
    return Number(lstatSync(path.join(original, key), { bigint: true }).mtimeNs / 1_000_000n);
  }

  async function sweepTransactions(): ReturnType<typeof sweepOld> {
    const match = 'transaction_*';
    return sweepOld(place, {
      policies: [age({ prefix: 'metadata/', match, olderThan: OLDER_THAN, keepLast: KEEP })],
    });
  }

  function bytesOf(keys: Iterable<string>): number {
    return [...keys].reduce((sum, key) => sum + (contents.get(key)?.length ?? Number.NaN), 0);
  }

  function keysOf(tombstones: readonly Tombstone[]): string[] {
    return tombstones.map(({ key }) => key);
  }

  /** Reads keys to their ends; gives those that are pending. Their bytes must be the archive's. */
  async function readAll(keys: Iterable<string>): Promise<string[]> {
    const reader = new Reader(place.store);
    const pending: string[] = [];
    for (const key of keys) {
      const found = await reader.open(parseKey(key));
      const chunks: Buffer[] = [];
      for await (const chunk of found.read()) chunks.push(chunk as Buffer);
      expect(Buffer.concat(chunks).equals(contents.get(key) ?? Buffer.alloc(0)), key).to.equal(true);
      if (found.location === 'pending') pending.push(key);
    }
    return pending;
  }

  function inodes(keys: readonly string[]): Map<string, bigint> {
    return new Map(keys.map((key) => [key, lstatSync(path.join(temp.root, key), { bigint: true }).ino]));
  }

  /** Live keys on the disk. */
  function liveKeys(): string[] {
    return filesBelow(temp.root).filter((name) => !/^(\.tombstoned|pending_deletion)\//.test(name));
  }

  function tallies(): Record<string, { count: number; bytes: number }> {
    const rows = place.catalog.tombstones.tallies(place.row.n);
    return Object.fromEntries(rows.map(({ state, count, bytes }) => [state, { count, bytes }]));
  }

  it('is swept by age, but for the newest', async () => {
    expect(transactions.length).to.be.greaterThan(600);
    const expired = transactions.slice(0, -KEEP);
    const { planned, moved, abandoned, failed, bytes, kept } = await sweepTransactions();
    const count = expired.length;
    expect({ planned, moved, abandoned, failed }).to.deep.equal({
      planned: count,
      moved: count,
      abandoned: 0,
      failed: 0,
    });
    expect(bytes).to.equal(bytesOf(expired));
    expect(Object.fromEntries(kept)).to.deep.equal({ 'keep-last': KEEP });
    swept = allTombstones(place);
    expect(keysOf(swept)).to.have.members(expired);
    const isExpired = new Set(expired);
    expect(liveKeys()).to.have.members([...contents.keys()].filter((key) => !isExpired.has(key)));
    expect(tallies()).to.deep.equal({ pending: { count, bytes } });
  });

  it('has every file, byte for byte', async () => {
    expect(await readAll(contents.keys())).to.have.members(keysOf(swept));
  });

  it('gets half of them back', async () => {
    temp.clock.advance(DAY);
    restored = swept.filter((_, i) => i % 2 === 0);
    rest = swept.filter((_, i) => i % 2 === 1);
    const outcomes = await bringBack(place, restored, { exemptFor: 90 * DAY });
    expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(restored.map(() => 'restored'));
    expect(await readAll(contents.keys())).to.have.members(keysOf(rest));
    expect(tallies()).to.deep.equal({
      pending: { count: rest.length, bytes: bytesOf(keysOf(rest)) },
      restored: { count: restored.length, bytes: bytesOf(keysOf(restored)) },
    });
    for (const { key, revision } of restored) {
      const { mtimeNs, size } = lstatSync(path.join(temp.root, key), { bigint: true });
      expect({ mtimeNs, size: Number(size) }, key).to.include({
        mtimeNs: modifiedNs(revision),
        size: revision.size,
      });
    }
    live = inodes(liveKeys());
  });

  it('is left alone by the next sweep: what was restored is exempt', async () => {
    const { moved, kept } = await sweepTransactions();
    expect(moved).to.equal(0);
    expect(kept.get('exempt')).to.equal(restored.length);
  });

  it('loses the rest when their window is over, and nothing else', async () => {
    temp.clock.advance(temp.window - DAY - HOUR);
    expect((await purgeDue(place)).due).to.equal(0);
    temp.clock.advance(HOUR + HOUR / 2);
    const { due, purged, bytes, failed, kept } = await purgeDue(place);
    const count = rest.length;
    expect({ due, purged, failed, kept: kept.size }).to.deep.equal({
      due: count,
      purged: count,
      failed: 0,
      kept: 0,
    });
    expect(bytes).to.equal(bytesOf(keysOf(rest)));
    const gone = new Set(keysOf(rest));
    expect(await readAll([...contents.keys()].filter((key) => !gone.has(key)))).to.deep.equal([]);
    const reader = new Reader(place.store);
    for (const key of gone) {
      const error = await reader.open(parseKey(key)).catch((e: unknown) => e);
      expect(error, key).to.be.instanceOf(TombstonedError).with.property('code', 'not-found');
    }
    expect(filesBelow(path.join(temp.root, 'pending_deletion'))).to.have.length(restored.length);
  });

  it('keeps the copies of what was restored for their stay, and then only those go', async () => {
    temp.clock.advance(DAY - HOUR);
    expect((await purgeDue(place)).due).to.equal(0);
    temp.clock.advance(HOUR);
    const { purged, failed } = await purgeDue(place);
    expect({ purged, failed }).to.deep.equal({ purged: restored.length, failed: 0 });
    expect(filesBelow(path.join(temp.root, 'pending_deletion'))).to.deep.equal([]);
    expect(inodes(liveKeys()), 'the very same files are live').to.deep.equal(live);
    const gone = new Set(keysOf(rest));
    expect(await readAll([...contents.keys()].filter((key) => !gone.has(key)))).to.deep.equal([]);
    expect(tallies()).to.deep.equal({ purged: { count: swept.length, bytes: bytesOf(keysOf(swept)) } });
  });
});
