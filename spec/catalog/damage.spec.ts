import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { openPlace } from '../../lib/app/open.ts';
import { recover } from '../../lib/app/recover.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import type { Place } from '../../lib/run/place.ts';
import { allTombstones, bringBack, FAST, filesBelow, purgeDue, sweepOld } from '../support/phases.ts';
import { ACTOR, DAY, seeded, TempPlace } from '../support/place.ts';

const SEED = Number(process.env['DAMAGE_SEED'] ?? Date.now() % 1_000_000);
const PAGE = 4096;

describe('a catalog that is damaged in its middle', () => {
  let temp: TempPlace;
  let healthy: Buffer;
  /** Every file of the store below its root but control objects, by its key, live or pending. */
  let contents: Map<string, string>;
  before(async function () {
    this.timeout(30_000);
    temp = await TempPlace.make(FAST);
    const keys = Array.from({ length: 600 }, (_, i) => `d${i % 9}/file-${i}`);
    const place = temp.open();
    for (const some of [keys.slice(0, 300), keys.slice(300, 500)]) {
      for (const key of some) temp.write(key, `content of ${key}`, 3 * DAY);
      await sweepOld(place);
      temp.clock.advance(DAY);
    }
    await bringBack(place, allTombstones(place).slice(0, 50), { exemptFor: DAY });
    temp.close(place);
    for (const key of keys.slice(500)) temp.write(key, `content of ${key}`, 3 * DAY);
    healthy = readFileSync(temp.catalogFile);
    contents = store();
  });
  after(() => {
    temp.remove();
  });

  function store(): Map<string, string> {
    const names = filesBelow(temp.root).filter((name) => !name.startsWith('.tombstoned/'));
    return new Map(names.map((name) => [name, readFileSync(path.join(temp.root, name), 'utf8')]));
  }

  /** The contents that are anywhere in the store, however they are called there. */
  function keptContents(): Set<string> {
    return new Set(store().values());
  }

  function damage(change: (bytes: Buffer) => void): void {
    for (const suffix of ['-wal', '-shm']) rmSync(temp.catalogFile + suffix, { force: true });
    rmSync(`${temp.catalogFile}.runs`, { recursive: true, force: true });
    const bytes = Buffer.from(healthy);
    change(bytes);
    writeFileSync(temp.catalogFile, bytes);
  }

  const WORKS: Record<string, (place: Place) => Promise<unknown>> = {
    recovery: async (place) => recover(place),
    'a listing': async (place) => allTombstones(place),
    'a sweep': async (place) => sweepOld(place),
    'a purge': async (place) => purgeDue(place),
    'a restore': async (place) => bringBack(place, allTombstones(place).slice(0, 20)),
  };

  /** Does everything with the catalog as it is; gives what was said of it. */
  async function useAll(): Promise<string[]> {
    const said: string[] = [];
    const tried = async (work: () => Promise<void>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        said.push(clear(error));
      }
    };
    await tried(async () => {
      const place = await open();
      for (const work of Object.values(WORKS)) await tried(async () => void (await work(place)));
      place.store.close();
      place.catalog.close();
    });
    return said;
  }

  async function open(): Promise<Place> {
    const config = { ...storeConfigFromUrl(`file://${temp.root}`), name: 'spec', safetyWindow: temp.window };
    const catalog = Catalog.open(temp.catalogFile);
    try {
      const { clock } = temp;
      return await openPlace(catalog, config, {
        clock,
        random: seeded(9),
        actor: ACTOR,
        report: () => undefined,
      });
    } catch (error) {
      catalog.close();
      throw error;
    }
  }

  function clear(error: unknown): string {
    if (!(error instanceof TombstonedError))
      throw new Error(`no clear error: ${String(error)}`, { cause: error });
    expect(error.message).not.to.include('\n');
    expect(error.hint, error.message).to.be.a('string');
    return error.message;
  }

  it('is told of in one line, and costs the store nothing, wherever the damage is', async function () {
    this.timeout(60_000);
    const random = seeded(SEED);
    let told = 0;
    for (let round = 0; round < 60; round++) {
      const at = PAGE + random(healthy.length - 2 * PAGE);
      const length = [1, 16, 300, PAGE, 3 * PAGE][round % 5] ?? 1;
      const what = `seed ${SEED}, round ${round}: ${length} bytes at ${at}`;
      damage((bytes) => {
        for (let i = at; i < Math.min(at + length, bytes.length); i++) bytes[i] = random(256);
      });
      let said: string[];
      try {
        said = await useAll();
      } catch (error) {
        throw new Error(`${what}: ${String(error)}`, { cause: error });
      }
      if (said.length > 0) told++;
      const kept = keptContents();
      for (const content of contents.values())
        expect(kept.has(content), `${what} lost ${content}`).to.equal(true);
    }
    expect(told, 'rounds in which anything was told').to.be.greaterThan(5);
  });
});
