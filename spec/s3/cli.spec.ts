import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import {
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { builtProgram, tombstonectl } from '../support/built-cli.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING } from './bucket-place.ts';

/** Takes all of `logs/` but the newest two; what is restored stays. */
const OLD = ['policies:', '  - { name: old, type: age, prefix: logs/, olderThan: 0s, keepLast: 2 }'];
const COUNT = 12;

describe('the built CLI on S3', function () {
  this.timeout(60_000);

  let place: BucketPlace;

  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });

  beforeEach(async () => {
    place = await BucketPlace.make();
    place.configure(['safetyWindow: 7d', ...OLD]);
  });
  afterEach(async () => place[Symbol.asyncDispose]());

  /** A command that must succeed: what it printed. */
  async function ctl(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await place.ctl(args);
    expect({ code, stderr: code === 0 ? '' : stderr }, args.join(' ')).to.deep.equal({ code: 0, stderr: '' });
    return stdout;
  }

  async function url(...args: readonly string[]) {
    return tombstonectl(['--url', place.url, ...args], {
      env: { ...place.env, AWS_ENDPOINT_URL: place.endpoint, AWS_REGION: place.server.region },
    });
  }

  async function fill(): Promise<void> {
    const contents: Record<string, string> = { 'keep/me': 'kept' };
    for (let i = 0; i < COUNT; i++) contents[`logs/${i}.meta`] = `content ${i}`;
    await place.putAll(contents);
    await ctl('init', '--store', 'b');
  }

  /** Names of `logs/` whose objects a sweep has moved, and those that it kept. */
  async function split(): Promise<{ moved: string[]; kept: string[] }> {
    const kept = await place.names('logs/');
    const all = Array.from({ length: COUNT }, (_, i) => `logs/${i}.meta`);
    return { moved: all.filter((name) => !kept.includes(name)), kept };
  }

  const contentOf = (name: string): string => `content ${path.basename(name, '.meta')}`;

  it('makes a store once, and says what was there', async () => {
    expect(await ctl('init', '--store', 'b')).to.match(/^made +the store's identity: s3:/m);
    const again = await ctl('init', '--store', 'b');
    expect(again)
      .to.match(/^was there +the store's identity/m)
      .and.not.match(/^made/m);
  });

  it('verifies copies by their MD5, and names one that is gone and one that is another', async () => {
    await fill();
    await ctl('sweep');
    const all = await ctl('verify', '--checksums');
    expect(all).to.match(/ 10 read \(.*\), 10 by MD5; all is well/);
    const [first = '', second = ''] = await place.names(PENDING);
    await place.drop(first);
    await place.put(second, (await place.content(second)).replace('content', 'CONTENT'));
    const { code, stdout } = await place.ctl(['verify', '--json']);
    expect(code).to.equal(7);
    expect(stdout.match(/"problem":"[\w-]+"/g)).to.have.members([
      '"problem":"missing-copy"',
      '"problem":"changed-copy"',
    ]);
  });

  it('says in doctor what is guarded, and warns of the deletion that is not wholly', async () => {
    await ctl('init', '--store', 'b');
    const text = await ctl('doctor');
    expect(text).to.match(/^warn +b +guards: moving, the deletion: .* is lost\. Let no program/m);
    expect(text)
      .to.match(/^ok +b +identity/m)
      .and.not.match(/^(bad|fail)/m);
    const lines = (await ctl('doctor', '--json')).trim().split('\n');
    const json: unknown[] = lines.map((line) => JSON.parse(line) as unknown);
    expect(JSON.stringify(json)).to.contain('is lost. Let no program');
  });

  it('lets a plan over a limit wait, and moves what is approved and has not changed', async () => {
    await fill();
    place.configure([
      'safetyWindow: 7d',
      ...OLD.map((line) => line.replace(' }', ', limits: { maxObjects: 3 } }')),
    ]);
    const over = await place.ctl(['sweep']);
    expect(over.code, over.stderr).to.equal(5);
    const [id = ''] = /s-\d{8}T\d{9}Z-\w{6}/.exec(over.stderr) ?? [];
    const waiting = (await ctl('sweeps', id, '--limit', '0', '--json')).trim().split('\n').slice(1);
    expect(waiting).to.have.length(COUNT - 2);
    const first = JSON.parse(waiting[0] ?? '{}') as { key: string; revision: string };
    await place.put(first.key, 'another');
    expect(await ctl('approve', id)).to.contain(`moved ${COUNT - 3} of the ${COUNT - 2} objects`);
    expect(await place.content(first.key)).to.equal('another');
    expect(await place.names(PENDING)).to.have.length(COUNT - 3);
  });

  it('shows, moves, reads and brings back', async () => {
    await fill();
    const before = await place.contents();
    expect(await ctl('sweep', '--dry-run')).to.contain(`would move ${COUNT - 2} objects`);
    expect(await place.contents()).to.deep.equal(before);

    expect(await ctl('sweep')).to.contain(`moved ${COUNT - 2} objects`);
    const { moved, kept } = await split();
    expect(kept).to.have.length(2);
    const pending = await place.names(PENDING);
    expect(pending).to.have.length(COUNT - 2);
    expect(await ctl('ls', '--limit', '0')).to.contain(moved[0] ?? 'none');
    expect((await ctl('keys')).trim().split('\n')).to.have.members([...kept, 'keep/me']);

    const [first = '', second = ''] = moved;
    expect(await ctl('cat', first)).to.equal(contentOf(first));
    expect(await ctl('cat', kept[0] ?? '')).to.equal(contentOf(kept[0] ?? ''));
    const missing = await place.ctl(['cat', 'logs/none.meta']);
    expect(missing).to.include({ code: 3, stdout: '' });
    expect(missing.stderr).to.contain('neither live nor pending');

    expect(await ctl('restore', first)).to.match(/^restored/);
    expect(await place.content(first)).to.equal(contentOf(first));
    await place.put(second, 'another');
    const inTheWay = await place.ctl(['restore', second]);
    expect(inTheWay.code).to.equal(4);
    expect(await place.content(second)).to.equal('another');
  });

  it('keeps what is held until the hold is released', async () => {
    place.configure(['safetyWindow: 1s', ...OLD]);
    await fill();
    await ctl('sweep');
    const hold = await ctl('hold', '--prefix', 'logs/', '--reason', 'looking');
    const id = /h-\S+/.exec(hold)?.[0] ?? 'none';
    await passed(2500);
    await ctl('purge');
    expect(await place.names(PENDING)).to.have.length(COUNT - 2);
    await ctl('release', id);
    await ctl('purge');
    expect(await place.names(PENDING)).to.deep.equal([]);
    expect((await split()).kept).to.have.length(2);
  });

  it('fetches what is live, by config and by URL, byte for byte', async () => {
    await fill();
    await place.put('keep/large', Buffer.alloc(3_000_001, 'large and odd '));
    for (const [name, run] of [
      ['config', async (to: string) => place.ctl(['fetch', '', '--to', to])],
      ['url', async (to: string) => url('fetch', 'keep/', '--to', to)],
    ] as const) {
      const to = path.join(place.directory, name);
      const { code, stderr } = await run(to);
      expect(code, stderr).to.equal(0);
      const files = readdirSync(to, { recursive: true, withFileTypes: true }).filter(
        (file) => file.isFile() && file.name !== 'manifest.db',
      );
      expect(files.length).to.equal(name === 'url' ? 2 : COUNT + 2);
      for (const file of files) {
        const at = path.join(file.parentPath, file.name);
        expect(readFileSync(at, 'utf8') === (await place.content(path.relative(to, at)))).to.equal(true);
      }
    }
  });

  it('reads by URL alone', async () => {
    await fill();
    await ctl('sweep');
    const { moved, kept } = await split();
    const [first = ''] = moved;
    expect(await url('cat', first)).to.include({ code: 0, stdout: contentOf(first) });
    expect(await url('cat', 'keep/me')).to.include({ code: 0, stdout: 'kept' });
    expect(await url('cat', 'logs/none.meta')).to.include({ code: 3, stdout: '' });
    const keys = await url('keys', '--prefix', 'logs/');
    expect(keys.stdout.trim().split('\n')).to.deep.equal(kept);
  });

  it('moves nothing while a command runs under a lease', async () => {
    await fill();
    const sweep = [process.execPath, builtProgram('cli'), '--config', place.config, 'sweep'];
    const { code, stdout, stderr } = await place.ctl(['with-lease', '--', ...sweep]);
    expect(code, stderr).to.equal(0);
    expect(stdout + stderr).to.match(/lease/);
    expect(await place.names(PENDING)).to.deep.equal([]);
    expect(await place.names('.tombstoned/leases/')).to.deep.equal([]);
    expect(await ctl('sweep')).to.contain(`moved ${COUNT - 2} objects`);
  });

  it('purges what is due, and nothing else', async () => {
    place.configure(['safetyWindow: 1s', ...OLD]);
    await fill();
    await ctl('sweep');
    const { moved, kept } = await split();
    await passed(2500);
    expect(await ctl('purge')).to.contain(`purged ${COUNT - 2} of ${COUNT - 2} due objects`);
    expect([...(await place.contents()).keys()]).to.have.members([...kept, 'keep/me']);
    expect(await place.ctl(['cat', moved[0] ?? ''])).to.include({ code: 3, stdout: '' });
  });

  it('keeps what an object has beside its bytes', async () => {
    await fill();
    await passed(1100); // not its batch's second
    const Bucket = place.bucket.name;
    const name = 'logs/000.rich';
    const Key = place.prefix + name;
    await place.client.send(
      new PutObjectCommand({
        Bucket,
        Key,
        Body: 'rich',
        ContentType: 'text/x-rich; charset=utf-8',
        CacheControl: 'max-age=17',
        ContentDisposition: 'attachment; filename="rich"',
        ContentLanguage: 'de',
        ContentEncoding: 'identity',
        Expires: new Date('2031-01-02T03:04:05Z'),
        Metadata: { one: 'first', two: 'second value' },
        Tagging: 'colour=dark%20blue&size=small',
      }),
    );
    const look = async (): Promise<unknown> => {
      const head = await place.client.send(new HeadObjectCommand({ Bucket, Key }));
      const { TagSet = [] } = await place.client.send(new GetObjectTaggingCommand({ Bucket, Key }));
      const { ContentType, CacheControl, ContentDisposition, ContentLanguage, ContentEncoding } = head;
      return {
        ContentType,
        CacheControl,
        ContentDisposition,
        ContentLanguage,
        ContentEncoding,
        Metadata: head.Metadata,
        ExpiresString: head.ExpiresString,
        StorageClass: head.StorageClass,
        tags: TagSet.toSorted((a, b) => (a.Key ?? '').localeCompare(b.Key ?? '')),
        body: await (
          await place.client.send(new GetObjectCommand({ Bucket, Key }))
        ).Body?.transformToString(),
      };
    };
    const before = await look();
    await ctl('tombstone', name);
    expect(await place.names(name)).to.deep.equal([]);
    await ctl('restore', name);
    expect(await look()).to.deep.equal(before);
  });

  for (const { what, change, says } of [
    {
      what: 'a wrong secret',
      change: async () => ({ AWS_SECRET_ACCESS_KEY: 'wrong' }),
      says: /SignatureDoesNotMatch|InvalidAccessKeyId|secret|credentials|403/i,
    },
    {
      what: 'no such bucket',
      change: async () => {
        place.configure(OLD);
        const text = readFileSync(place.config, 'utf8').replaceAll(place.bucket.name, 'spec-no-such-bucket');
        writeFileSync(place.config, text);
        return {};
      },
      says: /no bucket|NoSuchBucket|spec-no-such-bucket/i,
    },
    {
      what: 'a server that is not there',
      change: async () => {
        const text = readFileSync(place.config, 'utf8').replaceAll(place.endpoint, 'http://127.0.0.1:1');
        writeFileSync(place.config, text);
        return {};
      },
      says: /127\.0\.0\.1:1\b/,
    },
  ]) {
    it(`says in one line that there is ${what}`, async () => {
      await ctl('init', '--store', 'b');
      const env: Record<string, string> = await change();
      for (const args of [['keys', '--no-lease'], ['cat', 'keep/me'], ['sweep']]) {
        const { code, stdout, stderr } = await place.ctl(args, { env });
        expect({ code, stdout }, `${args.join(' ')}: ${stderr}`).to.deep.equal({ code: 1, stdout: '' });
        const lines = stderr.trim().split('\n');
        expect(
          lines.filter((line) => !line.includes('warning:')),
          stderr,
        ).to.have.length(1);
        expect(stderr)
          .to.match(says)
          .and.not.match(/^ +at /m);
      }
    });
  }
});
