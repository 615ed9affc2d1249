import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { xml } from '../support/s3-amazon.ts';
import type { S3Answer, S3Request } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace } from './bucket-place.ts';

const BELOW = 'logs/';
const FEW = 10_000;
const MANY = 100_000;
const PAGE = 1000;
/**
 * What the larger session may need above the smaller one, MB: the database that its keys are in takes up to
 * 16 MB to sort and 16 to look things up, and no more for a million of them.
 */
const SLACK = 32;
/** Of V8's, MB: a tenth of the larger session's keys fits in what the program itself leaves of it. */
const HEAP = 40;

describe('a session on many keys in S3', function () {
  this.timeout(120_000);
  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });

  it(`lists ${MANY} in pages, in as much memory as ${FEW}`, async () => {
    await using place = await BucketPlace.make({ semantics: 'gateway' });
    place.configure();
    expect(await place.ctl(['init', '--store', 'b'])).to.include({ code: 0 });
    const few = await session(place, FEW);
    const many = await session(place, MANY);
    process.stderr.write(
      `      at most ${few.toFixed(0)} MB for ${FEW} keys, ${many.toFixed(0)} MB for ${MANY}\n`,
    );
    expect(many).to.be.within(few - SLACK, few + SLACK);
  });
});

/** Lists so many keys in a session of its own process; the most memory that it had, MB. */
async function session(place: BucketPlace, count: number): Promise<number> {
  const { proxy, prefix } = place;
  const isListing = (request: S3Request): boolean =>
    request.kind === 'list' && request.query.get('prefix') === prefix + BELOW;
  const answer = (request: S3Request): S3Answer => pageOf(request, prefix + BELOW, count);
  const listing = proxy.inject({
    match: isListing,
    fault: { as: 'own answer', when: 'before', answer },
    times: Number.POSITIVE_INFINITY,
  });
  proxy.forget();
  const args = [`--max-old-space-size=${HEAP}`, '--max-semi-space-size=1', builtProgram('cli')];
  const child = spawn(process.execPath, [...args, '--config', place.config, 'keys', '--prefix', BELOW], {
    env: { PATH: process.env['PATH'], ...place.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  let listed = 0;
  let peak = 0;
  for await (const key of createInterface(child.stdout)) {
    if (key !== nameOf(listed)) throw new Error(`${key} in place of ${nameOf(listed)}`);
    listed += 1;
    if (listed === count) peak = peakOf(child.pid);
  }
  expect(await ended).to.equal(0);
  listing.remove();
  expect(listed).to.equal(count);
  expect(proxy.seen.filter(({ request }) => isListing(request))).to.have.length(count / PAGE);
  return peak;
}

function nameOf(at: number): string {
  return `${BELOW}${String(at).padStart(9, '0')}.meta`;
}

/** A page of a bucket that has so many objects. */
function pageOf({ query }: S3Request, below: string, count: number): S3Answer {
  const after = /(\d{9})\.meta$/.exec(query.get('start-after') ?? '')?.[1];
  const from = after === undefined ? 0 : Number(after) + 1;
  const to = Math.min(count, from + Number(query.get('max-keys')));
  const store = below.slice(0, -BELOW.length);
  let contents = '';
  for (let at = from; at < to; at++) {
    const etag = String(at).padStart(32, '0');
    contents += `<Contents><Key>${store}${nameOf(at)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;${etag}&quot;</ETag><Size>1024</Size><StorageClass>STANDARD</StorageClass></Contents>`;
  }
  const isCut = to < count;
  const next = isCut ? `<NextContinuationToken>${to}</NextContinuationToken>` : '';
  return xml(
    200,
    `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>${below}</Prefix>` +
      `<MaxKeys>${PAGE}</MaxKeys><KeyCount>${to - from}</KeyCount><EncodingType>url</EncodingType>` +
      `<IsTruncated>${isCut}</IsTruncated>${next}${contents}</ListBucketResult>`,
  );
}

/** The most memory that a process has had, MB. */
function peakOf(pid: number | undefined): number {
  const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}
