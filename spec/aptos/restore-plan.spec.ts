import { expect } from 'chai';
import fc from 'fast-check';
import type { KnownMetadata } from '../../lib/aptos/metadata.ts';
import { allGaps, planRestore } from '../../lib/aptos/restore-plan.ts';
import { epoch, snapshot, transactions, viewOf } from './lines.ts';

/** Three epochs that end at 9, 19 and 29; transactions to 39; snapshots at 9 and 19. */
const WHOLE: readonly KnownMetadata[] = [
  epoch([0, 0], [9, 9], 'e0/m'),
  epoch([1, 1], [19, 19], 'e1/m'),
  epoch([2, 2], [29, 29], 'e2/m'),
  snapshot(0, 9, 's0/m'),
  snapshot(1, 19, 's1/m'),
  transactions(0, 9, 't0/m'),
  transactions(10, 19, 't1/m'),
  transactions(20, 29, 't2/m'),
  transactions(30, 39, 't3/m'),
];

function planned(target: number, without: readonly string[] = [], more: readonly KnownMetadata[] = []) {
  const lines = WHOLE.filter((line) => !('manifest' in line && without.includes(line.manifest)));
  const { backups, snapshot: from, gaps } = planRestore(viewOf([...lines, ...more]), BigInt(target));
  return {
    manifests: backups.map(({ manifest }) => manifest.slice(0, 2)).join(' '),
    from: from?.version,
    gaps: gaps.map(({ of, kind, first, last }) => `${of} ${kind} ${first}-${last}`),
  };
}

describe('the plan of a restore', () => {
  it('has the epoch endings, the newest snapshot, and the transactions that begin no later', () => {
    expect(planned(25)).to.deep.equal({ manifests: 'e0 e1 s1 t0 t1 t2', from: 19n, gaps: [] });
    expect(planned(39).manifests).to.equal('e0 e1 e2 s1 t0 t1 t2 t3');
    expect(planned(9).manifests).to.equal('e0 s0 t0');
    expect(planned(8)).to.deep.equal({ manifests: 't0', from: undefined, gaps: [] });
  });

  it('names exactly what is missing on the way, and nothing after it', () => {
    expect(planned(39, ['t1/m', 't3/m']).gaps).to.deep.equal([
      'versions missing 10-19',
      'versions missing 30-39',
    ]);
    expect(planned(29, ['t3/m']).gaps).to.deep.equal([]);
    expect(planned(25, ['e1/m']).gaps, 'epoch 1 is not proven, and what comes after shows it').to.deep.equal([
      'epochs missing 1-1',
    ]);
    expect(planned(20, ['e1/m']).gaps).to.deep.equal(['epochs missing 1-1']);
    expect(
      planned(19, ['e1/m']).gaps,
      'a snapshot is of epoch 1, which the end of epoch 0 proves',
    ).to.deep.equal([]);
    expect(planned(45).gaps).to.deep.equal(['versions missing 40-45']);
  });

  it('is refused where lines overlap, as the original tools refuse it', () => {
    const twice = [transactions(5, 12, 't9/m')];
    expect(planned(12, [], twice).gaps).to.deep.equal(['versions overlap 5-9', 'versions overlap 10-12']);
    expect(planned(4, [], twice).gaps).to.deep.equal([]);
  });

  it('knows from a snapshot of a later epoch that endings are missing', () => {
    const later = [snapshot(5, 35, 's5/m')];
    expect(planned(39, [], later).gaps).to.deep.equal(['epochs missing 3-4']);
    expect(planned(34, [], later).gaps, 'versions past the last ending may be of epoch 4').to.deep.equal([
      'epochs missing 3-4',
    ]);
    expect(allGaps(viewOf([...WHOLE, ...later])).map(({ first, last }) => [first, last])).to.deep.equal([
      [3n, 4n],
    ]);
  });

  it('has no gap exactly where its version can be restored to, whatever is missing', () => {
    fc.assert(
      fc.property(fc.subarray([...WHOLE]), fc.nat(42), (lines, target) => {
        const view = viewOf(lines);
        const { version } = view.restorable();
        const isRestorable = version !== null && BigInt(target) <= version;
        expect(planRestore(view, BigInt(target)).gaps.length === 0).to.equal(isRestorable);
      }),
      { numRuns: 1000 },
    );
  });

  it('has a gap wherever its version can not be restored to, whatever the lines are', () => {
    const anyRange = fc
      .tuple(fc.nat(12), fc.nat(3))
      .map(([from, more]): [number, number] => [from, from + more]);
    const anyLine = fc.oneof(
      fc.tuple(anyRange, anyRange).map(([epochs, versions]) => epoch(epochs, versions)),
      fc.tuple(fc.nat(6), fc.nat(12)).map(([ofEpoch, version]) => snapshot(ofEpoch, version)),
      anyRange.map(([first, last]) => transactions(first, last)),
    );
    fc.assert(
      fc.property(fc.subarray([...WHOLE]), fc.array(anyLine), fc.nat(42), (some, others, target) => {
        const view = viewOf([...some, ...others]);
        const { version } = view.restorable();
        if (version !== null && BigInt(target) <= version) return;
        expect(planRestore(view, BigInt(target)).gaps).not.to.deep.equal([]);
      }),
      { numRuns: 1000 },
    );
  });
});
