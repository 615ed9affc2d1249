import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { checkLog } from '../../lib/app/check-log.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { MIGRATIONS } from '../../lib/catalog/migrations.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';

const UUID = 'catalog-uuid';
/** "TMBS", as a catalog’s header says it. */
const APPLICATION_ID = 0x54_4d_42_53;

describe('opening a catalog', () => {
  let directory: string;
  let file: string;
  let healthy: Buffer;

  before(() => {
    const made = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
    const model = path.join(made, 'catalog.db');
    const catalog = Catalog.create(model, UUID, 1);
    catalog.addStore({ name: 'a', uuid: 'a-uuid', url: 'file:///a', pendingPrefix: 'pending_deletion/' });
    catalog.close();
    healthy = readFileSync(model);
    rmSync(made, { recursive: true });
  });
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-'));
    file = path.join(directory, 'catalog.db');
  });
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  it('gives every connection WAL, synchronous=FULL and foreign keys', () => {
    const first = Catalog.create(file, UUID, 1);
    const second = Catalog.open(file);
    const third = Catalog.create(file, 'another', 2);
    try {
      for (const catalog of [first, second, third]) {
        expect(catalog.pragma('journal_mode')).to.equal('wal');
        expect(catalog.pragma('synchronous')).to.equal(2);
        expect(catalog.pragma('foreign_keys')).to.equal(1);
        expect(catalog.pragma('user_version')).to.equal(MIGRATIONS.length);
        expect(catalog.uuid).to.equal(UUID);
      }
    } finally {
      for (const catalog of [first, second, third]) catalog.close();
    }
  });

  it('makes a catalog with a reserve beside it, which only its owner and group may read', () => {
    const nested = path.join(directory, 'var/lib/catalog.db');
    Catalog.create(nested, UUID, 1).close();
    expect(statSync(nested).mode & 0o777).to.equal(0o640);
    expect(statSync(`${nested}.reserve`).size).to.equal(8 * 1024 * 1024);
    expect(readdirSync(path.dirname(nested))).to.have.members(['catalog.db', 'catalog.db.reserve']);
  });

  it('leaves the mode of a catalog that exists as it is', () => {
    Catalog.create(file, UUID, 1).close();
    chmodSync(file, 0o660);
    Catalog.create(file, 'another', 2).close();
    expect(statSync(file).mode & 0o777).to.equal(0o660);
  });

  it('brings an older schema up to date, and keeps what is in it', () => {
    const old = new Database(file);
    old.exec(MIGRATIONS[0] ?? '');
    old.exec(`INSERT INTO catalog (uuid, created_at) VALUES ('${UUID}', 1)`);
    old.exec(
      `INSERT INTO stores (name, uuid, url, pending_prefix) VALUES ('a', 'a-uuid', 'file:///a', 'p/')`,
    );
    old.pragma(`application_id = ${APPLICATION_ID}`);
    old.pragma('user_version = 1');
    old.close();
    const catalog = Catalog.open(file);
    try {
      expect(catalog.pragma('user_version')).to.equal(MIGRATIONS.length);
      expect(catalog.uuid).to.equal(UUID);
      expect(catalog.storeByName('a')?.pendingPrefix).to.equal('p/');
    } finally {
      catalog.close();
    }
  });

  it('makes a chain of the log of an older schema', async () => {
    const old = new Database(file);
    const before = MIGRATIONS.findIndex((step) => step.includes('log_ends'));
    for (const step of MIGRATIONS.slice(0, before)) old.exec(step);
    old.exec(`
      INSERT INTO catalog (uuid, created_at) VALUES ('${UUID}', 1);
      INSERT INTO stores (name, uuid, url, pending_prefix) VALUES ('a', 'a-uuid', 'file:///a', 'p/');
      INSERT INTO runs (id, store, kind, pid, host, boot, by, started_at)
        VALUES ('r-1', 1, 'sweep', 1, 'h', 'b', 'ops@h', 1);
      INSERT INTO events (n, at, store, run, what, batch_at, count, bytes) VALUES (1, 5, 1, 1, 'moved', 5, 2, 20);
      INSERT INTO events (n, at, store, run, what, tombstone, detail)
        WITH RECURSIVE i (n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM i WHERE n < 2000)
        SELECT n, n, 1, CASE WHEN n % 2 = 0 THEN 1 END, 'restored', 't' || n, 'back' FROM i`);
    old.pragma(`application_id = ${APPLICATION_ID}`);
    old.pragma(`user_version = ${before}`);
    old.close();
    const catalog = Catalog.open(file);
    try {
      expect(await checkLog(catalog)).to.deep.include({ entries: 1999, removed: 0, broken: null });
      const [first, second] = catalog.events.following(0, 2);
      expect(first).to.include({ n: 1, at: 5, what: 'moved', run: 'r-1', by: 'ops@h', count: 2, bytes: 20 });
      expect(second).to.include({ n: 2, at: 3, tombstone: 't3', by: null, prev: first?.hash });
      catalog.events.add({ store: 1, run: null, what: 'held', now: 1 });
      expect(await checkLog(catalog)).to.deep.include({ entries: 2000, broken: null });
    } finally {
      catalog.close();
    }
  });

  const newer = MIGRATIONS.length + 1;
  /** What may stand where the catalog should be, and what is said about it. */
  const damages: Record<string, { make: (file: string) => void; says: RegExp; hint: RegExp }> = {
    'is a directory': { make: (at) => mkdirSync(at), says: /is not a file/, hint: /path of a file/ },
    'is a symbolic link to nothing': {
      make: (at) => symlinkSync(`${at}.elsewhere`, at),
      says: /symbolic link to nothing/,
      hint: /mounted/,
    },
    'is a symbolic link to itself': { make: (at) => symlinkSync(at, at), says: /ELOOP/, hint: /config/ },
    'is empty': { make: (at) => writeFileSync(at, ''), says: /is empty/, hint: /backup/ },
    'is text': {
      make: (at) => writeFileSync(at, 'not a database, whatever it was\n'.repeat(300)),
      says: /not a database/,
      hint: /backup/,
    },
    'is the database of another program': {
      make: (at) => other(at, 'DELETE'),
      says: /not a tombstoned catalog/,
      hint: /another path/,
    },
    'is the database of another program, in WAL mode': {
      make: (at) => other(at, 'WAL'),
      says: /not a tombstoned catalog/,
      hint: /another path/,
    },
    'is a database with nothing in it': {
      make: (at) => {
        const db = new Database(at);
        db.pragma('journal_mode = WAL');
        db.close();
      },
      says: /not a tombstoned catalog/,
      hint: /another path/,
    },
    'was written by a newer program': {
      make: (at) => {
        writeFileSync(at, healthy);
        const db = new Database(at);
        db.pragma(`user_version = ${newer}`);
        db.close();
      },
      says: new RegExp(`schema ${newer}, and this program knows up to ${MIGRATIONS.length}`),
      hint: /newer tombstoned/,
    },
    'has lost its row': {
      make: (at) => {
        writeFileSync(at, healthy);
        const db = new Database(at);
        db.exec('DELETE FROM catalog');
        db.close();
      },
      says: /has no identity/,
      hint: /backup/,
    },
  };
  for (const size of [1, 15, 16, 99, 100, 511, 512, 4096, 5000, 8192, -4096]) {
    damages[size < 0 ? `lacks its last ${-size} bytes` : `is cut to ${size} bytes`] = {
      make: (at) => writeFileSync(at, healthy.subarray(0, size)),
      says: /not a database|malformed|cut short/,
      hint: /backup/,
    };
  }
  for (const at of [0, 16, 28, 100, 4096]) {
    damages[`has other bytes at ${at}`] = {
      make: (to) => writeFileSync(to, flipped(healthy, at)),
      says: /not a database|malformed/,
      hint: /backup/,
    };
  }

  for (const [what, { make, says, hint }] of Object.entries(damages)) {
    for (const how of ['open', 'create'] as const) {
      it(`refuses a file that ${what} (${how}), in one line, and leaves it as it is`, () => {
        make(file);
        const before = contentsOf(directory);
        const error = errorOf(() => (how === 'open' ? Catalog.open(file) : Catalog.create(file, UUID, 1)));
        expect(error.message).to.match(says).and.to.contain(file).and.not.to.contain('\n');
        expect(error.code).to.equal('failed');
        expect(error.key).to.equal(file);
        expect(error.hint).to.match(hint);
        expect(contentsOf(directory)).to.deep.equal(before);
      });
    }
  }

  it('says that there is none, whether or not there is a directory for it', () => {
    for (const missing of [file, path.join(directory, 'no/such/catalog.db')]) {
      const error = errorOf(() => Catalog.open(missing));
      expect(error.message).to.equal(`there is no catalog at ${missing}`);
      expect(error.key).to.equal(missing);
      expect(error.hint).to.contain('tombstonectl init');
      expect(existsSync(path.dirname(missing))).to.equal(missing === file);
    }
  });

  it('says so when a file stands where its directory should be', () => {
    writeFileSync(path.join(directory, 'var'), '');
    const inside = path.join(directory, 'var/catalog.db');
    for (const open of [() => Catalog.open(inside), () => Catalog.create(inside, UUID, 1)]) {
      const error = errorOf(open);
      expect(error.key).to.equal(inside);
      expect(error.hint).to.be.a('string');
    }
  });

  it('says so when this user may not read or write it', () => {
    const uid = process.geteuid?.() ?? 0;
    writeFileSync(file, healthy);
    chmodSync(directory, 0o755);
    if (uid === 0) process.seteuid?.(65534);
    try {
      const unwritable = [
        { mode: 0o000, in: 0o755 },
        { mode: 0o444, in: 0o555 },
      ];
      for (const modes of unwritable) {
        asRoot(uid, () => {
          chmodSync(file, modes.mode);
          chmodSync(directory, modes.in);
        });
        const error = errorOf(() => {
          const catalog = Catalog.open(file);
          catalog.addStore({ name: 'b', uuid: 'b', url: 'file:///b', pendingPrefix: 'p/' });
        });
        expect(error.key).to.equal(file);
        expect(error.message).to.match(/unable to open|readonly|permission/);
        expect(error.hint).to.match(/owner|written/);
      }
    } finally {
      process.seteuid?.(uid);
      chmodSync(directory, 0o755);
    }
    expect(readFileSync(file).equals(healthy)).to.equal(true);
  });
});

/** Does something as the user the specs run as. */
function asRoot(uid: number, work: () => void): void {
  const now = process.geteuid?.() ?? uid;
  process.seteuid?.(uid);
  try {
    work();
  } finally {
    process.seteuid?.(now);
  }
}

function errorOf(work: () => unknown): TombstonedError {
  try {
    work();
  } catch (error) {
    if (error instanceof TombstonedError) return error;
    throw new Error(`not ours: ${String(error)}`, { cause: error });
  }
  throw new Error('nothing was thrown');
}

/** Every name in a directory, with its bytes. */
function contentsOf(directory: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(directory, { withFileTypes: true }).map((entry) => [
      entry.name,
      entry.isFile() ? readFileSync(path.join(directory, entry.name), 'base64') : 'no file',
    ]),
  );
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = at; i < at + 64; i++) copy[i] = (copy[i] ?? 0) ^ 0xff;
  return copy;
}

function other(file: string, mode: 'WAL' | 'DELETE'): void {
  const db = new Database(file);
  db.pragma(`journal_mode = ${mode}`);
  db.exec('CREATE TABLE theirs (a)');
  db.close();
}
