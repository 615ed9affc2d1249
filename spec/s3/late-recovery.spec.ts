import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Place } from '../../lib/run/place.ts';
import { listFences } from '../../lib/store/fences.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { age, NO_GUARDS } from '../support/place.ts';
import type { S3Request } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, withCredentials } from './bucket-place.ts';
import { BucketWorld, type RequestFault } from './bucket-world.ts';
import { AMAZON } from './capabilities.ts';

/** How long requests of a dead process are waited for, and a bit more. ms. */
const DEAD_MS = 32 * 60_000;

describe('a recovery that dies while it deletes', function () {
  this.timeout(30_000);
  before(function () {
    s3ServerOrSkip(this);
  });
  withCredentials();

  it('is waited for by the next, under the same fence, as its request may be late', async () => {
    await using bucket = await BucketPlace.make({ semantics: 'amazon' });
    using world = await BucketWorld.make(bucket, 'late', { capabilities: AMAZON, window: 0 });
    await bucket.put('old/a', 'content');
    const afterCopy: RequestFault = { at: 1, among: isOf('copy'), when: 'after', as: 'kill' };
    await as(world, 1, sweepOld, afterCopy);
    await as(world, 2, recover); // which finds it dead
    world.advance(DEAD_MS);

    const dying = await world.process(3);
    const held = bucket.proxy.hold(isOf('delete'));
    const recovery = recover(dying.place).catch(() => undefined);
    await held.arrived;
    dying.die();
    await recovery;
    dying.end();

    await as(world, 4, async (place) => {
      await recover(place);
      expect(await listFences(place.store.control)).to.not.deep.equal([]);
      expect(place.catalog.runs.open(place.row.n)).to.have.length(1);
    });
    expect([...(await bucket.etags()).keys()])
      .to.include('old/a')
      .and.have.length(2);
    await held.release();
    world.advance(DEAD_MS);
    await as(world, 5, async (place) => {
      await recover(place);
      expect(await listFences(place.store.control)).to.deep.equal([]);
      expect(place.catalog.tombstones.page({ limit: 10 }).map(({ state }) => state)).to.deep.equal([
        'pending',
      ]);
    });
    const [name, ...others] = (await bucket.etags()).keys();
    expect(name).to.match(/^pending_deletion\/old\/a~/);
    expect(others).to.deep.equal([]);
  });
});

async function sweepOld(place: Place): Promise<void> {
  const policies = [age({ prefix: 'old/', olderThan: 0 })];
  await sweep(place, { policies, guards: NO_GUARDS, dryRun: false });
}

/** Does something as a process, which may meet its end. */
async function as(
  world: BucketWorld,
  seed: number,
  work: (place: Place) => Promise<void>,
  fault?: RequestFault,
): Promise<void> {
  const process = await world.process(seed, fault);
  try {
    await work(process.place);
  } catch (error) {
    if (fault === undefined) throw error;
  } finally {
    process.end();
  }
}

function isOf(kind: S3Request['kind']): (request: S3Request) => boolean {
  return (request) => request.kind === kind && !request.key.includes('/.tombstoned/');
}
