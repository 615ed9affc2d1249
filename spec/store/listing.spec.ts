import type { BigIntStats } from 'node:fs';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { type LocalFs, nodeFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { replaceLive } from '../support/phases.ts';
import { DrivenClock, TempPlace } from '../support/place.ts';

const TMPFS = 0x01021994;
const EXT4 = 0xef53;
const NAMES = ['a', 'b', 'c', 'd', 'e'];
/** How coarse times are on the disk, ms. */
const TICK = 10;

/** A clock that notes how long it was slept by. */
class NotingClock extends DrivenClock {
  readonly sleeps: number[] = [];
  override async sleep(ms: number): Promise<void> {
    this.sleeps.push(ms);
    this.advance(ms);
  }
}

/**
 * A file system at its worst: a name that is renamed over while a directory is
 * read is missed by that pass, and times change only once in a tick. Each read
 * of a name takes half a millisecond; `writer` acts just before it.
 */
class WorstCase {
  readonly clock = new NotingClock();
  readonly #type: number;
  readonly #writer: (read: number) => string | undefined;
  #changedAt: number;
  reads = 0;
  passes = 0;

  constructor(options: { type?: number; age?: number; writer?: (read: number) => string | undefined }) {
    this.#type = options.type ?? TMPFS;
    this.#writer = options.writer ?? (() => undefined);
    this.#changedAt = this.#tick() - (options.age ?? 1000);
  }

  #tick(): number {
    return Math.floor(this.clock.wall / TICK) * TICK;
  }

  /** Somebody changes the directory now. */
  change(): void {
    this.#changedAt = this.#tick();
  }

  fs(): LocalFs {
    return {
      ...nodeFs,
      fileSystemType: () => this.#type,
      fstat: (fd) => this.#withTime(nodeFs.fstat(fd)),
      opendir: (name) => this.#opened(nodeFs.opendir(name)),
    };
  }

  #withTime(stats: BigIntStats): BigIntStats {
    const ctimeNs = BigInt(this.#changedAt) * 1_000_000n;
    return Object.assign(Object.create(stats) as BigIntStats, { ctimeNs });
  }

  #opened(dir: ReturnType<LocalFs['opendir']>): ReturnType<LocalFs['opendir']> {
    const missed = new Set<string>();
    this.passes++;
    const read = dir.readSync.bind(dir);
    dir.readSync = () => {
      this.clock.advance(0.5);
      const replaced = this.#writer(++this.reads);
      if (replaced !== undefined) {
        missed.add(replaced);
        this.change();
      }
      for (let entry = read(); ; entry = read()) {
        if (entry === null || !missed.has(entry.name)) return entry;
      }
    };
    return dir;
  }
}

describe('a listing of a directory where names are renamed over', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make();
    for (const name of NAMES) temp.write(`d/${name}`, name);
  });
  afterEach(() => {
    temp.remove();
  });

  async function listed(worst: WorstCase): Promise<string[]> {
    const { clock } = worst;
    const access = 'read';
    const pendingPrefix = 'pending_deletion/';
    const store = LocalStore.open({ path: temp.root, pendingPrefix, access, clock, fs: worst.fs() });
    try {
      const keys: string[] = [];
      for await (const page of store.list('d/')) {
        for (const item of page) if (item.type === 'object') keys.push(item.key.slice(2));
      }
      return keys.toSorted();
    } finally {
      store.close();
    }
  }

  it('takes one pass, without waiting, where nobody has written for a while', async () => {
    const worst = new WorstCase({});
    expect(await listed(worst)).to.deep.equal(NAMES);
    expect([worst.passes, worst.clock.sleeps]).to.deep.equal([1, []]);
  });

  it('waits until it has seen a directory unchanged where somebody has just written', async () => {
    for (const age of [0, 5, -50, -3_600_000]) {
      const worst = new WorstCase({ age });
      expect(await listed(worst)).to.deep.equal(NAMES);
      expect([worst.passes, worst.clock.sleeps], `age ${age}`).to.deep.equal([1, [20]]);
    }
  });

  it('takes more passes, and unites them, when somebody writes in one', async () => {
    const worst = new WorstCase({ writer: (read) => (read === 1 ? 'c' : undefined) });
    expect(await listed(worst)).to.deep.equal(NAMES);
    expect(worst.passes).to.equal(2);
  });

  it('is complete wherever one or two names are renamed over, and however old the directory is', async () => {
    let withMore = 0;
    for (const age of [0, 3, 9, 12, 19, 20, 25, 1000]) {
      for (let first = 1; first <= 2 * NAMES.length; first++) {
        for (let second = first; second <= first + NAMES.length + 1; second++) {
          const writer = (read: number): string | undefined =>
            read === first ? NAMES[first % 5] : read === second ? NAMES[(second + 2) % 5] : undefined;
          const worst = new WorstCase({ age, writer });
          expect(await listed(worst), `age ${age}, at ${first} and ${second}`).to.deep.equal(NAMES);
          if (worst.passes > 1) withMore++;
        }
      }
    }
    expect(withMore).to.be.greaterThan(100);
  });

  it('is complete when a writer that wrote in every pass stops after seconds', async () => {
    const worst = new WorstCase({
      writer: (read) => (worst.clock.mono < 30_000 ? NAMES[read % 5] : undefined),
    });
    expect(await listed(worst)).to.deep.equal(NAMES);
    const { sleeps } = worst.clock;
    const pauses = sleeps.filter((ms) => ms > 20);
    expect(pauses.slice(0, 4)).to.deep.equal([40, 80, 160, 320]);
    expect(Math.max(...pauses)).to.equal(5000);
  });

  it('is an error that names the directory when a writer never stops, after a minute', async () => {
    const worst = new WorstCase({ writer: () => 'c' });
    const error = await listed(worst).catch((e: unknown) => e);
    expect(error).to.be.instanceOf(TombstonedError);
    expect((error as TombstonedError).message).to.match(/store\/d\/ never stood still/);
    expect(worst.clock.mono).to.be.within(60_000, 75_000);
  });

  it('takes one pass on ext4, which misses nothing, whoever writes', async () => {
    const worst = new WorstCase({ type: EXT4, age: 0 });
    const fs = worst.fs();
    const clock = worst.clock;
    const store = LocalStore.open({
      path: temp.root,
      pendingPrefix: 'pending_deletion/',
      access: 'read',
      clock,
      fs: {
        ...fs,
        opendir: (name) => {
          worst.change();
          return fs.opendir(name);
        },
      },
    });
    for await (const page of store.list('d/')) expect(page).to.have.length(NAMES.length);
    expect([worst.passes, clock.sleeps]).to.deep.equal([1, []]);
    store.close();
  });

  it('lists each name once, and what is really there', async () => {
    const worst = new WorstCase({
      writer: (read) => {
        if (read > 8) return undefined;
        replaceLive(temp, 'd/b', 'newer');
        return 'b';
      },
    });
    expect(await listed(worst)).to.deep.equal(NAMES);
    expect(readdirSync(path.join(temp.root, 'd')).toSorted()).to.deep.equal(NAMES);
  });
});
