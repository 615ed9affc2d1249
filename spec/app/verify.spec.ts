import { appendFileSync, cpSync, linkSync, mkdirSync, rmSync, symlinkSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { runLockFile, takeLock } from '../../lib/catalog/run-lock.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import type { Place } from '../../lib/run/place.ts';
import { createHold } from '../../lib/store/holds.ts';
import { leaseText } from '../../lib/store/leases.ts';
import type { Store } from '../../lib/store/store.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  idAt,
  purgeDue,
  revisionOfFile,
  sweepOld,
} from '../support/phases.ts';
import { DAY, HOUR, TempPlace } from '../support/place.ts';
import { errno, watchedFs } from '../support/watched-fs.ts';
import { verified } from './damaged-place.ts';

const KEYS = ['a/x', 'a/y', 'b', 'c'];

describe('verify', function () {
  this.timeout(30_000);
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    for (const [i, key] of KEYS.entries()) temp.write(key, `content of ${key}`, 3 * DAY + i * 1000);
    temp.write('young', 'stays', 0);
    place = temp.open();
    await sweepOld(place);
  });
  afterEach(() => {
    temp.remove();
  });

  const pending = (name = ''): string => path.join(temp.root, 'pending_deletion', name);

  /** A key's tombstone, and the file that is its pending copy. */
  function copyOf(key: string): { tombstone: Tombstone; file: string; name: string } {
    const tombstone = allTombstones(place).findLast((t) => t.key === key);
    if (tombstone === undefined) throw new Error(`${key} is not tombstoned`);
    const name = `${key}~${tombstone.id}`;
    return { tombstone, file: pending(name), name };
  }

  it('finds all well of what is pending, restored, purged, moved twice and live', async () => {
    temp.clock.advance(temp.window + 2 * DAY);
    await purgeDue(place);
    for (const key of ['b', 'd']) temp.write(key, 'another', 3 * DAY);
    await sweepOld(place);
    await bringBack(place, [copyOf('d').tombstone]);
    const states = allTombstones(place).map(({ state }) => state);
    expect(states).to.include.members(['pending', 'restored', 'purged']);
    const { problems, copies, rows, live, found } = await verified(place);
    expect(problems).to.deep.equal([]);
    expect({ copies, rows, found }).to.deep.equal({ copies: 3, rows: 3, found: 0 });
    expect(live).to.equal(1);
  });

  const DAMAGE: Record<string, { damage: (of: typeof copyOf) => void; problems: readonly string[] }> = {
    'a copy that was removed': {
      damage: (of) => rmSync(of('b').file),
      problems: ['missing-copy b'],
    },
    'a copy that was cut short, or written to': {
      damage: (of) => appendFileSync(of('b').file, 'more'),
      problems: ['changed-copy b'],
    },
    'a copy that another file took the place of': {
      damage: (of) => utimesSync(of('b').file, 1, 1),
      problems: ['changed-copy b'],
    },
    'a directory in the place of a copy': {
      damage: (of) => {
        rmSync(of('b').file);
        mkdirSync(of('b').file);
      },
      problems: ['changed-copy b'],
    },
    'a symbolic link in the place of a copy': {
      damage: (of) => {
        rmSync(of('b').file);
        symlinkSync('/etc/hostname', of('b').file);
      },
      problems: ['changed-copy b', 'malformed-name pending_deletion/'],
    },
    'a directory of copies that became a symbolic link': {
      damage: () => {
        cpSync(pending('a'), path.join(temp.directory, 'elsewhere'), { recursive: true });
        rmSync(pending('a'), { recursive: true });
        symlinkSync(path.join(temp.directory, 'elsewhere'), pending('a'));
      },
      problems: ['malformed-name pending_deletion/a', 'unreadable-copy a/x', 'unreadable-copy a/y'],
    },
    'a copy under another name': {
      damage: (of) => {
        const { file, tombstone } = of('b');
        cpSync(file, pending(`d/e~${tombstone.id}`), { preserveTimestamps: true });
        rmSync(file);
      },
      problems: ['missing-copy b', 'other-key d/e'],
    },
    'two copies in each other’s place': {
      damage: (of) => {
        const [b, c] = [of('b').file, of('c').file];
        cpSync(b, pending('third'), { preserveTimestamps: true });
        cpSync(c, b, { preserveTimestamps: true });
        cpSync(pending('third'), c, { preserveTimestamps: true });
        rmSync(pending('third'));
      },
      problems: ['changed-copy b', 'changed-copy c'],
    },
    'a copy that the catalog does not know': {
      damage: (of) => {
        const { file } = of('b');
        cpSync(file, pending(`d~${idAt(temp.clock.wall, revisionOfFile(file))}`), {
          preserveTimestamps: true,
        });
      },
      problems: ['missing-row d'],
    },
    'an id that is yet to come': {
      damage: (of) => {
        const { file } = of('b');
        const id = idAt(temp.clock.wall + HOUR, revisionOfFile(file));
        cpSync(file, pending(`d~${id}`), { preserveTimestamps: true });
      },
      problems: ['future-id d', 'missing-row d'],
    },
    'names that are none of pending copies': {
      damage: (of) => {
        cpSync(of('b').file, pending('notes.txt'));
        cpSync(of('b').file, pending('a/x~20261122'));
      },
      problems: ['malformed-name pending_deletion/a/x~20261122', 'malformed-name pending_deletion/notes.txt'],
    },
    'an object that something has put back': {
      damage: (of) => linkSync(of('b').file, path.join(temp.root, 'b')),
      problems: ['live-too b'],
    },
    'a copy that was moved out of the pending directory': {
      damage: (of) => {
        const { file, name } = of('b');
        cpSync(file, path.join(temp.root, name), { preserveTimestamps: true });
        rmSync(file);
      },
      problems: ['misplaced-copy b~', 'missing-copy b'],
    },
  };

  for (const [what, { damage, problems }] of Object.entries(DAMAGE)) {
    it(`names ${what}, and what mends it`, async () => {
      damage(copyOf);
      const { problems: found, told } = await verified(place);
      expect(found.map((one) => one.replace(/(\/|b~)(b~)?\d{8}T.*$/, '$1'))).to.deep.equal(problems);
      for (const { remedy, detail } of told) expect([remedy, detail]).to.not.include('');
      const others = KEYS.filter(
        (key) => !problems.join('\n').includes(key) && !problems.join().includes('/a'),
      );
      for (const key of others) expect(JSON.stringify(told)).to.not.include(`"key":"${key}"`);
    });
  }

  it('names a copy that is there though the catalog says it was purged', async () => {
    const { file, name } = copyOf('b');
    cpSync(file, path.join(temp.directory, 'kept'), { preserveTimestamps: true });
    temp.clock.advance(temp.window + DAY);
    await purgeDue(place);
    cpSync(path.join(temp.directory, 'kept'), pending(name), { preserveTimestamps: true });
    expect((await verified(place)).problems).to.deep.equal(['left-copy b']);
  });

  it('leaves a restored file to its writers: its pending copy is the same file', async () => {
    await bringBack(place, [copyOf('b').tombstone]);
    appendFileSync(path.join(temp.root, 'b'), 'more');
    expect((await verified(place)).problems).to.deep.equal([]);
  });

  it('looks only at the keys that it is asked about', async () => {
    for (const key of ['a/x', 'b']) rmSync(copyOf(key).file);
    const { problems, copies, rows } = await verified(place, { prefix: 'a/' });
    expect(problems).to.deep.equal(['missing-copy a/x']);
    expect({ copies, rows }).to.deep.equal({ copies: 1, rows: 2 });
  });

  for (const [what, damage] of [
    ['is another store', (at: string) => cpSync(path.join(temp.directory, 'other.json'), at)],
    ['is no store', (at: string) => rmSync(at)],
  ] as const) {
    it(`throws where this ${what}, and believes nothing gone`, async () => {
      appendFileSync(path.join(temp.directory, 'other.json'), '{"uuid":"other","layout":1,"minReader":1}\n');
      rmSync(pending(), { recursive: true });
      damage(path.join(temp.root, '.tombstoned/store.json'));
      const error = await verified(place, { repair: 'yes' }).catch((e: unknown) => e);
      expect(error).to.be.instanceOf(TombstonedError).with.property('code', 'failed');
      expect(allTombstones(place).map(({ state }) => state)).to.deep.equal(KEYS.map(() => 'pending'));
    });
  }

  it('throws where another catalog owns the store', async () => {
    await place.store.control.replace('owner.json', '{"catalog":"theirs","host":"h","since":"2026"}\n');
    const error = await verified(place).catch((e: unknown) => e);
    expect(error).to.be.instanceOf(TombstonedError).with.property('reason', 'owner');
  });

  describe('while others work', () => {
    /** A sweep of something new, a purge of what is due, or a restore, by another process. */
    const WORKS: Record<string, (other: Place) => Promise<unknown>> = {
      sweeps: async (other) => {
        for (const key of ['n/1', 'n/2']) temp.write(key, `new ${temp.clock.wall}`, 2 * DAY);
        await sweepOld(other);
      },
      purges: async (other) => {
        temp.clock.advance(temp.window + HOUR);
        await purgeDue(other);
      },
      restores: async (other) => bringBack(other, [other.catalog.tombstones.page({ limit: 1 })[0]]),
    };
    for (const [first, second, apartBy] of [
      ['sweeps', 'purges', [1, 2, 4]],
      ['sweeps', 'restores', [1]],
      ['purges', 'sweeps', [1]],
      ['restores', 'purges', [1]],
    ] as const) {
      it(`takes ${first}, and ${second} soon after, at any moment for no difference`, async () => {
        for (const apart of apartBy) {
          let moments = 1;
          for (let at = 0; at < moments; at++) {
            const own = await TempPlace.make(FAST);
            const before = temp;
            temp = own;
            try {
              for (const [i, key] of KEYS.slice(0, 2).entries()) own.write(key, key, 3 * DAY + i * 1000);
              const one = own.open();
              await sweepOld(one);
              const other = own.open({ seed: 9 });
              moments = 0;
              const store = interrupted(one.store, async () => {
                const moment = moments++;
                if (moment === at) await WORKS[first]?.(other);
                if (moment === at + apart) await WORKS[second]?.(other);
              });
              const { problems } = await verified({ ...one, store });
              expect(problems, `at moments ${at} and ${at + apart}`).to.deep.equal([]);
            } finally {
              temp = before;
              own.remove();
            }
          }
          expect(moments).to.be.greaterThan(5);
        }
      });
    }

    it('tells nothing of a run that is at it', async () => {
      const { catalog, row } = place;
      const lock = takeLock(runLockFile(catalog.file, RUN));
      const run = beginRun(lock?.identity ?? '');
      catalog.tombstones.takeForRestore({ store: row.n, run, ids: [copyOf('b').tombstone.id] });
      rmSync(copyOf('b').file);
      expect((await verified(place)).problems).to.deep.equal([]);
      lock?.release();
      expect((await verified(place)).problems).to.deep.equal([`dead-run ${RUN}`]);
    });
  });

  /** The store, with somebody who acts before and after each of its answers. */
  function interrupted(store: Store, act: () => Promise<void>): Store {
    const pages = <T>(list: (prefix: string, signal?: AbortSignal) => AsyncIterable<T[]>) =>
      async function* each(prefix: string, signal?: AbortSignal): AsyncGenerator<T[]> {
        await act();
        for await (const page of list.call(store, prefix, signal)) {
          await act();
          // One by one, so that there is a moment between each two.
          for (const item of page) {
            yield [item];
            await act();
          }
        }
        await act();
      };
    const own: Partial<Store> = {
      list: pages((prefix, signal) => store.list(prefix, signal)),
      listPending: pages((prefix, signal) => store.listPending(prefix, signal)),
      headPending: async (key, id) => {
        await act();
        const copy = await store.headPending(key, id);
        await act();
        return copy;
      },
      head: async (key) => {
        await act();
        const live = await store.head(key);
        await act();
        return live;
      },
    };
    return new Proxy(store, {
      get: (target, name) => {
        const value: unknown = Reflect.get(own, name) ?? Reflect.get(target, name, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }

  const RUN = 'r-20261122T090000000Z-000001';

  function beginRun(lock: string, id = RUN): number {
    const { catalog, row, actor } = place;
    const { pid, host, boot, by } = actor;
    return catalog.runs.begin({
      id,
      store: row.n,
      kind: 'purge',
      pid,
      host,
      boot,
      by,
      now: temp.clock.wall,
      lock,
    });
  }

  async function exempt(
    kind: 'hold' | 'exempt',
    n: number,
    until: number | null,
    prefix = 'x',
  ): Promise<void> {
    await createHold(place.store.control, {
      id: `h-20261122T100000000Z-00000${n}`,
      kind,
      blocks: 'sweep',
      scope: { by: 'prefix', prefix },
      until,
      reason: 'a reason',
      by: 'me@here',
      host: 'here',
      createdAt: '2026-11-22T10:00:00.000Z',
      problem: null,
    });
  }

  /** What crashes and claims leave, all of it, a day and more ago. */
  async function leaveAll(): Promise<void> {
    const { control } = place.store;
    const { catalog, row } = place;
    const lock = takeLock(runLockFile(catalog.file, RUN));
    const dead = beginRun(lock?.identity ?? '');
    lock?.release();
    catalog.tombstones.takeForRestore({ store: row.n, run: dead, ids: [copyOf('a/x').tombstone.id] });
    const ended = beginRun('', 'r-20261122T090000000Z-000002');
    catalog.tombstones.takeForRestore({ store: row.n, run: ended, ids: [copyOf('a/y').tombstone.id] });
    catalog.runs.end(ended, 'done', temp.clock.wall);
    for (const n of [2, 3]) takeLock(runLockFile(catalog.file, `r-20261122T090000000Z-00000${n}`))?.release();
    await control.create('fences/r-20261122T090000000Z-000004-1.json', THEIR_FENCE);
    await control.create('fences/broken', '');
    await control.create('leases/l-20261122T100000000Z-000001.json', leaseText(LEASE));
    await control.create('leases/odd', '');
    await exempt('exempt', 1, temp.clock.wall + HOUR);
    await exempt('hold', 2, temp.clock.wall + HOUR);
    await exempt('hold', 3, null);
    await control.create('holds/odd', '');
    await control.create('tmp/links-1-2', 'probe');
    await control.create('tmp/somebody’s', 'own');
    mkdirSync(path.join(temp.root, '.tombstoned/tmp/copy-20261122T101500123Z-k3v0q8tzm2xj4d'));
    await control.create('tmp/copy-20261122T101500123Z-k3v0q8tzm2xj4d/copy', 'half');
    place.catalog.leaseWatch.seen({ ...WATCHED, store: row.n, boot: place.actor.boot });
    temp.clock.advance(Math.max(0, Date.now() - temp.clock.wall) + 3 * DAY); // files have the real time
  }

  const LEFT = [
    'dead-lease .tombstoned/leases/l-20261122T100000000Z-000001.json',
    `dead-run ${RUN}`,
    'expired-hold .tombstoned/holds/h-20261122T100000000Z-000002.json',
    'left-fence .tombstoned/fences/r-20261122T090000000Z-000004-1.json',
    'left-lock r-20261122T090000000Z-000002',
    'left-lock r-20261122T090000000Z-000003',
    'left-temporary .tombstoned/tmp/copy-20261122T101500123Z-k3v0q8tzm2xj4d',
    'left-temporary .tombstoned/tmp/links-1-2',
    'left-temporary .tombstoned/tmp/somebody’s',
    'stuck-row a/y',
    'unclear-fence .tombstoned/fences/broken',
    'unclear-hold .tombstoned/holds/odd',
    'unclear-lease .tombstoned/leases/odd',
  ];

  it('names what crashes, dead processes and forgotten claims have left', async () => {
    await leaveAll();
    const { problems, told } = await verified(place);
    expect(problems).to.deep.equal(LEFT);
    for (const { remedy } of told)
      expect(remedy).to.match(/tombstonectl --store spec \w+|docs\/|backup|mv -n/);
  });

  it('names what is in the catalog twice', async () => {
    const { catalog, row } = place;
    const { tombstone } = copyOf('b');
    const lock = takeLock(runLockFile(catalog.file, RUN));
    const run = beginRun(lock?.identity ?? '');
    const sweep = catalog.sweeps.latest(row.n, 1)[0]?.id ?? '';
    expect(sweep).to.not.equal('');
    const cause = catalog.sweeps.cause('old', null);
    const n = catalog.sweeps.begin({ id: 's-1', store: row.n, run, reason: null, now: temp.clock.wall });
    const { revision, key, size } = tombstone;
    const now = tombstone.tombstonedAt;
    // Somebody has set the catalog's newest time back: the same ids are given out again.
    const Sqlite = (await import('better-sqlite3')).default;
    const db = new Sqlite(catalog.file);
    db.prepare('UPDATE stores SET last_batch_at = 0').run();
    db.close();
    const random = (): number => 0;
    const first = catalog.tombstones.intend({
      store: row.n,
      run,
      sweep: n,
      items: [{ key, revision, size, cause }],
      now,
      random,
    });
    const twice = first.moves[0]?.id ?? '';
    catalog.tombstones.settleMoves({
      store: row.n,
      run,
      open: first,
      exceptions: new Map(),
      now,
      at: now,
      window: DAY,
    });
    const again = new Sqlite(catalog.file);
    again.prepare('UPDATE stores SET last_batch_at = 0').run();
    again.close();
    catalog.tombstones.intend({
      store: row.n,
      run,
      sweep: n,
      items: [{ key, revision, size, cause }],
      now,
      random,
    });
    const { told } = await verified(place);
    expect(told.filter(({ problem }) => problem === 'duplicate-row').map(({ id }) => id)).to.deep.equal([
      twice,
    ]);
    lock?.release();
  });

  describe('with --repair', () => {
    const SAFE = ['expired-exemption', 'left-lock', 'left-temporary', 'missing-copy'];

    it('mends what is safe, says so, and finds it no more', async () => {
      await leaveAll();
      rmSync(copyOf('b').file);
      const { told } = await verified(place, { repair: 'yes' });
      const mended = told.filter(({ repair }) => repair === 'done').map(({ problem }) => problem);
      expect(mended.toSorted()).to.deep.equal([
        'expired-exemption',
        'left-lock',
        'left-lock',
        'left-temporary',
        'left-temporary',
      ]);
      // The unclear lease and hold cover everything, and keep even this.
      expect(told.find(({ problem }) => problem === 'missing-copy')?.repair).to.equal('left');
      for (const { problem, repair } of told) if (!SAFE.includes(problem)) expect(repair).to.equal(null);
      // As any run does, this one has taken the dead lease away.
      const still = LEFT.filter((one) => !/dead-lease|left-lock|copy-|links-/.test(one));
      expect((await verified(place)).problems).to.deep.equal([...still, 'missing-copy b'].toSorted());
    });

    it('takes away what restores leave as exemptions, which is no difference before', async () => {
      await exempt('exempt', 1, temp.clock.wall + HOUR);
      const kept = (): boolean => filesBelow(temp.root).some((name) => name.includes('.tombstoned/holds/h-'));
      temp.clock.advance(2 * HOUR);
      expect((await verified(place, { repair: 'yes' })).problems).to.deep.equal([]);
      temp.clock.advance(DAY);
      expect((await verified(place)).problems).to.deep.equal([]);
      expect(kept()).to.equal(true);
      const { problems, repaired, found } = await verified(place, { repair: 'yes' });
      expect([problems.length, repaired, found, kept()]).to.deep.equal([1, 1, 1, false]);
    });

    it('clears nothing for old that only a clock that is ahead makes so', async () => {
      await place.store.control.create('tmp/links-1-2', 'probe');
      await exempt('exempt', 1, temp.clock.wall + HOUR);
      await verified(place); // the clock is known
      temp.clock.wall = Math.max(temp.clock.wall, Date.now()) + 3 * DAY;
      const { problems, repaired } = await verified(place, { repair: 'yes' });
      expect([problems, repaired]).to.deep.equal([[], 0]);
    });

    it('touches nothing in a dry run, and nothing but that otherwise', async () => {
      await leaveAll();
      const files = filesBelow(temp.directory).filter((name) => !/catalog\.db(-|$)/.test(name));
      const states = allTombstones(place);
      const { told, repaired } = await verified(place, { repair: 'dry' });
      expect(told.filter(({ repair }) => repair === 'would-be')).to.have.length(5);
      expect(repaired).to.equal(0);
      const now = (): string[] => filesBelow(temp.directory).filter((name) => !/catalog\.db(-|$)/.test(name));
      expect(now()).to.deep.equal(files);
      expect(allTombstones(place)).to.deep.equal(states);
      await verified(place, { repair: 'yes' });
      const gone = files.filter((name) => !now().includes(name));
      for (const name of gone) expect(name).to.match(/\.runs\/|tmp\/(links|copy)-|holds\/h-.*-000001/);
      expect(gone).to.have.length(5);
    });

    it('leaves what only a clock says is old while that clock is not trusted', async () => {
      await leaveAll();
      await purgeDue(place); // looks at the clock
      temp.clock.wall += 30 * DAY;
      const { told } = await verified(place, { repair: 'yes' });
      expect(told.filter(({ problem }) => SAFE.includes(problem))).to.have.length(6);
      for (const { repair } of told) expect(repair).to.equal(null);
    });

    it('records that a copy is gone, in the history, before it is due', async () => {
      const { tombstone, file } = copyOf('b');
      rmSync(file);
      const { told, repaired, found } = await verified(place, { repair: 'yes' });
      expect(told).to.have.length(1);
      expect({ repaired, found }).to.deep.equal({ repaired: 1, found: 1 });
      const after = place.catalog.tombstones.get(tombstone.id);
      expect(after?.state).to.equal('purged');
      const events = place.catalog.events.of(tombstone).map(({ what, detail }) => [what, detail]);
      expect(events.at(-1)?.[0]).to.equal('copy-missing');
      expect((await verified(place)).problems).to.deep.equal([]);
      expect(place.catalog.runs.open(place.row.n)).to.deep.equal([]);
      expect(await place.store.control.list('fences')).to.deep.equal([]);
    });

    it('does not record that of what is held', async () => {
      rmSync(copyOf('b').file);
      await exempt('hold', 1, null, 'b');
      for (const repair of ['dry', 'yes'] as const) {
        expect((await verified(place, { repair })).told.map((one) => one.repair)).to.deep.equal(['left']);
      }
      expect(copyOf('b').tombstone.state).to.equal('pending');
    });

    it('looks again under its fence: a copy that is back by then stays', async () => {
      const { file, tombstone } = copyOf('b');
      cpSync(file, path.join(temp.directory, 'kept'), { preserveTimestamps: true });
      rmSync(file);
      const { control } = place.store;
      const create = control.create.bind(control);
      control.create = async (name, ...rest) => {
        if (name.startsWith('fences/'))
          cpSync(path.join(temp.directory, 'kept'), file, { preserveTimestamps: true });
        return create(name, ...rest);
      };
      const { told } = await verified(place, { repair: 'yes' });
      expect(told.map(({ repair }) => repair)).to.deep.equal(['left']);
      expect(place.catalog.tombstones.get(tombstone.id)?.state).to.equal('pending');
      expect((await verified(place)).problems).to.deep.equal([]);
    });
  });

  describe('with --checksums', () => {
    it('reads every copy to its end, and names those that can’t be read', async () => {
      const bytes = KEYS.reduce((sum, key) => sum + `content of ${key}`.length, 0);
      const all = await verified(place, { checksums: true });
      expect(all.reading).to.deep.equal({ read: 4, bytes, compared: 0, after: null });
      expect(all.problems).to.deep.equal([]);
      const broken = temp.open({
        fs: watchedFs(
          () => undefined,
          ({ name, values }) => {
            if (name === 'open' && String(values[0]).includes('/b~')) throw errno('EIO');
          },
        ),
      });
      const { problems, reading, told } = await verified(broken, { checksums: true });
      expect(problems).to.deep.equal(['unreadable-copy b']);
      expect(reading?.read).to.equal(3);
      expect(told[0]?.detail).to.include('EIO');
    });

    it('is stopped by a signal, and goes on after the id that it says', async () => {
      const controller = new AbortController();
      let opened = 0;
      const store = new Proxy(place.store, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name, target);
          if (name !== 'openPending')
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          return async (...of: Parameters<Store['openPending']>) => {
            if (++opened === 2) controller.abort();
            return target.openPending(...of);
          };
        },
      });
      const first = await verified({ ...place, store }, { checksums: true, signal: controller.signal });
      const { after = null, read = 0 } = first.reading ?? {};
      expect(read).to.be.lessThan(4);
      const second = await verified(place, { checksums: true, after });
      expect(read + (second.reading?.read ?? 0)).to.equal(4);
      expect(second.reading?.after).to.equal(null);
    });

    it('throws when the store is away, and tells no difference', async () => {
      const told: string[] = [];
      const store = new Proxy(place.store, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name, target);
          if (name !== 'openPending')
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          return async () => {
            rmSync(path.join(temp.root, '.tombstoned/store.json'), { force: true });
            throw new TombstonedError('failed', 'it is away');
          };
        },
      });
      const asked = {
        checksums: true,
        onDifference: ({ problem }: { problem: string }) => told.push(problem),
      };
      const error = await verified({ ...place, store }, asked).catch((e: unknown) => e);
      expect(error).to.be.instanceOf(TombstonedError);
      expect(told).to.deep.equal([]);
    });
  });

  const THEIR_FENCE = `${JSON.stringify({
    run: 'r-20261122T090000000Z-000004',
    batch: 1,
    catalog: 'theirs',
    boot: 'b',
    kind: 'sweep',
    prefixes: [''],
    host: 'h',
    pid: 1,
    startedAt: '2026-11-22T09:00:00.000Z',
  })}\n`;
  const LEASE = {
    id: 'l-20261122T100000000Z-000001',
    holder: 'fetch',
    host: 'h2',
    pid: 1,
    prefixes: ['k/1'],
    blocks: 'purge',
    ttlSeconds: 60,
    acquiredAt: '2026-11-22T10:00:00.000Z',
    renewal: 0,
  } as const;
  const WATCHED = { name: `${LEASE.id}.json`, renewal: 0, began: 0, done: 0 };
});
