import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { Inbox } from '../../lib/request/inbox.ts';
import { Mounts, mayMount } from '../support/mounts.ts';

describe('a drop-in directory on a disk that is nearly full (needs to mount)', () => {
  const mounts = new Mounts();
  let directory: string;
  let inbox: Inbox;

  before(function () {
    if (!mayMount()) this.skip();
  });
  beforeEach(() => {
    directory = mounts.tmpfs(mkdtempSync(path.join(tmpdir(), 'tombstoned-inbox-')), '64k');
    inbox = Inbox.open(directory);
  });
  afterEach(() => {
    inbox.close();
    mounts.remove();
    rmSync(directory, { recursive: true });
  });

  it('is told that a result has no room, and never has half of one', async () => {
    const result = `${'x'.repeat(100_000)}\n`;
    const told = await inbox
      .prepare([{ name: 'a', id: 'q-1', pages: () => [result] }], 'done')
      .catch((error: unknown) => error);
    expect(String(told)).to.include('ENOSPC').and.to.include(directory);
    expect(existsSync(path.join(directory, 'a.done'))).to.equal(false);
  });

  it('refuses no request whose error has no room', () => {
    writeFileSync(path.join(directory, 'a.taken'), 'malformed');
    expect(() => inbox.reject('a', 'x'.repeat(100_000))).to.throw('ENOSPC');
    expect(readFileSync(path.join(directory, 'a.taken'), 'utf8')).to.equal('malformed');
    expect(existsSync(path.join(directory, 'a.error'))).to.equal(false);
  });
});
