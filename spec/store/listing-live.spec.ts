import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { Mounts, mayMount } from '../support/mounts.ts';

const COUNT = 2000;
const WRITE_FOR_MS = 1200;

/** Renames over names of a directory, in no order, as fast as it can; says so when it begins. */
const WRITER = `
const fs = require('node:fs');
const [directory, count, ms] = [process.argv[1], Number(process.argv[2]), Number(process.argv[3])];
process.stdout.write('go');
let state = 1;
for (const until = Date.now() + ms; Date.now() < until; ) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  fs.writeFileSync(directory + '/being-written', String(state));
  fs.renameSync(directory + '/being-written', directory + '/name-' + (state >>> 8) % count);
}
`;

/** Lists the names again and again for as long as the writer writes, at least once. */
async function listUnderWriter(root: string): Promise<{ listings: number; least: number }> {
  const directory = path.join(root, 'd');
  mkdirSync(directory);
  for (let i = 0; i < COUNT; i++) writeFileSync(path.join(directory, `name-${i}`), '');
  const child = spawn(process.execPath, ['-e', WRITER, directory, String(COUNT), String(WRITE_FOR_MS)]);
  const writer = { isOver: false };
  const ended = new Promise((resolve) => {
    child.once('close', resolve);
  }).then((code) => {
    writer.isOver = true;
    return code;
  });
  await new Promise((resolve) => {
    child.stdout.once('data', resolve);
  });
  const options = {
    path: root,
    pendingPrefix: 'pending_deletion/',
    access: 'read',
    clock: systemClock,
  } as const;
  const store = LocalStore.open(options);
  let listings = 0;
  let least = COUNT;
  do {
    const names = new Set<string>();
    for await (const page of store.list('d/name-')) {
      for (const item of page) if (item.type === 'object') names.add(item.key);
    }
    least = Math.min(least, names.size);
    listings++;
  } while (!writer.isOver);
  store.close();
  expect(await ended, 'the writer').to.equal(0);
  return { listings, least };
}

describe('a listing under a real writer that renames over all the time', () => {
  let directory: string;
  const mounts = new Mounts();
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
  });
  afterEach(() => {
    mounts.remove();
    rmSync(directory, { recursive: true });
  });

  it('is complete on the disk of temporary files', async function () {
    this.timeout(70_000);
    expect((await listUnderWriter(directory)).least).to.equal(COUNT);
  });

  it('is complete on tmpfs (needs the right to mount, or /dev/shm)', async function () {
    this.timeout(70_000);
    const isShm = statfsSync('/dev/shm', { bigint: false }).type === 0x01021994;
    if (!mayMount() && !isShm) this.skip();
    const root = mayMount()
      ? mounts.tmpfs(path.join(directory, 'tmpfs'))
      : mkdtempSync('/dev/shm/tombstoned-');
    const { least } = await listUnderWriter(root);
    if (!root.startsWith(directory)) rmSync(root, { recursive: true });
    expect(least).to.equal(COUNT);
  });

  for (const type of ['btrfs', 'xfs'] as const) {
    it(`is complete on ${type} (needs the right to mount, and mkfs.${type})`, async function () {
      this.timeout(70_000);
      const root = mayMount() ? mounts.image(type, path.join(directory, type), 320) : undefined;
      if (root === undefined) this.skip();
      expect((await listUnderWriter(root)).least).to.equal(COUNT);
    });
  }
});
