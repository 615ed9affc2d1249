import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { openReader } from '../../lib/app/reading.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Tombstone } from '../../lib/catalog/tombstones.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { revisionText } from '../../lib/domain/revision.ts';
import { STATES } from '../../lib/domain/state.ts';
import type { Reader } from '../../lib/reader/reader.ts';
import { builtProgram, tombstonectl } from '../support/built-cli.ts';
import { seeded } from '../support/place.ts';
import { TempStore } from '../support/temp-store.ts';

const KILLS = 30;
/** Files that are there from the beginning, in each store. */
const FILES = 2000;
/** Files that come between two kills, in each store. */
const FED = 150;
/** Keys that writers replace all the time: `churn` is swept between, `fresh` never. */
const REPLACED = 40;

const SEED = Number(process.env['KILLS_SEED'] ?? Date.now() % 1_000_000);

/** A content that says by itself whether it is whole. */
function content(name: string): string {
  const body = `${name}\n`.repeat(20);
  return `${createHash('sha256').update(body).digest('hex')}\n${body}`;
}

function isWhole(text: string): boolean {
  const cut = text.indexOf('\n');
  return (
    createHash('sha256')
      .update(text.slice(cut + 1))
      .digest('hex') === text.slice(0, cut)
  );
}

/** One store: what was written into it, all of which must be accounted for at the end. */
class Written {
  readonly root: string;
  /** The newest content of each key, and its mtime in s. */
  readonly newest = new Map<string, { text: string; mtime: number }>();
  #mtime = Math.floor(Date.now() / 1000) - 100 * 86_400;

  constructor(root: string) {
    this.root = root;
  }

  /** Writes a key as careful programs do: a temporary file, renamed over. Every generation has an mtime of its own. */
  write(key: string, name: string, mtime = (this.#mtime += 1)): void {
    const file = path.join(this.root, key);
    mkdirSync(path.dirname(file), { recursive: true });
    const temporary = path.join(path.dirname(this.root), `tmp-${path.basename(this.root)}`);
    const text = content(name);
    writeFileSync(temporary, text);
    utimesSync(temporary, mtime, mtime);
    renameSync(temporary, file);
    this.newest.set(key, { text, mtime });
  }

  feed(count: number, batch: string): void {
    for (let i = 0; i < count; i++) this.write(`old/${batch}/file-${i}.meta`, `old ${batch} ${i}`);
  }
}

describe('a daemon that is killed again and again', () => {
  const random = seeded(SEED);
  let temp: TempStore;
  let kept: Written;
  let purged: Written;
  let daemon: ChildProcess | undefined;
  const over = new AbortController();

  before(async function () {
    this.timeout(120_000);
    builtProgram('daemon');
    temp = new TempStore();
    const policies = [
      { name: 'old', type: 'age', prefix: 'old/', olderThan: '1d' },
      { name: 'churn', type: 'age', prefix: 'churn/', olderThan: '1d' },
    ];
    const common = { policies, sweepEvery: '0s', purgeEvery: '0s', limits: { maxFraction: null } };
    temp.configure({
      // What is swept here is never due: it must be readable at every moment.
      kept: { ...common, safetyWindow: '30d' },
      purged: { ...common, safetyWindow: '1s' },
    });
    kept = new Written(temp.rootOf('kept'));
    purged = new Written(temp.rootOf('purged'));
    for (const written of [kept, purged]) mkdirSync(written.root);
    await temp.init();
    for (const written of [kept, purged]) written.feed(FILES, 'first');
  });

  after(function () {
    this.timeout(60_000); // thousands of files go
    over.abort();
    daemon?.kill('SIGKILL');
    temp.remove();
  });

  /** Replaces keys for as long as the spec goes on. */
  async function replacing(written: Written): Promise<void> {
    for (let generation = 0; !over.signal.aborted; generation++) {
      for (let i = 0; i < REPLACED && !over.signal.aborted; i++) {
        written.write(`churn/${i}.meta`, `churn ${i} ${generation}`);
        written.write(`fresh/${i}.meta`, `fresh ${i} ${generation}`, Math.floor(Date.now() / 1000));
        await delay(5); // to replace a file takes this disk a millisecond
      }
    }
  }

  /** Reads keys that are never due, at random, for as long as the spec goes on. */
  async function reading(reader: Reader, failures: string[]): Promise<number> {
    let reads = 0;
    while (!over.signal.aborted) {
      const keys = [...kept.newest.keys()];
      for (let i = 0; i < 50; i++) {
        const key = keys[random(keys.length)] ?? '';
        try {
          const text = (await reader.bytes(parseKey(key))).toString();
          if (!isWhole(text)) failures.push(`${key}: torn`);
          if (key.startsWith('old/') && text !== kept.newest.get(key)?.text) failures.push(`${key}: wrong`);
        } catch (error) {
          failures.push(`${key}: ${String(error)}`);
        }
        reads++;
      }
      await delay(1);
    }
    return reads;
  }

  function start(): ChildProcess {
    const child = spawn(process.execPath, [builtProgram('daemon'), '--config', temp.configFile], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    daemon = child;
    return child;
  }

  /** Until it has written its first line: how long a start takes depends on what else this machine does. */
  async function begun({ stdout }: ChildProcess): Promise<void> {
    if (stdout === null) throw new Error('it has no output');
    await once(stdout, 'data');
    stdout.resume();
  }

  /** A command that an operator might give at that moment. */
  async function command(): Promise<string[]> {
    const keys = [...kept.newest.keys()].filter((key) => key.startsWith('old/'));
    const commands = [
      ['sweep', '--store', 'kept'],
      ['purge', '--store', 'purged'],
      ['status'],
      ['ls', '--limit', '3'],
      ['restore', '--store', 'kept', keys[random(keys.length)] ?? ''],
      ['tombstone', '--store', 'kept', keys[random(keys.length)] ?? ''],
    ];
    const args = commands[random(commands.length)] ?? ['status'];
    const { code, stderr } = await tombstonectl(['--config', temp.configFile, ...args]);
    // A restore of what was never swept is 3, of what a run has at that moment 5; a conflict 4.
    return [0, 3, 4, 5].includes(code ?? -1) ? [] : [`${args.join(' ')} ended with ${code}: ${stderr}`];
  }

  it(`loses nothing, leaves nothing stuck, and fails no read of what was never due (KILLS_SEED=${SEED})`, async function () {
    this.timeout(300_000);
    const failures: string[] = [];
    const reader = await openReader({ url: pathToFileURL(kept.root).href });
    const others = [replacing(kept), replacing(purged), reading(reader, failures), reading(reader, failures)];
    try {
      for (let kill = 0; kill < KILLS; kill++) {
        const child = start();
        const ended = once(child, 'exit');
        for (const written of [kept, purged]) written.feed(FED, String(kill));
        const commands = kill % 3 === 0 ? command() : [];
        // Some die while they start.
        if (kill % 6 === 5) await delay(random(400));
        else {
          await begun(child);
          await delay(random(kill % 2 === 0 ? 3000 : 1000)); // what comes first is recovery, then sweeps, then purges
        }
        expect(child.exitCode, 'the daemon ended by itself').to.equal(null);
        child.kill('SIGKILL');
        await ended;
        failures.push(...(await commands));
      }
    } finally {
      over.abort();
    }
    const [, , ...reads] = await Promise.all(others);
    reader.close();
    expect(failures).to.deep.equal([]);
    expect(reads.reduce((sum: number, count) => sum + Number(count), 0)).to.be.greaterThan(1000);

    for (const store of ['kept', 'purged']) {
      const { code, stderr } = await tombstonectl(['--config', temp.configFile, 'sweep', '--store', store]);
      expect(code, stderr).to.equal(0);
    }
    expect(countPurged(), 'purged between kills').to.be.greaterThan(0);
    const { code, stderr } = await tombstonectl(['--config', temp.configFile, 'purge', '--store', 'purged']);
    expect(code, stderr).to.equal(0);
    await checkKept();
    await checkPurged();
    const before = states('kept');
    expect((await tombstonectl(['--config', temp.configFile, 'sweep', '--store', 'kept'])).code).to.equal(0);
    expect(states('kept')).to.deep.equal(before);
  });

  function tombstones(store: string): Tombstone[] {
    const catalog = Catalog.open(temp.catalogFile);
    try {
      const row = catalog.storeByName(store);
      const all: Tombstone[] = [];
      for (let after = ''; ; ) {
        const page = catalog.tombstones.page({ store: row?.n, after, limit: 5000 });
        const last = page.at(-1);
        if (last === undefined) break;
        all.push(...page);
        after = last.id;
      }
      expect(catalog.runs.open(row?.n ?? 0), 'open runs').to.deep.equal([]);
      const tallies = catalog.tombstones.tallies(row?.n ?? 0);
      for (const state of STATES) {
        const counted = all.filter((t) => t.state === state).length;
        expect(tallies.find((t) => t.state === state)?.count ?? 0, state).to.equal(counted);
      }
      return all;
    } finally {
      catalog.close();
    }
  }

  function states(store: string): string[] {
    return tombstones(store).map(({ id, state }) => `${id} ${state}`);
  }

  function countPurged(): number {
    return tombstones('purged').filter(({ state }) => state === 'purged').length;
  }

  /** Rows and pending files are the same set. */
  function checkPairs(written: Written, rows: readonly Tombstone[]): void {
    const directory = path.join(written.root, 'pending_deletion');
    const files = readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)));
    const expected = rows
      .filter(({ state }) => state === 'pending' || state === 'restored')
      .map(({ key, id }) => `${key}~${id}`);
    expect(new Set(files)).to.deep.equal(new Set(expected));
    const stuck = rows.filter(({ state }) => ['moving', 'purging', 'restoring'].includes(state));
    expect(stuck).to.deep.equal([]);
  }

  async function checkKept(): Promise<void> {
    const rows = tombstones('kept');
    checkPairs(kept, rows);
    expect(rows.length).to.be.greaterThan(FILES);
    expect(rows.filter(({ state }) => state === 'purged')).to.deep.equal([]);
    const reader = await openReader({ url: pathToFileURL(kept.root).href });
    for (const [key, { text }] of kept.newest) {
      expect((await reader.bytes(parseKey(key))).toString() === text, key).to.equal(true);
    }
    reader.close();
    // Each tombstone is true of its file: a whole generation, of the revision that the row names.
    for (const row of rows.filter(({ state }) => state !== 'abandoned')) {
      const text = readFileSync(path.join(kept.root, `pending_deletion/${row.key}~${row.id}`), 'utf8');
      expect(isWhole(text) && text.length === row.size, row.id).to.equal(true);
    }
  }

  async function checkPurged(): Promise<void> {
    const rows = tombstones('purged');
    checkPairs(purged, rows);
    expect(countPurged()).to.be.greaterThan(FILES);
    for (const row of rows.filter(({ state }) => state === 'purged')) {
      expect((row.endedAt ?? 0) - (row.goneAt ?? 0), `${row.id} was due`).to.be.at.least(1000);
    }
    const gone = new Set(
      rows.filter(({ state }) => state === 'purged').map((t) => `${t.key} ${revisionText(t.revision)}`),
    );
    const reader = await openReader({ url: pathToFileURL(purged.root).href });
    for (const [key, { text, mtime }] of purged.newest) {
      const revision = `${Buffer.byteLength(text)}|${mtime}000000000`;
      if (gone.has(`${key} ${revision}`)) continue;
      expect((await reader.bytes(parseKey(key))).toString() === text, key).to.equal(true);
    }
    reader.close();
  }
});
