import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Place } from '../../lib/run/place.ts';
import { type ByHand, tombstoneByHand } from '../../lib/sweep/by-hand.ts';
import type { HandOutcome } from '../../lib/sweep/hand-outcome.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  keys,
  pendingFiles,
  tombstonesOf,
} from '../support/phases.ts';
import { HOUR, NO_GUARDS, NO_LIMITS, TempPlace } from '../support/place.ts';

describe('tombstoning by hand', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  /** Tombstones keys; gives what became of each. */
  async function byHand(texts: string[], options: Partial<ByHand> = {}): Promise<HandOutcome[]> {
    const outcomes: HandOutcome[] = [];
    await tombstoneByHand(place, {
      keys: keys(...texts),
      reason: 'spec',
      guards: NO_GUARDS,
      limits: NO_LIMITS,
      dryRun: false,
      onOutcome: (outcome) => outcomes.push(outcome),
      ...options,
    });
    return outcomes;
  }

  function short(outcomes: HandOutcome[]): string[] {
    return outcomes.map(({ key, outcome }) => `${key} ${outcome}`).toSorted();
  }

  it('moves each key it is told, however young', async () => {
    for (const key of ['a', 'b/c', 'stays']) temp.write(key, key);
    expect(short(await byHand(['a', 'b/c']))).to.deep.equal(['a tombstoned', 'b/c tombstoned']);
    expect(
      filesBelow(temp.root).filter((name) => !name.startsWith('.') && !name.startsWith('pending')),
    ).to.deep.equal(['stays']);
    expect(tombstonesOf(place, 'a')[0]?.reason).to.equal('spec');
  });

  it('done again says that it is pending already; a key that never was is gone', async () => {
    temp.write('a', 'a');
    await byHand(['a']);
    expect(short(await byHand(['a', 'never']))).to.deep.equal(['a already', 'never gone']);
    expect(pendingFiles(temp)).to.have.length(1);
  });

  it('goes on past a key that it can’t look at, or that is no object', async () => {
    temp.write('a', 'a');
    mkdirSync(path.join(temp.directory, 'outside'));
    writeFileSync(path.join(temp.directory, 'outside/x'), 'outside');
    symlinkSync(path.join(temp.directory, 'outside'), path.join(temp.root, 'way'));
    symlinkSync(path.join(temp.directory, 'outside/x'), path.join(temp.root, 'link'));
    const outcomes = await byHand(['way/x', 'link', 'a', 'pending_deletion/a', 'a/below']);
    expect(short(outcomes)).to.deep.equal([
      'a tombstoned',
      'a/below gone',
      'link failed',
      'pending_deletion/a failed',
      'way/x failed',
    ]);
    expect(filesBelow(path.join(temp.directory, 'outside'))).to.deep.equal(['x']);
    expect(outcomes.find(({ key }) => key === 'way/x')?.detail).to.include('symbolic link');
  });

  it('goes on past a key whose directory becomes another store', async () => {
    temp.write('inner/x', 'of the other');
    temp.write('inner/.tombstoned/store.json', '{}\n');
    temp.write('a', 'a');
    expect(short(await byHand(['inner/x', 'a']))).to.deep.equal(['a tombstoned', 'inner/x failed']);
    expect(temp.live('inner/x')).to.equal('of the other');
  });

  it('is kept by the guards and by holds that block sweeps, not by exemptions', async () => {
    for (const key of ['young', 'guarded', 'exempt']) temp.write(key, key, key === 'young' ? 0 : 2 * HOUR);
    await byHand(['exempt']);
    await bringBack(place, tombstonesOf(place, 'exempt'));
    const guards = { minimumAge: HOUR, isProtected: (key: string) => key === 'guarded' };
    const outcomes = await byHand(['young', 'guarded', 'exempt'], { guards });
    expect(
      outcomes.map(({ key, outcome, reason }) => `${key} ${outcome} ${reason}`).toSorted(),
    ).to.deep.equal(['exempt tombstoned null', 'guarded blocked protected', 'young blocked too-young']);
  });

  it('over a limit of the whole store moves nothing', async () => {
    for (const key of ['a', 'b', 'c']) temp.write(key, key);
    const limits = { ...NO_LIMITS, maxFraction: 0.5 };
    const outcomes = await byHand(['a', 'b'], { limits });
    expect(outcomes.map(({ outcome, reason }) => [outcome, reason])).to.deep.equal([
      ['blocked', 'limit'],
      ['blocked', 'limit'],
    ]);
    expect(pendingFiles(temp)).to.deep.equal([]);
    expect(short(await byHand(['a'], { limits }))).to.deep.equal(['a tombstoned']);
  });

  it('in a dry run says what would be, and does nothing', async () => {
    temp.write('a', 'a');
    expect(short(await byHand(['a'], { dryRun: true }))).to.deep.equal(['a tombstoned']);
    expect(temp.live('a')).to.equal('a');
    expect(allTombstones(place)).to.deep.equal([]);
  });

  it('of one key twice moves it once', async () => {
    temp.write('a', 'a');
    expect(short(await byHand(['a', 'a']))).to.deep.equal(['a tombstoned']);
    expect(pendingFiles(temp)).to.have.length(1);
  });
});
