import { setTimeout as passed } from 'node:timers/promises';
import { DeleteBucketPolicyCommand, PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { isSweep, type Line, RunningDaemon, saysRuns } from '../daemon/running-daemon.ts';
import { builtProgram } from '../support/built-cli.ts';
import type { Injected } from '../support/s3-proxy.ts';
import type { S3Request } from '../support/s3-request.ts';
import { type OwnS3Server, ownS3Server, s3Server, s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING } from './bucket-place.ts';

const OBJECTS = 300;
/** How many are moved before it breaks. */
const HALF = OBJECTS / 2;
/** How long requests of a run that failed are waited for, and a bit more. ms. */
const DEAD_MS = 32 * 60_000;
const OUTAGE_MS = 60_000;

const UNANSWERED = /\bs3:\S+ (can't be [\w ]+: no good answer from \S+|gives no good answer: )/;

/** How a server is out of order, what is said of it, and how it comes back. */
interface Outage {
  readonly says: RegExp;
  readonly begin: (place: BucketPlace) => Promise<void>;
  readonly end: (place: BucketPlace) => Promise<void>;
}

describe('the daemon on a bucket', function () {
  this.timeout(180_000);

  let own: OwnS3Server;
  let minute: Promise<void>;

  before(async function () {
    s3ServerOrSkip(this);
    builtProgram('daemon');
    own = await ownS3Server();
    // It takes its minute while the others run.
    minute = outage(MINUTE);
    minute.catch(() => undefined); // its spec tells
  });
  after(async () => {
    await minute.catch(() => undefined);
    await own.stop();
  });

  it('goes on where its server is killed and started again', async () => {
    await outage(
      {
        says: UNANSWERED,
        begin: async ({ proxy }) => {
          proxy.mayBeDown = true;
          await own.kill();
          await passed(2000); // some tries are made
        },
        end: async () => own.resume(),
      },
      own,
    );
  });

  it('goes on where its bucket could only be read for a while', async () => {
    const denied = async (place: BucketPlace): Promise<void> => {
      const Resource = [`arn:aws:s3:::${place.bucket.name}/*`];
      const Action = ['s3:PutObject', 's3:DeleteObject', 's3:DeleteObjectVersion'];
      const Statement = [{ Effect: 'Deny', Principal: '*', Action, Resource }];
      const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
      await place.client.send(new PutBucketPolicyCommand({ Bucket: place.bucket.name, Policy }));
    };
    await outage({
      says: /\bs3:\S+ can't be \w+: the store denies it \(AccessDenied\)/,
      begin: async (place) => {
        await denied(place);
        const { code, stdout, stderr } = await place.ctl(['sweep']);
        expect({ code, stdout }).to.deep.equal({ code: 1, stdout: '' });
        expect(stderr).to.match(/^tombstonectl: s3:\S+ can't be \w+: .*AccessDenied.*\n$/);
      },
      end: async ({ client, bucket }) => {
        await client.send(new DeleteBucketPolicyCommand({ Bucket: bucket.name }));
      },
    });
  });

  it('goes on where its server was out for a minute', async () => minute);
});

/** What a recovery says of those that it does not name. */
const MORE = /^and \d+ more of level error$/;

let hanging: Injected | undefined;

/** It hangs, then it is not there at all, then it answers nothing but errors. */
const MINUTE: Outage = {
  says: UNANSWERED,
  begin: async ({ proxy }) => {
    hanging = proxy.inject({ match: () => true, fault: { as: 'silence', when: 'before' }, times: Infinity });
    await passed(OUTAGE_MS / 3);
    await proxy.refuse();
    await passed(OUTAGE_MS / 3);
    hanging.remove();
    hanging = proxy.inject({
      match: () => true,
      fault: { as: 'answer', when: 'before', status: 503, code: 'ServiceUnavailable' },
      times: Infinity,
    });
    await proxy.accept();
    await passed(OUTAGE_MS / 3);
  },
  end: async () => hanging?.remove(),
};

/** A daemon sweeps, and its server is out in the middle: nothing is lost, it stays up and says so, and it ends right. */
async function outage({ says, begin, end }: Outage, server = s3Server()): Promise<void> {
  await using place = await BucketPlace.make({ semantics: 'gateway' }, server);
  place.configure([
    'safetyWindow: 1d',
    'sweepEvery: 2s',
    'purgeEvery: 2s',
    'policies:',
    '  - { name: old, type: age, prefix: logs/, olderThan: 0s }',
  ]);
  const written = Array.from({ length: OBJECTS }, (_, i) => `logs/${i}.meta`);
  await place.putAll(Object.fromEntries(written.map((name) => [name, `content of ${name}`])));
  expect((await place.ctl(['init', '--store', 'b'])).code).to.equal(0);

  const half = nth(place, HALF);
  const daemon = new RunningDaemon(['--config', place.config], place.env);
  try {
    await daemon.until(saysRuns);
    await half;
    await begin(place);
    const before = daemon.lines().length;
    await end(place);
    // What the failed run has begun is waited for, by the store's time, which is put on.
    place.proxy.dateShift += DEAD_MS;
    await daemon.until(isEnd, before);
    place.proxy.dateShift += DEAD_MS;
    await daemon.until(isEnd, daemon.lines().length);
    for (const line of daemon.lines().filter(({ level }) => level === 'error')) {
      // The store's time was put on, and so it contradicts the daemon's.
      if (line.message.startsWith('nothing is purged: the clock is ')) continue;
      if (MORE.test(line.message)) continue;
      expect(line.message).to.match(says);
      expect(line).to.include.keys('key', 'hint');
    }
    daemon.kill('SIGTERM');
    const { code, stderr } = await daemon.ended;
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
  } finally {
    await daemon.remove();
  }
  const contents = await place.contents();
  expect([...contents.keys()].filter((name) => !name.startsWith(PENDING))).to.deep.equal([]);
  expect(new Set(contents.values())).to.deep.equal(new Set(written.map((name) => `content of ${name}`)));
  expect(await place.names('.tombstoned/fences/')).to.deep.equal([]);
  const { stdout } = await place.ctl(['--json', 'ls', '--limit', '0']);
  const records = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Tombstone);
  expect(records.flatMap(({ state, key }) => (state === 'pending' ? [key] : [])).toSorted()).to.deep.equal(
    written.toSorted(),
  );
  // Where a deletion got no answer and nothing guards it, the copy counts as put back, and the object is moved again.
  const copies = records.filter(({ state }) => state === 'pending' || state === 'restored');
  expect([...contents.keys()]).to.have.members(copies.map(({ pendingKey }) => pendingKey));
}

/** What `ls --json` says. */
interface Tombstone {
  readonly key: string;
  readonly pendingKey: string;
  readonly state: string;
}

/** A sweep that had nothing left to do. */
function isEnd(line: Line): boolean {
  return isSweep(line) && line['planned'] === 0 && line['failed'] === 0;
}

/** When so many objects have been deleted. */
async function nth(place: BucketPlace, n: number): Promise<void> {
  let left = n;
  const match = ({ kind, key }: S3Request): boolean =>
    kind === 'delete' && !key.includes('/.tombstoned/') && --left === 0;
  await new Promise<void>((resolve) => {
    const deed = async (): Promise<void> => resolve();
    place.proxy.inject({ match, fault: { as: 'deed', when: 'before', deed } });
  });
}
