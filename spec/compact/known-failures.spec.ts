import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { asKey, type Key, parseKey } from '../../lib/domain/key.ts';
import { Reader } from '../../lib/reader/reader.ts';
import type { Place } from '../../lib/run/place.ts';
import { FAST, holdElsewhere, purgeDue } from '../support/phases.ts';
import { DAY, HOUR } from '../support/place.ts';
import { AptosPlace, backupOf, compactIn } from './aptos-place.ts';
import { compactAsTheOriginal, type OriginalOptions, restoreAsTheOriginal } from './original.ts';

/** Each is shown of a model of the original compactor first, and then not to happen with ours. */
describe('what is known to fail with the original compactor', () => {
  let place: AptosPlace;
  let root: string;
  const all = [...backupOf(10).values()].map((text) => text.trim());

  beforeEach(async () => {
    place = await AptosPlace.make();
    root = mkdtempSync(path.join(FAST, 'tombstoned-original-'));
    cpSync(place.directory, path.join(root, 'metadata'), { recursive: true });
  });
  afterEach(() => {
    place.temp.remove();
    rmSync(root, { recursive: true });
  });

  function original(before?: OriginalOptions['before']): void {
    const options = { factor: 4, now: place.now, removeAfter: DAY / 1000 };
    compactAsTheOriginal(root, before === undefined ? options : { ...options, before });
  }

  function originalNames(): string[] {
    const view = Object.create(AptosPlace.prototype, { directory: { value: path.join(root, 'metadata') } });
    return (view as AptosPlace).names();
  }

  /** What a restore gets of the files that it has listed, through the reader. */
  async function restored(open: Place, listed: readonly string[]): Promise<Set<string>> {
    const reader = new Reader(open.store);
    const lines = new Set<string>();
    for (const name of listed) {
      const object = await reader.open(parseKey(`metadata/${name}`));
      const chunks: Buffer[] = [];
      for await (const chunk of object.read()) chunks.push(Buffer.from(chunk as Uint8Array));
      for (const line of Buffer.concat(chunks).toString().split('\n')) if (line !== '') lines.add(line);
    }
    return lines;
  }

  it('1: a restore has listed, the compactor moves, and the restore goes on without; with ours it is complete', async () => {
    original();
    await place.compact();
    place.temp.clock.advance(DAY + 2000);
    const [listed, theirs] = [place.names(), originalNames()];
    original();
    const lost = restoreAsTheOriginal(root, theirs);
    expect(lost.warnings).to.have.length(25);

    expect((await place.compact()).tombstoned).to.equal(25);
    const lines = await restored(place.open(), listed);
    expect([...lines]).to.include.members(all);
  });

  it('2: what expired in an earlier run goes at once, however recently it was listed; with ours it has its window, and the restore is complete', async () => {
    // The audit's proof of concept: expired by an earlier run, listed, and a compaction in between.
    original();
    await place.compact();
    place.temp.clock.advance(30 * DAY);
    const [listed, theirs] = [place.names(), originalNames()];
    place.temp.clock.advance(1000);
    original();
    await place.compact();
    expect(restoreAsTheOriginal(root, theirs).warnings).to.have.length(25);
    const { wanted, found } = { wanted: all, found: await restored(place.open(), listed) };
    expect([...found]).to.include.members(wanted);

    place.temp.clock.advance(place.temp.window - HOUR);
    const open = place.open();
    expect((await purgeDue(open)).purged, 'a restore that takes as long as the window').to.equal(0);
    expect([...(await restored(open, listed))]).to.include.members(all);
  });

  it('3: a compaction that is killed leaves a file cut short, which later runs take as whole, and lines are lost; ours writes it again', async () => {
    const kill: OriginalOptions['before'] = (step, name) => {
      if (step === 'write' && name === 'transaction_compacted_40-79.meta') throw new Error('killed');
    };
    expect(() => original(kill)).to.throw('killed');
    cpSync(path.join(root, 'metadata'), place.directory, { recursive: true });
    for (let run = 0; run < 2; run++) {
      original();
      await place.compact();
      place.temp.clock.advance(DAY + 2000);
    }
    const { lines } = restoreAsTheOriginal(root, originalNames());
    expect(all.filter((line) => !lines.has(line))).to.have.length(2);

    expect((await place.compact()).redone, 'it was by an earlier run').to.equal(0);
    expect([...place.lines()]).to.have.members(all);
    expect(place.content('transaction_compacted_40-79.meta').split('\n')).to.have.length(5);
  });

  it('4: a file that could not be moved starts a new period; with ours it keeps its time, and goes with the next run', async () => {
    const name = 'transaction_0-9.meta';
    original();
    await place.compact();
    const since = place.timestamps()[`metadata/${name}`];
    place.temp.clock.advance(DAY + 2000);
    original((step, file) => {
      if (step === 'move' && file === name) throw new Error('EACCES');
    });
    place.temp.clock.advance(2000);
    original();
    expect(existsSync(path.join(root, 'metadata', name)), 'a day more').to.equal(true);

    const open = place.open();
    await holdElsewhere(open, [`metadata/${name}`]);
    const { kept } = await compactIn(open);
    expect(kept.get('hold')).to.equal(1);
    place.date();
    expect(place.timestamps()[`metadata/${name}`]).to.equal(since);
    place.temp.clock.advance(HOUR + 2000);
    const { outcomes } = await place.compact();
    expect(outcomes.get(keyOf(name))?.outcome).to.equal('tombstoned');
  });
});

function keyOf(name: string): Key {
  const key = asKey(`metadata/${name}`);
  if (key === undefined) throw new Error(name);
  return key;
}
