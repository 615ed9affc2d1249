import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { checkLog } from '../../lib/app/check-log.ts';
import { backupDatabase } from '../../lib/catalog/backup.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { TempCatalog } from './temp-catalog.ts';

describe('a backup of a catalog', function () {
  this.timeout(30_000);
  let temp: TempCatalog;
  let target: string;
  beforeEach(() => {
    temp = new TempCatalog();
    target = path.join(temp.directory, 'backup.db');
  });
  afterEach(() => {
    temp.remove();
  });

  /** An entry in the log, of some KiB. */
  const grow = (count: number): void => {
    const { n: store } = temp.addStore('main');
    temp.catalog.events.addAll(
      Array.from({ length: count }, () => {
        return { store, run: null, what: 'held', now: temp.now, detail: 'x'.repeat(4000) } as const;
      }),
    );
  };

  it('is the catalog of one moment, whoever writes to it meanwhile', async () => {
    grow(4000);
    const { head } = temp.catalog.events.ends();
    let steps = 0;
    const bytes = await backupDatabase(temp.file, target, {
      uuid: 'another',
      force: false,
      onProgress: () => {
        steps += 1;
        grow(10);
      },
    });
    expect(steps).to.be.above(1);
    expect(bytes).to.be.above(10_000_000);
    const copy = Catalog.open(target);
    try {
      expect(copy.uuid).to.equal('another');
      expect(copy.events.ends().head.n).to.equal(head.n);
      expect((await checkLog(copy)).broken).to.equal(null);
    } finally {
      copy.close();
    }
    expect(temp.catalog.events.ends().head.n).to.be.above(head.n);
  });

  it('that is stopped leaves nothing', async () => {
    grow(4000);
    const stop = new AbortController();
    const before = readdirSync(temp.directory);
    const bytes = await backupDatabase(temp.file, target, {
      uuid: 'another',
      force: false,
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    expect(bytes).to.equal(undefined);
    expect(readdirSync(temp.directory)).to.deep.equal(before);
  });

  it('of one that is damaged is none', async () => {
    grow(10);
    const db = new Database(temp.file);
    db.unsafeMode();
    db.pragma('writable_schema = ON');
    // An index that lacks what its table has.
    db.prepare(`DELETE FROM sqlite_schema WHERE name = 'events_by_key'`).run();
    db.close();
    const error = await backupDatabase(temp.file, target, { uuid: 'another', force: false }).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).to.have.property('message').that.contains('damaged, and was not backed up');
    expect(existsSync(target)).to.equal(false);
  });
});
