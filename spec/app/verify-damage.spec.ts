import { expect } from 'chai';
import fc from 'fast-check';
import { splitPendingName } from '../../lib/domain/ids.ts';
import { purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, seeded } from '../support/place.ts';
import {
  type BucketInMemory,
  type DamagedPlace,
  localPlace,
  memoryPlace,
  PENDING,
  verified,
} from './damaged-place.ts';

/** How many objects are tombstoned. */
const COUNT = 12;
const HARMS = ['remove', 'rename', 'move', 'truncate', 'swap', 'add', 'litter', 'empty'] as const;
type Harm = (typeof HARMS)[number];

const PLACES: Record<string, { make: () => Promise<DamagedPlace>; runs: number }> = {
  'a local store': { make: localPlace, runs: 12 },
  'a bucket in memory': { make: memoryPlace, runs: 12 },
};

for (const [kind, { make, runs }] of Object.entries(PLACES)) {
  describe(`random damage to the pending tree of ${kind}`, function () {
    this.timeout(60_000);

    it('is each found and named, and never leads to the removal of anything else', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.constantFrom(...HARMS), { minLength: 1, maxLength: 6 }),
          fc.nat(),
          async (harms, seed) => {
            const damaged = await make();
            try {
              await checkDamage(damaged, harms, seed);
            } finally {
              damaged.remove();
            }
          },
        ),
        { numRuns: runs },
      );
    });
  });
}

async function checkDamage(damaged: DamagedPlace, harms: readonly Harm[], seed: number): Promise<void> {
  const { place, clock } = damaged;
  for (let i = 0; i < COUNT; i++) await damaged.make(`d${i % 3}/object ${i}`);
  await sweepOld(place);
  for (const name of ['d0/live', 'live']) await damaged.write(name, 'live');
  const before = await damaged.contents();
  expect((await verified(place)).problems).to.deep.equal([]);

  const problems = await harm(damaged, harms, seed);
  expect((await verified(place)).problems).to.deep.equal(problems.toSorted());

  // What purges may remove: copies that are what was tombstoned.
  const after = await damaged.contents();
  const intact = [...before.keys()].filter(
    (name) => name.startsWith(PENDING) && !problems.some((one) => one.endsWith(` ${keyOf(name)}`)),
  );
  clock.advance(2 * place.safetyWindow);
  for (let i = 0; i < 2; i++) {
    await sweepOld(place, { policies: [] });
    await purgeDue(place);
    clock.advance(place.safetyWindow + DAY);
  }
  for (const name of intact) after.delete(name);
  expect(Object.fromEntries(await damaged.contents())).to.deep.equal(Object.fromEntries(after));
  // What was removed behind its back counts as purged by then; all else that was found still is.
  const still = problems.filter((one) => !one.startsWith('missing-copy'));
  expect((await verified(place)).problems).to.deep.equal(still.toSorted());
}

/** Does harm, each to another copy, and gives what is to be found. */
async function harm(damaged: DamagedPlace, harms: readonly Harm[], seed: number): Promise<string[]> {
  const random = seeded(seed);
  const names = [...(await damaged.contents()).keys()].filter((name) => name.startsWith(PENDING));
  const next = (): string => names.splice(random(names.length), 1)[0] ?? '';
  const idOf = (name: string): string => splitPendingName(name.slice(PENDING.length))?.id ?? '';
  const problems: string[] = [];
  for (const [i, one] of harms.entries()) {
    const name = next();
    const key = keyOf(name);
    const content = (await damaged.contents()).get(name) ?? '';
    const unknown = idOf(name).replace(/.{6}$/, `zzzz0${i}`);
    switch (one) {
      case 'remove':
        await damaged.drop(name);
        problems.push(`missing-copy ${key}`);
        break;
      case 'rename':
        await damaged.rename(name, `${PENDING}d1/renamed ${i}~${idOf(name)}`);
        problems.push(`missing-copy ${key}`, `other-key d1/renamed ${i}`);
        break;
      case 'move':
        await damaged.rename(name, `${PENDING}d1/moved ${i}~${unknown}`);
        problems.push(`missing-copy ${key}`, `missing-row d1/moved ${i}`);
        break;
      case 'truncate':
        await damaged.write(name, content.slice(0, -1));
        problems.push(`changed-copy ${key}`);
        break;
      case 'empty':
        await damaged.write(name, '');
        problems.push(`changed-copy ${key}`);
        break;
      case 'swap': {
        const other = next();
        await damaged.rename(name, `${PENDING}between`);
        await damaged.rename(other, name);
        await damaged.rename(`${PENDING}between`, other);
        problems.push(`changed-copy ${key}`, `changed-copy ${keyOf(other)}`);
        break;
      }
      case 'add':
        await damaged.write(`${PENDING}new/${i}~${unknown}`, 'new');
        problems.push(`missing-row new/${i}`);
        break;
      case 'litter':
        await damaged.write(`${PENDING}litter ${i}`, 'litter');
        problems.push(`malformed-name ${PENDING}litter ${i}`);
        break;
    }
  }
  return problems;
}

function keyOf(name: string): string {
  return splitPendingName(name.slice(PENDING.length))?.key ?? '';
}

describe('verify of a bucket in memory', () => {
  let damaged: BucketInMemory;
  beforeEach(async () => {
    damaged = await memoryPlace();
    for (let i = 0; i < COUNT; i++) await damaged.make(`k/${i}`);
    await sweepOld(damaged.place);
  });
  afterEach(() => damaged.remove());

  async function copyAt(n: number): Promise<string> {
    const names = [...(await damaged.contents()).keys()];
    return names.find((name) => name.startsWith(`${PENDING}k/${n}~`)) ?? '';
  }

  it('names an object whose deletion was undone, and takes the same bytes put again for a new object', async () => {
    const { api, clock, place } = damaged;
    clock.advance(DAY);
    await damaged.make('k/0'); // written at another time
    expect((await verified(place)).problems).to.deep.equal([]);
    const [first] = place.catalog.tombstones.ofKey(place.row.n, 'k/1', 1);
    if (first?.revision.kind !== 's3') throw new Error('not of a bucket');
    const now = clock.wall;
    clock.wall = first.revision.modifiedAt;
    await api.put('k/1', 'content of k/1');
    clock.wall = now;
    expect((await verified(place)).problems).to.deep.equal(['live-too k/1']);
  });

  it('compares bytes with the MD5 that is their ETag, and names what has rotted', async () => {
    const { api, place } = damaged;
    const { reading, problems } = await verified(place, { checksums: true });
    expect(reading).to.include({ read: COUNT, compared: COUNT, after: null });
    expect(problems).to.deep.equal([]);
    const body = api.peek(await copyAt(3))?.body;
    body?.writeUInt8(0, 2);
    expect((await verified(place)).problems).to.deep.equal([]);
    expect((await verified(place, { checksums: true })).problems).to.deep.equal(['wrong-checksum k/3']);
  });

  /** As of a store that encrypts copies with a key of its own: their ETags are no MD5s. */
  function encryptCopies(): void {
    const { api } = damaged;
    const head = api.head.bind(api);
    api.head = async (name, ...rest) => {
      const found = await head(name, ...rest);
      return found === undefined || !name.startsWith(PENDING) ? found : { ...found, md5: undefined };
    };
  }

  for (const isEncrypted of [true, false]) {
    it(`takes another ETag of ${isEncrypted ? 'an encrypted copy for no difference, and purges it' : 'a copy for other bytes, and leaves them'}`, async () => {
      const { clock, place } = damaged;
      const name = await copyAt(3);
      await damaged.write(name, 'CONTENT of k/3');
      if (isEncrypted) encryptCopies();
      expect((await verified(place)).problems).to.deep.equal(isEncrypted ? [] : ['changed-copy k/3']);
      clock.advance(2 * place.safetyWindow);
      const { purged, kept } = await purgeDue(place);
      expect({ purged, changed: kept.get('changed') ?? 0 }).to.deep.equal(
        isEncrypted ? { purged: COUNT, changed: 0 } : { purged: COUNT - 1, changed: 1 },
      );
      expect((await damaged.contents()).has(name)).to.equal(!isEncrypted);
    });
  }

  it('clears what probes have left, once it is a day old, and nothing else in tmp/', async () => {
    const { api, clock, place } = damaged;
    const probe = '.tombstoned/tmp/probe-00000000-0000-4000-8000-000000000000/1';
    for (const name of [probe, '.tombstoned/tmp/theirs']) await api.put(name, 'one');
    expect((await verified(place, { repair: 'yes' })).problems).to.deep.equal([]);
    clock.advance(2 * DAY);
    const { told } = await verified(place, { repair: 'yes' });
    expect(told.map(({ key, repair }) => [key, repair])).to.deep.equal([
      [probe, 'done'],
      ['.tombstoned/tmp/theirs', null],
    ]);
    expect(api.names().filter((name) => name.includes('/tmp/'))).to.deep.equal(['.tombstoned/tmp/theirs']);
  });

  it('records that copies are gone', async () => {
    const { place } = damaged;
    for (const n of [1, 2]) await damaged.drop(await copyAt(n));
    const { told } = await verified(place, { repair: 'yes' });
    expect(told.map(({ problem, repair }) => [problem, repair])).to.deep.equal([
      ['missing-copy', 'done'],
      ['missing-copy', 'done'],
    ]);
    expect((await verified(place)).problems).to.deep.equal([]);
  });

  it('throws, and tells nothing, where the store answers with errors', async () => {
    const { api, place } = damaged;
    await damaged.drop(await copyAt(1));
    const told: string[] = [];
    let isAway = false;
    api.before = (request) => {
      // From the second look on.
      if (request.kind === 'head' && request.name.startsWith(PENDING)) isAway = true;
      if (isAway) throw new Error('503');
      return undefined;
    };
    const asked = { onDifference: ({ problem }: { problem: string }) => told.push(problem) };
    expect(await verified(place, asked).catch((error: unknown) => error)).to.be.instanceOf(Error);
    expect(told).to.deep.equal([]);
  });
});
