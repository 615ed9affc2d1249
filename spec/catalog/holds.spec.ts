import { expect } from 'chai';
import fc from 'fast-check';
import type { CachedHold } from '../../lib/catalog/holds.ts';
import type { Hold } from '../../lib/store/holds.ts';
import { START } from '../support/place.ts';
import { TempCatalog } from './temp-catalog.ts';

const KEYS = ['a', 'a/b', 'a/\u{10ffff}', 'a0', 'é', 'éa', 'e', '\x7f', '%', '_'];
const IDS = ['id-1', 'id-2', 'a'];
const SCOPE: fc.Arbitrary<Hold['scope']> = fc.oneof(
  fc.subarray(KEYS, { minLength: 1 }).map((keys) => ({ by: 'keys' as const, keys })),
  fc.subarray(IDS, { minLength: 1 }).map((ids) => ({ by: 'ids' as const, ids })),
  fc.constantFrom('', ...KEYS, 'a/').map((prefix) => ({ by: 'prefix' as const, prefix })),
);
const REST = {
  kind: 'hold',
  blocks: 'sweep',
  reason: 'why',
  by: 'me',
  host: 'here',
  createdAt: 'then',
  problem: null,
} as const;

function cached(
  name: string,
  scope: Hold['scope'],
  until: number | null,
): { hold: CachedHold; members: string[] } {
  const prefix = scope.by === 'prefix' ? scope.prefix : null;
  const members = scope.by === 'keys' ? [...scope.keys] : scope.by === 'ids' ? [...scope.ids] : [];
  return { hold: { ...REST, name, scope: scope.by, prefix, until }, members };
}

/** Whether a hold covers an object, by the bytes of its prefix. */
function covers(scope: Hold['scope'], { key, id }: { key: string; id?: string }): boolean {
  switch (scope.by) {
    case 'keys':
      return scope.keys.includes(key);
    case 'prefix':
      return Buffer.from(key).indexOf(Buffer.from(scope.prefix)) === 0;
    case 'ids':
      return id !== undefined && scope.ids.includes(id);
  }
}

describe('the cache of holds', () => {
  it('finds what covers an object just as a look at each hold does', () => {
    const untils = fc.constantFrom(null, START - 1, START, START + 1);
    const holds = fc.array(fc.tuple(SCOPE, untils), { maxLength: 6 });
    const objects = fc.array(fc.tuple(fc.constantFrom(...KEYS), fc.option(fc.constantFrom(...IDS))), {
      maxLength: 8,
    });
    const temp = new TempCatalog();
    const store = temp.addStore('a').n;
    const other = temp.addStore('b').n;
    const { catalog } = temp;
    try {
      const everything = cached('other.json', { by: 'prefix', prefix: '' }, null);
      catalog.holds.add(other, everything.hold, everything.members);
      fc.assert(
        fc.property(holds, objects, (some, asked) => {
          const named = some.map(([scope, until], i) => ({ name: `h${i}.json`, scope, until }));
          catalog.transaction(() => {
            for (const name of catalog.holds.names(store)) catalog.holds.drop(store, name);
            for (const { name, scope, until } of named) {
              const { hold, members } = cached(name, scope, until);
              catalog.holds.add(store, hold, members);
            }
          });
          const list = asked.map(([key, id]) => ({ key, ...(id === null ? {} : { id }) }));
          const found = catalog.holds
            .covering(store, START, list)
            .map(({ hold, index }) => [index, hold.name]);
          const wanted = list.flatMap((object, index) =>
            named
              .filter(({ until }) => until === null || until > START)
              .filter(({ scope }) => covers(scope, object))
              .map(({ name }) => [index, name]),
          );
          expect(found).to.have.deep.members(wanted);
          expect(catalog.holds.inForce(store, START).map(({ name }) => name)).to.deep.equal(
            named.filter(({ until }) => until === null || until > START).map(({ name }) => name),
          );
        }),
        { numRuns: 200 },
      );
    } finally {
      temp.remove();
    }
  });

  it('gives a hold back as it was added, and forgets its members with it', () => {
    const temp = new TempCatalog();
    try {
      const store = temp.addStore('a').n;
      const { holds } = temp.catalog;
      const { hold, members } = cached('h.json', { by: 'keys', keys: ['a'] }, START + 1);
      holds.add(store, hold, members);
      holds.add(store, { ...hold, reason: 'another' }, members);
      expect(holds.inForce(store, START)).to.deep.equal([hold]);
      holds.drop(store, 'h.json');
      const again = cached('h.json', { by: 'keys', keys: ['b'] }, null);
      holds.add(store, again.hold, again.members);
      expect(holds.covering(store, START, [{ key: 'a' }])).to.deep.equal([]);
      expect(holds.covering(store, START, [{ key: 'b' }])).to.deep.equal([{ hold: again.hold, index: 0 }]);
    } finally {
      temp.remove();
    }
  });
});
