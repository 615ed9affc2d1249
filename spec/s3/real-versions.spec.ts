import { setTimeout as passed } from 'node:timers/promises';
import {
  type BucketVersioningStatus,
  ListObjectVersionsCommand,
  NoSuchKey,
  PutBucketVersioningCommand,
  PutObjectLegalHoldCommand,
  PutObjectRetentionCommand,
} from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { idTime, makeTombstoneId, pendingName, systemRandom } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import type { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { MoveItem, RemoveItem } from '../../lib/store/store.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING, withCredentials } from './bucket-place.ts';

const KEY = parseKey('a/one.meta');

describe('versions on a real server', function () {
  this.timeout(60_000);
  before(function () {
    s3ServerOrSkip(this);
  });
  withCredentials();

  for (const versions of ['keep', 'purge'] as const) {
    it(`v0 is never read while v1 is moved, read, restored and purged with versions: ${versions}`, async () => {
      await using place = await BucketPlace.make({ versioned: true });
      const key = new PolledKey(place, await place.store(systemClock, 16, versions));
      await key.write('v0');
      await key.write('v1');
      await key.poll(async () => {
        const first = await key.move();
        await passed(1100); // contents are told apart by their time, in whole seconds
        await key.restore(first);
        const second = await key.move();
        await key.purge(first, 'pending');
        await passed(1100);
        await key.restore(second);
        await key.purge(second, 'restored');
        const third = await key.move();
        await key.purge(third, 'pending');
        const left = versions === 'purge' ? ['-', '-', '-', 'v0'] : ['-', 'v1', '-', 'v1', '-', 'v1', 'v0'];
        expect(await key.versions(KEY)).to.deep.equal(left);
        for (const { key: of, id } of [first, second, third]) {
          const copies = await key.versions(pendingName(PENDING, of, id));
          expect(copies).to.deep.equal(versions === 'purge' ? [] : ['-', 'v1']);
        }
      });
      expect(key.seen).to.have.all.keys([null, 'v1']);
    });
  }

  it('v0 is never read where versioning is suspended in between, and what can’t be safe is refused', async () => {
    await using place = await BucketPlace.make();
    const key = new PolledKey(place, await place.store(systemClock, 16, 'purge'));
    await key.write('v0');
    await key.keepVersions('Enabled');
    await key.write('v1');
    await key.poll(async () => {
      const first = await key.move();
      await key.keepVersions('Suspended');
      const [refused] = await key.store.putBack([{ ...first, to: KEY }]);
      expect(refused)
        .to.have.nested.property('error.message')
        .that.matches(/not put back: this store can replace/);
      await key.write('v2');
      const [unmoved] = await key.store.move([await key.intend()], { resume: false });
      expect(unmoved)
        .to.have.nested.property('error.message')
        .that.matches(/is not moved: while versioning is suspended/);
      await key.purge(first, 'pending');
      await key.keepVersions('Enabled');
      const second = await key.move();
      await passed(1100); // as above
      await key.restore(second);
      // v2 was written while no versions were kept: not removed by that id, and told.
      expect(await key.store.remove([{ ...second, from: 'restored' }])).to.deep.equal([
        {
          outcome: 'removed',
          left: 'the version at its key, which was written while no versions were kept (null)',
        },
      ]);
      expect(await key.live()).to.equal('v2');
    });
    expect(key.seen).to.have.all.keys([null, 'v1', 'v2']);
  });

  it('a locked version is told as such, and is left alone until its lock ends', async () => {
    await using place = await BucketPlace.make({ locks: true });
    const key = new PolledKey(place, await place.store());
    place.configure(['safetyWindow: 0s'], ['versions: purge']);
    await place.put('retained', 'content');
    await place.put('held', 'content');
    // In governance mode, which who empties the bucket may bypass.
    const until = new Date(Math.ceil(Date.now() / 1000 + 3600) * 1000);
    const Retention = { Mode: 'GOVERNANCE', RetainUntilDate: until } as const;
    const at = (name: string) => ({ Bucket: place.bucket.name, Key: place.prefix + name });
    await place.client.send(new PutObjectRetentionCommand({ ...at('retained'), Retention }));
    const hold = async (name: string, Status: 'ON' | 'OFF'): Promise<void> => {
      const VersionId = await key.versionId(name);
      await place.client.send(
        new PutObjectLegalHoldCommand({ ...at(name), VersionId, LegalHold: { Status } }),
      );
    };
    await hold('held', 'ON');
    try {
      await place.ctl(['init', '--store', 'b']);
      expect((await place.ctl(['tombstone', 'retained', 'held'])).code).to.equal(0);
      const purge = async (): Promise<unknown> => JSON.parse((await place.ctl(['--json', 'purge'])).stdout);
      expect(await purge()).to.deep.include({ due: 2, purged: 0, failed: 0, kept: { 'object-lock': 2 } });
      expect(await purge()).to.deep.include({ due: 0, purged: 0, failed: 0, kept: {} });
      expect(await key.versions('retained')).to.deep.equal(['-', 'content']);
      const explained = await place.ctl(['--json', 'explain', 'held']);
      expect(explained.stdout)
        .to.include('"object-lock"')
        .and.to.include('is under a legal hold (object lock)');
      const { stdout } = await place.ctl(['--json', 'ls', '--prefix', 'retained']);
      const [, id = ''] = /"id":"([^"]+)"/.exec(stdout) ?? [];
      const shown = await place.ctl(['--json', 'show', id]);
      expect(JSON.parse(shown.stdout)).to.deep.include({ kept: ['object-lock'], state: 'pending' });
      expect(shown.stdout).to.include(`is retained until ${until.toISOString()} (object lock)`);
      // Kept in counted time and shown in the clock's, which are some ms apart from look to look.
      const { purgeAfter } = JSON.parse(shown.stdout) as { purgeAfter: string };
      expect(Date.parse(purgeAfter)).to.be.closeTo(until.getTime(), 1000);
    } finally {
      // RGW copies a lock with its object.
      for (const name of ['held', ...(await place.names(`${PENDING}held`))]) await hold(name, 'OFF');
    }
  });

  it('status and doctor say whether a purge frees space', async () => {
    await using place = await BucketPlace.make({ versioned: true });
    place.configure([], ['versions: keep']);
    await place.ctl(['init', '--store', 'b']);
    expect((await place.ctl(['status'])).stdout).to.match(
      /space +not freed by purges.*\n.*s3\.versions: purge/,
    );
    expect((await place.ctl(['doctor'])).stdout).to.match(
      /^warn +b +space: purges free no space.*lifecycle rule.*s3\.versions: purge/m,
    );
    place.configure([], ['versions: purge']);
    const status: unknown = JSON.parse((await place.ctl(['--json', 'status'])).stdout);
    expect(status).to.have.nested.property('stores[0].spaceFreed', true);
    const { stdout } = await place.ctl(['doctor']);
    expect(stdout)
      .to.match(/^ok +b +space: purges free space/m)
      .and.to.match(/purging: .*`versions: purge`/);
  });
});

/** A key that is read again and again while something is done to it. */
class PolledKey {
  /** What was read; null where nothing was live. */
  readonly seen = new Set<string | null>();
  readonly store: S3Store;
  readonly #place: BucketPlace;

  constructor(place: BucketPlace, store: S3Store) {
    this.#place = place;
    this.store = store;
  }

  async poll(work: () => Promise<void>): Promise<void> {
    const over = new AbortController();
    const readers = Array.from({ length: 4 }, async () => {
      while (!over.signal.aborted) this.seen.add(await this.live());
    });
    try {
      await work();
    } finally {
      over.abort();
      await Promise.all(readers);
    }
  }

  async live(): Promise<string | null> {
    try {
      return await this.#place.content(KEY);
    } catch (error) {
      if (error instanceof NoSuchKey) return null;
      throw error;
    }
  }

  async write(content: string): Promise<void> {
    await this.#place.put(KEY, content);
  }

  async keepVersions(Status: BucketVersioningStatus): Promise<void> {
    const VersioningConfiguration = { Status };
    const { client, bucket } = this.#place;
    await client.send(new PutBucketVersioningCommand({ Bucket: bucket.name, VersioningConfiguration }));
  }

  async intend(): Promise<MoveItem> {
    const live = await this.store.head(KEY);
    if (live === undefined) throw new Error('nothing is live');
    const { revision } = live;
    const id = makeTombstoneId(idTime(Date.now()), revisionHash(revision), 0, systemRandom);
    return { key: KEY, id, revision };
  }

  async move(): Promise<MoveItem> {
    const item = await this.intend();
    expect(await this.store.move([item], { resume: false })).to.deep.equal([{ outcome: 'moved' }]);
    return item;
  }

  async restore(item: MoveItem): Promise<void> {
    expect(await this.store.putBack([{ ...item, to: KEY }])).to.deep.equal([{ outcome: 'restored' }]);
  }

  async purge(item: MoveItem, from: RemoveItem['from']): Promise<void> {
    expect(await this.store.remove([{ ...item, from }])).to.deep.equal([{ outcome: 'removed' }]);
  }

  async #listed(name: string) {
    const { client, bucket, prefix } = this.#place;
    const Prefix = prefix + name;
    const { Versions = [], DeleteMarkers = [] } = await client.send(
      new ListObjectVersionsCommand({ Bucket: bucket.name, Prefix }),
    );
    return [
      ...Versions.map((one) => ({ ...one, isMarker: false })),
      ...DeleteMarkers.map((one) => ({ ...one, isMarker: true })),
    ].toSorted((a, b) => (b.LastModified?.getTime() ?? 0) - (a.LastModified?.getTime() ?? 0));
  }

  /** Of its newest content. */
  async versionId(name: string): Promise<string | undefined> {
    return (await this.#listed(name)).find(({ isMarker }) => !isMarker)?.VersionId;
  }

  /** Contents of all versions, newest first; `-` of a marker. */
  async versions(name: string): Promise<string[]> {
    const contents: string[] = [];
    for (const { isMarker, VersionId } of await this.#listed(name)) {
      contents.push(isMarker ? '-' : await this.#place.content(name, VersionId));
    }
    return contents;
  }
}
