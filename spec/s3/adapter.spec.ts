import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { AdapterTool } from '../aptos/adapter-tool.ts';
import { builtProgram } from '../support/built-cli.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING } from './bucket-place.ts';

const LINE = '{"EpochEndingBackup":{"first_epoch":0,"last_epoch":0}}\n';
const OLD = 'policies: [{ name: old, type: age, prefix: metadata/, olderThan: 0s }]';

describe('the command adapter on S3', function () {
  this.timeout(60_000);

  let place: BucketPlace;
  const tools: AdapterTool[] = [];

  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });
  beforeEach(async () => {
    place = await BucketPlace.make();
    place.configure(['safetyWindow: 1h', OLD]);
  });
  afterEach(async () => {
    for (const tool of tools.splice(0)) tool.remove();
    await place[Symbol.asyncDispose]();
  });

  async function made(): Promise<void> {
    const { code, stderr } = await place.ctl(['init', '--store', 'b']);
    expect(code, stderr).to.equal(0);
  }

  function toolOf(set: Readonly<Record<string, string>> = {}): AdapterTool {
    const tool = new AdapterTool({
      set: { TOMBSTONED_URL: place.url, ...set },
      env: {
        ...place.env,
        AWS_ENDPOINT_URL: place.endpoint,
        AWS_DEFAULT_REGION: place.server.region,
        AWS_REGION: place.server.region,
        AWS_REQUEST_CHECKSUM_CALCULATION: 'when_required', // RGW 16 knows no newer ones
        TOMBSTONED_CONFIG: place.config,
      },
    });
    tools.push(tool);
    return tool;
  }

  it('writes by the AWS CLI, and lists and reads by the handles that it gives', async function () {
    if (spawnSync('aws', ['--version'], { stdio: 'ignore' }).status !== 0) {
      process.stderr.write(
        'skipped, as the AWS CLI is not installed: what the command adapter writes to S3\n',
      );
      this.skip();
    }
    await made();
    const tool = toolOf();
    const data = Buffer.alloc(300_000, 'some\0bytes\n');
    const [backup, chunk, saved, cut] = await Promise.all([
      tool.createBackup('epoch_ending_0-.1234'),
      tool.write('epoch_ending_0-.1234', '0 $x.chunk', data),
      tool.saveMetadata('epoch_ending_0-0.meta', LINE),
      tool.saveMetadata('cut.meta', LINE.slice(0, -1)),
    ]);
    const ends = [backup, chunk, saved, cut].map(({ code, stdout, stderr }) => [
      code,
      `${stdout.toString()}${stderr}`,
    ]);
    expect(ends).to.deep.equal([
      [0, 'epoch_ending_0-.1234\n'],
      [0, 'epoch_ending_0-.1234/0 $x.chunk\n'],
      [0, 'metadata/epoch_ending_0-0.meta\n'],
      [1, 'metadata/cut.meta\ncommand adapter: metadata/cut.meta is not saved: its last line has no end\n'],
    ]);
    const [{ code, handles }, read, line] = await Promise.all([
      tool.listMetadata(),
      tool.read('epoch_ending_0-.1234/0 $x.chunk'),
      tool.read('metadata/epoch_ending_0-0.meta'),
    ]);
    expect([code, handles]).to.deep.equal([0, ['metadata/epoch_ending_0-0.meta']]);
    expect(read.stdout.equals(data)).to.equal(true);
    expect(line.stdout.toString()).to.equal(LINE);
  });

  it('fails a command of which any part fails', async () => {
    await made();
    await place.put('metadata/cut.meta', gzipSync(LINE).subarray(0, -9));
    const broken = path.join(place.directory, 'broken-pack');
    writeFileSync(broken, '#!/bin/sh\nhead -c 5\nexit 1\n');
    chmodSync(broken, 0o755);
    const ends = await Promise.all([
      toolOf({ PACK: broken }).saveMetadata('a.meta', LINE),
      toolOf({ UNPACK: 'cat' }).read('metadata/none.meta'),
      toolOf().read('metadata/cut.meta'),
      toolOf({ TOMBSTONED_URL: `s3://${place.bucket.name}/elsewhere` }).listMetadata(), // there is no store
      toolOf({ TOMBSTONED_URL: `s3://${place.bucket.name}x` }).write('b.1', '0-.chunk', 'data'),
    ]);
    for (const [i, { code }] of ends.entries()) expect(code, String(i)).not.to.equal(0);
    expect(ends[1].stderr).to.include('metadata/none.meta is neither live nor pending');
  });

  it('tombstones what the tool moves away, and reads on what it has listed', async () => {
    await made();
    for (const name of ['a', 'b']) await place.put(`metadata/${name}.meta`, gzipSync(`${name}\n`));
    const tool = toolOf();
    const { handles } = await tool.listMetadata();
    expect(handles).to.deep.equal(['metadata/a.meta', 'metadata/b.meta']);
    for (const says of ['tombstoned', 'already']) {
      const moved = await tool.backupMetadata('b.meta');
      expect([moved.code, moved.stdout.length], moved.stderr).to.deep.equal([0, 0]);
      expect(moved.stderr).to.match(new RegExp(`^${says} +metadata/b\\.meta`, 'm'));
    }
    const swept = await place.ctl(['sweep']);
    expect(swept.code, swept.stderr).to.equal(0);
    expect(await place.names('metadata/')).to.deep.equal([]);
    expect(await place.names(PENDING)).to.have.length(2);
    const read = await Promise.all(handles.map(async (handle) => tool.read(handle)));
    expect(read.map(({ code, stdout }) => `${String(code)} ${stdout.toString()}`)).to.deep.equal([
      '0 a\n',
      '0 b\n',
    ]);
  });
});
