import { pbkdf2 } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { promisify } from 'node:util';
import { expect } from 'chai';
import fc from 'fast-check';
import { type ScratchKey, ScratchKeys, ScratchView, type ViewedKey } from '../../lib/catalog/scratch.ts';
import { compareKeys, parseKey } from '../../lib/domain/key.ts';

const ROW: fc.Arbitrary<ScratchKey> = fc.record({
  key: fc.constantFrom('a', 'a/b', 'a0', 'b', '\x7f', 'é', '\uffff', '\u{10000}'),
  size: fc.nat(9),
  id: fc.option(fc.constantFrom('20261122-1', '20261122-2', '20261123-1')),
});

const THREADS_FOR_FILES = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4);

/** Keeps one of those threads busy for a while. */
const busy = async (): Promise<unknown> => promisify(pbkdf2)('a', 'b', 300_000, 32, 'sha256');

/** How many files of such tables this process has open. */
function filesOnDisk(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('etilqs');
    } catch {
      return false; // it was that of the directory itself
    }
  }).length;
}

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

  describe('that is on disk', () => {
    const views: ScratchView[] = [];
    let before: number;
    beforeEach(() => {
      before = filesOnDisk();
    });
    afterEach(async () => {
      for (const one of views.splice(0)) await one.close();
    });

    /** More than is kept in memory. */
    async function large(): Promise<ScratchView> {
      const one = new ScratchView();
      views.push(one);
      const long = 'x'.repeat(900);
      for (let i = 0; i < 20; i++)
        one.add(Array.from({ length: 1000 }, (_, j) => viewed(`${long}${i * 1000 + j}`, 1)));
      await one.finish();
      return one;
    }

    it('is freed by a thread for files, when it is closed', async () => {
      const one = await large();
      const open = filesOnDisk();
      expect(open).to.be.above(before);
      const others = Array.from({ length: THREADS_FOR_FILES }, async () => busy());
      const closing = one.close();
      expect(filesOnDisk(), 'while all such threads are busy').to.equal(open);
      views.length = 0;
      await Promise.all([...others, closing]);
      expect(filesOnDisk()).to.equal(before);
    });

    it('leaves no file behind, also beside others', async () => {
      const all = [await large(), await large(), await large()];
      expect(filesOnDisk()).to.be.at.least(before + 3);
      views.length = 0;
      await Promise.all(all.map(async (one) => one.close()));
      expect(filesOnDisk()).to.equal(before);
    });
  });

  it('may be empty', async () => {
    expect(await view.finish()).to.deep.equal({ count: 0, bytes: 0 });
    expect([...view.pages()]).to.deep.equal([]);
  });
});
