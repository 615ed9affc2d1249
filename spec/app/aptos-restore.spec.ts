import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type Needed, neededIn } from '../../lib/app/aptos-restore.ts';
import type { TombstonedError } from '../../lib/domain/errors.ts';
import { type FetchResult, fetchAll } from '../../lib/fetch/fetch.ts';
import { Target } from '../../lib/fetch/target.ts';
import { LeaseLost } from '../../lib/reader/lease-term.ts';
import { openSession, type Session } from '../../lib/reader/session.ts';
import type { Place } from '../../lib/run/place.ts';
import { tinyBackup } from '../aptos/tiny-backup.ts';
import { HeldClock } from '../support/held-clock.ts';
import { FAST, filesBelow, purgeDue, sweepOld } from '../support/phases.ts';
import { ACTOR, DAY, seeded, TempPlace } from '../support/place.ts';

describe('what a restore of an Aptos backup needs', () => {
  let temp: TempPlace;
  let place: Place;
  let session: Session;
  const opened: Needed[] = [];
  let clock: HeldClock;
  const tiny = tinyBackup();

  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    temp.window = 0;
    place = temp.open();
    for (const [key, bytes] of tiny) temp.write(key, bytes.toString(), 3 * DAY);
    clock = new HeldClock();
    session = await openSession(place.store, { clock, random: seeded(3), actor: ACTOR }, { prefixes: [''] });
  });
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
    await session.close();
    temp.remove();
  });

  async function needed(target: bigint | null = null): Promise<Needed> {
    const all = await neededIn(session, { target, concurrency: 4 });
    opened.push(all);
    return all;
  }

  async function brought({ source }: Needed): Promise<FetchResult & { problems: TombstonedError[] }> {
    const problems: TombstonedError[] = [];
    const target = await Target.open(path.join(temp.directory, 'restored'));
    try {
      const result = await fetchAll(source, target, {
        clock,
        prefixes: [''],
        concurrency: 4,
        onProblem: (problem) => problems.push(problem),
        onLeft: () => undefined,
        onEmpty: () => undefined,
      });
      return { ...result, problems };
    } finally {
      await target.close();
    }
  }

  it('is had whole, although everything is swept and purged once it was listed', async () => {
    const before = await sweepOld(place);
    expect(before.moved, 'what is listed by then moves').to.equal(tiny.size);
    expect(await purgeDue(place)).to.include({ due: tiny.size, purged: 0 });
    const all = await needed();
    expect([all.target, all.gaps, all.problems]).to.deep.equal([29n, [], []]);
    const result = await brought(all);
    expect(result.problems).to.deep.equal([]);
    expect(result.fromPending).to.equal(result.objects).and.to.equal(all.source.count);
    const to = path.join(temp.directory, 'restored');
    const names = filesBelow(to).filter((name) => !name.startsWith('.tombstoned/'));
    expect(names.toSorted()).to.deep.equal(
      [...tiny.keys()].filter((key) => !key.startsWith('state_epoch_0')).toSorted(),
    );
    for (const name of names)
      expect(readFileSync(path.join(to, name)).equals(tiny.get(name) ?? Buffer.alloc(0)), name).to.equal(
        true,
      );
  });

  it('is never less than what was listed: a metadata file that its writer has removed since is an error', async () => {
    const lost = 'metadata/transaction_10-19.meta';
    rmSync(path.join(temp.root, lost));
    const some = await needed(29n);
    expect(some.problems.map(({ code, key }) => [code, key])).to.deep.equal([['incomplete', lost]]);
    expect(some.gaps).to.deep.equal([{ of: 'versions', kind: 'missing', first: 10n, last: 19n }]);
    expect(some.source.count, 'with a gap it is nothing').to.equal(0);
  });

  it('has a manifest that was written again since as an error, and a chunk too', async () => {
    for (const key of ['transaction_0-.10/transaction.manifest', 'transaction_10-.11/10-.chunk'])
      temp.write(key, 'another');
    const some = await needed();
    expect(some.problems.map(({ code, key }) => [code, key])).to.deep.equal([
      ['incomplete', 'transaction_0-.10/transaction.manifest'],
    ]);
    expect((await brought(some)).missing).to.deep.equal(['transaction_10-.11/10-.chunk']);
  });

  it('is not said once the lease is lost', async () => {
    mkdirSync(path.join(temp.root, '.tombstoned/leases'), { recursive: true });
    writeFileSync(path.join(temp.root, `.tombstoned/leases/${session.id}.broken`), '');
    clock.wall += 2 * 3_600_000;
    clock.mono += 2 * 3_600_000;
    const error = await needed().catch((thrown: unknown) => thrown);
    expect(error).to.be.instanceOf(LeaseLost);
  });
});
