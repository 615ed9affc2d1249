import { execFileSync } from 'node:child_process';
import fs, {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';
import { expect } from 'chai';
import { type SweepResult, sweep } from '../../lib/sweep/sweep.ts';
import { DAY, HOUR, NO_GUARDS, NO_LIMITS, type TempPlace } from '../support/place.ts';
import { InboxPlace, type Result, type ServeOptions } from './inbox-place.ts';

describe('requests in a drop-in directory', () => {
  let at: InboxPlace;
  let temp: TempPlace;
  let inbox: string;

  beforeEach(async () => {
    at = await InboxPlace.make();
    ({ temp, inbox } = at);
  });
  afterEach(() => temp.remove());

  const drop = (name: string, content: string | Buffer): void => at.drop(name, content);
  const serve = async (options: ServeOptions = {}): Promise<SweepResult> => at.serve(options);
  const files = (): string[] => readdirSync(inbox).toSorted();
  const results = (name: string): Result[] => at.results(name);
  const outcomes = (name: string): [string, string][] => at.outcomes(name);
  const problems = (result: SweepResult): string[] => result.problems.map(({ message }) => message);

  it('tombstones the keys of a file, and leaves NAME.done with what became of each, in order', async () => {
    temp.write('logs/b', 'bb', DAY);
    temp.write('logs/a', 'a', DAY);
    temp.write('other', 'o', DAY);
    drop(
      'mine',
      '# what the compactor no longer needs\nlogs/b\n\n{"key":"logs/a","reason":"compacted"}\ngone\n',
    );
    const result = await serve();
    expect(result).to.deep.include({ planned: 2, moved: 2, bytes: 3, problems: [] });
    expect(files()).to.deep.equal(['mine.done']);
    expect(outcomes('mine')).to.deep.equal([
      ['logs/b', 'tombstoned'],
      ['logs/a', 'tombstoned'],
      ['gone', 'gone'],
    ]);
    expect(temp.live('logs/a')).to.equal(undefined);
    expect(temp.live('other')).to.equal('o');
    const place = temp.open();
    const [b, a] = results('mine').map(({ id }) => place.catalog.tombstones.get(id ?? ''));
    expect(a).to.include({ state: 'pending', policy: 'requests', reason: 'compacted' });
    expect(b).to.include({ state: 'pending', policy: 'requests', reason: 'request mine' });
  });

  it('refuses a file whole when one line is malformed', async () => {
    temp.write('a', 'a', DAY);
    drop('bad', 'a\n../b\n');
    drop('good', 'a\n');
    const result = await serve();
    expect(files()).to.deep.equal(['bad.error', 'bad.rejected', 'good.done']);
    expect(readFileSync(path.join(inbox, 'bad.rejected'), 'utf8')).to.equal('a\n../b\n');
    expect(readFileSync(path.join(inbox, 'bad.error'), 'utf8')).to.equal(
      'bad.keys: line 2: "../b" is not a key: it has a ".." segment\n',
    );
    expect(problems(result)).to.have.length(1);
    expect(problems(result)[0]).to.match(/bad\.keys is refused whole: line 2: "..\/b" is not a key/);
    expect(outcomes('good')).to.deep.equal([['a', 'tombstoned']]);
  });

  describe('what a line may be', () => {
    const refused: Record<string, string | Buffer> = {
      'that is not UTF-8': Buffer.from([0x61, 0xff, 0x0a]),
      'that is absolute': '/a\n',
      'that leaves the store': 'x/../../a\n',
      'of a control object': '.tombstoned/store.json\n',
      'that holds a NUL': 'a\0b\n',
      'that is longer than any key': `${'k'.repeat(70_000)}\n`,
      'that ends in a carriage return': 'a\r\n',
      'without an end, which may be half a key': 'b\na',
      'of JSON that is broken': '{"key":"a"\n',
      'of JSON that is nested deeply': `{"key":${'['.repeat(30_000)}\n`,
      'of JSON without a key': '{"revision":"1|2"}\n',
      'of JSON whose key is none': '{"key":"a//b"}\n',
      'of JSON with a member that nobody knows': '{"key":"a","revison":"1|2"}\n',
      'of JSON with a revision that is none of this store': '{"key":"a","revision":"\\"abc\\"|12"}\n',
    };
    for (const [what, content] of Object.entries(refused)) {
      it(`refuses a file with one ${what}`, async () => {
        temp.write('a', 'a', DAY);
        drop('bad', Buffer.concat([Buffer.from('a\n'), Buffer.from(content)]));
        const result = await serve();
        expect(files()).to.deep.equal(['bad.error', 'bad.rejected']);
        expect(readFileSync(path.join(inbox, 'bad.error'), 'utf8')).to.match(
          /^bad\.keys: line \d: .{5,300}\n$/,
        );
        expect(result.planned).to.equal(0);
        expect(temp.live('a')).to.equal('a');
      });
    }

    it('takes a key that begins with # or { as JSON, and one that looks odd as it is', async () => {
      for (const key of ['#a', '{b}', ' c ', 'é/日本', '"q"', '--x']) temp.write(key, 'x', DAY);
      drop('odd', '{"key":"#a"}\n{"key":"{b}"}\n c \né/日本\n"q"\n--x\n#a comment\n');
      await serve();
      expect(outcomes('odd').map(([, outcome]) => outcome)).to.deep.equal(Array(6).fill('tombstoned'));
    });

    it('leaves a key alone whose revision is not the one that the line names', async () => {
      temp.write('same', 'same', DAY);
      temp.write('other', 'other', DAY);
      const time = BigInt(temp.clock.wall - DAY) * 1_000_000n;
      drop('mine', `{"key":"same","revision":"4|${time}"}\n{"key":"other","revision":"4|${time}"}\n`);
      await serve();
      expect(outcomes('mine')).to.deep.equal([
        ['same', 'tombstoned'],
        ['other', 'changed'],
      ]);
      expect(results('mine')[1]).to.include({ reason: 'changed' });
      expect(temp.live('other')).to.equal('other');
    });
  });

  describe('what keeps a key', () => {
    it('says of each key which guard keeps it, and moves the others', async () => {
      for (const key of ['a', 'keep/identity.meta']) temp.write(key, 'x', DAY);
      temp.write('young', 'y', 60_000);
      drop('mine', 'a\nkeep/identity.meta\nyoung\npending_deletion/x\n');
      const isProtected = (key: string): boolean => key.endsWith('identity.meta');
      const result = await serve({ guards: { minimumAge: HOUR, isProtected } });
      expect(results('mine').map(({ outcome, reason }) => [outcome, reason])).to.deep.equal([
        ['tombstoned', null],
        ['blocked', 'protected'],
        ['blocked', 'too-young'],
        ['failed', 'error'],
      ]);
      expect(Object.fromEntries(result.kept)).to.include({ protected: 1, 'too-young': 1 });
    });

    it('leaves keys under holds and exemptions, and says which', async () => {
      for (const key of ['a', 'held', 'restored']) temp.write(key, 'x', DAY);
      const hold = { until: null, by: 'spec', host: 'spec', createdAt: '2026-11-22T10:00:00.000Z' };
      const put = (id: string, more: object): void => {
        mkdirSync(path.join(temp.root, '.tombstoned/holds'), { recursive: true });
        const file = path.join(temp.root, '.tombstoned/holds', `${id}.json`);
        writeFileSync(file, `${JSON.stringify({ id, ...hold, ...more })}\n`);
      };
      put('h-20261122T100000000Z-000001', { kind: 'hold', blocks: 'sweep', keys: ['held'], reason: 'audit' });
      put('h-20261122T100000000Z-000002', {
        kind: 'exempt',
        blocks: 'sweep',
        keys: ['restored'],
        reason: 'restored',
      });
      drop('mine', 'a\nheld\nrestored\n');
      await serve();
      expect(results('mine').map(({ outcome, reason }) => [outcome, reason])).to.deep.equal([
        ['tombstoned', null],
        ['blocked', 'hold'],
        ['blocked', 'exempt'],
      ]);
    });

    it('says of a key that is pending already that it is, and by which tombstone', async () => {
      temp.write('a', 'a', DAY);
      drop('one', 'a\n');
      await serve();
      drop('two', 'a\na\n');
      await serve();
      expect(outcomes('two')).to.deep.equal([
        ['a', 'already'],
        ['a', 'already'],
      ]);
      expect(results('two')[0]?.id).to.equal(results('one')[0]?.id);
    });
  });

  describe('what may lie in the directory', () => {
    it('leaves what is no file of keys, says so, and serves the others', async () => {
      temp.write('a', 'a', DAY);
      mkdirSync(path.join(inbox, 'directory.keys'));
      symlinkSync('/etc/passwd', path.join(inbox, 'link.keys'));
      symlinkSync('/dev/zero', path.join(inbox, 'endless.keys'));
      execFileSync('mkfifo', [path.join(inbox, 'fifo.keys')]);
      writeFileSync(
        Buffer.concat([Buffer.from(`${inbox}/`), Buffer.from([0xff]), Buffer.from('.keys')]),
        'a\n',
      );
      writeFileSync(path.join(inbox, `${'n'.repeat(250)}.keys`), 'a\n');
      writeFileSync(path.join(inbox, '.rsync.keys'), 'half');
      writeFileSync(path.join(inbox, 'other.txt'), 'a\n');
      const before = files();
      drop('good', 'a\n');
      const result = await serve();
      expect(files()).to.have.members([...before, 'good.done']);
      expect(problems(result)).to.have.length(6);
      for (const text of problems(result)) expect(text).to.match(/ is not taken: /);
      expect(problems(await serve())).to.have.length(6);
    });

    it('leaves a file that it may not read, and serves it once it may', async function () {
      if (process.geteuid?.() === 0) this.skip();
      temp.write('a', 'a', DAY);
      drop('mine', 'a\n');
      chmodSync(path.join(inbox, 'mine.keys'), 0);
      expect(problems(await serve())[0]).to.match(/mine\.keys is not taken: it may not be read by this user/);
      chmodSync(path.join(inbox, 'mine.keys'), 0o600);
      await serve();
      expect(files()).to.deep.equal(['mine.done']);
    });

    for (const other of ['done', 'rejected', 'taken']) {
      it(`never replaces a NAME.${other} that is in the way: the request waits until it is moved away`, async () => {
        temp.write('a', 'a', DAY);
        writeFileSync(path.join(inbox, `mine.${other}`), 'theirs');
        drop('mine', 'a\n');
        expect(problems(await serve())[0]).to.contain(`mine.${other} is in its way`);
        expect(files()).to.have.members([`mine.${other}`, 'mine.keys']);
        expect(readFileSync(path.join(inbox, `mine.${other}`), 'utf8')).to.equal('theirs');
        expect(temp.live('a')).to.equal('a');
        rmSync(path.join(inbox, `mine.${other}`));
        await serve();
        expect(outcomes('mine')).to.deep.equal([['a', 'tombstoned']]);
      });
    }

    it('keeps a result whose place was taken meanwhile, and puts it there when it is free', async () => {
      temp.write('a', 'a', DAY);
      drop('mine', 'a\n');
      const place = temp.open();
      const move = place.store.move.bind(place.store);
      place.store.move = async (...values) => {
        writeFileSync(path.join(inbox, 'mine.done'), 'theirs');
        return move(...values);
      };
      expect(problems(await serve({ place }))[0]).to.match(/mine\.done is in the way of a result/);
      expect(readFileSync(path.join(inbox, 'mine.done'), 'utf8')).to.equal('theirs');
      rmSync(path.join(inbox, 'mine.done'));
      temp.write('a', 'new', DAY);
      await serve();
      expect(outcomes('mine')).to.deep.equal([['a', 'tombstoned']]);
      expect(temp.live('a')).to.equal('new');
      expect(files()).to.deep.equal(['mine.done']);
    });

    it('goes on without a directory that is missing', async () => {
      rmSync(inbox, { recursive: true });
      expect(problems(await serve())[0]).to.match(
        /^policy requests: the drop-in directory .* can't be used: ENOENT/,
      );
    });

    it('reads a file again later that grows while it is read', async () => {
      temp.write('a', 'a', DAY);
      temp.write('b', 'b', DAY);
      drop('mine', 'a\n');
      const writer = path.join(temp.directory, 'writer');
      linkSync(path.join(inbox, 'mine.keys'), writer);
      const place = temp.open();
      const begin = place.catalog.requests.begin.bind(place.catalog.requests);
      place.catalog.requests.begin = (...values) => {
        // The next thing is that it is read: a turn of the event loop later it grows.
        setImmediate(() => appendFileSync(writer, 'b\n'));
        return begin(...values);
      };
      appendFileSync(writer, `#${' '.repeat(60_000)}\n`.repeat(10)); // more than one read
      const first = await serve({ place });
      expect(first.planned).to.equal(0);
      expect(temp.talk.join('\n')).to.match(/is still being written/);
      expect(files()).to.deep.equal(['mine.taken']);
      await serve();
      expect(outcomes('mine')).to.deep.equal([
        ['a', 'tombstoned'],
        ['b', 'tombstoned'],
      ]);
    });

    it('leaves a file whose disk has errors as it is, and serves the others', async () => {
      for (const key of ['a', 'b', 'c']) temp.write(key, key, DAY);
      drop('bad', 'a\n');
      drop('good', 'b\n');
      const bad = statSync(path.join(inbox, 'bad.keys')).ino;
      const { readSync } = fs;
      const failing = (fd: number, ...others: unknown[]): unknown => {
        if (fs.fstatSync(fd).ino === bad)
          throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
        return Reflect.apply(readSync, fs, [fd, ...others]) as unknown;
      };
      Object.assign(fs, { readSync: failing });
      syncBuiltinESMExports();
      try {
        const of = path.join(inbox, 'bad.taken');
        const says = [`policy requests: ${of} is not served: it can't be read: EIO: i/o error, read`];
        expect(problems(await serve())).to.deep.equal(says);
        expect(files()).to.deep.equal(['bad.taken', 'good.done']);
        drop('later', 'c\n'); // by now the other is read again, before those that are new
        expect(problems(await serve())).to.deep.equal(says);
        expect(files()).to.deep.equal(['bad.taken', 'good.done', 'later.done']);
      } finally {
        Object.assign(fs, { readSync });
        syncBuiltinESMExports();
      }
      await serve();
      expect(outcomes('bad')).to.deep.equal([['a', 'tombstoned']]);
    });

    it('forgets a file that is moved away before it is taken', async () => {
      temp.write('a', 'a', DAY);
      drop('mine', 'a\n');
      const place = temp.open();
      const begin = place.catalog.requests.begin.bind(place.catalog.requests);
      place.catalog.requests.begin = (...values) => {
        unlinkSync(path.join(inbox, 'mine.keys'));
        return begin(...values);
      };
      expect(await serve({ place })).to.deep.include({ planned: 0, problems: [] });
      expect(temp.live('a')).to.equal('a');
      drop('mine', 'a\n');
      await serve();
      expect(files()).to.deep.equal(['mine.done']);
    });
  });

  it('shows in a dry run what requests would move, and leaves everything as it is', async () => {
    for (const key of ['a', 'b', 'c']) temp.write(key, key, DAY);
    drop('cut', 'a\nb\n');
    const stopping = temp.open();
    const stop = new AbortController();
    const plan = stopping.catalog.requests.plan.bind(stopping.catalog.requests);
    stopping.catalog.requests.plan = (...values) => {
      stop.abort();
      return plan(...values);
    };
    expect((await serve({ place: stopping, signal: stop.signal })).isCut).to.equal(true);
    drop('mine', 'c\ngone\n');
    drop('bad', '/c\n');
    const before = files();
    temp.clock.advance(1000);
    const place = temp.open();
    const planned: string[] = [];
    const result = await sweep(place, {
      policies: [],
      dropIns: [{ name: 'requests', directory: inbox, limits: NO_LIMITS }],
      guards: NO_GUARDS,
      dryRun: true,
      onPlanned: ({ key, policy, reason }) => planned.push(`${key} ${policy} ${reason}`),
    });
    expect(planned).to.deep.equal([
      'a requests request cut',
      'b requests request cut',
      'c requests request mine',
    ]);
    expect(problems(result)[0]).to.match(/bad\.keys would be refused whole/);
    expect(files()).to.deep.equal(before);
    await serve();
    expect(files()).to.deep.equal(['bad.error', 'bad.rejected', 'cut.done', 'mine.done']);
    expect(outcomes('cut')).to.deep.equal([
      ['a', 'tombstoned'],
      ['b', 'tombstoned'],
    ]);
  });

  it('goes on with a request that a signal cut', async () => {
    const count = 50;
    for (let i = 0; i < count; i++) temp.write(`d/${i}`, 'x', DAY);
    drop('mine', Array.from({ length: count }, (_, i) => `d/${i}\n`).join(''));
    const stop = new AbortController();
    const place = temp.open();
    const move = place.store.move.bind(place.store);
    place.store.move = async (...values) => {
      stop.abort();
      return move(...values);
    };
    const cut = await serve({ place, signal: stop.signal, batchSize: 10 });
    expect(cut.isCut).to.equal(true);
    expect(cut.moved).to.be.within(1, count - 1);
    expect(files()).to.deep.equal(['mine.taken']);
    expect((await serve()).moved).to.equal(count - cut.moved);
    expect(outcomes('mine').map(([, outcome]) => outcome)).to.deep.equal(Array(count).fill('tombstoned'));
    expect(existsSync(path.join(inbox, 'mine.taken'))).to.equal(false);
  });
});
