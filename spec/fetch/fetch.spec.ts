import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  type Stats,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { type FetchOptions, type FetchResult, fetchAll } from '../../lib/fetch/fetch.ts';
import { Target } from '../../lib/fetch/target.ts';
import { type FileSystemSyncer, nodeTargetFs, type TargetFs } from '../../lib/fetch/target-fs.ts';
import { LeaseLost } from '../../lib/reader/lease-term.ts';
import { openSession, type Session, type SessionOptions } from '../../lib/reader/session.ts';
import { markBroken } from '../../lib/store/leases.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { builtModule } from '../support/built-cli.ts';
import { HeldClock } from '../support/held-clock.ts';
import { FAST, sweepOld } from '../support/phases.ts';
import { ACTOR, DAY, DrivenClock, HOUR, seeded, TempPlace } from '../support/place.ts';
import { errno } from '../support/watched-fs.ts';

interface Fetched {
  readonly result: FetchResult | undefined;
  readonly error: unknown;
  readonly problems: TombstonedError[];
  readonly left: string[];
  readonly empty: string[];
}

interface Asked extends Partial<FetchOptions> {
  readonly fs?: TargetFs;
  readonly session?: Partial<SessionOptions>;
  /** What happens when the listing is complete, before anything is fetched. */
  readonly between?: (session: Session) => void | Promise<void>;
}

const SOURCES = { openSession, Target, fetchAll, LocalStore };

async function builtParts(): Promise<typeof SOURCES> {
  const names = ['reader/session.js', 'fetch/target.js', 'fetch/fetch.js', 'store/local/local-store.js'];
  return Object.assign({}, ...(await Promise.all(names.map(builtModule))));
}

describe('fetching into a directory', () => {
  let temp: TempPlace;
  let clock: HeldClock;
  let store: LocalStore;
  let to: string;
  let seed: number;

  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    clock = new HeldClock();
    store = LocalStore.open(storeOptions());
    to = path.join(temp.directory, 'restored');
    seed = 1;
  });
  afterEach(() => {
    expect(clock.sleepers, 'nothing stays behind').to.equal(0);
    store.close();
    temp.remove();
  });

  function storeOptions(): Parameters<typeof LocalStore.open>[0] {
    return {
      path: temp.root,
      pendingPrefix: 'pending_deletion/',
      access: 'read',
      clock: new DrivenClock(),
    };
  }

  async function fetchTo(asked: Asked = {}): Promise<Fetched> {
    const { fs, session: sessionOptions, between, ...options } = asked;
    const prefixes = options.prefixes ?? [''];
    const problems: TombstonedError[] = [];
    const left: string[] = [];
    const empty: string[] = [];
    let result: FetchResult | undefined;
    let error: unknown;
    let target: Target | undefined;
    const surroundings = { clock, random: seeded(seed++), actor: ACTOR };
    // A thread runs what is built.
    const parts = options.threadsFrom === undefined ? SOURCES : await builtParts();
    const from = parts.LocalStore.open(storeOptions());
    const session = await parts.openSession(from, surroundings, { prefixes, ...sessionOptions });
    try {
      target = await parts.Target.open(to, fs);
      await between?.(session);
      result = await parts.fetchAll(session, target, {
        clock,
        prefixes,
        concurrency: 4,
        onProblem: (problem) => problems.push(problem),
        onLeft: (key) => left.push(key),
        onEmpty: (prefix) => empty.push(prefix),
        ...options,
      });
    } catch (thrown) {
      error = thrown;
    } finally {
      await target?.close();
      await session.close();
      from.close();
    }
    return { result, error, problems, left, empty };
  }

  /** The same, where nothing may go wrong. */
  async function fetched(asked: Asked = {}): Promise<FetchResult> {
    const { result, error, problems } = await fetchTo(asked);
    if (error instanceof Error) throw error;
    expect(error).to.equal(undefined);
    expect(problems.map(({ message }) => message)).to.deep.equal([]);
    if (result === undefined) throw new Error('no result');
    return result;
  }

  /** Every file below the target, and its content; links by what they are. */
  function there(): Record<string, string> {
    const names = existsSync(to) ? readdirSync(to, { recursive: true, encoding: 'utf8' }) : [];
    return Object.fromEntries(
      names
        .filter((name) => !name.startsWith('.tombstoned') && !statOf(name).isDirectory())
        .toSorted()
        .map((name) => [
          name,
          statOf(name).isSymbolicLink() ? 'a link' : readFileSync(path.join(to, name), 'utf8'),
        ]),
    );
  }

  function statOf(name: string): Stats {
    return lstatSync(path.join(to, name));
  }

  function temporaries(): string[] {
    return readdirSync(path.join(to, '.tombstoned/fetch/tmp'));
  }

  /** Some files in some directories, as `there` gives them. */
  function writeSome(count = 12): Record<string, string> {
    const all: Record<string, string> = {};
    for (let i = 0; i < count; i++) {
      const key = ['top', 'a/b/c/deep', 'epoch 1/x', 'ä/z'][i % 4] + String(i);
      all[key] = `content of ${key}\n`.repeat(i);
      temp.write(key, all[key], HOUR * i);
    }
    return Object.fromEntries(Object.entries(all).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  }

  for (const [by, threadsFrom] of [
    ['in one thread', undefined],
    ['by threads', 1],
  ] as const) {
    describe(by, () => {
      it('brings each object whole, with its time and mode, and leaves nothing else', async () => {
        const all = writeSome();
        chmodSync(path.join(temp.root, 'top0'), 0o640);
        chmodSync(path.join(temp.root, 'top4'), 0o755);
        const result = await fetched({ threadsFrom });
        expect(there()).to.deep.equal(all);
        const bytes = Object.values(all).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
        const expected = { objects: 12, bytes, already: 0, fromPending: 0, missing: [], isStopped: false };
        expect(result).to.deep.equal(expected);
        for (const key of Object.keys(all)) {
          expect(statOf(key).mtimeMs, key).to.be.closeTo(statSync(path.join(temp.root, key)).mtimeMs, 0.01);
        }
        expect([statOf('top0'), statOf('top4')].map((stat) => stat.mode & 0o7777)).to.deep.equal([
          0o640, 0o755,
        ]);
        expect(temporaries()).to.deep.equal([]);
      }).timeout(60_000); // the first one builds

      it('brings large objects, and more of them than one batch has', async () => {
        temp.write('large', 'x'.repeat(3_000_000));
        for (let i = 0; i < 1500; i++) temp.write(`d${i % 90}/${i}`, String(i));
        expect(await fetched({ concurrency: 16, threadsFrom })).to.include({ objects: 1501 });
        const { large, ...small } = there();
        expect(large).to.have.length(3_000_000);
        expect(Object.keys(small)).to.have.length(1500);
        for (let i = 0; i < 1500; i++) expect(small[`d${i % 90}/${i}`]).to.equal(String(i));

        rmSync(path.join(temp.root, 'd0/0'));
        temp.write('late', 'late');
        const { result, left, error } = await fetchTo({ concurrency: 16, threadsFrom });
        expect(error).to.equal(undefined);
        expect(result).to.include({ objects: 1501, already: 1500 });
        expect(left).to.deep.equal(['d0/0']);
        expect(there()).to.include({ late: 'late', 'd0/0': '0' });
      }).timeout(60_000);

      it('takes what was swept after the listing from its pending copy', async () => {
        const all = writeSome();
        for (const key of Object.keys(all)) temp.write(key, all[key] ?? '', 2 * DAY);
        const place = temp.open();
        const result = await fetched({
          threadsFrom,
          between: async () => {
            expect(await sweepOld(place)).to.deep.include({ moved: 12 });
          },
        });
        expect(result).to.include({ objects: 12, fromPending: 12 });
        expect(there()).to.deep.equal(all);
      });

      it('lists every object that is missing or changed, and gives no file its name that is not whole', async () => {
        const all = writeSome();
        const { result, problems } = await fetchTo({
          threadsFrom,
          between: () => {
            rmSync(path.join(temp.root, 'top4'));
            temp.write('ä/z3', 'other content');
            rmSync(path.join(temp.root, 'epoch 1'), { recursive: true });
          },
        });
        const missing = ['epoch 1/x10', 'epoch 1/x2', 'epoch 1/x6', 'top4', 'ä/z3'];
        expect(result).to.deep.include({ objects: 7, missing });
        expect(problems.map(({ key }) => key)).to.have.members(missing);
        for (const { code, message, key } of problems) {
          expect(code).to.equal('incomplete');
          expect(message).to.include(key);
        }
        for (const key of missing) delete all[key];
        expect(there()).to.deep.equal(all);
      });

      it('leaves a file in the way, and goes on', async () => {
        const all = writeSome();
        mkdirSync(path.join(to, 'a/b/c'), { recursive: true });
        writeFileSync(path.join(to, 'a/b/c/deep5'), 'of somebody else');
        const { result, problems } = await fetchTo({ threadsFrom });
        expect(result).to.include({ objects: 11 });
        expect(problems.map(({ code, key }) => [code, key])).to.deep.equal([['conflict', 'a/b/c/deep5']]);
        expect(there()).to.deep.equal({ ...all, 'a/b/c/deep5': 'of somebody else' });
        expect(temporaries()).to.deep.equal([]);
        rmSync(path.join(to, 'a/b/c/deep5'));
        expect(await fetched({ threadsFrom })).to.include({ objects: 12, already: 11 });
      });
    });
  }

  describe('with directories of many files, by threads', () => {
    /** Files in directories that are placed whole, below each other, and beside a few. */
    function writeMany(): Record<string, string> {
      const all: Record<string, string> = {};
      for (const [directory, count] of Object.entries({ 'm/a': 70, 'm/a/sub': 66, 'm/b': 65, 'm/z': 3 })) {
        for (let i = 0; i < count; i++) all[`${directory}/${i}`] = `${directory} ${i}`;
      }
      for (const [key, text] of Object.entries(all)) temp.write(key, text, HOUR);
      return all;
    }

    /** The names that are given, and how often a file gets one by itself. */
    function watching(): { fs: TargetFs; renamed: string[] } {
      const renamed: string[] = [];
      const rename: TargetFs['rename'] = (from, name) => {
        nodeTargetFs.rename(from, name);
        renamed.push(path.basename(name));
      };
      return { fs: { ...nodeTargetFs, rename }, renamed };
    }

    it('gives those their names whole, with the modes of directories made one by one', async () => {
      const all = writeMany();
      const { fs, renamed } = watching();
      expect(await fetched({ fs, threadsFrom: 1 })).to.include({ objects: 204 });
      expect(there()).to.deep.equal(all);
      expect(renamed).to.include('b');
      expect(statOf('m/b').mode).to.equal(statOf('m').mode);
      expect(temporaries()).to.deep.equal([]);
      expect(await fetched({ threadsFrom: 1 })).to.include({ objects: 204, already: 204 });
    });

    it('replaces no directory that is there, empty or not, nor a file, nor a link', async () => {
      const all = writeMany();
      const outside = path.join(temp.directory, 'outside');
      mkdirSync(outside);
      mkdirSync(path.join(to, 'm/a'), { recursive: true });
      chmodSync(path.join(to, 'm/a'), 0o750);
      writeFileSync(path.join(to, 'm/a/7'), 'theirs');
      symlinkSync(outside, path.join(to, 'm/b'));
      writeFileSync(path.join(to, 'm/z'), 'theirs');
      const { fs, renamed } = watching();
      const { problems, result } = await fetchTo({ fs, threadsFrom: 1 });
      expect(renamed).to.deep.equal(['sub']);
      expect(result).to.include({ objects: 204 - 1 - 65 - 3 });
      expect(problems.map(({ code }) => code)).to.deep.equal(Array<string>(69).fill('conflict'));
      expect(readdirSync(outside)).to.deep.equal([]);
      expect(there()).to.include({ 'm/a/7': 'theirs', 'm/z': 'theirs', 'm/a/8': all['m/a/8'] });
      expect(statOf('m/a').mode & 0o777).to.equal(0o750);
      expect(temporaries()).to.deep.equal([]);
    });

    it('brings them file by file where a directory can not be moved', async () => {
      const all = writeMany();
      const rename = (): never => {
        throw errno('EXDEV');
      };
      expect(await fetched({ fs: { ...nodeTargetFs, rename }, threadsFrom: 1 })).to.include({ objects: 204 });
      expect(there()).to.deep.equal(all);
      expect(temporaries()).to.deep.equal([]);
    });

    it('names no directory before its files are durable, and counts none as whole before its name is', async () => {
      writeMany();
      const calls: string[] = [];
      const fs: TargetFs = {
        ...nodeTargetFs,
        syncer: () => ({ sync: async () => false, close: () => undefined }),
        fsync: async (fd) => {
          calls.push(`fsync ${path.basename(readlinkOf(fd))}`);
          return nodeTargetFs.fsync(fd);
        },
        rename: (from, name) => {
          calls.push(`rename ${path.basename(name)}`);
          nodeTargetFs.rename(from, name);
        },
      };
      await fetched({ fs, threadsFrom: 1, prefixes: ['m/b/'] });
      const named = calls.indexOf('rename b');
      expect(calls.slice(0, named).filter((call) => /^fsync \d+$/.test(call))).to.have.length(65);
      expect(calls.slice(named)).to.include.members(['fsync m', 'fsync b']);
    });

    it('is whole after a kill at any call that changes a name or makes one durable', async () => {
      const all = writeMany();
      for (let at = 1; ; at++) {
        for (const when of ['before', 'after'] as const) {
          const dying = new Dying(at, when, ['rename', 'fsync', 'mkdir', 'rmdir', 'link']);
          await fetchTo({ fs: dying.fs(), threadsFrom: 1 });
          expect(all, `${at} ${when}`).to.include(there());
          expect(await fetched({ threadsFrom: 1 }), `${at} ${when}`).to.include({ objects: 204 });
          expect(there()).to.deep.equal(all);
          expect(temporaries()).to.deep.equal([]);
          rmSync(to, { recursive: true });
          if (!dying.isDead) return;
        }
      }
    }).timeout(120_000);
  });

  it('says so where there is nothing below a prefix', async () => {
    temp.write('a/1', '1');
    const { result, empty } = await fetchTo({ prefixes: ['a/', 'b/', 'c'] });
    expect(result).to.include({ objects: 1, isStopped: false });
    expect(empty).to.deep.equal(['b/', 'c']);
    expect(there()).to.deep.equal({ 'a/1': '1' });
  });

  it('does not take an object that is changed while it is read', async () => {
    temp.write('grows', 'x'.repeat(2_000_000));
    temp.write('stays', 'stays');
    const { result, problems } = await fetchTo({
      fs: {
        ...nodeTargetFs,
        writeAsync: async (...values) => {
          temp.write('grows', 'y'.repeat(1_999_999));
          return nodeTargetFs.writeAsync(...values);
        },
      },
    });
    expect(problems.map(({ code, key }) => [code, key])).to.deep.equal([['incomplete', 'grows']]);
    expect(result).to.deep.include({ objects: 1, missing: ['grows'] });
    expect(there()).to.deep.equal({ stays: 'stays' });
    expect(temporaries()).to.deep.equal([]);
  });

  describe('that has been fetched into before', () => {
    /** What the target is asked to write. */
    function counting(): { fs: TargetFs; count: () => number } {
      let count = 0;
      const write: TargetFs['write'] = (...values) => {
        count += 1;
        nodeTargetFs.write(...values);
      };
      return { fs: { ...nodeTargetFs, write }, count: () => count };
    }

    it('reads nothing again that is there as it was', async () => {
      const all = writeSome();
      await fetched();
      const { fs, count } = counting();
      expect(await fetched({ fs })).to.include({ objects: 12, already: 12 });
      expect(count()).to.equal(0);
      temp.write('new', 'new');
      temp.write('top8', 'newer content');
      expect(await fetched({ fs })).to.include({ objects: 13, already: 11 });
      expect(count()).to.equal(2);
      expect(there()).to.deep.equal({ ...all, new: 'new', top8: 'newer content' });
    });

    it('fetches again what was removed there', async () => {
      const all = writeSome();
      await fetched();
      rmSync(path.join(to, 'a'), { recursive: true });
      expect(await fetched()).to.include({ objects: 12, already: 9 });
      expect(there()).to.deep.equal(all);
    });

    it('tells what the store has no more, and leaves it', async () => {
      const all = writeSome();
      await fetched();
      for (const key of ['top0', 'a/b/c/deep1', 'ä/z11']) rmSync(path.join(temp.root, key));
      rmSync(path.join(to, 'ä/z11'));
      const { result, left, problems } = await fetchTo();
      expect(left).to.deep.equal(['a/b/c/deep1', 'top0']);
      expect(problems).to.deep.equal([]);
      expect(result).to.include({ objects: 9, already: 9 });
      delete all['ä/z11'];
      expect(there()).to.deep.equal(all);
      expect((await fetchTo({ prefixes: ['a/'] })).left).to.deep.equal(['a/b/c/deep1']);
    });

    it('leaves a file that was changed there since, and says so', async () => {
      writeSome();
      await fetched();
      writeFileSync(path.join(to, 'top8'), 'mine');
      temp.write('top8', 'newer');
      writeFileSync(path.join(to, 'top4'), 'mine');
      const { result, problems } = await fetchTo();
      expect(problems.map(({ code, key }) => [code, key])).to.deep.equal([
        ['conflict', 'top4'],
        ['conflict', 'top8'],
      ]);
      expect(result).to.include({ objects: 10 });
      expect(there()).to.include({ top4: 'mine', top8: 'mine' });
    });

    it('is not taken by two fetches at a time', async () => {
      writeSome();
      const first = await Target.open(to);
      const { error } = await fetchTo();
      await first.close();
      expect(error).to.be.instanceOf(TombstonedError).and.include({ code: 'conflict' });
      await fetched();
    });

    it('is free for the next one where a fetch with a thread could not close a file', async function () {
      this.timeout(60_000); // it may have to be built
      const built = await builtParts();
      let isFailing = false;
      const close = (fd: number): void => {
        nodeTargetFs.close(fd);
        if (isFailing) throw errno('EIO');
      };
      let syncers = 0;
      const syncer = (fd: number): FileSystemSyncer => {
        syncers += 1;
        return nodeTargetFs.syncer(fd);
      };
      const first = await built.Target.open(to, { ...nodeTargetFs, close, syncer });
      await first.prepareForMany();
      expect(syncers, 'what syncs has started').to.equal(1);
      isFailing = true;
      const error: unknown = await first.close().catch((thrown: unknown) => thrown);
      expect(error).to.include({ code: 'EIO' });
      const next = await built.Target.open(to);
      await next.close();
    });
  });

  describe("where somebody else's things are", () => {
    function put(name: string, text: string): void {
      mkdirSync(path.dirname(path.join(to, name)), { recursive: true });
      writeFileSync(path.join(to, name), text);
    }

    it('leaves a file in the way as it is, also one that looks the same', async () => {
      const all = writeSome();
      put('top4', 'theirs');
      put('a/b/c/deep5', all['a/b/c/deep5'] ?? '');
      const { mtime, atime } = statSync(path.join(temp.root, 'a/b/c/deep5'));
      utimesSync(path.join(to, 'a/b/c/deep5'), atime, mtime);
      put('theirs', 'theirs');
      for (const _ of ['first', 'again']) {
        const { result, problems, left } = await fetchTo();
        expect(problems.map(({ code, key }) => [code, key])).to.deep.equal([
          ['conflict', 'a/b/c/deep5'],
          ['conflict', 'top4'],
        ]);
        expect(result).to.include({ objects: 10 });
        expect(left).to.deep.equal([]);
        expect(there()).to.deep.equal({ ...all, top4: 'theirs', theirs: 'theirs' });
        expect(temporaries()).to.deep.equal([]);
      }
    });

    it('tells a file where a directory is needed, and a directory where a file is', async () => {
      writeSome();
      put('a', 'a file');
      put('top4/x', 'a directory');
      const { problems, result } = await fetchTo();
      expect(problems.map(({ code, key }) => [code, key])).to.deep.equal([
        ['conflict', 'a'],
        ['conflict', 'a'],
        ['conflict', 'a'],
        ['conflict', 'top4'],
      ]);
      expect(problems[0]?.message).to.include('is not a directory');
      expect(result).to.include({ objects: 8 });
      expect(there()).to.include({ a: 'a file', 'top4/x': 'a directory' });
    });

    it('follows no link out of the directory, nor onto another file', async () => {
      writeSome();
      const outside = path.join(temp.directory, 'outside');
      mkdirSync(outside);
      writeFileSync(path.join(outside, 'file'), 'outside');
      mkdirSync(to);
      symlinkSync(outside, path.join(to, 'a'));
      symlinkSync(path.join(outside, 'file'), path.join(to, 'top4'));
      symlinkSync(path.join(outside, 'new'), path.join(to, 'top8'));
      const { problems } = await fetchTo();
      expect(problems.map(({ code }) => code)).to.deep.equal(Array<string>(5).fill('conflict'));
      expect(problems[0]?.message).to.include('a symbolic link, which is not followed');
      expect(readdirSync(outside)).to.deep.equal(['file']);
      expect(readFileSync(path.join(outside, 'file'), 'utf8')).to.equal('outside');
    });

    it('follows no link for what is its own', async () => {
      writeSome();
      const outside = path.join(temp.directory, 'outside');
      mkdirSync(outside);
      mkdirSync(to);
      symlinkSync(outside, path.join(to, '.tombstoned'));
      expect((await fetchTo()).error).to.include({ code: 'conflict' });
      rmSync(path.join(to, '.tombstoned'));
      mkdirSync(path.join(to, '.tombstoned/fetch'), { recursive: true });
      symlinkSync(path.join(outside, 'db'), path.join(to, '.tombstoned/fetch/manifest.db'));
      expect((await fetchTo()).error).to.include({ code: 'conflict' });
      rmSync(path.join(to, '.tombstoned/fetch/manifest.db'));
      writeFileSync(path.join(outside, 'db'), '');
      linkSync(path.join(outside, 'db'), path.join(to, '.tombstoned/fetch/manifest.db'));
      expect((await fetchTo()).error).to.include({ code: 'conflict' });
      expect(readFileSync(path.join(outside, 'db'), 'utf8')).to.equal('');
    });

    it('refuses a directory in a store', async () => {
      writeSome();
      for (to of [path.join(temp.root, 'restored'), temp.root]) {
        const { error } = await fetchTo();
        expect(error).to.include({ code: 'conflict' });
      }
      expect(temp.live('restored/top0')).to.equal(undefined);
    });

    it('says what is wrong with a manifest that is damaged, and touches nothing', async () => {
      const all = writeSome();
      await fetched();
      writeFileSync(path.join(to, '.tombstoned/fetch/manifest.db'), 'x'.repeat(5000));
      const { error } = await fetchTo();
      expect(error).to.include({ code: 'failed' });
      expect(String(error)).to.include('manifest.db');
      expect(there()).to.deep.equal(all);
    });
  });

  it('goes on past a name that the target can not have', async () => {
    temp.write('fine', 'fine');
    temp.write('odd', 'odd');
    const { problems, result } = await fetchTo({
      fs: {
        ...nodeTargetFs,
        link: (from, name) => {
          if (name.endsWith('/odd')) throw errno('EINVAL');
          nodeTargetFs.link(from, name);
        },
      },
    });
    expect(problems.map(({ code, message }) => [code, message.includes('odd')])).to.deep.equal([
      ['failed', true],
    ]);
    expect(result).to.include({ objects: 1 });
    expect(temporaries()).to.deep.equal([]);
  });

  it('needs no hard links', async () => {
    const all = writeSome();
    mkdirSync(to);
    writeFileSync(path.join(to, 'top0'), 'theirs');
    const link = (): never => {
      throw errno('EPERM');
    };
    const { problems } = await fetchTo({ fs: { ...nodeTargetFs, link } });
    expect(problems.map(({ code, key }) => [code, key])).to.deep.equal([['conflict', 'top0']]);
    expect(there()).to.deep.equal({ ...all, top0: 'theirs' });
  });

  it('ends on a full disk, keeps what is whole, and goes on from there', async () => {
    const all = writeSome(40);
    let written = 0;
    const write: TargetFs['write'] = (...values) => {
      if (++written > 25) throw errno('ENOSPC');
      nodeTargetFs.write(...values);
    };
    const { error } = await fetchTo({ fs: { ...nodeTargetFs, write } });
    expect(error).to.include({ code: 'failed' });
    expect(String(error)).to.include('ENOSPC');
    expect(Object.keys(there())).to.have.length(25);
    expect(all).to.include(there());
    expect(await fetched()).to.include({ objects: 40, already: 25 });
    expect(there()).to.deep.equal(all);
  });

  it('gives no file its name whose bytes the disk did not take', async () => {
    writeSome();
    const fsync: TargetFs['fsync'] = async (fd) => {
      if (/\/tmp\/\d+\/\d+$/.test(readlinkOf(fd))) throw errno('EIO');
      return nodeTargetFs.fsync(fd);
    };
    const { error } = await fetchTo({ fs: { ...nodeTargetFs, fsync } });
    expect(error).to.include({ code: 'failed' });
    expect(there()).to.deep.equal({});
    await fetched();
  });

  it('counts nothing as whole whose name the disk did not take', async () => {
    writeSome();
    const fsync: TargetFs['fsync'] = async (fd) => {
      if (readlinkOf(fd).endsWith('/c')) throw errno('EIO');
      return nodeTargetFs.fsync(fd);
    };
    expect((await fetchTo({ fs: { ...nodeTargetFs, fsync } })).result).to.equal(undefined);
    // They are there, so they are found to be whole once their names are durable.
    const synced: string[] = [];
    const noting: TargetFs['fsync'] = async (fd) => {
      synced.push(readlinkOf(fd));
      return nodeTargetFs.fsync(fd);
    };
    expect(await fetched({ fs: { ...nodeTargetFs, fsync: noting } })).to.include({ objects: 12 });
    expect(synced).to.include(path.join(to, 'a/b/c'));
  });

  it('stops when it is told to, after the files under way, and goes on from there', async () => {
    const all = writeSome(40);
    const controller = new AbortController();
    let written = 0;
    const write: TargetFs['write'] = (...values) => {
      nodeTargetFs.write(...values);
      if (++written === 10) controller.abort();
    };
    const first = await fetchTo({ fs: { ...nodeTargetFs, write }, signal: controller.signal });
    expect(first.error).to.equal(undefined);
    expect(first.result).to.include({ isStopped: true });
    expect(first.result?.objects).to.be.within(10, 13);
    expect(Object.keys(there())).to.have.length(first.result?.objects ?? 0);
    expect(all).to.include(there());
    expect(await fetched()).to.include({ objects: 40, already: first.result?.objects });
  });

  it('ends when its lease is lost, keeps what is whole, and says why', async () => {
    const all = writeSome(40);
    let written = 0;
    const write: TargetFs['write'] = (...values) => {
      nodeTargetFs.write(...values);
      if (++written === 10) clock.leap(2 * HOUR);
    };
    const { error, result } = await fetchTo({ fs: { ...nodeTargetFs, write } });
    expect(error).to.be.instanceOf(LeaseLost);
    expect(result).to.equal(undefined);
    const count = Object.keys(there()).length;
    expect(count).to.be.within(9, 13);
    expect(all).to.include(there());
    expect(await fetched()).to.include({ objects: 40, already: count });
  });

  it('says that its lease was broken, not that an object is missing', async () => {
    writeSome();
    const { error, problems } = await fetchTo({
      between: async ({ id }) => {
        await markBroken(store.control, id, { by: 'spec', reason: 'spec', at: '' });
        rmSync(path.join(temp.root, 'top4'));
      },
    });
    expect(error).to.be.instanceOf(LeaseLost);
    expect(problems).to.deep.equal([]);
  });

  it('is whole after a kill at any call, and never shows a file that is not', async () => {
    const all = writeSome(8);
    for (let at = 1; ; at++) {
      for (const when of ['before', 'after'] as const) {
        const dying = new Dying(at, when);
        await fetchTo({ fs: dying.fs() });
        expect(all, `${at} ${when}`).to.include(there());
        const result = await fetched();
        expect(result, `${at} ${when}`).to.include({ objects: 8 });
        expect(there()).to.deep.equal(all);
        expect(temporaries()).to.deep.equal([]);
        rmSync(to, { recursive: true });
        if (!dying.isDead) return;
      }
    }
  }).timeout(120_000);

  /** Replaces a tree that was fetched by another, killed at any call. */
  it('has either of two revisions, whole, after a kill at any call of the second fetch', async () => {
    const first = writeSome(8);
    for (let at = 1; ; at++) {
      for (const [key, text] of Object.entries(first)) temp.write(key, text, HOUR);
      await fetched();
      const second = Object.fromEntries(Object.keys(first).map((key) => [key, `second ${key}`]));
      for (const [key, text] of Object.entries(second)) temp.write(key, text);
      const dying = new Dying(at, 'after');
      await fetchTo({ fs: dying.fs() });
      for (const [key, text] of Object.entries(there())) expect(text).to.be.oneOf([first[key], second[key]]);
      await fetched();
      expect(there(), String(at)).to.deep.equal(second);
      rmSync(to, { recursive: true });
      if (!dying.isDead) return;
    }
  }).timeout(120_000);
});

function readlinkOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`);
}

/** The target's disk, for a process that dies at one of its calls: from then on nothing has an effect. */
class Dying {
  isDead = false;
  readonly #at: number;
  readonly #when: 'before' | 'after';
  readonly #counted: readonly string[] | undefined;
  #calls = 0;

  /** At the nth call, of those with these names where they are given. */
  constructor(at: number, when: 'before' | 'after', counted?: readonly (keyof TargetFs)[]) {
    this.#at = at;
    this.#when = when;
    this.#counted = counted;
  }

  fs(): TargetFs {
    const wrap = (name: keyof TargetFs): unknown => {
      const real = nodeTargetFs[name] as (...values: unknown[]) => unknown;
      if (name === 'close' || name === 'opendir') return real; // a kernel closes what is open
      return (...values: unknown[]): unknown => {
        if (this.isDead) throw new Error('killed');
        if (this.#counted?.includes(name) === false) return real(...values);
        this.isDead = ++this.#calls === this.#at;
        if (this.isDead && this.#when === 'before') throw new Error('killed');
        const result = real(...values);
        if (this.isDead) throw new Error('killed');
        return result;
      };
    };
    const names = Object.keys(nodeTargetFs) as (keyof TargetFs)[];
    return Object.fromEntries(names.map((name) => [name, wrap(name)])) as unknown as TargetFs;
  }
}
