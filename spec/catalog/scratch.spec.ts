import { expect } from 'chai';
import fc from 'fast-check';
import { type ScratchKey, ScratchKeys } from '../../lib/catalog/scratch.ts';
import { compareKeys } from '../../lib/domain/key.ts';

const ROW: fc.Arbitrary<ScratchKey> = fc.record({
  key: fc.constantFrom('a', 'a/b', 'a0', 'b', '\x7f', 'é', '\uffff', '\u{10000}'),
  size: fc.nat(9),
  id: fc.option(fc.constantFrom('20261122-1', '20261122-2', '20261123-1')),
});

describe('scratch keys', () => {
  let keys: ScratchKeys;
  beforeEach(() => {
    keys = new ScratchKeys();
  });
  afterEach(() => {
    keys.close();
  });

  it('hide pending copies behind a live object, and older copies behind newer ones', () => {
    keys.add([
      { key: 'k', size: 1, id: 'id-2' },
      { key: 'k', size: 2, id: 'id-3' },
      { key: 'k', size: 3, id: 'id-1' },
      { key: 'l', size: 4, id: 'id-9' },
      { key: 'l', size: 5, id: null },
    ]);
    keys.add([{ key: 'l', size: 6, id: 'id-99' }]);
    expect([...keys.pages()].flat()).to.deep.equal([
      { key: 'k', size: 2, id: 'id-3' },
      { key: 'l', size: 5, id: null },
    ]);
  });

  it('come in the order of their bytes, each once, whatever was added in which order', () => {
    fc.assert(
      fc.property(fc.array(fc.array(ROW, { maxLength: 12 }), { maxLength: 6 }), (batches) => {
        const scratch = new ScratchKeys();
        try {
          for (const batch of batches) scratch.add(batch);
          const best = new Map<string, ScratchKey>();
          for (const row of batches.flat()) {
            const known = best.get(row.key);
            const isBetter =
              known === undefined || (known.id !== null && (row.id === null || row.id > known.id));
            if (isBetter) best.set(row.key, row);
          }
          const wanted = [...best.values()].toSorted((a, b) => compareKeys(a.key, b.key));
          expect([...scratch.pages()].flat()).to.deep.equal(wanted);
        } finally {
          scratch.close();
        }
      }),
    );
  });

  it('come in pages, with none left out between them', () => {
    const rows = Array.from({ length: 2500 }, (_, i) => ({
      key: `k${String(i).padStart(5, '0')}`,
      size: i,
      id: null,
    }));
    keys.add(rows.toReversed());
    const pages = [...keys.pages()];
    expect(pages.map(({ length }) => length)).to.deep.equal([1000, 1000, 500]);
    expect(pages.flat()).to.deep.equal(rows);
  });
});
