import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import { expect } from 'chai';
import { type FileSystemSyncer, nodeTargetFs } from '../../lib/fetch/target-fs.ts';

/** The processes that this one has started, and that run. */
function children(): number[] {
  const file = `/proc/self/task/${process.pid}/children`;
  return readFileSync(file, 'utf8').split(' ').filter(Boolean).map(Number);
}

describe('what makes a whole file system durable', () => {
  let directory: string;
  let fd: number;
  let syncer: FileSystemSyncer | undefined;
  const { PATH } = process.env;

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-sync-'));
    fd = openSync(directory, 'r');
  });
  afterEach(() => {
    process.env['PATH'] = PATH;
    syncer?.close();
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });

  it('has started before it is asked, and is sure each time', async () => {
    const before = children();
    syncer = nodeTargetFs.syncer(fd);
    const started = children().filter((pid) => !before.includes(pid));
    expect(started).to.have.length(1);
    expect(await syncer.sync()).to.equal(true);
    expect(await syncer.sync()).to.equal(true);
    expect(children()).to.include(started[0]);
  });

  for (const [when, wait] of [
    ['before that is known', 0],
    ['some time after', 100],
  ] as const) {
    it(`is never sure where there is no shell, asked ${when}`, async () => {
      process.env['PATH'] = '/nowhere';
      syncer = nodeTargetFs.syncer(fd);
      process.env['PATH'] = PATH;
      if (wait > 0) await passed(wait);
      expect(await syncer.sync()).to.equal(false);
      expect(await syncer.sync()).to.equal(false);
    });

    it(`is never sure when its shell was killed, asked ${when}`, async () => {
      const before = children();
      syncer = nodeTargetFs.syncer(fd);
      for (const pid of children()) if (!before.includes(pid)) process.kill(pid, 'SIGKILL');
      if (wait > 0) await passed(wait);
      expect(await syncer.sync()).to.equal(false);
      expect(await syncer.sync()).to.equal(false);
    });
  }
});
