import { ListObjectVersionsCommand, PutObjectLegalHoldCommand } from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Place } from '../../lib/run/place.ts';
import { listFences } from '../../lib/store/fences.ts';
import { sweep } from '../../lib/sweep/sweep.ts';
import { builtProgram } from '../support/built-cli.ts';
import { eraseNow } from '../support/phases.ts';
import { age, DAY, NO_GUARDS } from '../support/place.ts';
import type { S3Request } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING, withCredentials } from './bucket-place.ts';
import { BucketWorld, type RequestFault } from './bucket-world.ts';
import { RGW_VERSIONED } from './capabilities.ts';

interface Line {
  readonly key: string;
  readonly outcome: string;
  readonly bytes: number;
  readonly checkedAbsentAt: string | null;
  readonly kept: string | null;
  readonly detail: string | null;
  readonly stays: readonly string[];
}

describe('purge --now in a real bucket', function () {
  this.timeout(60_000);
  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });
  withCredentials();

  async function ready(kind: Parameters<typeof BucketPlace.make>[0], contents: Record<string, string>) {
    const place = await BucketPlace.make(kind);
    place.configure(['safetyWindow: 7d']);
    await place.putAll(contents);
    await place.ctl(['init', '--store', 'b']);
    return place;
  }

  async function tombstone(place: BucketPlace, ...keys: string[]): Promise<void> {
    const { code, stderr } = await place.ctl(['tombstone', ...keys]);
    expect(code, stderr).to.equal(0);
  }

  async function now(place: BucketPlace, ...args: string[]): Promise<{ code: number; lines: Line[] }> {
    const { code, stdout, stderr } = await place.ctl([
      '--json',
      'purge',
      '--now',
      '--reason',
      'legal',
      ...args,
    ]);
    const objects = stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Line & { type: string });
    expect(objects, stderr).not.to.deep.equal([]);
    return { code: code ?? -1, lines: objects.filter(({ type }) => type === 'purged') };
  }

  it('says what a bucket that keeps versions hides, and removes that, too, with --all-versions', async () => {
    await using place = await ready({ versioned: true }, { a: 'v0', b: 'bb' });
    await place.put('a', 'v1');
    await tombstone(place, 'a');
    const would = await now(place, 'a', '--dry-run');
    expect(would.code).to.equal(4);
    expect(would.lines[0]).to.include({ outcome: 'hidden', checkedAbsentAt: null });
    expect(would.lines[0]?.stays).to.deep.equal(['2 old versions at its key']);
    const did = await now(place, 'a');
    expect(did.code).to.equal(4);
    expect(did.lines[0]).to.include({ outcome: 'hidden', bytes: 2, checkedAbsentAt: null });
    expect(did.lines[0]?.stays).to.have.length(2);
    const all = await now(place, 'a', '--all-versions', '--dry-run');
    expect(all).to.deep.include({ code: 0 });
    expect(all.lines[0]).to.include({ outcome: 'purged', bytes: 6 });
    const gone = await now(place, 'a', '--all-versions');
    expect(gone.code).to.equal(0);
    expect(gone.lines[0]).to.include({ outcome: 'purged', bytes: 6 });
    expect(gone.lines[0]?.checkedAbsentAt).to.be.a('string');
    expect(await place.names()).to.not.include('a');
    const again = await now(place, 'a', '--all-versions');
    expect(again.lines[0]).to.include({ outcome: 'gone', bytes: 0 });
    const log = await place.ctl(['--json', 'log', '--key', 'a']);
    expect(log.stdout).to.match(
      /"what":"purged".*"key":"a","count":3,"bytes":6,"cause":"legal","detail":"old versions"/,
    );
  });

  it('takes all generations and their versions at once, and leaves what is live', async () => {
    await using place = await ready({ versioned: true }, { a: 'v1', b: 'v1' });
    await tombstone(place, 'a', 'b');
    await place.putAll({ a: 'v2', b: 'v2' });
    await tombstone(place, 'a');
    const { code, lines } = await now(place, 'a', 'b', '--all-versions');
    expect(code).to.equal(4);
    expect(lines.map(({ key, outcome }) => `${key} ${outcome}`)).to.deep.equal([
      'a purged',
      'a purged',
      'b live',
    ]);
    expect(await place.names()).to.not.include('a');
    expect(await place.content('b')).to.equal('v2');
    expect(await place.names(PENDING)).to.deep.equal([]);
  });

  it('leaves what is locked, and says so', async () => {
    await using place = await ready({ locks: true }, { a: 'aa' });
    const Bucket = place.bucket.name;
    const lockAll = async (Status: 'ON' | 'OFF'): Promise<void> => {
      const { Versions = [] } = await place.client.send(new ListObjectVersionsCommand({ Bucket }));
      for (const { Key, VersionId } of Versions) {
        if (Key?.includes('.tombstoned/') !== false) continue;
        await place.client.send(
          new PutObjectLegalHoldCommand({ Bucket, Key, VersionId, LegalHold: { Status } }),
        );
      }
    };
    await lockAll('ON');
    try {
      await tombstone(place, 'a');
      const { code, lines } = await now(place, 'a', '--all-versions');
      expect(code).to.equal(5);
      expect(lines[0]).to.include({
        outcome: 'blocked',
        kept: 'object-lock',
        bytes: 0,
        checkedAbsentAt: null,
      });
      expect(await place.names(PENDING)).to.have.length(1);
    } finally {
      await lockAll('OFF'); // RGW copies a lock with its object
    }
    expect((await now(place, 'a', '--all-versions')).lines[0]).to.include({ outcome: 'purged' });
  });

  it('that dies at any removal leaves nothing stuck, and is done by another', async () => {
    await using place = await BucketPlace.make({ semantics: 'gateway', versioned: true });
    const erase = async (at: Place): Promise<string[]> => {
      const outcomes = await eraseNow(at, ['a', 'b'], { allVersions: true });
      return outcomes.map(({ key, outcome }) => `${key} ${outcome}`);
    };
    /** A fresh store of two generations and an old version of `a`, one of `b`; purges it as a process that meets a fault. */
    const inWorld = async (name: string, fault: RequestFault | undefined): Promise<number> => {
      using world = await BucketWorld.make(place, name, { capabilities: RGW_VERSIONED, window: DAY });
      const as = async <T>(
        seed: number,
        work: (at: Place) => Promise<T>,
        befalls?: RequestFault,
      ): Promise<T | undefined> => {
        const process = await world.process(seed, befalls);
        try {
          return await work(process.place);
        } catch (error) {
          if (befalls === undefined) throw error;
          return undefined;
        } finally {
          expect(process.end().isStruck, `${name} was reached`).to.equal(true);
        }
      };
      await place.putAll({ a: 'a0', b: 'b1' });
      for (const content of ['a1', 'a2']) {
        await place.put('a', content);
        const policies = [age({ olderThan: 0 })];
        world.advance(2000);
        await as(3, async (at) => sweep(at, { policies, guards: NO_GUARDS, dryRun: false }));
      }
      let count = 0;
      if (fault === undefined) {
        const requests = await world.requestsOf(async () => as(11, erase));
        count = requests.filter(isRemoval).length;
      } else await as(11, erase, fault);
      const ends = await as(13, async (at) => {
        await recover(at);
        if (at.catalog.runs.open(at.row.n).length > 0) {
          world.advance(32 * 60_000);
          await recover(at);
        }
        expect(at.catalog.runs.open(at.row.n), 'open runs').to.deep.equal([]);
        expect(await listFences(at.store.control), 'fences').to.deep.equal([]);
        return erase(at);
      });
      for (const end of ends ?? []) expect(end, name).to.match(/^[ab] (purged|gone)$/);
      const { Versions = [], DeleteMarkers = [] } = await place.client.send(
        new ListObjectVersionsCommand({ Bucket: place.bucket.name, Prefix: place.prefix }),
      );
      const left = [...Versions, ...DeleteMarkers].filter(
        ({ Key }) => Key?.includes('.tombstoned/') === false,
      );
      expect(left, name).to.deep.equal([]);
      return count;
    };
    const count = await inWorld('clean', undefined);
    expect(count).to.be.greaterThan(5);
    for (let at = 1; at <= count; at++) {
      const when = at % 2 === 0 ? 'before' : 'after';
      await inWorld(`${when}-${at}`, { at, among: isRemoval, when, as: 'kill' });
    }
  });
});

function isRemoval({ kind, key }: S3Request): boolean {
  return (kind === 'delete' || kind === 'batch-delete') && !key.includes('/.tombstoned/');
}
