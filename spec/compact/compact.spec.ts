import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import type { CompactOptions } from '../../lib/compact/compact.ts';
import type { Clock } from '../../lib/domain/clock.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { nodeFs } from '../../lib/store/local/local-fs.ts';
import { holdElsewhere } from '../support/phases.ts';
import { DAY, HOUR } from '../support/place.ts';
import { AptosPlace, backupOf, compactIn, IDENTITY } from './aptos-place.ts';
import { compactAsTheOriginal } from './original.ts';

const COMPACTED = [
  'epoch_ending_compacted_0-3.meta',
  'epoch_ending_compacted_4-7.meta',
  'epoch_ending_compacted_8-9.meta',
  'state_snapshot_compacted_epoch_1_7.meta',
  'state_snapshot_compacted_epoch_9_9.meta',
  'transaction_compacted_0-39.meta',
  'transaction_compacted_40-79.meta',
  'transaction_compacted_80-99.meta',
];

async function refusal(work: Promise<unknown>): Promise<TombstonedError> {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  if (error instanceof TombstonedError) return error;
  throw new Error(`it was not refused: ${String(error)}`);
}

describe('a compaction', () => {
  let place: AptosPlace;
  beforeEach(async () => {
    place = await AptosPlace.make();
  });
  afterEach(() => place.temp.remove());

  /** Two runs, a day and more between them: what the first replaces is expired in the second. */
  async function compactTwice(options: Partial<CompactOptions> = {}) {
    await place.compact();
    place.temp.clock.advance(DAY + 2000);
    return place.compact(options);
  }

  it('writes what the original does: the same names, lines, order and timestamps', async () => {
    const root = mkdtempSync(path.join(tmpdir(), 'tombstoned-original-'));
    try {
      cpSync(place.directory, path.join(root, 'metadata'), { recursive: true });
      const original = (): void =>
        compactAsTheOriginal(root, { factor: 4, now: place.now, removeAfter: DAY / 1000 });
      for (let run = 0; run < 3; run++) {
        original();
        await place.compact();
        const theirs = new AptosPlaceView(root);
        expect(place.names(), `run ${run}`).to.deep.equal(theirs.names());
        for (const name of place.names()) {
          if (name.startsWith('compaction_'))
            expect(place.timestamps(name), name).to.deep.equal(theirs.timestamps(name));
          else expect(place.content(name), name).to.equal(theirs.content(name));
        }
        place.temp.clock.advance(DAY + 2000);
      }
      expect(place.names().filter((name) => !name.startsWith('compaction_'))).to.deep.equal(COMPACTED);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it('tombstones what was replaced, after removeAfter and not before, for policy aptos-compaction', async () => {
    const before = place.names();
    const first = await place.compact();
    expect([first.written, first.tombstoned, first.waiting]).to.deep.equal([8, 0, before.length]);
    place.temp.clock.advance(DAY);
    expect((await place.compact()).tombstoned, 'not past it yet').to.equal(0);
    place.temp.clock.advance(1000);
    const third = await place.compact();
    expect(third.tombstoned).to.equal(before.length);
    const open = place.open();
    const [tombstone] = open.catalog.tombstones.page({ limit: 1 });
    expect(tombstone).to.include({ policy: 'aptos-compaction', state: 'pending' });
  });

  it('changes nothing when there is nothing to do', async () => {
    await place.compact();
    const names = place.names();
    const again = await place.compact();
    expect([again.written, again.there, again.timestamps]).to.deep.equal([0, 8, null]);
    expect(place.names()).to.deep.equal(names);
  });

  it('changes nothing in a dry run, and says what it would', async () => {
    const names = place.names();
    const dry = await place.compact({ dryRun: true });
    expect([dry.written, dry.timestamps]).to.deep.equal([8, null]);
    expect(place.names()).to.deep.equal(names);
    const later = await compactTwice({ dryRun: true });
    expect([later.tombstoned, later.sweep]).to.deep.equal([names.length, null]);
    expect(place.names()).to.include.members(names);
  });

  it('packs its files where most of the others are packed', async () => {
    expect((await place.compact()).written).to.equal(8);
    expect(readFileSync(place.file('transaction_compacted_0-39.meta'))[0]).to.equal('{'.charCodeAt(0));
    place.temp.remove();
    place = await AptosPlace.make();
    place.pack();
    await place.compact();
    for (const name of [...COMPACTED, place.newestTimestamps() ?? ''])
      expect(readFileSync(place.file(name))[0], name).to.equal(0x1f);
  });

  it('gives its files the mode of the others, whatever the mask is', async () => {
    await place.compact();
    expect(statSync(place.file('transaction_compacted_0-39.meta')).mode & 0o777).to.equal(
      statSync(place.file('transaction_0-9.meta')).mode & 0o777,
    );
  });

  it('goes on from its own files when the originals are gone, and takes new ones in', async () => {
    await compactTwice();
    const before = place.lines();
    place.addAll(backupOf(3, 10));
    const { written } = await place.compact();
    expect(written, 'the last of each kind grows').to.equal(5);
    expect(place.names()).to.include.members([
      'transaction_compacted_80-119.meta',
      'transaction_compacted_120-129.meta',
    ]);
    expect([...place.lines()]).to.include.members([...before]);
  });

  it('refuses a gap in a chunk, and then has changed nothing', async () => {
    rmSync(place.file('transaction_50-59.meta'));
    const names = place.names();
    const { message, code } = await refusal(place.compact());
    expect(message).to.contain('transaction_compacted_40-89.meta').and.to.contain('version 49 and then 60');
    expect(code).to.equal('failed');
    expect(place.names()).to.deep.equal(names);
  });

  it('refuses two files of one name, and timestamps that none can follow, and then has changed nothing', async () => {
    for (const version of [95, 96, 97])
      place.temp.write(
        `metadata/state_snapshot_ver_${version}.meta`,
        `{"StateSnapshotBackup":{"epoch":9,"version":${version},"manifest":"state_epoch_9_ver_${version}.aa/state.manifest"}}\n`,
      );
    const last = 'metadata/compaction_timestamps_18446744073709551615.meta';
    place.temp.write(
      last,
      '{"CompactionTimestamps":{"file_compacted_at":18446744073709551615,"compaction_timestamps":{}}}\n',
    );
    const names = place.names();
    const { code, key } = await refusal(place.compact());
    expect([code, key]).to.deep.equal(['failed', last]);
    expect(place.names()).to.deep.equal(names);
    rmSync(path.join(place.temp.root, last));
    const same = await refusal(place.compact({ factor: 1 }));
    expect([same.code, same.key]).to.deep.equal(['failed', 'state_snapshot_compacted_epoch_9_9.meta']);
    expect(place.names()).to.deep.equal(names.slice(1));
    expect((await place.compact({ factor: 8 })).written, 'a larger factor has them in one').to.equal(5);
  });

  it('refuses a file that it can not read, by its name, and then has changed nothing', async () => {
    await place.compact();
    place.temp.clock.advance(DAY + 2000);
    for (const content of ['', 'garbage\n', '{"TransactionBackup":{"first_version":0,"last_ver']) {
      writeFileSync(place.file('transaction_100-109.meta'), content);
      const names = place.names();
      expect((await refusal(place.compact())).message).to.contain('metadata/transaction_100-109.meta');
      expect(place.names()).to.deep.equal(names);
    }
  });

  it('waits for a file that is just being written', async () => {
    const content = place.content('transaction_90-99.meta');
    writeFileSync(place.file('transaction_90-99.meta'), content.slice(0, 20));
    const sleep = async (ms: number): Promise<void> => {
      writeFileSync(place.file('transaction_90-99.meta'), content);
      place.temp.clock.advance(ms);
    };
    const clock: Clock = Object.assign(Object.create(place.temp.clock), { sleep });
    const { written } = await compactIn({ ...place.open(), clock });
    expect(written).to.equal(8);
  });

  it('never replaces the identity, nor lines that it does not know in full, and keeps their times', async () => {
    place.addAll(
      new Map([
        ['identity.meta', IDENTITY],
        ['future.meta', '{"Future":{"x":1}}\n'],
        [
          'more.meta',
          place.content('transaction_0-9.meta').replace('"first_version"', '"more":1,"first_version"'),
        ],
      ]),
    );
    await place.compact();
    const since = place.timestamps()['metadata/identity.meta'];
    place.temp.clock.advance(DAY + 2000);
    const { kept, outcomes } = await place.compact();
    expect(kept.get('coverage')).to.equal(3);
    expect(outcomes.get('metadata/future.meta')?.detail).to.contain(
      'no other live metadata file that stays has its line {"Future"',
    );
    expect(place.names()).to.include.members(['identity.meta', 'future.meta', 'more.meta']);
    expect(place.timestamps()['metadata/identity.meta']).to.equal(since);
  });

  it('refuses to leave out what it does not know of a line, and then has changed nothing', async () => {
    const name = 'transaction_90-99.meta';
    writeFileSync(
      place.file(name),
      place.content(name).replace('"first_version"', '"more":1,"first_version"'),
    );
    const names = place.names();
    const { code, key, message } = await refusal(place.compact());
    expect([code, key]).to.deep.equal(['failed', `metadata/${name}`]);
    expect(message).to.match(/does not know/);
    expect(place.names()).to.deep.equal(names);
  });

  it('counts as waiting only what waits, also where another has just moved what was replaced', async () => {
    await place.compact();
    place.temp.clock.advance(DAY + 2000);
    const onCompacted = (): void => {
      for (const name of ['transaction_0-9.meta', 'transaction_10-19.meta', 'transaction_20-29.meta'])
        rmSync(place.file(name), { force: true });
    };
    const { expired, tombstoned, failed, waiting } = await place.compact({ onCompacted });
    expect([expired, tombstoned, failed]).to.deep.equal([25, 22, 0]);
    expect(waiting, 'the timestamps').to.equal(1);
  });

  it('replaces older timestamps, and never the newest', async () => {
    await place.compact();
    for (let run = 0; run < 4; run++) {
      place.temp.clock.advance(DAY + 2000);
      await place.compact();
    }
    expect(place.names().filter((name) => name.startsWith('compaction_')).length).to.be.within(1, 2);
  });

  it('leaves what a hold keeps, with its time, and takes it when that is released', async () => {
    await place.compact();
    const since = place.timestamps()['metadata/transaction_0-9.meta'];
    place.temp.clock.advance(DAY + 2000);
    await holdElsewhere(place.open(), ['metadata/transaction_0-9.meta']);
    const { kept } = await place.compact();
    expect(kept.get('hold')).to.equal(1);
    expect(place.names()).to.include('transaction_0-9.meta');
    expect(place.timestamps()['metadata/transaction_0-9.meta']).to.equal(since);
    place.temp.clock.advance(HOUR);
    expect((await place.compact()).kept.size).to.equal(0);
    expect(place.names()).not.to.include('transaction_0-9.meta');
  });

  it('says which limit keeps all of them', async () => {
    const { over, tombstoned, kept } = await compactTwice({
      limits: { maxObjects: 3, maxBytes: null, maxFraction: null },
    });
    expect([tombstoned, kept.get('limit')]).to.deep.equal([0, 25]);
    expect(over).to.contain('maxObjects is 3');
  });

  it('does not let a clock that is ahead expire anything', async () => {
    await place.compact();
    place.temp.clock.wall += 30 * DAY;
    expect((await place.compact()).tombstoned).to.equal(0);
  });

  describe('that finds a compacted file which does not hold all of its lines', () => {
    const NAME = 'transaction_compacted_0-39.meta';
    let whole: string;
    beforeEach(async () => {
      await place.compact();
      whole = place.content(NAME);
    });

    for (const [what, cut] of [
      ['nothing', () => Buffer.alloc(0)],
      ['a whole line', () => Buffer.from(whole.slice(0, whole.indexOf('\n') + 1))],
      ['half a line', () => Buffer.from(whole.slice(0, whole.indexOf('\n') - 20))],
      ['half of what gzip packed', () => gzipSync(whole).subarray(0, 100)],
      ['half of the header of gzip', () => gzipSync(whole).subarray(0, 5)],
      ['a byte of gzip', () => gzipSync(whole).subarray(0, 1)],
    ] as const) {
      it(`writes it again: there is ${what}`, async () => {
        writeFileSync(place.file(NAME), cut());
        const before = [...backupOf(10).values()].map((text) => text.trim());
        const { redone, there } = await place.compact();
        expect([redone, there]).to.deep.equal([1, 7]);
        expect(place.content(NAME)).to.equal(whole);
        expect([...place.lines()]).to.have.members(before);
        const open = place.open();
        const copies = open.catalog.tombstones.page({ limit: 10 }).map(({ key }) => key);
        expect(copies, 'what was there can be looked at').to.deep.equal([`metadata/${NAME}`]);
      });
    }

    it('does so before what it replaces expires, however long ago that was', async () => {
      truncateSync(place.file(NAME), 30);
      place.temp.clock.advance(9 * DAY);
      const lines = backupOf(10);
      const { redone, tombstoned } = await place.compact();
      expect(redone).to.equal(1);
      expect(tombstoned).to.be.greaterThan(20);
      expect([...place.lines()]).to.have.members([...lines.values()].map((text) => text.trim()));
    });

    it('leaves all as it is where some of it is in no other file', async () => {
      rmSync(place.file('transaction_0-9.meta'));
      rmSync(place.file('transaction_10-19.meta'));
      writeFileSync(place.file(NAME), whole.slice(0, whole.lastIndexOf('\n', whole.length - 2) + 1));
      place.temp.clock.advance(DAY + 2000);
      const names = place.names();
      const { message } = await refusal(place.compact());
      expect(message).to.contain(NAME).and.to.contain('2 of its lines are in no other file');
      expect(place.names()).to.deep.equal(names);
    });

    it('leaves all as it is where it holds something else', async () => {
      for (const content of [
        `${whole.slice(0, 200)}garbage`,
        '{"Future":{}}\n{"Tra',
        gzipSync(whole).fill(7, 20, 40),
      ]) {
        writeFileSync(place.file(NAME), content);
        const names = place.names();
        expect((await refusal(place.compact())).message).to.contain(NAME);
        expect(place.names()).to.deep.equal(names);
      }
    });

    it('lets one go that is not to be written any more', async () => {
      const name = 'transaction_compacted_80-99.meta';
      truncateSync(place.file(name), 10);
      place.addAll(backupOf(2, 10));
      await place.compact();
      expect(place.names()).to.include('transaction_compacted_80-119.meta').and.not.to.include(name);
    });

    it('moves nothing while a hold keeps it from being written again', async () => {
      truncateSync(place.file(NAME), 10);
      await holdElsewhere(place.open(), [`metadata/${NAME}`]);
      place.temp.clock.advance(HOUR / 2);
      const error = await refusal(place.compact());
      expect([error.code, error.reason]).to.deep.equal(['blocked', 'hold']);
    });

    it('never has fewer lines live where a whole file of that name lacks some', async () => {
      const name = 'state_snapshot_compacted_epoch_1_7.meta';
      for (const epoch of [1, 3, 5, 7]) rmSync(place.file(`state_snapshot_ver_${epoch * 10 + 9}.meta`));
      const extra = backupOf(1, 3).get('transaction_30-39.meta') ?? '';
      expect(extra).to.not.equal('');
      place.addAll(
        new Map([
          [
            'state_snapshot_ver_45.meta',
            '{"StateSnapshotBackup":{"epoch":4,"version":45,"manifest":"state_epoch_4_ver_45.aa/state.manifest"}}\n',
          ],
        ]),
      );
      const before = place.lines();
      const seen: string[] = [];
      const watched = {
        ...nodeFs,
        rename: (from: string, to: string) => {
          nodeFs.rename(from, to);
          const missing = [...before].filter((line) => !place.lines().has(line));
          seen.push(missing.join(' '));
        },
      };
      const { redone } = await compactIn(place.open({ fs: watched }), {
        factors: { epochEndings: 4, stateSnapshots: 5, transactions: 4 },
      });
      expect(redone).to.equal(1);
      expect(seen.join(''), 'lines that were missing at some moment').to.equal('');
      expect(place.content(name).split('\n')).to.have.length(6);
    });
  });
});

/** Another root, read as a place is. */
class AptosPlaceView {
  readonly directory: string;

  constructor(root: string) {
    this.directory = path.join(root, 'metadata');
  }

  names(): string[] {
    return AptosPlace.prototype.names.call(this);
  }

  file(name: string): string {
    return path.join(this.directory, name);
  }

  content(name: string): string {
    return AptosPlace.prototype.content.call(this, name);
  }

  timestamps(name: string): Record<string, number> {
    return AptosPlace.prototype.timestamps.call(this, name);
  }
}
