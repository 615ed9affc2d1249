import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { tinyBackup } from '../aptos/tiny-backup.ts';
import { builtProgram } from '../support/built-cli.ts';
import { filesBelow } from '../support/phases.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace } from './bucket-place.ts';

describe('tombstonectl aptos on S3', function () {
  this.timeout(60_000);
  let place: BucketPlace;

  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });
  beforeEach(async () => {
    place = await BucketPlace.make();
    place.configure(['format: aptos']);
    await place.putAll(Object.fromEntries([...tinyBackup()].map(([key, bytes]) => [key, bytes.toString()])));
    await place.ctl(['init', '--store', 'b']);
  });
  afterEach(async () => place[Symbol.asyncDispose]());

  it('says what can be restored, plans it, and brings it whole', async () => {
    const status = await place.ctl(['aptos', 'status']);
    expect(status, status.stderr).to.include({ code: 0, stderr: '' });
    expect(status.stdout).to.contain(
      '3 epochs (0-2), 3 transaction files to version 29, 2 snapshots, no gap',
    );
    const plan = await place.ctl(['aptos', 'plan', '--target-version', '29']);
    expect(plan.stdout.split('\n').slice(0, -1)).to.have.length(7);
    const to = path.join(place.directory, 'restored');
    const fetched = await place.ctl(['aptos', 'fetch', '--target-version', '29', '--to', to]);
    expect(fetched, fetched.stderr).to.include({ code: 0, stderr: '' });
    const wanted = [...tinyBackup()].filter(([key]) => !key.startsWith('state_epoch_0'));
    for (const [key, bytes] of wanted)
      expect(readFileSync(path.join(to, key)).equals(bytes), key).to.equal(true);
    expect(filesBelow(to).filter((name) => !name.startsWith('.tombstoned/'))).to.have.length(wanted.length);
  });

  it('names what is missing, and ends with 6', async () => {
    await place.drop('transaction_0-.10/0-.chunk');
    await place.drop('epoch_ending_0-.00/epoch_ending.manifest');
    const plan = await place.ctl(['aptos', 'plan', '--target-version', '29']);
    expect(plan.code).to.equal(6);
    expect(plan.stderr).to.contain('epoch_ending_0-.00/epoch_ending.manifest is neither live nor pending');
    const to = path.join(place.directory, 'restored');
    const fetched = await place.ctl(['aptos', 'fetch', '--to', to]);
    expect(fetched.code).to.equal(6);
    expect(fetched.stderr)
      .to.contain('epoch_ending_0-.00/epoch_ending.manifest is neither live nor pending')
      .and.contain('transaction_0-.10/0-.chunk is neither live nor pending');
  });
});
