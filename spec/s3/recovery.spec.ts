import { copyFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { BucketPlace, PENDING } from './bucket-place.ts';

const COUNT = 6;

interface Row {
  readonly id: string;
  readonly key: string;
  readonly state: string;
  readonly size: number;
  readonly tombstonedAt: string;
  readonly purgeAfter: string;
}

describe('a catalog that is lost, of a bucket on a real server', function () {
  this.timeout(240_000);
  before(function () {
    s3ServerOrSkip(this);
    builtProgram('cli');
  });

  it('is made again from the listing of a bucket that keeps versions, and a backup of it is brought up to date', async () => {
    await using place = await BucketPlace.make({ versioned: true });
    const ctl = async (...args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await place.ctl(args);
      expect({ code, stderr: code === 0 ? '' : stderr }, args.join(' ')).to.deep.equal({
        code: 0,
        stderr: '',
      });
      return stdout;
    };
    const rows = async (): Promise<Row[]> =>
      (await ctl('--json', 'ls', '--limit', '0'))
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Row)
        .filter(({ state }) => state !== 'purged');
    const knowable = (all: readonly Row[]) =>
      all.map(({ id, key, state, size, tombstonedAt }) => ({ id, key, state, size, tombstonedAt }));
    const catalog = path.join(place.directory, 'catalog.db');
    const lose = (): void => {
      for (const more of ['', '-wal', '-shm']) rmSync(catalog + more, { force: true });
    };
    const policy = ['policies:', '  - { name: old, type: age, prefix: logs/, olderThan: 0s }'];
    place.configure(['safetyWindow: 7d', 'exemptAfterRestore: 1d', ...policy]);
    await place.putAll(
      Object.fromEntries(Array.from({ length: COUNT }, (_, i) => [`logs/${i}`, `content ${i}`])),
    );
    await ctl('init', '--store', 'b');
    await ctl('sweep');
    const backup = path.join(place.directory, 'backup.db');
    await ctl('catalog', 'backup', backup);
    await ctl('restore', 'logs/1');
    // A copy whose purge leaves a marker where versions are kept: it is in no listing.
    const [gone] = (await rows()).filter(({ key }) => key === 'logs/2');
    const hidden = await place.ctl(['purge', '--now', gone?.id ?? '', '--reason', 'a spec']);
    expect(hidden).to.include({ code: 4 });
    await place.put('logs/0', 'its second generation');
    await ctl('sweep');
    const lost = await rows();
    expect(lost.map(({ state }) => state)).to.include.members(['pending', 'restored']);
    const names = await place.names(PENDING);
    expect(names).to.have.length(lost.length);

    lose();
    await ctl('rebuild', '--take-over');
    const again = await rows();
    expect(knowable(again)).to.deep.equal(knowable(lost));
    for (const [i, { key, purgeAfter }] of again.entries()) {
      const before = Date.parse(lost[i]?.purgeAfter ?? '');
      expect(Date.parse(purgeAfter), key).to.be.within(before - 10_000, before + 10_000); // the batch, and whole seconds
    }
    await ctl('verify');

    lose();
    copyFileSync(backup, catalog);
    expect(await place.ctl(['sweep'])).to.include({ code: 5 });
    expect(await ctl('rebuild', '--take-over')).to.match(/\d+ added .*1 restored\n$/);
    expect(knowable(await rows()).filter(({ key }) => key !== 'logs/2')).to.deep.equal(knowable(lost));
    await ctl('resume');
    // It still has what was purged since; that goes on record.
    expect((await place.ctl(['verify', '--json'])).stdout).to.contain('"missing-copy":1');
    await ctl('verify', '--repair');
    expect(await place.names(PENDING)).to.deep.equal(names);
  });
});
