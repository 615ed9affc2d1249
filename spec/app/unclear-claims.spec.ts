import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { breakFence, breakLease } from '../../lib/app/break-claims.ts';
import type { ClaimPlace } from '../../lib/app/claim-place.ts';
import { openClaimPlace } from '../../lib/app/claim-place.ts';
import { Holding } from '../../lib/app/put-hold.ts';
import { claimsIn } from '../../lib/app/standing-claims.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import type { Place } from '../../lib/run/place.ts';
import { FAST, filesBelow, purgeDue, sweepOld } from '../support/phases.ts';
import { ACTOR, DAY, seeded, TempPlace } from '../support/place.ts';

const LEASE = 'l-20261122T100000000Z-000001';
const RUN = 'r-20261122T100000000Z-000001';

const WHOLE_LEASE = {
  id: LEASE,
  holder: 'fetch',
  host: 'h2',
  pid: 7,
  prefixes: ['nothing/of/it'],
  blocks: 'purge',
  ttlSeconds: 60,
  acquiredAt: '2026-11-22T10:00:00.000Z',
  renewal: '0000000003',
};

const WHOLE_FENCE = {
  run: RUN,
  batch: 1,
  catalog: 'another',
  boot: 'b',
  kind: 'sweep',
  prefixes: ['nothing/of/it'],
  host: 'h2',
  pid: 7,
  startedAt: '2026-11-22T10:00:00.000Z',
};

const LEASES: Record<string, string> = {
  'is empty': '',
  'is cut short': text(WHOLE_LEASE).slice(0, 80),
  'lacks its line end': text(WHOLE_LEASE).trimEnd(),
  'is not UTF-8': '\xff\xfe\n',
  'has the id of another': text({ ...WHOLE_LEASE, id: 'l-20261122T100000000Z-000009' }),
  'blocks what only a later version knows': text({ ...WHOLE_LEASE, blocks: 'restores' }),
  'names no prefixes': text({ ...WHOLE_LEASE, prefixes: undefined }),
  'names a prefix that is no text': text({ ...WHOLE_LEASE, prefixes: [1] }),
  'has a TTL of nothing': text({ ...WHOLE_LEASE, ttlSeconds: 0 }),
  'has a TTL without end': text({ ...WHOLE_LEASE, ttlSeconds: 1e12 }),
  'has a number in another form': text({ ...WHOLE_LEASE, renewal: 3 }),
};

const FENCES: Record<string, string> = {
  'is empty, as on a full disk': '',
  'is cut short': text(WHOLE_FENCE).slice(0, 80),
  'lacks its line end': text(WHOLE_FENCE).trimEnd(),
  'is not UTF-8': '\xff\xfe\n',
  'is of another run': text({ ...WHOLE_FENCE, run: 'r-20261122T100000000Z-000009' }),
  'is of another batch': text({ ...WHOLE_FENCE, batch: 2 }),
  'is of a kind that only a later version knows': text({ ...WHOLE_FENCE, kind: 'rebuild' }),
  'names no catalog': text({ ...WHOLE_FENCE, catalog: undefined }),
  'names no prefixes': text({ ...WHOLE_FENCE, prefixes: null }),
};

describe('a control object that can’t be understood', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    temp.write('a', 'old', 3 * DAY);
  });
  afterEach(() => {
    temp.remove();
  });

  function at(): ClaimPlace {
    const { store, random, actor, report, catalog, row, clock } = place;
    const known = { catalog, row };
    return { store, random, actor, report, clock, name: 'spec', ctl: 'tombstonectl --store spec', known };
  }

  function fileOf(name: string): string {
    const file = path.join(temp.root, '.tombstoned', name);
    mkdirSync(path.dirname(file), { recursive: true });
    return file;
  }

  function control(directory: string): string[] {
    return filesBelow(path.join(temp.root, '.tombstoned', directory));
  }

  for (const [what, body] of Object.entries(LEASES)) {
    it(`a lease that ${what} keeps everything, never dies by itself, and is named; break ends it`, async () => {
      temp.write('b', 'pending already', 3 * DAY);
      await sweepOld(place);
      temp.clock.advance(temp.window + DAY);
      temp.write('a', 'new', 3 * DAY);
      writeFileSync(fileOf(`leases/${LEASE}.json`), body, 'latin1');
      for (let day = 0; day < 3; day++) {
        expect((await sweepOld(place)).kept.get('lease')).to.equal(1);
        const { purged, kept } = await purgeDue(place);
        expect([purged, kept.get('lease')]).to.deep.equal([0, 2]);
        temp.clock.advance(400 * DAY);
      }
      const told = temp.talk.filter((line) => line.startsWith('error:'));
      expect(told).to.have.length(1);
      expect(told[0]).to.include(`.tombstoned/leases/${LEASE}.json`).and.include('everything');
      const [standing] = (await claimsIn(at())).leases;
      expect(standing).to.include({ isDead: false });

      const broken = await breakLease(at(), LEASE, { reason: 'nobody knows it', dryRun: false });
      expect(broken).to.include({ id: LEASE, outcome: 'broken', isMarked: true });
      expect(control('leases')).to.deep.equal([`${LEASE}.broken`]);
      expect(readFileSync(fileOf(`leases/${LEASE}.broken`), 'utf8')).to.include('nobody knows it');
      expect((await sweepOld(place)).moved).to.equal(1);
      const again = await breakLease(at(), LEASE, { reason: 'r', dryRun: false });
      expect(again).to.include({ outcome: 'already' });
    });
  }

  it('a lease with a name of its own counts too, and goes without a mark, which is said', async () => {
    writeFileSync(fileOf('leases/README'), 'not ours');
    expect((await sweepOld(place)).kept.get('lease')).to.equal(1);
    expect(temp.talk.join('\n')).to.include('.tombstoned/leases/README');
    const broken = await breakLease(at(), 'README', { reason: 'r', dryRun: false });
    expect(broken).to.include({ id: 'README', outcome: 'broken', isMarked: false });
    expect(control('leases')).to.deep.equal([]);
    expect((await sweepOld(place)).moved).to.equal(1);
  });

  it('a lease is broken by its name alone, and nothing else can be named', async () => {
    writeFileSync(fileOf(`leases/${LEASE}.json`), text(WHOLE_LEASE));
    for (const name of ['../owner.json', '../store', '', '.', 'l-20261122T100000000Z-000002']) {
      const error = await breakLease(at(), name, { reason: 'r', dryRun: false }).catch((e: unknown) => e);
      expect(error, name).to.include({ code: 'not-found', key: name });
    }
    await breakLease(at(), LEASE, { reason: 'r', dryRun: true });
    expect(control('leases')).to.deep.equal([`${LEASE}.json`]);
    expect(control('.')).to.include.members(['owner.json', 'store.json']);
  });

  for (const [what, body] of Object.entries(FENCES)) {
    it(`a fence that ${what} is waited for by every claim, is named, and goes by force alone`, async () => {
      writeFileSync(fileOf(`fences/${RUN}-1.json`), body, 'latin1');
      const holding = new Holding(at(), { until: null, reason: 'r', fenceTimeout: 60_000, dryRun: false });
      await holding.key('some/thing/else');
      const error = await holding.end().catch((e: unknown) => e);
      if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
      expect(error).to.include({ code: 'blocked', reason: 'fence' });
      expect(error.message).to.include(`${RUN}-1.json`);
      const [standing] = (await claimsIn(at())).fences;
      expect(standing).to.include({ run: RUN, life: 'unclear' });

      const options = { reason: 'r', dryRun: false };
      const name = `${RUN}-1`;
      const refused = await breakFence(at(), name, { ...options, force: false }).catch((e: unknown) => e);
      expect(refused).to.include({ code: 'blocked', reason: 'fence' });
      expect(control('fences')).to.deep.equal([`${RUN}-1.json`]);
      await breakFence(at(), name, { ...options, force: true });
      expect(control('fences')).to.deep.equal([]);
    });
  }

  it('a fence that is whole is waited for by what it is about, and is elsewhere when its catalog is', async () => {
    writeFileSync(fileOf(`fences/${RUN}-1.json`), text(WHOLE_FENCE));
    const options = { until: null, reason: 'r', fenceTimeout: 60_000, dryRun: false };
    const other = new Holding(at(), options);
    await other.key('some/thing/else');
    expect(await other.end()).to.have.length(1);
    const [standing] = (await claimsIn(at())).fences;
    expect(standing).to.include({
      run: RUN,
      life: 'elsewhere',
      age: temp.clock.now() - Date.parse(WHOLE_FENCE.startedAt),
    });
    const same = new Holding(at(), options);
    await same.prefix('nothing/');
    expect(await same.end().catch((e: unknown) => e)).to.include({ code: 'blocked', reason: 'fence' });
  });

  it('a fence of this catalog whose run it does not know is not taken for a dead one', async () => {
    const fence = { ...WHOLE_FENCE, catalog: place.catalog.uuid };
    writeFileSync(fileOf(`fences/${RUN}-1.json`), text(fence));
    expect((await claimsIn(at())).fences[0]).to.include({ life: 'unclear' });
    const options = { reason: 'r', dryRun: false, force: false };
    const error = await breakFence(at(), `${RUN}-1`, options).catch((e: unknown) => e);
    expect(error).to.include({ code: 'blocked', reason: 'fence' });
  });

  for (const [directory, name] of [
    ['leases', `${LEASE}.json`],
    ['fences', `${RUN}-1.json`],
    ['holds', 'h-20261122T100000000Z-000001.json'],
  ] as const) {
    it(`one of ${directory} that can’t be read stops whoever looks at it, with an error that names the file`, async () => {
      mkdirSync(fileOf(`${directory}/${name}`));
      const looks: (() => Promise<unknown>)[] =
        directory === 'fences'
          ? [
              async () => {
                const holding = new Holding(at(), {
                  until: null,
                  reason: 'r',
                  fenceTimeout: 0,
                  dryRun: false,
                });
                await holding.prefix('');
                return holding.end();
              },
            ]
          : [async () => sweepOld(place)];
      for (const look of looks) {
        const error = await look().catch((e: unknown) => e);
        if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
        expect(error.code).to.equal('failed');
        expect(error.message).to.include(`${directory}/${name}`);
      }
      expect(temp.live('a')).to.equal('old');
    });
  }

  it('a store of a later version gets no claim', async () => {
    const file = fileOf('store.json');
    const store = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, text({ ...store, layout: 2 }));
    const surroundings = { clock: temp.clock, random: seeded(1), actor: ACTOR, report: () => undefined };
    const url = `file://${temp.root}`;
    const error = await openClaimPlace(url, surroundings, 'write').catch((e: unknown) => e);
    expect(error).to.include({ code: 'failed', key: '.tombstoned/store.json' });
    const looking = await openClaimPlace(url, surroundings, 'read');
    expect(await claimsIn(looking)).to.deep.equal({ leases: [], fences: [] });
    looking.store.close();
    rmSync(file);
    const none = await openClaimPlace(url, surroundings, 'read').catch((e: unknown) => e);
    expect((none as TombstonedError).message).to.include('no .tombstoned/store.json');
  });
});

function text(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
