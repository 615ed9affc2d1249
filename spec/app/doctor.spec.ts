import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { examine, type Placed } from '../../lib/app/doctor/doctor.ts';
import { missingMount } from '../../lib/app/doctor/mounts.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { type Clock, systemClock } from '../../lib/domain/clock.ts';
import { Mounts, mayMount } from '../support/mounts.ts';
import { OLD, TempStore } from '../support/temp-store.ts';

const HOUR = 3_600_000;
/** Long enough for nothing to be warned of, and with what is opened by a policy. */
const SETTINGS = { safetyWindow: '7d', policies: [OLD] };

/** What is the matter, and the lines that say so: `LEVEL CHECK`, and what their text and remedy say. */
interface Case {
  readonly what: string;
  readonly make: (store: TempStore) => void;
  readonly found: Readonly<Record<string, RegExp>>;
  /** What is not said any more, as it can't be known. */
  readonly absent?: readonly string[];
}

const CASES: readonly Case[] = [
  {
    what: 'no catalog',
    make: (store) => rmSync(store.catalogFile),
    found: {
      'fail catalog': /no catalog at .*tombstonectl init/,
      'warn clock': /not known without the catalog/,
      'warn identity': /is a store .*is not known/,
      'ok fsync': /durable in/,
    },
    absent: ['owner', 'log', 'schema'],
  },
  {
    what: 'a catalog of no bytes',
    make: (store) => truncateSync(store.catalogFile, 0),
    found: { 'fail catalog': /is empty.*bring it back from a backup/, 'ok writable': /can be moved/ },
  },
  {
    what: 'a catalog that lacks its second half',
    make: (store) => truncateSync(store.catalogFile, 65_536),
    found: { 'fail catalog': /(malformed|damaged).*backup/ },
  },
  {
    what: 'a page of the catalog that holds something else',
    make: (store) => {
      const bytes = readFileSync(store.catalogFile);
      bytes.fill(0xa5, bytes.length - 4096);
      writeFileSync(store.catalogFile, bytes);
    },
    found: { 'fail catalog': /is damaged: .*keep a copy.*backup/ },
  },
  {
    what: 'rows that refer to nothing',
    make: (store) => {
      const db = new Database(store.catalogFile);
      db.pragma('foreign_keys = OFF');
      db.exec(`INSERT INTO tallies (store, state, count, bytes) VALUES (77, 'pending', 1, 1)`);
      db.close();
    },
    found: { 'fail catalog': /is damaged: rows of tallies.* refer to rows that are missing/ },
  },
  {
    what: 'a file that is no database',
    make: (store) => writeFileSync(store.catalogFile, 'x'.repeat(4096)),
    found: { 'fail catalog': /no SQLite database/ },
  },
  {
    what: 'a directory where the catalog should be',
    make: (store) => {
      rmSync(store.catalogFile);
      mkdirSync(store.catalogFile);
    },
    found: { 'fail catalog': /is not a file, so it is no catalog/ },
  },
  {
    what: 'a database of somebody else',
    make: (store) => {
      rmSync(store.catalogFile);
      const db = new Database(store.catalogFile);
      db.exec('CREATE TABLE theirs (n)');
      db.close();
    },
    found: { 'fail catalog': /not a tombstoned catalog/ },
  },
  {
    what: 'a catalog of a future version',
    make: (store) => pragma(store, 'user_version = 999'),
    found: {
      'ok catalog': /is whole/,
      'fail schema': /schema 999, .*newer tombstoned/,
      'warn identity': /is not known/,
      'ok fsync': /durable in/,
    },
    absent: ['log', 'owner'],
  },
  {
    what: 'a catalog of an older version, which stays as it is',
    make: (store) => pragma(store, 'user_version = 3'),
    found: { 'warn schema': /version 3: .*keep a copy/, 'warn clock': /not known/ },
    absent: ['log'],
  },
  {
    what: 'a catalog that another program has taken out of WAL',
    make: (store) => pragma(store, 'journal_mode = DELETE'),
    found: { 'warn durability': /journal_mode=delete/ },
  },
  {
    what: 'an entry of the log that was changed',
    make: (store) => {
      const db = new Database(store.catalogFile);
      db.exec(`DROP TRIGGER events_append_only; UPDATE events SET by = 'nobody' WHERE n = 1`);
      db.close();
    },
    found: { 'fail log': /entry 1: it was changed.*log --check/ },
  },
  {
    what: 'no room kept for purges',
    make: (store) => truncateSync(`${store.catalogFile}.reserve`, 1000),
    found: { 'warn reserve': /1000 B of 8\.0 MiB/ },
  },
  {
    what: 'a clock that was set while the machine ran',
    make: (store) => {
      const db = new Database(store.catalogFile);
      const { boot, ms } = systemClock.sinceBoot();
      const counted = Date.now() - 5 * HOUR;
      db.prepare(
        'INSERT INTO clock (one, boot, since_boot, counted, ahead, restarted) VALUES (1, ?, ?, ?, 0, 0)',
      ).run(boot, ms, counted);
      db.close();
    },
    found: { 'fail clock': /nothing is purged: .*set 5h forward.*clock accept/ },
  },
  {
    what: 'a plain store that holds an Aptos-family backup',
    make: (store) => store.write('metadata/transaction_0-99.meta', 'x'),
    found: { 'warn format': /looks like a backup of an Aptos-family node.*set format: aptos/ },
  },
  {
    what: 'a store of format aptos without metadata',
    make: (store) => store.configure({ main: { ...SETTINGS, format: 'aptos' } }),
    found: { 'warn format': /no metadata file.*is url in the config the directory that has metadata/ },
  },
  {
    what: 'a store whose directory is gone',
    make: (store) => renameSync(store.root, `${store.root}-away`),
    found: { 'fail mount': /store is not there.*namei -l/ },
    absent: ['identity', 'fsync', 'owner'],
  },
  {
    what: 'an empty directory where the disk with the store should be',
    make: (store) => {
      renameSync(store.root, `${store.root}-away`);
      mkdirSync(store.root);
    },
    found: { 'fail identity': /no store, or another disk is mounted there.*in use: mount its disk/ },
    absent: ['fsync', 'writable'],
  },
  {
    what: 'another store in its place',
    make: (store) => {
      const file = path.join(store.root, '.tombstoned/store.json');
      const json: unknown = JSON.parse(readFileSync(file, 'utf8'));
      writeFileSync(file, `${JSON.stringify({ ...(json as object), uuid: 'another' })}\n`);
    },
    found: { 'fail identity': /is store another, and the catalog knows it as/ },
    absent: ['fsync', 'writable'],
  },
  {
    what: 'an identity that can’t be read',
    make: (store) => writeFileSync(path.join(store.root, '.tombstoned/store.json'), '{'),
    found: { 'fail identity': /not readable as a store's identity.*backup/ },
    absent: ['fsync', 'writable'],
  },
  {
    what: 'a store that belongs to another catalog',
    make: (store) => {
      const owner = { catalog: 'theirs', host: 'h', since: '2026-01-01T00:00:00.000Z' };
      writeFileSync(path.join(store.root, '.tombstoned/owner.json'), `${JSON.stringify(owner)}\n`);
    },
    found: { 'fail owner': /belongs to catalog theirs on h/ },
  },
  {
    what: 'a store that the catalog does not know',
    make: (store) => store.configure({ main: SETTINGS, more: SETTINGS }),
    found: { 'fail mount': /more is not there/, 'ok identity': /the catalog knows/ },
  },
  {
    what: 'a file where the pending directory should be',
    make: (store) => {
      rmSync(path.join(store.root, 'pending_deletion'), { recursive: true, force: true });
      writeFileSync(path.join(store.root, 'pending_deletion'), '');
    },
    found: { 'fail writable': /pending_deletion\/ is not a directory.*move it away/ },
  },
  {
    what: 'no directory for requests',
    make: (store) => {
      const directory = path.join(store.directory, 'requests');
      const policy = { name: 'asked', type: 'drop-in', directory };
      store.configure({ main: { ...SETTINGS, policies: [policy] } });
    },
    found: { 'fail policy asked': /requests is missing.*install -d -o \S+ -m 0750/ },
  },
  {
    what: 'a config, state and control objects that every user may write',
    make: (store) => {
      chmodSync(store.configFile, 0o646);
      chmodSync(store.catalogFile, 0o666);
      chmodSync(path.join(store.root, '.tombstoned/leases'), 0o777);
    },
    found: {
      'fail config': /every user may write .*tombstoned\.yaml.*chmod o-w/,
      'fail permissions': /every user may write .*catalog\.db.*chmod o-w/,
      'warn permissions': /every user may write .*leases.*chmod o-w/,
    },
  },
  {
    what: 'objects that could not be moved',
    make: (store) => {
      store.write('fine', 'x');
      store.write('n'.repeat(240), 'x');
      symlinkSync('fine', path.join(store.root, 'link'));
    },
    found: { 'warn objects': /2 of the first 3 can't be moved, such as \S+: it/ },
  },
];

describe('doctor', function () {
  this.timeout(30_000);
  const mounts = new Mounts();
  let store: TempStore;

  beforeEach(async () => {
    store = await TempStore.make(SETTINGS);
  });
  afterEach(() => {
    mounts.remove();
    store.remove();
  });

  async function examineAll(clock: Clock = systemClock): Promise<Placed[]> {
    const config = loadConfig(store.configFile);
    const { signal } = new AbortController();
    const found: Placed[] = [];
    for await (const placed of examine(config, config.stores, { clock, signal })) found.push(placed);
    return found;
  }

  const textOf = ({ text, remedy }: Placed): string => `${text} (${remedy ?? ''})`;

  /** Every finding that is there, and no failure beside those expected. */
  function check(found: readonly Placed[], wanted: Readonly<Record<string, RegExp>>): void {
    const shown = found.map((one) => `${one.level} ${one.check}: ${textOf(one)}`).join('\n');
    for (const [head, says] of Object.entries(wanted)) {
      const lines = found.filter(({ level, check: name }) => `${level} ${name}` === head);
      expect(
        lines.some((line) => says.test(textOf(line))),
        `${head} ${String(says)}\n${shown}`,
      ).to.equal(true);
    }
    for (const { level, check: name } of found)
      if (level === 'fail') expect(Object.keys(wanted), shown).to.include(`fail ${name}`);
    for (const one of found) if (one.level === 'fail') expect(one.remedy, shown).to.be.a('string');
  }

  it('finds nothing to fail where all is well, and says what it has looked at', async () => {
    store.write('a', 'a', HOUR);
    const found = await examineAll();
    check(found, {
      'ok versions': /tombstoned \d.*Node \d.*Linux/,
      'ok user': /owns the catalog/,
      'ok config': /tombstoned\.yaml/,
      'ok catalog': /is whole, \d/,
      'ok schema': /the newest/,
      'ok durability': /WAL, synchronous=FULL, foreign keys/,
      'ok reserve': /8\.0 MiB/,
      'ok log': /follow one another, up to 1/,
      'ok clock': /where it should be/,
      'ok space': /free/,
      'ok permissions': /\.tombstoned\/leases/,
      'ok identity': /the catalog knows/,
      'ok owner': /owns it/,
      'ok writable': /linked back; live and pending are on one file system/,
      'ok fsync': /durable in/,
      'ok objects': /each of the first 1/,
    });
    expect(new Set(found.map((one) => one.store))).to.deep.equal(new Set([null, 'main']));
  });

  for (const { what, make, found: wanted, absent = [] } of CASES) {
    it(`names ${what}, and changes nothing`, async () => {
      make(store);
      const before = snapshot(store.directory);
      const found = await examineAll();
      expect(snapshot(store.directory)).to.deep.equal(before);
      check(found, wanted);
      const known = found.map((one) => one.check);
      for (const name of absent) expect(known).not.to.include(name);
    });
  }

  describe('on disks of its own (needs root)', () => {
    before(function () {
      if (!mayMount()) this.skip();
    });

    /** The store on a disk of its own; the catalog stays. */
    async function onDisk(make: (directory: string) => string | undefined): Promise<boolean> {
      store.remove();
      store = new TempStore();
      if (make(store.root) === undefined) return false;
      store.configure({ main: SETTINGS });
      await store.init();
      return true;
    }

    for (const [type, options, level, says] of [
      ['ext4', [], 'ok', /ext4\) keeps a journal, data=ordered/],
      ['ext4', ['-O', '^has_journal'], 'warn', /keeps no journal: .*umount \S+ && tune2fs -O has_journal/],
      ['ext2', [], 'warn', /keeps no journal/],
      ['xfs', [], 'ok', /xfs keeps a journal/],
      ['btrfs', [], 'ok', /btrfs .*needs no journal/],
      ['tmpfs', [], 'warn', /in memory.*gone after a restart/],
    ] as const) {
      it(`says what a power cut does to ${[type, ...options].join(' ')}`, async function () {
        const isMade = await onDisk((directory) =>
          type === 'tmpfs' ? mounts.tmpfs(directory) : mounts.image(type, directory, SIZES[type], options),
        );
        if (!isMade) return this.skip();
        const found = await examineAll();
        const lines = found.filter((one) => one.store === 'main' && one.check === 'journal');
        expect(lines.map((one) => one.level)).to.deep.equal([level]);
        expect(lines.map(textOf).join()).to.match(says);
        const mount = found.find((one) => one.store === 'main' && one.check === 'mount');
        expect(mount?.text).to.include(`(${type}), mounted at ${store.root}; if that is absent`);
      });
    }

    it('fails a store on a disk that is mounted read-only, and one whose disk is not mounted', async () => {
      await onDisk((directory) => mounts.bind(directory, directory));
      mounts.readonly(store.root);
      check(await examineAll(), {
        'fail mount': /read-only.*mount -o remount,rw/,
        'fail permissions': /read-only/,
        'fail writable': /read-only/,
        'fail fsync': /EROFS/,
      });
      mounts.remove();
      renameSync(path.join(store.root, '.tombstoned'), path.join(store.directory, 'on-the-disk'));
      const before = snapshot(store.directory);
      check(await examineAll(), { 'fail identity': /another disk is mounted there/ });
      expect(snapshot(store.directory)).to.deep.equal(before);
    });

    it('fails a disk that is full, and one without inodes', async () => {
      await onDisk((directory) => mounts.tmpfs(directory, '2m'));
      writeFileSync(path.join(store.root, 'filler'), Buffer.alloc(1_500_000));
      check(await examineAll(), { 'fail space': /the disk is full: nothing is moved.*free some space/ });
      mounts.remove();
      await onDisk((directory) => mounts.tmpfs(directory, '64m,nr_inodes=60'));
      check(await examineAll(), { 'fail space': /of 60 inodes: the disk is full/ });
    });

    it('fails a disk inside the store, and a pending directory on another disk', async () => {
      mounts.tmpfs(path.join(store.root, 'inside'));
      check(await examineAll(), {
        'fail mount': /other disks are mounted in it.*inside.*store of its own/,
        'fail objects': /inside\/ is on another file system/,
      });
      mounts.remove();
      mounts.tmpfs(path.join(store.root, 'pending_deletion'));
      check(await examineAll(), {
        'fail mount': /pending_deletion.*umount .*plain directory/,
        'fail writable': /pending_deletion is on another file system/,
      });
    });
  });

  it('asks for the disk that /etc/fstab has and nobody has mounted', () => {
    expect(missingMount('/srv/backups/a', [], '/dev/sdb1 /srv ext4\nUUID=1 /srv/backups xfs\n')).to.equal(
      '/srv/backups',
    );
  });
});

const SIZES = { ext4: 16, ext2: 16, xfs: 320, btrfs: 128 } as const;

function pragma(store: TempStore, text: string): void {
  const db = new Database(store.catalogFile);
  db.pragma(text);
  db.close();
}

/** Every name below a directory, with what it is and holds; times of directories change with scratch names in them. */
function snapshot(directory: string): Record<string, string> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).toSorted();
  return Object.fromEntries(
    names.map((name) => {
      const file = path.join(directory, name);
      const { mode, uid, gid, ino, mtimeMs } = lstatSync(file);
      const about = [mode, uid, gid, ino].join(' ');
      if (lstatSync(file).isSymbolicLink()) return [name, `${about} ${readlinkSync(file)}`];
      if (!lstatSync(file).isFile()) return [name, about];
      return [name, `${about} ${mtimeMs} ${readFileSync(file).toString('base64').slice(0, 100_000)}`];
    }),
  );
}
