import { type BigIntStats, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { parseKey } from '../../lib/domain/key.ts';
import { Reader } from '../../lib/reader/reader.ts';
import { type LocalFs, nodeFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { isSteadyAt, PendingNames } from '../../lib/store/local/pending-names.ts';
import { FAST, idAt, revisionOfFile, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

const KEYS = ['a/x', 'a/y', 'a/z'];

describe('what is pending in a directory', () => {
  let temp: TempPlace;
  let store: LocalStore;
  let reader: Reader;
  /** How often a directory was read. */
  let listings: number;
  /** How far the kernel's time is ahead of what it was, ms. */
  let later: number;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    for (const key of KEYS) temp.write(key, `content of ${key}`, 3 * DAY);
    await sweepOld(temp.open());
    listings = 0;
    later = 60_000;
    const fs: LocalFs = {
      ...nodeFs,
      now: () => Date.now() + later,
      opendir: (name) => {
        listings++;
        return nodeFs.opendir(name);
      },
    };
    store = LocalStore.open({
      path: temp.root,
      pendingPrefix: 'pending_deletion/',
      access: 'read',
      clock: temp.clock,
      fs,
    });
    reader = new Reader(store);
  });
  afterEach(() => {
    store.close();
    temp.remove();
  });

  const pending = (name: string): string => path.join(temp.root, 'pending_deletion', name);

  async function read(key: string): Promise<string> {
    return (await reader.bytes(parseKey(key))).toString();
  }

  /** Puts a copy into the pending directory, whose times show it. */
  function add(key: string, content: string, at: number): string {
    const directory = pending(path.dirname(key));
    mkdirSync(directory, { recursive: true });
    const file = path.join(temp.directory, 'new');
    writeFileSync(file, content);
    const id = idAt(at, revisionOfFile(file));
    const { ctimeNs } = statSync(directory, { bigint: true });
    renameSync(file, pending(`${key}~${id}`));
    // A file system's clock ticks every few ms.
    while (statSync(directory, { bigint: true }).ctimeNs === ctimeNs) {
      writeFileSync(path.join(directory, 'tick'), '');
      rmSync(path.join(directory, 'tick'));
    }
    return id;
  }

  it('is read once for many keys, while the directory stays as it is', async () => {
    for (let round = 0; round < 3; round++) {
      for (const key of KEYS) expect(await read(key)).to.equal(`content of ${key}`);
    }
    expect(listings).to.equal(1);
  });

  it('is read again once the directory has changed: a newer copy is found', async () => {
    expect(await read('a/x')).to.equal('content of a/x');
    add('a/x', 'newer', temp.clock.wall + 1);
    expect(await read('a/x')).to.equal('newer');
    expect(await read('a/y')).to.equal('content of a/y');
    expect(listings).to.equal(2);
  });

  it('is read each time while the directory’s times may not show a change', async () => {
    later = 0;
    for (const key of KEYS) expect(await read(key)).to.equal(`content of ${key}`);
    expect(listings).to.equal(3);
  });

  it('is read again before a name is said not to be there', async () => {
    expect(await read('a/x')).to.equal('content of a/x');
    const missing = await reader.bytes(parseKey('a/none')).catch((error: unknown) => error);
    expect(missing).to.have.property('code', 'not-found');
    expect(listings).to.be.greaterThan(1);
  });

  it('that was removed by hand is missing, and not handed out', async () => {
    expect(await read('a/x')).to.equal('content of a/x');
    rmSync(pending('a'), { recursive: true });
    const missing = await reader.bytes(parseKey('a/x')).catch((error: unknown) => error);
    expect(missing).to.have.property('code', 'not-found');
    add('a/x', 'in a directory made anew', temp.clock.wall + 1);
    expect(await read('a/x')).to.equal('in a directory made anew');
  });

  it('is forgotten, oldest directory first, when there is too much of it', () => {
    const names = new PendingNames();
    const stats = statSync(temp.root, { bigint: true });
    const many = (n: number): Map<string, string[]> =>
      new Map(Array.from({ length: n }, (_, i) => [`k${i}`, ['id']]));
    const known = (directory: string): boolean => names.of(directory, stats, 'k0') !== undefined;
    names.note('first', stats, many(30_000));
    names.note('second', stats, many(20_000));
    expect([known('first'), known('second')]).to.deep.equal([true, true]);
    names.note('third', stats, many(1));
    expect([known('first'), known('second'), known('third')]).to.deep.equal([false, true, true]);
  });

  it('counts as settled three seconds after its directory changed', () => {
    const stats = { ctimeNs: 1_000_000_000_000n } as BigIntStats;
    expect(isSteadyAt(stats, 1_003_000)).to.equal(false);
    expect(isSteadyAt(stats, 1_003_001)).to.equal(true);
  });
});
