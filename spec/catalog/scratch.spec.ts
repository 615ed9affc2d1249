import { readdirSync, readlinkSync } from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import { type ScratchKey, ScratchKeys, ScratchView, type ViewedKey } from '../../lib/catalog/scratch.ts';
import { compareKeys, parseKey } from '../../lib/domain/key.ts';

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
  afterEach(async () => {
    await keys.close();
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

  it('come in the order of their bytes, each once, whatever was added in which order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(ROW, { maxLength: 12 }), { maxLength: 6 }), async (batches) => {
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
          await scratch.close();
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

describe('a scratch view', () => {
  let view: ScratchView;
  beforeEach(() => {
    view = new ScratchView();
  });
  afterEach(async () => {
    await view.close();
  });

  function viewed(key: string, size: number, mtimeNs = 1n): ViewedKey {
    return { key: parseKey(key), size, revision: { kind: 'local', size, mtimeNs } };
  }

  it('gives what was added, in the order of the bytes of its keys, and each by its key', async () => {
    const keys = ['b', '\u{10000}', 'a/b', '\uffff', 'a', 'é', 'a0'];
    for (const [i, key] of keys.entries()) view.add([viewed(key, i, 1_700_000_000_123_456_789n + BigInt(i))]);
    expect(await view.finish()).to.deep.equal({ count: 7, bytes: 21 });
    const found = [...view.pages()].flat();
    expect(found.map(({ key }) => key)).to.deep.equal(keys.toSorted(compareKeys));
    for (const one of found) expect(view.get(one.key)).to.deep.equal(one);
    expect(view.get('b')?.revision).to.have.property('mtimeNs', 1_700_000_000_123_456_789n);
    expect(view.get('c')).to.equal(undefined);
  });

  it('has a key once, as it was added last', async () => {
    view.add([viewed('a', 1), viewed('b', 2)]);
    view.add([viewed('a', 3)]);
    expect(await view.finish()).to.deep.equal({ count: 2, bytes: 5 });
    expect(view.get('a')?.size).to.equal(3);
  });

  it('comes in pages, also while keys are looked up', async () => {
    view.add(Array.from({ length: 1250 }, (_, i) => viewed(`k${String(9999 - i)}`, 1)));
    await view.finish();
    const lengths: number[] = [];
    for (const page of view.pages()) {
      lengths.push(page.length);
      for (const { key } of page) if (view.get(key) === undefined) throw new Error(key);
    }
    expect(lengths).to.deep.equal([500, 500, 250]);
  });

  it('has each key as it was added last, whatever was added in which order', async () => {
    const page = fc.array(fc.tuple(fc.nat(400), fc.nat(9)), { minLength: 1, maxLength: 90 });
    await fc.assert(
      fc.asyncProperty(fc.array(page, { maxLength: 30 }), async (pages) => {
        const scratch = new ScratchView();
        try {
          const last = new Map<string, number>();
          for (const rows of pages) {
            scratch.add(rows.map(([n, size]) => viewed(`k${n}`, size)));
            for (const [n, size] of rows) last.set(`k${n}`, size);
          }
          const { count, bytes } = await scratch.finish();
          const wanted = [...last].toSorted(([a], [b]) => compareKeys(a, b));
          const found = [...scratch.pages()].flat();
          expect(found.map(({ key, size }) => [key, size])).to.deep.equal(wanted);
          expect([count, bytes]).to.deep.equal([last.size, [...last.values()].reduce((a, b) => a + b, 0)]);
        } finally {
          await scratch.close();
        }
      }),
      { numRuns: 40 },
    );
  });

  it('lets others take their turn while it sorts many keys', async () => {
    for (let from = 19_000; from >= 0; from -= 1000)
      view.add(Array.from({ length: 1000 }, (_, i) => viewed(`k${String(from + i).padStart(5, '0')}`, 1)));
    let turns = 0;
    const others = setInterval(() => turns++, 0);
    try {
      expect(await view.finish()).to.deep.equal({ count: 20_000, bytes: 20_000 });
    } finally {
      clearInterval(others);
    }
    expect(turns).to.be.greaterThan(5);
  });

  it('leaves no file behind that it had on disk', async () => {
    const files = (): string[] =>
      readdirSync('/proc/self/fd').flatMap((fd) => {
        try {
          const to = readlinkSync(`/proc/self/fd/${fd}`);
          return to.includes('etilqs') ? [to] : [];
        } catch {
          return []; // it was that of the directory itself
        }
      });
    const before = files().length;
    const large = new ScratchView();
    const size = 'x'.repeat(900); // more than its cache holds
    for (let i = 0; i < 20; i++)
      large.add(Array.from({ length: 1000 }, (_, j) => viewed(`${size}${i * 1000 + j}`, 1)));
    await large.finish();
    expect(files()).to.have.length.above(before);
    await large.close();
    expect(files()).to.have.length(before);
  });

  it('may be empty', async () => {
    expect(await view.finish()).to.deep.equal({ count: 0, bytes: 0 });
    expect([...view.pages()]).to.deep.equal([]);
  });
});
