import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { parseKey } from '../../lib/domain/key.ts';
import { compactedAt, type KnownMetadata, metadataText, newestTimestamps } from '../../lib/index.ts';
import { anyHandle, anyMetadata, epoch, MOST, snapshot, transactions, viewOf } from './lines.ts';

describe('the view of metadata lines', () => {
  it('has each line once, whatever order and however often they come', () => {
    fc.assert(
      fc.property(
        fc
          .array(anyMetadata)
          .chain((lines) =>
            fc.tuple(
              fc.constant(lines),
              fc.shuffledSubarray([...lines, ...lines], { minLength: lines.length * 2 }),
            ),
          ),
        ([lines, shuffled]) => {
          const view = viewOf(shuffled);
          const rows = [...view.epochEndings, ...view.snapshots, ...view.transactions];
          const backups = lines.filter(({ kind }) => kind !== 'identity' && kind !== 'compaction-timestamps');
          expect(rows.map(metadataText)).to.have.members([...new Set(backups.map(metadataText))]);
          expect(rows).to.have.length(
            view.epochEndings.length + view.snapshots.length + view.transactions.length,
          );
          expect([...view.transactions.backwards()]).to.deep.equal([...view.transactions].toReversed());
        },
      ),
      { numRuns: 100 },
    );
  });

  it('sorts by numbers, exactly, then by manifests as bytes', () => {
    const n = 2n ** 60n;
    const sorted = [
      transactions(9, 9),
      transactions(10, 10),
      transactions(n, n),
      transactions(n + 1n, n + 1n),
      transactions(n + 1n, n + 2n, 't/\uff5e'),
      transactions(n + 1n, n + 2n, 't/\u{1f600}'),
    ];
    expect([...viewOf(sorted.toReversed()).transactions]).to.deep.equal(sorted);
  });

  it('says which epochs and versions are missing or there twice, exactly', () => {
    const view = viewOf([
      epoch([1, 2], [10, 20]),
      epoch([5, 5], [50, 50]),
      transactions(0, 99),
      transactions(50, 149, 't/other'),
      transactions(60, 70),
      transactions(200, MOST),
      transactions(MOST, MOST),
    ]);
    expect([...view.epochBreaks()]).to.deep.equal([
      { kind: 'missing', first: 0n, last: 0n, at: 1n },
      { kind: 'missing', first: 3n, last: 4n, at: 5n },
    ]);
    expect([...view.transactionBreaks()]).to.deep.equal([
      { kind: 'overlap', first: 50n, last: 99n, at: 50n },
      { kind: 'overlap', first: 60n, last: 70n, at: 60n },
      { kind: 'missing', first: 150n, last: 199n, at: 200n },
      { kind: 'overlap', first: MOST, last: MOST, at: MOST },
    ]);
  });

  it('selects the newest snapshot at the target or before it', () => {
    const view = viewOf([snapshot(1, 10), snapshot(2, 20), snapshot(2, 20, 's/n'), snapshot(3, 30)]);
    expect(view.snapshotFor(9n)).to.equal(null);
    expect(view.snapshotFor(10n)).to.deep.equal(snapshot(1, 10));
    expect(view.snapshotFor(29n)).to.deep.equal(snapshot(2, 20, 's/n'));
    expect(view.snapshotFor(MOST)).to.deep.equal(snapshot(3, 30));
  });

  describe('says what can be restored:', () => {
    const endings = [0, 1, 2, 3].map((n) => epoch([n, n], [n * 100, n * 100]));
    const ranges = [transactions(0, 0), transactions(1, 150), transactions(151, 350)];
    const snapshots = [snapshot(1, 100), snapshot(3, 300), snapshot(4, 400)];

    function restorableTo(lines: readonly KnownMetadata[]): bigint | null {
      return viewOf(lines).restorable().version;
    }

    it('to the last transaction, by the snapshot before it', () => {
      const view = viewOf([...endings, ...ranges, ...snapshots]);
      expect(view.restorable()).to.deep.equal({
        version: 350n,
        lastEpoch: 3n,
        lastTransaction: 350n,
        snapshot: snapshots[1],
      });
      expect(view.usableSnapshots(), 'the newest is past the last transaction').to.equal(2);
    });

    it('nothing, of nothing', () => {
      for (const lines of [
        [],
        endings,
        snapshots,
        [...endings, ...snapshots],
        [...endings, transactions(1, 9)],
      ]) {
        expect(viewOf(lines).restorable()).to.include({ version: null, snapshot: null });
        expect(viewOf(lines).usableSnapshots()).to.equal(0);
      }
    });

    it('to where transactions are missing', () => {
      expect(restorableTo([...endings, transactions(0, 150), transactions(152, 350)])).to.equal(150n);
    });

    it('to before transactions that are there twice, which the tools refuse', () => {
      expect(restorableTo([...endings, ...ranges, transactions(140, 160)])).to.equal(139n);
      expect(restorableTo([...endings, ...ranges, transactions(0, 0, 't/other')])).to.equal(null);
    });

    it('to what the endings prove, where one is missing or there twice', () => {
      const without = (n: number): KnownMetadata[] => [...endings.filter((_, at) => at !== n), ...ranges];
      expect(restorableTo(without(0))).to.equal(null);
      expect(restorableTo(without(2))).to.equal(100n);
      expect(restorableTo([...without(2), snapshot(2, 200)]), 'where epoch 2 ended').to.equal(200n);
      expect(restorableTo(without(3)), 'epoch 3 is proven without').to.equal(350n);
      expect(restorableTo([...endings, ...ranges, epoch([2, 2], [200, 200], 'e/other')])).to.equal(199n);
    });

    it('to what the endings prove, where a snapshot shows that the last of them are missing', () => {
      const few = [...endings.slice(0, 2), ...ranges];
      expect(restorableTo([...few, snapshot(2, 200)])).to.equal(350n);
      expect(restorableTo([...few, snapshot(3, 300)])).to.equal(100n);
      expect(restorableTo([...few, snapshot(2, 200), snapshot(3, 300)])).to.equal(200n);
    });

    it('never what the tools would refuse', () => {
      const number = fc.nat({ max: 12 });
      const range = fc
        .tuple(number, fc.nat({ max: 3 }))
        .map(([first, more]): [number, number] => [first, first + more]);
      const line = fc.oneof(
        fc.tuple(range, range).map(([epochs, versions]) => epoch(epochs, versions)),
        fc.tuple(number, number).map(([ofEpoch, version]) => snapshot(ofEpoch, version)),
        range.map(([first, last]) => transactions(first, last)),
      );
      const good = fc.constantFrom(
        ...[0, 1, 2, 3].map((n) => transactions(n * 3, n * 3 + 2)),
        ...endings.map((_, n) => epoch([n, n], [n * 3, n * 3])),
      );
      let some = 0;
      fc.assert(
        fc.property(fc.array(fc.oneof({ weight: 6, arbitrary: good }, line), { maxLength: 14 }), (lines) => {
          const view = viewOf(lines);
          const { version } = view.restorable();
          if (version === null) return;
          some += 1;
          const theirEndings = [...view.epochEndings];
          const theirs = [...view.transactions];
          const reached = theirRanges(
            theirs.map((t) => [t.firstVersion, t.lastVersion, t.firstVersion]),
            version,
          );
          expect(reached >= version, 'transactions reach it').to.equal(true);
          theirRanges(
            theirEndings.map((e) => [e.firstEpoch, e.lastEpoch, e.firstVersion]),
            version,
          );
          // Endings prove their own epochs and the one after.
          const proven = theirEndings.reduce(
            (next, e) => (e.firstEpoch === next ? e.lastEpoch + 1n : next),
            0n,
          );
          for (const { epoch: of, version: at } of view.snapshots)
            if (at <= version) expect(of <= proven).to.equal(true);
        }),
        { numRuns: 1500 },
      );
      expect(some).to.be.greaterThan(100);
    });
  });

  it('takes less memory than its lines would', function () {
    this.timeout(60_000);
    const child = path.join(import.meta.dirname, 'view-memory.child.ts');
    const { lines, bytesPerLine } = JSON.parse(
      execFileSync(process.execPath, ['--import=tsx', child], { encoding: 'utf8' }),
    ) as { lines: number; bytesPerLine: number };
    expect(lines).to.equal(200_000);
    expect(bytesPerLine, 'as objects they take 200').to.be.lessThan(160);
  });
});

describe('compaction timestamps', () => {
  const a = parseKey('metadata/a.meta');
  const b = parseKey('metadata/b.meta');
  const saved = (at: number, times: Record<string, number | null>) => ({
    kind: 'compaction-timestamps' as const,
    fileCompactedAt: BigInt(at),
    timestamps: new Map(
      Object.entries(times).map(([name, time]) => [parseKey(name), time === null ? null : BigInt(time)]),
    ),
  });

  it('are those that were saved last; what they do not name is not replaced', () => {
    const newest = newestTimestamps([
      saved(9, { [a]: 1, [b]: 2 }),
      saved(10, { [a]: 3 }),
      saved(8, { [b]: 4 }),
    ]);
    expect(newest?.fileCompactedAt).to.equal(10n);
    expect(compactedAt(newest, a)).to.equal(3n);
    expect(compactedAt(newest, b)).to.equal(null);
  });

  it('replace nothing where there are none, or where they say null', () => {
    expect(newestTimestamps([])).to.equal(null);
    expect(compactedAt(null, a)).to.equal(null);
    expect(compactedAt(saved(1, { [a]: null }), a)).to.equal(null);
  });

  it('that were saved in the same second replace what both replace, since the later time', () => {
    const anySaved = fc
      .array(fc.tuple(anyHandle, fc.option(fc.nat({ max: 9 }))))
      .map((times) => saved(7, Object.fromEntries(times)));
    fc.assert(
      fc.property(anySaved, anySaved, (x, y) => {
        const newest = newestTimestamps([x, saved(6, { [a]: 1 }), y]);
        for (const handle of [a, ...x.timestamps.keys(), ...y.timestamps.keys()]) {
          const times = [compactedAt(x, handle), compactedAt(y, handle)];
          const later = times.reduce((p, q) => (p === null || q === null ? null : p > q ? p : q));
          expect(compactedAt(newest, handle)).to.equal(later);
        }
      }),
    );
  });
});

/** What is in use, in bytes. */
/**
 * How the original tools select ranges for a target: the last number that they reach. Throws where they fail.
 * A range is its first and last, and the version that is compared with the target.
 */
function theirRanges(ranges: readonly (readonly [bigint, bigint, bigint])[], target: bigint): bigint {
  let next = 0n;
  for (const [first, last, version] of ranges) {
    if (version > target) break;
    if (first !== next) throw new Error(`not continuous: expecting ${next}, got ${first}`);
    next = last + 1n;
  }
  return next - 1n;
}
