import { lstatSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { sameRevision } from '../../lib/domain/revision.ts';
import type { Place } from '../../lib/run/place.ts';
import { Faults, Killed, oneIn, SHIFT } from '../support/faults.ts';
import { Interloper, KINDS, type Kind, thingsAt } from '../support/interloper.ts';
import {
  allTombstones,
  FAST,
  pendingFiles,
  purgeDue,
  readThrough,
  revisionOfFile,
  sweepOld,
} from '../support/phases.ts';
import { age, DAY, TempPlace } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

/** What is put there before which call, from 1; or the kill, before which call after that. */
type Event = readonly [at: number, what: Kind | 'kill'];

/** One sweep of one key, in a store where others were before it, while somebody acts. */
class Scene {
  readonly temp: TempPlace;
  readonly prefix: string;
  readonly key: string;
  readonly live: string;
  readonly interloper: Interloper;
  calls = 0;
  /** Whether something was put there, and how many calls there were since. */
  hasActed = false;
  callsSince = 0;
  /** Whether files of a directory that could not go back have tombstones. */
  hadStrays = false;
  #seed: number;

  constructor(temp: TempPlace, n: number, msAgo: number) {
    this.temp = temp;
    this.prefix = `scene${n}/`;
    this.key = `${this.prefix}deeper/key`;
    this.live = path.join(temp.root, this.key);
    this.#seed = n * 10;
    temp.write(this.key, `old of ${this.prefix}`, 3 * DAY);
    temp.write(`${this.prefix}neighbour`, 'young');
    const seconds = (temp.clock.wall - msAgo) / 1000;
    this.interloper = new Interloper(path.join(temp.directory, 'aside'), this.live, seconds);
  }

  /** Opens the place as a new process does, and closes it. */
  async as(work: (place: Place) => Promise<void>): Promise<void> {
    const place = this.temp.open({ seed: ++this.#seed });
    try {
      await work(place);
    } finally {
      this.temp.close(place);
    }
  }

  async sweepIn(place: Place): Promise<void> {
    await sweepOld(place, { policies: [age({ prefix: this.prefix })] });
  }

  /** The sweep, in a process of its own, which may be killed. */
  async sweepWith(among: 'all' | 'naming', events: readonly Event[]): Promise<void> {
    const faults = new Faults();
    const kill = events.find(([, what]) => what === 'kill')?.[0];
    const fs = watchedFs(
      ({ values }) => {
        if (this.hasActed) this.callsSince++;
        if (this.hasActed && this.callsSince === kill) faults.end();
        if (among === 'naming' && !values.some(namesObject)) return;
        this.calls++;
        for (const [at, what] of events) {
          if (at !== this.calls || what === 'kill') continue;
          this.interloper.put(what);
          this.hasActed = true;
          this.callsSince = 0;
        }
      },
      undefined,
      faults.fs(),
    );
    const place = this.temp.open({
      fs,
      catalog: (catalog) => faults.catalog(catalog),
      seed: ++this.#seed,
    });
    try {
      await this.sweepIn(place);
    } catch (error) {
      if (!faults.isDead || !isKilled(error)) throw error;
    } finally {
      faults.end();
      this.temp.abandon(place);
    }
  }

  /** Each tombstone is true of its file, and each file below the pending directory has one. */
  checkRows(place: Place): void {
    const pending = new Set(pendingFiles(this.temp).filter((name) => name.startsWith(this.prefix)));
    for (const tombstone of allTombstones(place)) {
      if (!tombstone.key.startsWith(this.prefix)) continue;
      this.hadStrays ||= tombstone.key.startsWith(`${this.key}/`);
      const name = `${tombstone.key}~${tombstone.id}`;
      const isThere = pending.delete(name);
      expect(isThere, `${tombstone.state} ${name}`).to.equal(
        tombstone.state === 'pending' || tombstone.state === 'restored',
      );
      if (!isThere) continue;
      const revision = revisionOfFile(path.join(this.temp.root, 'pending_deletion', name));
      expect(sameRevision(revision, tombstone.revision), `the revision of ${name}`).to.equal(true);
      expect(tombstone.size).to.equal(revision.size);
    }
    expect([...pending], 'without a tombstone').to.deep.equal([]);
    expect(place.catalog.runs.open(place.row.n), 'open runs').to.deep.equal([]);
  }

  /** Nothing that the interloper did not replace themselves is gone. */
  checkContents(): void {
    const there = [
      ...thingsAt(path.join(this.temp.root, this.prefix)),
      ...thingsAt(path.join(this.temp.root, 'pending_deletion', this.prefix)),
    ];
    for (const thing of this.interloper.mustBe) expect(there, thing).to.include(thing);
    expect(this.interloper.checkOutside()).to.deep.equal([]);
  }

  /** A reader finds what is live, or else what was; it fails aloud where that is no object. */
  async checkReader(place: Place): Promise<void> {
    const live = lstatSync(this.live, { throwIfNoEntry: false });
    const read = await readThrough(place, this.key).catch((error: unknown) => error);
    if (live?.isFile() === true) expect(read).to.equal(thingsAt(this.live)[0]);
    else if (read instanceof TombstonedError) expect(read.key).to.include(this.key);
    else expect(read).to.be.a('string');
  }
}

function isKilled(error: unknown): boolean {
  return error instanceof Killed || (error instanceof Error && isKilled(error.cause));
}

function namesObject(value: unknown): boolean {
  return typeof value === 'string' && /\/key(?:~[^/]*)?$/.test(value);
}

describe(`a sweep, while somebody puts something in the place of a live file (MATRIX_SHIFT=${SHIFT})`, () => {
  let temp: TempPlace;
  let count: number;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    count = 0;
  });
  afterEach(() => {
    temp.remove();
  });

  /** A sweep with what happens in it; recovery; a second sweep; and a purge when all is due. */
  async function play(among: 'all' | 'naming', msAgo: number, ...events: readonly Event[]): Promise<Scene> {
    const scene = new Scene(temp, ++count, msAgo);
    try {
      await scene.sweepWith(among, events);
      await scene.as(async (place) => {
        await recover(place);
        scene.checkRows(place);
        scene.checkContents();
        if (msAgo === 0) expect(scene.interloper.isLastLive, 'the last thing is live').to.equal(true);
        await scene.checkReader(place);
        await scene.sweepIn(place);
        scene.checkRows(place);
        scene.checkContents();
        if (msAgo === 0) expect(scene.interloper.isLastLive, 'and after a second sweep').to.equal(true);
        await scene.checkReader(place);
        const before = thingsAt(scene.live);
        temp.clock.advance(temp.window + DAY);
        await purgeDue(place);
        await purgeDue(place);
        scene.checkRows(place);
        expect(thingsAt(scene.live), 'live after the purge').to.deep.equal(before);
      });
      return scene;
    } catch (error) {
      const what = events.map(([at, event]) => `${event} at ${at}`).join(', ');
      throw new Error(`${what}: ${String(error)}`, { cause: error });
    }
  }

  /** Plays a scene for each naming call before which a first thing can be put there. */
  async function* places(first: Kind): AsyncGenerator<[at: number, scene: Scene]> {
    for (let at = 1; ; at++) {
      const scene = await play('naming', 0, [at, first]);
      if (scene.calls < at) return;
      yield [at, scene];
    }
  }

  it('keeps a new file, written at any call: it is live, and the old one is pending', async function () {
    this.timeout(60_000);
    const { calls } = await play('all', 0);
    expect(calls).to.be.greaterThan(40);
    for (let at = 1; at <= calls; at++) await play('all', 0, [at, 'file']);
  });

  it('keeps a new file that looks old: the next sweep gives it a tombstone of its own', async () => {
    const { calls } = await play('naming', 2 * DAY);
    for (let at = 1; at <= calls; at++) await play('naming', 2 * DAY, [at, 'file']);
  });

  for (const kind of KINDS) {
    it(`keeps what is put there at any call, and then something else: ${kind}`, async function () {
      this.timeout(60_000);
      let scenes = 0;
      for await (const [at, { calls }] of places(kind)) {
        for (const second of KINDS) {
          for (let next = at + 1; next <= calls; next++, scenes++) {
            await play('naming', 0, [at, kind], [next, second]);
          }
        }
      }
      expect(scenes).to.be.greaterThan(10);
    });
  }

  for (const kind of ['file', 'filled directory', 'dangling link'] as const) {
    it(`keeps what is put there when the sweep is killed at any call after it: ${kind}`, async function () {
      this.timeout(60_000);
      let scenes = 0;
      for await (const [at, { callsSince }] of places(kind)) {
        for (const kill of oneIn(3, placesUpTo(callsSince))) {
          await play('naming', 0, [at, kind], [kill, 'kill']);
          scenes++;
        }
      }
      expect(scenes).to.be.greaterThan(10);
    });
  }

  it('gives a directory’s files tombstones of their own also when it is killed at any call of that', async function () {
    this.timeout(60_000);
    let scenes = 0;
    for await (const [at, { calls }] of places('filled directory')) {
      for (let next = at + 1; next <= calls; next++) {
        const events = [
          [at, 'filled directory'],
          [next, 'file'],
        ] as const;
        const { callsSince, hadStrays } = await play('naming', 0, ...events);
        if (!hadStrays || scenes > 0) continue;
        for (const kill of oneIn(3, placesUpTo(callsSince))) {
          await play('naming', 0, ...events, [kill, 'kill']);
          scenes++;
        }
      }
    }
    expect(scenes).to.be.greaterThan(10);
  });
});

function placesUpTo(last: number): number[] {
  return Array.from({ length: last }, (_, i) => i + 1);
}
