import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import {
  CopyObjectCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutBucketVersioningCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { messageOf, TombstonedError } from '../../lib/domain/errors.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { statusOf } from '../../lib/store/s3/probe.ts';
import { builtProgram, type Ended, tombstonectl } from '../support/built-cli.ts';
import { s3Client, s3ServerOrSkip } from '../support/s3-server.ts';
import { type Policy, RestrictedUser, type Statement } from '../support/s3-users.ts';
import { BucketPlace, PENDING } from './bucket-place.ts';
import { RGW, RGW_VERSIONED } from './capabilities.ts';
import { WORK } from './role-work.ts';

const DIRECTORY = path.resolve(import.meta.dirname, '../../config/iam');
const ROLES = ['daemon', 'restore-host', 'admin'] as const;
type Role = (typeof ROLES)[number];

function theOf(role: Role): string {
  return `the ${role.replace('-', ' ')}`;
}

/** A role's policy as it is shipped, with its placeholders filled in. */
function policyOf(role: Role, place: BucketPlace): Policy {
  const text = readFileSync(path.join(DIRECTORY, `${role}.json`), 'utf8')
    .replaceAll('BUCKET', place.bucket.name)
    .replaceAll('PREFIX', place.prefix.slice(0, -1));
  return JSON.parse(text) as Policy;
}

interface Lessened {
  readonly without: string;
  /** The action that is gone, where it is one. */
  readonly action: string | undefined;
  readonly policy: Policy;
}

/** The policy without each of its parts: an action of a statement, or one of its resources. */
function* lessened(policy: Policy): Generator<Lessened> {
  for (const [i, statement] of policy.Statement.entries()) {
    const less = (change: Partial<Statement>): Policy => ({
      ...policy,
      Statement: policy.Statement.with(i, { ...statement, ...change }).filter(
        ({ Action, Resource }) => Action.length > 0 && Resource.length > 0,
      ),
    });
    const { Sid, Action, Resource } = statement;
    for (const action of Action) {
      const rest = Action.filter((one) => one !== action);
      yield { without: `${action} of ${Sid}`, action, policy: less({ Action: rest }) };
    }
    if (Resource.length === 1) continue;
    for (const resource of Resource) {
      const rest = Resource.filter((one) => one !== resource);
      const below = resource.replace(/.*\/\.tombstoned/, '.tombstoned');
      yield { without: `${below} in ${Sid}`, action: undefined, policy: less({ Resource: rest }) };
    }
  }
}

/**
 * What this server can't tell: its owner may tag an object whatever the policy says, and
 * whoever copies one owns the copy. Amazon wants it of who copies what has tags.
 */
const UNTOLD: Readonly<Record<Role, readonly string[]>> = {
  daemon: [
    // Without them Amazon does not show a lock, and a purge leaves it to the words of the refusal.
    's3:GetObjectRetention of ReadAndWrite',
    's3:GetObjectLegalHold of ReadAndWrite',
    's3:PutObjectTagging of ReadAndWrite',
    's3:PutObjectVersionTagging of ReadAndWrite',
  ],
  admin: ['s3:PutObjectTagging of ReadAndRestore', 's3:PutObjectVersionTagging of ReadAndRestore'],
  'restore-host': [],
};

describe('the policies in config/iam', function () {
  this.timeout(120_000);

  let user: RestrictedUser;

  before(function () {
    const server = s3ServerOrSkip(this);
    builtProgram('cli');
    user = new RestrictedUser(server);
    Object.assign(process.env, user.env);
  });
  after(async () => {
    for (const name of Object.keys(user?.env ?? {})) delete process.env[name];
    await user?.[Symbol.asyncDispose]();
  });

  for (const role of ROLES) {
    for (const [versioned, capabilities] of [
      [false, RGW],
      [true, RGW_VERSIONED],
    ] as const) {
      it(`let ${theOf(role)} do its work in a bucket ${versioned ? 'with' : 'without'} versions`, async () => {
        await using place = await BucketPlace.make({ versioned });
        await user.may(policyOf(role, place));
        await WORK[role]({ place, user, capabilities });
      });
    }

    it(`have nothing that the work of ${theOf(role)} can do without, and errors say what is missing`, async () => {
      await using plain = await BucketPlace.make();
      await using versioned = await BucketPlace.make({ versioned: true });
      const spare: string[] = [];
      const parts = [...lessened(policyOf(role, plain))];
      for (const [i, { without, action }] of parts.entries()) {
        const failure =
          (await failureOf(plain, RGW, role, i)) ?? (await failureOf(versioned, RGW_VERSIONED, role, i));
        if (failure === undefined) spare.push(without);
        else expect(failure, without).to.contain(action ?? 's3:');
      }
      expect(spare).to.deep.equal(UNTOLD[role]);
    });
  }

  /** What a role is told at its work when its policy lacks one of its parts; undefined where it is told nothing. */
  async function failureOf(
    place: BucketPlace,
    capabilities: Capabilities,
    role: Role,
    index: number,
  ): Promise<string | undefined> {
    const policy = [...lessened(policyOf(role, place))][index]?.policy;
    if (policy === undefined) throw new RangeError('it has fewer parts');
    await user.may(policy);
    try {
      await WORK[role]({ place, user, capabilities });
      return undefined;
    } catch (error) {
      return error instanceof TombstonedError ? error.hint : messageOf(error);
    }
  }

  /** Names of what each role must leave alone, in a store with something live, pending and claimed. */
  const LIVE = 'logs/live';
  const COPY = `${PENDING}logs/gone~20261122T101500123Z-k3v0q8tzm2xj4d`;
  const HOLD = '.tombstoned/holds/h-1.json';
  const FENCE = '.tombstoned/fences/r-1-1.json';
  const OWNER = '.tombstoned/owner.json';

  for (const { role, writes, deletes } of [
    { role: 'daemon', writes: [], deletes: [] },
    { role: 'admin', writes: [], deletes: [LIVE, COPY, OWNER] },
    {
      role: 'restore-host',
      writes: [LIVE, COPY, HOLD, FENCE, OWNER],
      deletes: [LIVE, COPY, HOLD, FENCE, OWNER],
    },
  ] as const) {
    it(`let ${theOf(role)} change nothing that is not its own`, async () => {
      await using place = await BucketPlace.make();
      await using others = await BucketPlace.make();
      const Bucket = place.bucket.name;
      const near = `${place.prefix.slice(0, -1)}-2/secret`;
      const outside = [near, 'secret'];
      for (const name of [LIVE, COPY, HOLD, FENCE, OWNER]) await place.put(name, name);
      for (const Key of outside)
        await place.client.send(new PutObjectCommand({ Bucket, Key, Body: 'secret' }));
      await others.put('secret', 'secret');
      const look = async (): Promise<unknown> =>
        (await place.client.send(new ListObjectsV2Command({ Bucket }))).Contents?.map(({ Key, ETag }) => [
          Key,
          ETag,
        ]);
      const before = await look();
      await user.may(policyOf(role, place));
      const sdk = s3Client(user.server);
      try {
        const denied = async (what: string, request: Promise<unknown>): Promise<void> => {
          const status = await request.then(
            () => 200,
            (error: unknown) => statusOf(error),
          );
          expect(status, what).to.equal(403);
        };
        const put = async (Key: string): Promise<unknown> =>
          sdk.send(new PutObjectCommand({ Bucket, Key, Body: 'new' }));
        const drop = async (Key: string): Promise<unknown> =>
          sdk.send(new DeleteObjectCommand({ Bucket, Key }));
        const copy = async (from: string, Key: string): Promise<unknown> =>
          sdk.send(new CopyObjectCommand({ Bucket, Key, CopySource: `${Bucket}/${from}` }));
        for (const Key of outside) {
          await denied(`get ${Key}`, sdk.send(new GetObjectCommand({ Bucket, Key })));
          await denied(`copy ${Key}`, copy(Key, `${place.prefix}.tombstoned/tmp/stolen`));
        }
        for (const Key of [...outside, ...writes.map((name) => place.prefix + name)]) {
          await denied(`put ${Key}`, put(Key));
          await denied(`copy to ${Key}`, copy(place.prefix + (Key.endsWith(COPY) ? LIVE : COPY), Key));
        }
        for (const Key of [...outside, ...deletes.map((name) => place.prefix + name)]) {
          await denied(`delete ${Key}`, drop(Key));
          const batch = new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key }] } });
          const { Errors = [] } = await sdk
            .send(batch)
            .catch((error: unknown) => ({ Errors: [{ Code: String(statusOf(error)) }] }));
          expect(Errors[0]?.Code, `delete ${Key} in a batch`).to.match(/^(403|AccessDenied)$/);
        }
        await denied('list others', sdk.send(new ListObjectsV2Command({ Bucket, Prefix: 'sec' })));
        await denied('another bucket', sdk.send(new ListObjectsV2Command({ Bucket: others.bucket.name })));
        await denied('drop the bucket', sdk.send(new DeleteBucketCommand({ Bucket })));
        const VersioningConfiguration = { Status: 'Suspended' } as const;
        await denied(
          'versioning',
          sdk.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration })),
        );
      } finally {
        sdk.destroy();
      }
      expect(await look()).to.deep.equal(before);
    });
  }

  describe('with the built CLI', () => {
    let place: BucketPlace;
    const POLICY = ['policies:', '  - { name: old, type: age, prefix: logs/, olderThan: 0s, keepLast: 1 }'];

    beforeEach(async () => {
      place = await BucketPlace.make();
      place.configure(['safetyWindow: 1s', ...POLICY]);
      await place.putAll({ 'logs/a': 'a', 'logs/b': 'b', 'logs/c': 'c', 'keep/me': 'kept' });
      await as('daemon');
      await did(0, 'init', '--store', 'b');
    });
    afterEach(async () => place[Symbol.asyncDispose]());

    async function as(role: Role): Promise<void> {
      await user.may(policyOf(role, place));
    }

    /** A command by its config: its stdout. */
    async function did(code: number, ...args: readonly string[]): Promise<Ended> {
      const ended = await place.ctl(args, { env: user.env });
      expect(ended.code, `${args.join(' ')}: ${ended.stderr}`).to.equal(code);
      return ended;
    }

    /** A command by the store's URL alone, as on another host. */
    async function byUrl(code: number, ...args: readonly string[]): Promise<Ended> {
      const env = { AWS_ENDPOINT_URL: place.endpoint, AWS_REGION: place.server.region };
      const ended = await tombstonectl(['--url', place.url, ...args], {
        env: { ...place.env, ...user.env, ...env },
      });
      expect(ended.code, `${args.join(' ')}: ${ended.stderr}`).to.equal(code);
      return ended;
    }

    /** What a sweep has moved. */
    async function moved(): Promise<string[]> {
      const live = await place.names('logs/');
      return ['logs/a', 'logs/b', 'logs/c'].filter((name) => !live.includes(name));
    }

    it('let the daemon sweep, restore, tombstone and purge', async () => {
      await did(0, 'doctor');
      await did(0, 'sweep');
      const [first = ''] = await moved();
      await did(0, 'restore', first);
      expect((await did(0, 'cat', first)).stdout).to.equal(first.slice(-1));
      await did(0, 'tombstone', 'keep/me');
      expect(await place.names(PENDING)).to.have.length(3);
      await passed(2500);
      await did(0, 'purge');
      expect((await place.names(PENDING)).map((name) => name.split('~')[0])).to.deep.equal([PENDING + first]);
    });

    it('let the restore host read what is live and pending under its lease, and claim nothing else', async () => {
      await did(0, 'sweep');
      const [first = ''] = await moved();
      await as('restore-host');
      const before = await place.names();
      expect((await byUrl(0, 'keys')).stdout).to.contain('keep/me');
      expect((await byUrl(0, 'cat', 'keep/me')).stdout).to.equal('kept');
      expect((await byUrl(0, 'cat', first)).stdout).to.equal(first.slice(-1));
      await byUrl(3, 'cat', 'none');
      const to = path.join(place.directory, 'fetched');
      await byUrl(0, 'fetch', '', '--to', to);
      expect(readdirSync(to)).to.include.members(['keep', 'logs']);
      const { stdout } = await byUrl(0, 'with-lease', '--', 'sh', '-c', 'echo "$TOMBSTONED_LEASE"');
      expect(stdout).to.match(/^l-/m);
      await byUrl(0, 'fence', 'ls');
      for (const args of [['hold', '--prefix', 'logs/'], ['pause']]) {
        const { stderr } = await byUrl(1, ...args, '--reason', 'none');
        expect(stderr).to.match(/allow these credentials s3:PutObject on arn:aws:s3:::\S+\/holds\//);
      }
      expect((await did(1, 'sweep')).stderr).to.contain('s3:PutObject');
      expect((await did(1, 'restore', first)).stderr).to.contain('s3:PutObject');
      expect(await place.names()).to.deep.equal(before);
    });

    it('let the admin claim, restore and break, and move and purge nothing', async () => {
      await did(0, 'sweep');
      const [first = '', second = ''] = await moved();
      await as('admin');
      const hold = /h-\S+/.exec((await byUrl(0, 'hold', '--prefix', 'keep/', '--reason', 'why')).stdout);
      await byUrl(0, 'release', hold?.[0] ?? 'none');
      await byUrl(0, 'pause', '--reason', 'why');
      await byUrl(0, 'resume');
      const lease = 'l-20261122T101500123Z-k3v0q8';
      await place.put(`.tombstoned/leases/${lease}.json`, 'unclear');
      await byUrl(0, 'lease', 'break', lease, '--reason', 'gone');
      await byUrl(0, 'fence', 'ls');
      expect((await byUrl(0, 'cat', second)).stdout).to.equal(second.slice(-1));
      await did(0, 'restore', first);
      const before = await place.names();
      expect((await did(1, 'tombstone', 'keep/me')).stderr).to.match(
        /allow these credentials s3:DeleteObject on arn:aws:s3:::\S+\/keep\/me/,
      );
      await passed(2500);
      await did(1, 'purge');
      expect(await place.names()).to.include.members(before);
      await as('daemon');
      await did(0, 'purge');
      expect((await did(0, 'cat', 'keep/me')).stdout).to.equal('kept');
    });
  });
});
