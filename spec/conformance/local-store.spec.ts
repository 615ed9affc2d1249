import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { systemClock } from '../../lib/domain/clock.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { FAST, filesBelow } from '../support/phases.ts';
import { conformance, type StoreToTest } from './store.ts';

async function onDisk(parent: string, pendingPrefix: string): Promise<StoreToTest> {
  const directory = mkdtempSync(path.join(parent, 'tombstoned-'));
  const root = path.join(directory, 'store');
  mkdirSync(root);
  const store = LocalStore.open({ path: root, pendingPrefix, access: 'write', clock: systemClock });
  let seconds = Math.trunc(Date.now() / 1000) - 100_000;
  const put = async (name: string, content: string): Promise<void> => {
    const file = path.join(root, name);
    const written = path.join(directory, 'being-written');
    writeFileSync(written, content);
    seconds += 1; // two contents never share a time, however coarse the disk's times are
    utimesSync(written, seconds, seconds);
    mkdirSync(path.dirname(file), { recursive: true });
    renameSync(written, file);
  };
  return {
    store,
    put,
    putAll: async (contents) => {
      for (const [name, content] of contents) await put(name, content);
    },
    drop: async (name) => rmSync(path.join(root, name)),
    contents: async () =>
      Object.fromEntries(
        filesBelow(root)
          .filter((name) => !name.startsWith('.tombstoned/'))
          .map((name) => [name, readFileSync(path.join(root, name), 'utf8')]),
      ),
    remove: async () => {
      store.close();
      rmSync(directory, { recursive: true });
    },
  };
}

conformance('a local store', async () => onDisk(tmpdir(), 'pending_deletion/'));
conformance('a local store in memory, with a pending prefix of two segments', async () =>
  onDisk(FAST, 'kept/pending/'),
);
