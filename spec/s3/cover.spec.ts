import { expect } from 'chai';
import { tinyBackup } from '../aptos/tiny-backup.ts';
import { builtProgram } from '../support/built-cli.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace } from './bucket-place.ts';

describe('the coverage of metadata on S3', function () {
  this.timeout(60_000);
  let place: BucketPlace;

  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });
  beforeEach(async () => {
    place = await BucketPlace.make();
    place.configure([
      'format: aptos',
      'safetyWindow: 0s',
      'policies: [{ name: all, type: age, prefix: metadata/, olderThan: 0s }]',
    ]);
    await place.putAll(Object.fromEntries([...tinyBackup()].map(([key, bytes]) => [key, bytes.toString()])));
    await place.ctl(['init', '--store', 'b']);
  });
  afterEach(async () => place[Symbol.asyncDispose]());

  it('lets what is compacted go, in a sweep and a purge, and nothing else', async () => {
    const [ending] = [...tinyBackup()].filter(([key]) => key === 'metadata/epoch_ending_0-0.meta');
    await place.putAll({ 'metadata/again.meta': `${ending?.[1].toString()}` });
    const swept = await place.ctl(['sweep']);
    expect(swept, swept.stderr).to.include({ code: 0 });
    expect(swept.stdout).to.contain('all takes 1 of 9 objects, keeps 8 coverage');
    const purged = await place.ctl(['purge']);
    expect(purged.stdout, purged.stderr).to.contain('purged 1 of 1');
  });
});
