import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { type Key, parseKey } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import { createHold, type Hold } from '../../lib/store/holds.ts';
import { tombstoneByHand } from '../../lib/sweep/by-hand.ts';
import { allTombstones, bringBack, FAST, purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, NO_GUARDS, NO_LIMITS, START, TempPlace } from '../support/place.ts';

const KEYS = ['a/x', 'a/y', 'ab', 'b'];

describe('holds', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    for (const key of KEYS) temp.write(key, `content of ${key}`, 3 * DAY);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  async function hold(scope: Hold['scope'], members: Partial<Hold> = {}): Promise<void> {
    await createHold(place.store.control, {
      id: 'h-20261122T100000000Z-000001',
      kind: 'hold',
      blocks: 'sweep',
      scope,
      until: null,
      reason: 'an audit',
      by: 'me@here',
      host: 'here',
      createdAt: '2026-11-22T10:00:00.000Z',
      problem: null,
      ...members,
    });
  }

  function live(): string[] {
    return KEYS.filter((key) => temp.live(key) !== undefined);
  }

  /** What a purge of all that is due leaves. */
  async function purgeAll(): Promise<{ left: string[]; kept: Record<string, number> }> {
    temp.clock.advance(temp.window + DAY);
    const { kept } = await purgeDue(place);
    const left = allTombstones(place).filter(({ state }) => state === 'pending');
    return { left: left.map(({ key }) => key).toSorted(), kept: Object.fromEntries(kept) };
  }

  async function byHand(keys: readonly string[]): Promise<string[]> {
    const outcomes: string[] = [];
    await tombstoneByHand(place, {
      keys: keys.map((key): Key => parseKey(key)),
      reason: null,
      guards: NO_GUARDS,
      limits: NO_LIMITS,
      dryRun: false,
      onOutcome: ({ key, outcome, reason, detail }) =>
        outcomes.push(`${key} ${outcome}${reason === null ? '' : ` (${reason}) ${detail}`}`),
    });
    return outcomes;
  }

  const SCOPES: [Hold['scope'], string[]][] = [
    [{ by: 'keys', keys: ['a/x', 'b'] }, ['a/x', 'b']],
    [{ by: 'prefix', prefix: 'a' }, ['a/x', 'a/y', 'ab']],
    [{ by: 'prefix', prefix: 'a/' }, ['a/x', 'a/y']],
    [{ by: 'prefix', prefix: '' }, KEYS],
  ];
  for (const [scope, held] of SCOPES) {
    const what = JSON.stringify(scope.by === 'prefix' ? scope.prefix : held);
    it(`on ${scope.by} ${what} keep those from sweeps, from hands and from purges`, async () => {
      await hold(scope);
      const swept = await sweepOld(place);
      expect(live()).to.deep.equal(held);
      expect(swept.kept.get('hold')).to.equal(held.length);
      expect(await byHand(held)).to.deep.equal(
        held.map((key) => `${key} blocked (hold) hold h-20261122T100000000Z-000001: an audit`),
      );
      expect(live()).to.deep.equal(held);
      expect((await purgeAll()).left).to.deep.equal([]);
    });

    it(`on ${scope.by} ${what} that came after the sweep keep pending copies`, async () => {
      await sweepOld(place);
      await hold(scope);
      const { left, kept } = await purgeAll();
      expect(left).to.deep.equal(held);
      expect(kept).to.deep.equal({ hold: held.length });
    });

    it(`on ${scope.by} ${what} that block purges alone let sweeps pass`, async () => {
      await hold(scope, { blocks: 'purge' });
      await sweepOld(place);
      expect(live()).to.deep.equal([]);
      expect((await purgeAll()).left).to.deep.equal(held);
    });
  }

  it('on ids keep those tombstones from purges, and nothing else', async () => {
    temp.write('b', 'the first', 3 * DAY);
    await sweepOld(place);
    temp.write('b', 'the second', 3 * DAY);
    await sweepOld(place);
    const [first] = place.catalog.tombstones.ofKey(place.row.n, 'b', 10).toReversed();
    await hold({ by: 'ids', ids: [first?.id ?? ''] });
    temp.write('b', 'the third', 3 * DAY);
    await sweepOld(place);
    expect(live()).to.deep.equal([]);
    expect((await purgeAll()).left).to.deep.equal(['b']);
    const pending = allTombstones(place).filter(({ state }) => state === 'pending');
    expect(pending.map(({ id }) => id)).to.deep.equal([first?.id]);
  });

  it('are over at their end, and when they are released', async () => {
    await hold({ by: 'prefix', prefix: 'a/' }, { until: START + DAY });
    await hold({ by: 'keys', keys: ['b'] }, { id: 'h-20261122T100000000Z-000000' });
    await sweepOld(place);
    expect(live()).to.deep.equal(['a/x', 'a/y', 'b']);
    temp.clock.advance(DAY);
    await sweepOld(place);
    expect(live()).to.deep.equal(['b']);
    rmSync(path.join(temp.root, '.tombstoned/holds/h-20261122T100000000Z-000000.json'));
    await sweepOld(place);
    expect(live()).to.deep.equal([]);
  });

  it('called exemptions keep what was restored from policies until they end, but neither from hands nor from purges', async () => {
    await sweepOld(place);
    await bringBack(place, allTombstones(place), { exemptFor: 30 * DAY });
    const swept = await sweepOld(place);
    expect(live()).to.deep.equal(KEYS);
    expect(swept.kept.get('exempt')).to.equal(KEYS.length);
    expect(await byHand(['b'])).to.deep.equal(['b tombstoned']);
    temp.clock.advance(temp.window + DAY);
    // The copy of b that was restored, and is live no more, waits for another window.
    expect((await purgeDue(place)).purged).to.equal(KEYS.length);
    expect(live()).to.deep.equal(['a/x', 'a/y', 'ab']);
    temp.clock.advance(30 * DAY);
    await sweepOld(place);
    expect(live()).to.deep.equal([]);
  });

  const NAME = 'h-20261122T100000000Z-000000';
  const WHOLE = {
    id: NAME,
    kind: 'hold',
    blocks: 'purge',
    keys: ['nothing/of/it'],
    until: null,
    reason: 'r',
    by: 'b',
    host: 'h',
    createdAt: '2026-11-22T10:00:00.000Z',
  };
  const without = (member: keyof typeof WHOLE): string => text({ ...WHOLE, [member]: undefined });
  const DAMAGED: Record<string, string> = {
    'is empty': '',
    'is cut short': text(WHOLE).slice(0, 60),
    'lacks its line end': text(WHOLE).trimEnd(),
    'is a list': '[]\n',
    'is not UTF-8': '\xff\xfe\n',
    'has a key that is not UTF-8': text({ ...WHOLE, keys: ['\xff'] }),
    'is of an unknown kind': text({ ...WHOLE, kind: 'lease' }),
    'is an exemption of an unknown sort': text({ ...WHOLE, kind: 'exempt', blocks: 'all' }),
    'blocks something unknown': text({ ...WHOLE, blocks: 'reads' }),
    'has an unknown member': text({ ...WHOLE, also: ['a/'] }),
    'names nothing': without('keys'),
    'names no key': text({ ...WHOLE, keys: [] }),
    'names keys and a prefix': text({ ...WHOLE, prefix: 'z' }),
    'names a key that is no text': text({ ...WHOLE, keys: [1] }),
    'says nothing of its end': without('until'),
    'ends at no time': text({ ...WHOLE, until: 'soon' }),
    'ends at a time that is not ISO 8601': text({ ...WHOLE, until: '1' }),
    'ends at a number': text({ ...WHOLE, until: 1 }),
    'has another id than its name': text({ ...WHOLE, id: 'h-20261122T100000000Z-000009' }),
  };
  for (const [what, body] of Object.entries(DAMAGED)) {
    it(`in a file that ${what} count as one on everything, and the file is named`, async () => {
      const file = path.join(temp.root, `.tombstoned/holds/${NAME}.json`);
      await sweepOld(place, { policies: [] });
      temp.write('c', 'pending already', 3 * DAY);
      expect(await byHand(['c'])).to.deep.equal(['c tombstoned']);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, body, 'latin1');
      expect((await sweepOld(place)).kept.get('hold')).to.equal(KEYS.length);
      expect((await byHand(['b']))[0]).to.match(/^b blocked \(hold\)/);
      expect((await purgeAll()).kept).to.deep.equal({ hold: 1 });
      expect(live()).to.deep.equal(KEYS);
      const told = temp.talk.filter((line) => line.startsWith('error:'));
      expect(told).to.have.length(1);
      expect(told[0]).to.include(`.tombstoned/holds/${NAME}.json`).and.include('everything');

      writeFileSync(file, text(WHOLE)); // brought back as it was
      await sweepOld(place);
      expect(live()).to.deep.equal([]);
    });
  }

  it('with any other name count as well', async () => {
    const file = path.join(temp.root, '.tombstoned/holds/README');
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, 'not ours');
    await sweepOld(place);
    expect(live()).to.deep.equal(KEYS);
    expect(temp.talk.join('\n')).to.include('.tombstoned/holds/README');
    rmSync(file);
    await sweepOld(place);
    expect(live()).to.deep.equal([]);
  });

  it('that can’t be read stop everything, with an error that names the file', async () => {
    mkdirSync(path.join(temp.root, `.tombstoned/holds/${NAME}.json`), { recursive: true });
    for (const work of [async () => sweepOld(place), async () => byHand(['b'])]) {
      const error = await work().catch((e: unknown) => e);
      if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
      expect(error.message).to.include(`holds/${NAME}.json`);
    }
    expect(live()).to.deep.equal(KEYS);
  });
});

function text(value: object): string {
  return `${JSON.stringify(value)}\n`;
}
