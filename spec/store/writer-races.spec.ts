import { lstatSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { pendingName } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { sameRevision } from '../../lib/domain/revision.ts';
import { type LocalFs, nodeFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import type { MoveItem, MoveOutcome } from '../../lib/store/store.ts';
import { Interloper, KINDS, type Kind, thingsAt } from '../support/interloper.ts';
import { FAST, idAt, revisionOfFile } from '../support/phases.ts';
import { DrivenClock, START } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

const KEY = parseKey('a/b/key');
const PENDING = 'pending_deletion/';
const OLD_SECONDS = START / 1000 - 1000;

/** What happens just before a call, by the call's place from 1, among all or among those that name the object. */
interface Events {
  readonly among: 'all' | 'naming';
  readonly at: ReadonlyMap<number, Kind | 'kill'>;
}
const NONE: Events = { among: 'all', at: new Map() };

class Killed extends Error {}

/** One object that is moved while somebody acts. */
class Scene {
  readonly root: string;
  readonly live: string;
  readonly item: MoveItem;
  readonly interloper: Interloper;
  #ids = 1;
  calls = 0;

  constructor(directory: string) {
    this.root = mkdtempSync(path.join(directory, 'store-'));
    this.live = path.join(this.root, KEY);
    mkdirSync(path.dirname(this.live), { recursive: true });
    writeFileSync(this.live, `old of ${this.root}`);
    utimesSync(this.live, OLD_SECONDS, OLD_SECONDS);
    const revision = revisionOfFile(this.live);
    this.item = { key: KEY, id: idAt(START, revision), revision };
    this.interloper = new Interloper(path.join(directory, 'aside'), this.live, START / 1000);
  }

  /** Moves the object; gives the outcome, or undefined when the mover was killed. */
  async move(events: Events, resume: boolean): Promise<MoveOutcome | undefined> {
    let calls = 0;
    let isBegun = false;
    let isDead = false;
    const fds = new Set<number>();
    const fs = watchedFs(
      ({ values }) => {
        if (isDead) throw new Killed();
        if (!isBegun || (events.among === 'naming' && !values.some(namesObject))) return;
        const event = events.at.get(++calls);
        if (event === undefined) return;
        isDead = event === 'kill';
        if (event === 'kill') throw new Killed();
        this.interloper.put(event);
      },
      (call, result) => {
        if (call.name === 'open') fds.add(Number(result));
        if (call.name === 'close') fds.delete(Number(call.values[0]));
      },
    );
    const store = open(this.root, fs);
    isBegun = true;
    try {
      const [outcome] = await store.move([this.item], { resume });
      if (outcome?.outcome === 'stray-directory') await this.#adopt(store);
      return outcome;
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      for (const fd of fds) nodeFs.close(fd);
      fds.clear();
      return undefined;
    } finally {
      this.calls = calls;
      isBegun = false;
      if (!isDead) store.close();
      expect(fds.size, 'left open').to.equal(0);
    }
  }

  async #adopt(store: LocalStore): Promise<void> {
    for (const stray of await store.strayFiles(KEY, this.item.id)) {
      if (stray.type !== 'stray') throw new Error(stray.why);
      const id = idAt(START + 1, stray.revision, this.#ids++);
      expect(await store.adoptStray(stray, id)).to.deep.equal({ outcome: 'moved' });
      const file = path.join(this.root, pendingName(PENDING, stray.key, id));
      expect(sameRevision(revisionOfFile(file), stray.revision)).to.equal(true);
    }
  }

  /** Nothing that the interloper did not replace themselves is gone, and the outcome is true. */
  check(outcome: MoveOutcome): void {
    const there = thingsAt(this.root);
    for (const thing of this.interloper.mustBe) expect(there, thing).to.include(thing);
    expect(this.interloper.checkOutside()).to.deep.equal([]);
    expect(this.interloper.isLastLive, 'the last thing put there is live').to.equal(true);
    const pending = path.join(this.root, pendingName(PENDING, KEY, this.item.id));
    const copy = lstatSync(pending, { throwIfNoEntry: false });
    switch (outcome.outcome) {
      case 'moved':
        expect(sameRevision(revisionOfFile(pending), this.item.revision)).to.equal(true);
        return;
      case 'put-back':
      case 'moved-other':
        expect(sameRevision(revisionOfFile(pending), outcome.revision)).to.equal(true);
        expect(copy?.isDirectory()).to.equal(false);
        return;
      case 'changed':
      case 'gone':
      case 'stray-directory':
        expect(copy, 'the pending name').to.equal(undefined);
        return;
      case 'failed':
        throw outcome.error;
    }
  }

  remove(): void {
    rmSync(this.root, { recursive: true });
  }
}

/** Whether a value is a path of the object, live or pending: between other calls it does not matter when somebody acts. */
function namesObject(value: unknown): boolean {
  return typeof value === 'string' && /\/key(?:~[^/]*)?$/.test(value);
}

function open(root: string, fs: LocalFs): LocalStore {
  return LocalStore.open({
    path: root,
    pendingPrefix: PENDING,
    access: 'write',
    clock: new DrivenClock(),
    fs,
  });
}

describe('a move, while somebody puts something in the place of the live file', () => {
  let directory: string;
  const seen = new Set<string>();
  beforeEach(() => {
    directory = mkdtempSync(path.join(FAST, 'tombstoned-'));
    seen.clear();
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  /** Plays one scene: a move with what happens in it, and then the move resumed, with nobody there. */
  async function play(
    among: Events['among'],
    ...events: readonly (readonly [at: number, what: Kind | 'kill'])[]
  ): Promise<number> {
    const scene = new Scene(directory);
    try {
      const outcome = await scene.move({ among, at: new Map(events) }, false);
      const { calls } = scene;
      if (outcome !== undefined) {
        scene.check(outcome);
        seen.add(outcome.outcome);
      }
      for (let i = 0; i < 2; i++) {
        const resumed = await scene.move(NONE, true);
        if (resumed !== undefined && outcome?.outcome !== 'stray-directory') scene.check(resumed);
      }
      return calls;
    } catch (error) {
      const what = events.map(([at, event]) => `${event} at ${at}`).join(', ');
      throw new Error(`${what}: ${String(error)}`, { cause: error });
    } finally {
      scene.remove();
    }
  }

  /** Plays a scene for each place a first event can have, and gives the number of calls there were then. */
  async function* places(first: Kind): AsyncGenerator<[at: number, calls: number]> {
    for (let at = 1; ; at++) {
      const calls = await play('naming', [at, first]);
      if (calls < at) return;
      yield [at, calls];
    }
  }

  for (const kind of KINDS) {
    const isDirectory = kind === 'empty directory' || kind === 'filled directory';
    const more = isDirectory ? 'changed' : 'put-back';

    it(`loses nothing at any call: ${kind}`, async () => {
      const calls = await play('all');
      expect(calls).to.be.greaterThan(10);
      for (let at = 1; at <= calls; at++) await play('all', [at, kind]);
      expect([...seen]).to.include.members(['moved', 'changed', more]);
    });

    it(`loses nothing at any two calls: ${kind}, and then something else`, async () => {
      for await (const [at, calls] of places(kind)) {
        for (const second of KINDS) {
          for (let next = at + 1; next <= calls + 1; next++) await play('naming', [at, kind], [next, second]);
        }
      }
      expect([...seen]).to.include(isDirectory ? 'stray-directory' : 'moved-other');
    });

    it(`loses nothing when the mover is killed after it: ${kind}`, async () => {
      for await (const [at, calls] of places(kind)) {
        for (let kill = at + 1; kill <= calls; kill++) await play('naming', [at, kind], [kill, 'kill']);
      }
      expect([...seen]).to.include(more);
    });
  }
});
