import { readdirSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { planIn } from '../../lib/app/aptos-restore.ts';
import type { EpochEnding } from '../../lib/aptos/metadata.ts';
import { allGaps, planRestore } from '../../lib/aptos/restore-plan.ts';
import { type Survey, survey } from '../../lib/metadata/survey.ts';
import type { Place } from '../../lib/run/place.ts';
import { beforeAllBuild, ctlWith } from '../cli/ctl.ts';
import { compactIn } from '../compact/aptos-place.ts';
import { FAST, purgeDue } from '../support/phases.ts';
import { DAY, seeded, TempPlace } from '../support/place.ts';
import { extractRealBackup, hasRealBackup, NEEDS_REAL_BACKUP } from '../support/real-backup.ts';

const SEED = Number(process.env['APTOS_SEED'] ?? Date.now() % 1_000_000);
const NEWEST = 66_100_000n;
const RESTORABLE = [
  '  live        194 epochs (0-193), 662 transaction files to version 66,100,000, 107 snapshots (106 usable), no gap',
  '              restorable to version 66,100,000, from the snapshot at 65,795,482 (epoch 192)',
];

describe(`what can be restored of a real backup (${NEEDS_REAL_BACKUP})`, function () {
  this.timeout(60_000);
  let temp: TempPlace;
  let place: Place;
  let endings: readonly EpochEnding[];
  const contents = new Map<string, Buffer>();
  beforeAllBuild();

  before(async function () {
    if (!hasRealBackup()) this.skip();
    temp = await TempPlace.make(FAST);
    extractRealBackup(temp.root);
    place = temp.open();
    for (const name of readdirSync(path.join(temp.root, 'metadata')))
      contents.set(name, readFileSync(file(name)));
    endings = [...(await look()).live.epochEndings];
  });
  after(() => temp?.remove());

  function file(name: string): string {
    return path.join(temp.root, 'metadata', name);
  }

  /** Makes a file what it was, and old. */
  function mend(name: string): void {
    writeFileSync(file(name), contents.get(name) ?? '');
    const at = (temp.clock.wall - 300 * DAY) / 1000;
    utimesSync(file(name), at, at);
  }

  async function look(): Promise<Survey> {
    return survey(place.store, { concurrency: 16 });
  }

  /** What `aptos status` says after the store's name. */
  async function said(): Promise<string[]> {
    const { code, lines } = await ctlWith({}, '--url', pathToFileURL(temp.root).href, 'aptos', 'status');
    expect(code).to.equal(0);
    return lines.slice(1);
  }

  it('is said exactly by aptos status', async () => {
    expect(await said()).to.deep.equal([...RESTORABLE, '  files       964 metadata files live, 0 pending']);
  });

  it('needs 856 manifests, which are all there; one that is removed is named', async () => {
    const options = { target: null, concurrency: 16 };
    const plan = await planIn(place.store, options);
    expect([plan.target, plan.gaps, plan.backups.length]).to.deep.equal([NEWEST, [], 193 + 1 + 662]);
    expect(plan.locations.every((location) => location === 'live')).to.equal(true);
    const lost = path.join(temp.root, plan.backups[300]?.manifest ?? '');
    renameSync(lost, `${lost}.away`);
    const { locations } = await planIn(place.store, options);
    renameSync(`${lost}.away`, lost);
    expect(locations.flatMap((location, i) => (location === null ? [i] : []))).to.deep.equal([300]);
  });

  it('has exactly the gap of one file that is removed by hand', async () => {
    rmSync(file('transaction_300001-400000.meta'));
    const { live } = await look();
    mend('transaction_300001-400000.meta');
    expect(allGaps(live)).to.deep.equal([
      { of: 'versions', kind: 'missing', first: 300_001n, last: 400_000n },
    ]);
    expect(live.restorable().version).to.equal(300_000n);
  });

  it(`is never said to be more than random removals, cuts and garbage leave (seed ${SEED})`, async () => {
    const random = seeded(SEED);
    const names = [...contents.keys()];
    for (let round = 0; round < 8; round++) {
      const harmed = new Set<string>();
      const unread = new Set<string>();
      for (let i = random(6); i >= 0; i--) {
        const name = names[random(names.length)] ?? '';
        const bytes = contents.get(name) ?? Buffer.alloc(0);
        harmed.add(name);
        const way = random(4);
        unread[way === 0 ? 'delete' : 'add'](name);
        if (way === 0) rmSync(file(name), { force: true });
        else if (way === 1) writeFileSync(file(name), bytes.subarray(0, random(bytes.length)));
        else if (way === 2)
          writeFileSync(file(name), Buffer.from(Array.from({ length: 80 }, () => random(256))));
        else writeFileSync(file(name), contents.get('identity.meta') ?? '');
        if (way === 3 && name === 'identity.meta') unread.delete(name);
      }
      const found = await look();
      const what = `seed ${SEED}, round ${round}: ${[...harmed].join(' ')}`;
      expect(
        found.unread.map(({ key }) => key.slice('metadata/'.length)),
        what,
      ).to.have.members([...unread]);
      const { version } = found.live.restorable();
      expect(version ?? -1n, what).to.satisfy((most: bigint) => most <= mostWithout(harmed));
      expect(planRestore(found.live, (version ?? -1n) + 1n).gaps, what).not.to.deep.equal([]);
      for (const name of harmed) mend(name);
    }
  });

  it('is said to be the same compacted by 100, swept, and purged, with the compacted names', async () => {
    temp.format = 'aptos';
    const aptos = temp.open();
    const compacted = async () => compactIn(aptos, { factor: 100 });
    expect(await compacted()).to.include({ written: 11, tombstoned: 0 });
    const first = await said();
    expect(first.slice(0, 3)).to.deep.equal([
      ...RESTORABLE,
      '  files       976 metadata files live, 0 pending',
    ]);
    expect(first[3]).to.equal('  compacted   metadata/epoch_ending_compacted_0-99.meta');
    expect(first.filter((line) => line.includes('_compacted_'))).to.have.length(11);
    temp.clock.advance(2 * DAY);
    expect(await compacted()).to.include({ written: 0, tombstoned: 963 });
    const swept = await said();
    const files = (pending: number) => `  files       14 metadata files live, ${pending} pending`;
    expect(swept.slice(0, 4)).to.deep.equal([...RESTORABLE, '  + pending   the same', files(963)]);
    temp.clock.advance(8 * DAY);
    expect(await purgeDue(aptos)).to.include({ purged: 963 });
    const purged = await said();
    expect(purged.slice(0, 3)).to.deep.equal([...RESTORABLE, files(0)]);
    expect(purged.slice(3, 14)).to.deep.equal(first.slice(3, 14));
  });

  /** The newest version that can be proven without some files, by their names and the endings that there were. */
  function mostWithout(harmed: ReadonlySet<string>): bigint {
    let most = NEWEST;
    const atMost = (version: bigint): void => {
      if (version < most) most = version;
    };
    for (const name of harmed) {
      const first = /^transaction_(\d+)-/.exec(name)?.[1];
      if (first !== undefined) atMost(BigInt(first) - 1n);
      const epoch = Number(/^epoch_ending_(\d+)-/.exec(name)?.[1] ?? endings.length);
      // Versions of an epoch are proven by the ending before; what follows the last ending shows nothing.
      if (epoch < endings.length - 2) atMost(endings[epoch]?.lastVersion ?? 0n);
    }
    return most;
  }
});
