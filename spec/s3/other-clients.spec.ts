import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import { promisify } from 'node:util';
import { GetObjectTaggingCommand, PutObjectTaggingCommand } from '@aws-sdk/client-s3';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { type BucketKind, BucketPlace, PENDING } from './bucket-place.ts';

const run = promisify(execFile);
const BELOW = 'data/';
/** Above it, rclone uploads in parts. Bytes. */
const PART = 5 * 2 ** 20;
const FILES: Readonly<Record<string, Buffer>> = {
  'small.txt': Buffer.from('small'),
  empty: Buffer.alloc(0),
  'sub dir/ünïcode + & %.bin': Buffer.alloc(70_001, 'odd '),
  'in parts': Buffer.alloc(PART + 12_345, 'parts '),
};
const TAGS = [
  { Key: 'colour', Value: 'dark blue' },
  { Key: 'size', Value: 'ünïcode' },
];

const KINDS: readonly (BucketKind & { readonly name: string })[] = [
  { name: 'RGW' },
  { name: 'RGW with versions', versioned: true },
  { name: 'RGW behind a proxy that does as Amazon', semantics: 'amazon' },
];

/** This process's environment without what the AWS SDKs of all languages heed. */
const PLAIN = Object.fromEntries(
  Object.entries(process.env).filter(([variable]) => !variable.startsWith('AWS_')),
);

/** Whether a program is here; stderr says where it is not. */
function isHere(program: string): boolean {
  const isFound = spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
  if (!isFound)
    process.stderr.write(`${program} is not installed: what it sees of moved objects is not looked at\n`);
  return isFound;
}

const HAS_AWS = isHere('aws');

for (const { name, ...kind } of KINDS) {
  describe(`what has been moved and restored on ${name}, to another client`, function () {
    this.timeout(120_000);

    let place: BucketPlace;
    let files: string;

    before(function () {
      s3ServerOrSkip(this);
      builtProgram('cli');
    });
    beforeEach(async () => {
      place = await BucketPlace.make(kind);
      place.configure([
        'policies:',
        `  - { name: all, type: age, prefix: ${BELOW}, olderThan: 0s, match: "**" }`,
      ]);
      files = path.join(place.directory, 'files');
      for (const [file, content] of Object.entries(FILES)) {
        const at = path.join(files, file);
        mkdirSync(path.dirname(at), { recursive: true });
        writeFileSync(at, content);
        utimesSync(at, 1_700_000_000, 1_700_000_000.25);
      }
    });
    afterEach(async () => place[Symbol.asyncDispose]());

    async function ctl(...args: readonly string[]): Promise<void> {
      const { code, stderr } = await place.ctl(args);
      expect(code, `${args.join(' ')}: ${stderr}`).to.equal(0);
    }

    async function rclone(...args: readonly string[]): Promise<string> {
      const { accessKeyId, secretAccessKey, region } = place.server;
      const { stdout } = await run('rclone', ['--config', '', '--retries', '1', ...args], {
        maxBuffer: 2 ** 25,
        env: {
          ...PLAIN,
          RCLONE_CONFIG_STORE_TYPE: 's3',
          RCLONE_CONFIG_STORE_PROVIDER: 'Ceph',
          RCLONE_CONFIG_STORE_ACCESS_KEY_ID: accessKeyId,
          RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY: secretAccessKey,
          RCLONE_CONFIG_STORE_ENDPOINT: place.endpoint,
          RCLONE_CONFIG_STORE_REGION: region,
          RCLONE_S3_NO_CHECK_BUCKET: 'true',
        },
      });
      return stdout;
    }

    const remote = (below: string): string => `store:${place.bucket.name}/${place.prefix}${below}`;

    /** Puts the files, as a backup program would. */
    async function putByRclone(): Promise<void> {
      const upload = [`--s3-upload-cutoff=${PART}B`, `--s3-chunk-size=${PART}B`];
      const headers = ['Cache-Control: max-age=17', 'Content-Disposition: attachment; filename="x"'];
      await rclone(
        'copy',
        '-M',
        ...upload,
        ...headers.flatMap((header) => ['--header-upload', header]),
        '--metadata-set=content-type=text/x-odd; charset=utf-8',
        '--metadata-set=content-language=de',
        '--metadata-set=origin=a host',
        files,
        remote(BELOW),
      );
      await passed(1100); // RGW may then tell other times of writing
      for (const file of Object.keys(FILES)) {
        const Key = place.prefix + BELOW + file;
        const Tagging = { TagSet: [...TAGS] };
        await place.client.send(new PutObjectTaggingCommand({ Bucket: place.bucket.name, Key, Tagging }));
      }
    }

    /** All that rclone says of what is below a name, by path; `btime` is S3's own time of writing. */
    async function seenByRclone(below: string): Promise<Map<string, unknown>> {
      const listed = JSON.parse(
        await rclone('lsjson', '-R', '-M', '--hash', '--files-only', remote(below)),
      ) as Record<string, unknown>[];
      return new Map(
        listed.map((one) => {
          const { Path, Metadata } = one;
          const metadata = without(Metadata as Record<string, unknown>, 'btime');
          return [
            String(Path).replace(/~[^~]*$/, ''),
            { rest: without(one, 'Path', 'Name', 'ID', 'Metadata'), metadata },
          ];
        }),
      );
    }

    it('is the same: bytes, hashes, metadata, tags, content type, cache headers, times', async function () {
      if (!isHere('rclone')) this.skip();
      const look = async (): Promise<unknown> => [
        await seenByRclone(BELOW),
        await tags(),
        HAS_AWS ? await seenByAws('in parts') : undefined,
      ];
      await putByRclone();
      const before = await look();
      const [listed] = before as [Map<string, unknown>];
      expect([...listed.keys()]).to.have.members(Object.keys(FILES));
      const one = JSON.stringify(listed.get('small.txt'));
      for (const kept of ['max-age=17', 'text/x-odd', 'attachment', 'a host', 'mtime', 'md5'])
        expect(one).to.contain(kept);

      await ctl('init', '--store', 'b');
      await ctl('sweep');
      expect([...(await seenByRclone(BELOW)).keys()]).to.deep.equal([]);
      expect(await seenByRclone(PENDING + BELOW)).to.deep.equal(listed);

      await ctl('restore', '--prefix', BELOW);
      expect(await look()).to.deep.equal(before);
      await rclone('check', '--download', files, remote(BELOW));
      expect(await rclone('cat', remote(`${BELOW}small.txt`))).to.equal('small');
    });

    async function tags(): Promise<unknown> {
      const Bucket = place.bucket.name;
      const each = Object.keys(FILES).map(async (file) => {
        const Key = place.prefix + BELOW + file;
        const { TagSet = [] } = await place.client.send(new GetObjectTaggingCommand({ Bucket, Key }));
        expect(TagSet, file).to.have.length(TAGS.length);
        return [file, sorted(TagSet)];
      });
      return Promise.all(each);
    }

    async function aws(...args: readonly string[]): Promise<Record<string, unknown>> {
      const { accessKeyId, secretAccessKey, region } = place.server;
      const common = ['--endpoint-url', place.endpoint, '--region', region, '--output', 'json', 's3api'];
      const { stdout } = await run('aws', [...common, ...args], {
        env: {
          ...PLAIN,
          AWS_ACCESS_KEY_ID: accessKeyId,
          AWS_SECRET_ACCESS_KEY: secretAccessKey,
        },
      });
      return JSON.parse(stdout) as Record<string, unknown>;
    }

    /** What it says of a file that was uploaded in parts: not when it was written, nor by how many parts. */
    async function seenByAws(file: string): Promise<unknown> {
      const at = ['--bucket', place.bucket.name, '--key', place.prefix + BELOW + file];
      const to = path.join(place.directory, 'got');
      const got = without(await aws('get-object', ...at, to), 'LastModified', 'ETag', 'VersionId');
      expect(readFileSync(to).equals(FILES[file] ?? Buffer.of())).to.equal(true);
      return { got, TagSet: sorted((await aws('get-object-tagging', ...at))['TagSet']) };
    }
  });
}

function without(members: Readonly<Record<string, unknown>>, ...names: readonly string[]): unknown {
  return Object.fromEntries(Object.entries(members).filter(([member]) => !names.includes(member)));
}

function sorted(tags: unknown): unknown {
  return (tags as { Key: string }[]).toSorted((a, b) => (a.Key < b.Key ? -1 : 1));
}
