import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { asKey, keyProblem, parseKey } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import type { Refusal } from '../../lib/sweep/plan.ts';
import {
  allTombstones,
  bringBack,
  FAST,
  filesBelow,
  idAt,
  pendingFiles,
  purgeDue,
  readThrough,
  sweepOld,
} from '../support/phases.ts';
import { age, DAY, START, TempPlace } from '../support/place.ts';
import { watchedFs } from '../support/watched-fs.ts';

const ID = '20261122T101500123Z-k3v0q8tzm2xj4d';

const FINE = [
  'new\nline',
  'dir\nline/a',
  'tab\tand\rreturn',
  '-rf',
  '--/--',
  '~',
  '~~/~',
  ID,
  `x~${ID}`,
  'x',
  `x~${ID}~${ID}`,
  `~${ID}`,
  'spa ce ',
  ' ',
  'quote"\'`$(touch x)',
  'back\\slash',
  'per%20cent',
  '*?[a]{b}!',
  '\u{1f600}'.repeat(55),
  'e\u0301 and é',
  '\u{fffd}',
  '\u{202e}right to left',
  '.hidden',
  '...',
  '....',
  'pending_deletion2/a',
  'a/pending_deletion/b',
  '.tombstoned2/a',
  'b/tombstoned',
  'n'.repeat(220),
  `${'d'.repeat(255)}/a`,
  `${'deep/'.repeat(100)}a`,
];

const TOO_LONG = ['m'.repeat(221), 'm'.repeat(255), '\u{1f600}'.repeat(56), `fine/${'m'.repeat(230)}`];

describe('names in a local store', () => {
  let temp: TempPlace;
  let place: Place;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
  });
  afterEach(() => {
    temp.remove();
  });

  it('of any odd form live a whole life: swept, read, restored, purged', async () => {
    for (const key of FINE) temp.write(key, `content of ${key}`, 3 * DAY);
    const refusals: Refusal[] = [];
    const result = await sweepOld(place, { onRefusal: (refusal) => refusals.push(refusal) });
    expect(refusals).to.deep.equal([]);
    expect(result.moved).to.equal(FINE.length);
    for (const key of FINE) {
      expect(temp.live(key), key).to.equal(undefined);
      expect(await readThrough(place, key), key).to.equal(`content of ${key}`);
    }
    const outcomes = await bringBack(place, allTombstones(place));
    expect(new Set(outcomes.map(({ outcome }) => outcome))).to.deep.equal(new Set(['restored']));
    for (const key of FINE) expect(temp.live(key), key).to.equal(`content of ${key}`);
    temp.clock.advance(temp.window + DAY);
    expect((await purgeDue(place)).purged).to.equal(FINE.length);
    expect(pendingFiles(temp)).to.deep.equal([]);
    for (const key of FINE) expect(temp.live(key), key).to.equal(`content of ${key}`);
  });

  it('that look like another key’s pending copy are never taken for it', async () => {
    temp.write('x', 'of x', 3 * DAY);
    temp.write(`x~${ID}`, 'of the other', 3 * DAY);
    await sweepOld(place, { policies: [age({ match: '*~*' })] });
    expect(await place.store.pendingIds(parseKey('x'))).to.deep.equal([]);
    await sweepOld(place);
    expect(await readThrough(place, 'x')).to.equal('of x');
    expect(await readThrough(place, `x~${ID}`)).to.equal('of the other');
  });

  it('too long to be tombstoned are told when planned, with what is allowed; the rest goes on', async () => {
    for (const key of [...TOO_LONG, 'fine/a']) temp.write(key, key, 3 * DAY);
    const refusals: Refusal[] = [];
    const result = await sweepOld(place, { dryRun: true, onRefusal: (refusal) => refusals.push(refusal) });
    expect(refusals.map(({ key }) => key)).to.have.members(TOO_LONG);
    for (const { why } of refusals)
      expect(why).to.match(/too long to be tombstoned: 2\d\d bytes, at most 220/);
    expect(result.planned).to.equal(1);
    const { moved, failed } = await sweepOld(place);
    expect([moved, failed]).to.deep.equal([1, 0]);
    for (const key of TOO_LONG) expect(temp.live(key)).to.equal(key);
  });

  it('that are not UTF-8 are told and left: a file, and a directory with all in it', async () => {
    const put = (name: Buffer): void => {
      writeFileSync(name, 'old');
      const at = (temp.clock.wall - 3 * DAY) / 1000;
      utimesSync(name, at, at);
    };
    const below = (...names: Buffer[]): Buffer =>
      Buffer.concat([Buffer.from(temp.root), ...names.flatMap((name) => [Buffer.from('/'), name])]);
    const bad = Buffer.from([0x62, 0xff, 0xfe]);
    put(below(bad));
    mkdirSync(below(Buffer.from([0xc3])));
    put(below(Buffer.from([0xc3]), Buffer.from('inner')));
    temp.write('fine', 'old', 3 * DAY);
    const refusals: Refusal[] = [];
    const { moved } = await sweepOld(place, { onRefusal: (refusal) => refusals.push(refusal) });
    expect(moved).to.equal(1);
    expect(refusals.map(({ why }) => why)).to.deep.equal(['its name is not UTF-8', 'its name is not UTF-8']);
    const names = readdirSync(temp.root, { encoding: 'buffer' }).map((name) => name.toString('hex'));
    expect(names).to.include.members([bad.toString('hex'), 'c3']);
    expect(readdirSync(below(Buffer.from([0xc3])))).to.deep.equal(['inner']);
  });
});

describe('keys in a local store', () => {
  let temp: TempPlace;
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
  });
  afterEach(() => {
    temp.remove();
  });

  const piece = fc.constantFrom(
    '',
    '.',
    '..',
    'a',
    'b',
    '~',
    '.tombstoned',
    'pending_deletion',
    '\0',
    '-',
    ID,
  );
  const anyText = fc.oneof(
    fc.array(piece, { maxLength: 5 }).map((segments) => segments.join('/')),
    fc.array(piece, { maxLength: 5 }).map((pieces) => pieces.join('')),
    fc.string({ unit: 'binary', maxLength: 20 }),
  );

  it('that are absolute, empty, or have a segment or a byte that no key has, are refused', () => {
    for (const text of [
      '',
      '/a',
      'a/',
      'a//b',
      './a',
      'a/.',
      '..',
      '../a',
      'a/../b',
      '.tombstoned/x',
      'a\0b',
    ]) {
      expect(() => parseKey(text), text).to.throw(/is not a key/);
    }
    fc.assert(
      fc.property(anyText, (text) => {
        const isKey = asKey(text) !== undefined;
        const segments = text.split('/');
        const isRefused =
          segments.some((segment) => ['', '.', '..', '.tombstoned'].includes(segment)) ||
          text.includes('\0') ||
          !text.isWellFormed();
        expect(isKey, keyProblem(text)).to.equal(!isRefused);
      }),
    );
  });

  it('never lead a store to a name outside the directories that it has opened one by one', async () => {
    const paths = new Set<string>();
    const fs = watchedFs(({ values }) => {
      for (const value of values) if (typeof value === 'string' && value.includes('/')) paths.add(value);
    });
    const { root, clock } = temp;
    const store = LocalStore.open({
      path: root,
      pendingPrefix: 'pending_deletion/',
      access: 'write',
      clock,
      fs,
    });
    temp.write('a/b', 'live');
    temp.write(`pending_deletion/a/b~${ID}`, 'pending');
    const before = filesBelow(temp.directory);
    const revision = { kind: 'local', size: 1, mtimeNs: 1n } as const;
    await fc.assert(
      fc.asyncProperty(anyText, anyText, async (text, other) => {
        const key = asKey(text);
        const to = asKey(other);
        fc.pre(key !== undefined && to !== undefined);
        const item = { key, id: idAt(START, revision), revision };
        await store.head(key);
        (await store.openLive(key))?.close();
        (await store.openPending(key, ID))?.close();
        await store.headPending(key, ID);
        await store.pendingIds(key);
        await store.move([item], { resume: true });
        await store.putBack([{ ...item, id: ID, to: key }]);
        await store.remove([{ ...item, id: ID, from: 'pending' }]);
        for await (const _ of store.list(text)) continue;
        for await (const _ of store.listPending(text)) continue;
      }),
    );
    store.close();
    for (const name of paths) {
      if (name === root) continue;
      expect(name).to.match(/^(?:\.|\/proc\/self\/fd\/\d+)\/(?:[^/]+|\.tombstoned\/store\.json)$/);
      expect(path.basename(name)).not.to.equal('..');
    }
    expect(paths.size).to.be.greaterThan(20);
    expect(filesBelow(temp.directory)).to.deep.equal(before);
  });
});
