import { setTimeout as passed } from 'node:timers/promises';
import { expect } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { idTime, makeTombstoneId, systemRandom } from '../../lib/domain/ids.ts';
import type { Key } from '../../lib/domain/key.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import type { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { MoveOutcome, PutBackOutcome } from '../../lib/store/store.ts';
import type { S3Kind } from '../support/s3-request.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { type BucketKind, BucketPlace, inFlight, PENDING, withCredentials } from './bucket-place.ts';

const ROUNDS = 300;
const AT_ONCE = 20;
/** How many of the keys only show how long it takes. */
const TRIALS = 40;
/** How many keys have the same bytes put again. */
const AGAIN = 20;

type NamedKind = BucketKind & { readonly name: string };

const GUARDED: readonly NamedKind[] = [
  { name: 'RGW behind a proxy that does as Amazon', semantics: 'amazon' },
  { name: 'RGW with versions', versioned: true },
  { name: 'RGW behind a proxy that shows copies other ETags', semantics: 'amazon-kms' },
];
/** Where something is left open; the proxy also tells when requests come and are answered. */
const OPEN = [
  { name: 'RGW', semantics: 'gateway', from: 'delete' },
  { name: 'RGW that guards no delete', semantics: 'unguarded', from: 'head' },
] as const satisfies (NamedKind & { from: S3Kind })[];

/** A key with a first content, as it is listed. */
interface Prepared {
  readonly key: Key;
  readonly id: string;
  readonly item: Parameters<S3Store['move']>[0][number];
}

/** What is raced for, and who moves it; it may be taken from. */
interface Races {
  readonly store: S3Store;
  readonly prepared: Prepared[];
}

/** When something began and when it had its answer, ms. */
interface Span {
  readonly from: number;
  readonly to: number;
}

/** One race: which contents were acknowledged, and which of them are neither live nor pending now. */
interface Round<Outcome> {
  readonly key: Key;
  readonly outcome: Outcome;
  readonly mover: Span;
  readonly writer: Span;
  readonly lost: readonly string[];
}

describe('races for a key on a real server', function () {
  this.timeout(120_000);
  before(function () {
    s3ServerOrSkip(this);
  });
  withCredentials();

  for (const kind of GUARDED) {
    it(`a move takes nothing that is written meanwhile: ${kind.name}`, async () => {
      await using place = await aged(kind);
      const rounds = await raceMoves(place, await prepare(place, ROUNDS + TRIALS));
      expect(rounds.filter(({ lost }) => lost.length > 0)).to.deep.equal([]);
      expectBothSides(rounds.map(({ outcome }) => outcome.outcome));
    });
  }

  for (const { from, ...kind } of OPEN) {
    const since = from === 'head' ? 'between its last look and' : 'during';
    it(`a move takes only what is written ${since} its deletion: ${kind.name}`, async () => {
      await using place = await aged(kind);
      const { store, prepared } = await prepare(place, ROUNDS + 2 * TRIALS);
      const quiet = prepared.splice(0, TRIALS);
      for (const { item } of quiet) await store.move([item], { resume: false });
      const alone = [...windowsOf(place, quiet, from).values()];
      const rounds = await raceMoves(place, { store, prepared });
      const windows = windowsOf(place, rounds, from);
      const lost = rounds.filter((round) => round.lost.length > 0);
      process.stderr.write(
        `      ${kind.name}, ${since} the deletion: ${spoken(alone)} for moves one at a time, ` +
          `${spoken([...windows.values()])} for ${AT_ONCE} at once\n` +
          `      ${lost.length} of ${ROUNDS} writes lost that began at random within a move\n`,
      );
      const puts = spansOf(place, 'put');
      const outside = lost.filter(({ key }) => {
        const window = windows.get(key);
        const put = puts.get(key);
        return window === undefined || put === undefined || put.to < window.from || put.from > window.to;
      });
      expect(outside).to.deep.equal([]);
      if (from === 'head') expectBothSides(rounds.map((round) => (round.lost.length > 0 ? 'lost' : 'kept')));
      else expectBothSides(rounds.map(({ outcome }) => outcome.outcome));
    });
  }

  for (const kind of [...OPEN, ...GUARDED]) {
    it(`the same bytes put again between listing and copy are noticed, and stay live: ${kind.name}`, async () => {
      await using place = await aged(kind);
      const { store, prepared } = await prepare(place, AGAIN);
      await inFlight(AT_ONCE, prepared, async ({ key }) => place.put(key, first(key)));
      const outcomes = await store.move(
        prepared.map(({ item }) => item),
        { resume: false },
      );
      // Where only its ETag guards a copy, what guards the deletion notices it: then there are both.
      const isCopied = 'from' in kind;
      const noticed = isCopied ? 'moved' : 'changed';
      expect(outcomes.map(({ outcome }) => outcome)).to.deep.equal(prepared.map(() => noticed));
      const contents = await place.contents();
      for (const { key } of prepared) expect(contents.get(key), key).to.equal(first(key));
      expect(contents.size).to.equal(prepared.length * (isCopied ? 2 : 1));
    });
  }

  for (const kind of [...OPEN, ...GUARDED]) {
    it(`a restore replaces nothing that is written meanwhile: ${kind.name}`, async () => {
      await using place = await aged(kind);
      const rounds = await raceRestores(place);
      expect(rounds.filter(({ lost }) => lost.length > 0)).to.deep.equal([]);
      expectBothSides(rounds.map(({ outcome }) => outcome.outcome));
    });
  }
});

/** Behind a proxy everything is a minute old: what is younger is looked at once more before it is deleted. */
async function aged(kind: NamedKind): Promise<BucketPlace> {
  const place = await BucketPlace.make(kind);
  if (kind.semantics !== undefined) place.proxy.dateShift = 61_000;
  return place;
}

/** A race that one side always wins shows nothing. */
function expectBothSides(outcomes: readonly string[]): void {
  expect(new Set(outcomes).size, JSON.stringify([...new Set(outcomes)])).to.be.greaterThan(1);
}

/**
 * From a move's last look at its object, or from its deletion, to the answer to that, by key:
 * what is written then may be lost.
 */
function windowsOf(
  place: BucketPlace,
  moved: Iterable<{ readonly key: Key }>,
  from: 'head' | 'delete',
): Map<Key, Span> {
  const looks = spansOf(place, from);
  const deletions = spansOf(place, 'delete');
  const windows = new Map<Key, Span>();
  for (const { key } of moved) {
    const look = looks.get(key);
    const deletion = deletions.get(key);
    if (look !== undefined && deletion !== undefined) windows.set(key, { from: look.from, to: deletion.to });
  }
  return windows;
}

/** When the last request of a kind was with the server, by key. */
function spansOf(place: BucketPlace, kind: S3Kind): Map<string, Span> {
  const spans = new Map<string, Span>();
  for (const { request, cameAt, toldAt } of place.proxy.seen) {
    if (request.kind !== kind || toldAt === undefined) continue;
    spans.set(request.key.slice(place.prefix.length), { from: cameAt, to: toldAt });
  }
  return spans;
}

/** How long most of them are. */
function spoken(spans: readonly Span[]): string {
  const [half, most] = [0.5, 0.99].map((part) => {
    const lengths = spans.map(({ from, to }) => to - from).toSorted((a, b) => a - b);
    return lengths[Math.floor(lengths.length * part)]?.toFixed(1);
  });
  return `${half} ms (p99 ${most})`;
}

/** An overwrite, acknowledged by the server, against a move of the first content. */
async function raceMoves(place: BucketPlace, { store, prepared }: Races): Promise<Round<MoveOutcome>[]> {
  await store.guards(); // probed before, so that only the moves are timed
  const spread = await usual(prepared, async ({ item }) => store.move([item], { resume: false }));
  const rounds: Round<MoveOutcome>[] = [];
  await inFlight(AT_ONCE, prepared, async ({ key, item }) => {
    const [moved, written] = await Promise.all([
      timed(0, async () => store.move([item], { resume: false })),
      timed(spread, async () => place.put(key, second(key))),
    ]);
    const [outcome] = moved.result;
    if (outcome === undefined) throw new Error(`no outcome for ${key}`);
    if (outcome.outcome === 'failed') throw outcome.error;
    rounds.push({ key, outcome, mover: moved.span, writer: written.span, lost: [] });
  });
  return judged(place, rounds, ({ key, outcome }) =>
    // What was there first is replaced by its writer where it was not moved.
    outcome.outcome === 'moved' ? [first(key), second(key)] : [second(key)],
  );
}

/** A write of a key that is only pending, acknowledged by the server, against its restore. */
async function raceRestores(place: BucketPlace): Promise<Round<PutBackOutcome>[]> {
  const { store, prepared } = await prepare(place, ROUNDS + TRIALS);
  const moved = await store.move(
    prepared.map(({ item }) => item),
    { resume: false },
  );
  expect(moved.every(({ outcome }) => outcome === 'moved')).to.equal(true);
  const spread = await usual(prepared, async ({ key, item }) => store.putBack([{ ...item, to: key }]));
  const rounds: Round<PutBackOutcome>[] = [];
  await inFlight(AT_ONCE, prepared, async ({ key, item }) => {
    const [restored, written] = await Promise.all([
      timed(0, async () => store.putBack([{ ...item, to: key }])),
      timed(spread, async () => place.put(key, second(key))),
    ]);
    const [outcome] = restored.result;
    if (outcome === undefined) throw new Error(`no outcome for ${key}`);
    if (outcome.outcome === 'failed') throw outcome.error;
    rounds.push({ key, outcome, mover: restored.span, writer: written.span, lost: [] });
  });
  const live = await place.contents();
  // The writer's is live, whoever was first: a restore never comes after it.
  return rounds.map((round) => ({
    ...round,
    lost: live.get(round.key) === second(round.key) ? [] : [second(round.key)],
  }));
}

const first = (key: string): string => `first of ${key}`;
const second = (key: string): string => `second and longer of ${key}`;

/** Takes some of the keys away, to learn how long something takes that nobody disturbs: what most need, ms. */
async function usual(prepared: Prepared[], act: (one: Prepared) => Promise<unknown>): Promise<number> {
  const took: number[] = [];
  await inFlight(AT_ONCE, prepared.splice(0, TRIALS), async (one) => {
    const { span } = await timed(0, async () => act(one));
    took.push(span.to - span.from);
  });
  return took.toSorted((a, b) => a - b)[Math.floor(TRIALS * 0.8)] ?? 0;
}

/** Begins at random within so many ms. */
async function timed<T>(spread: number, work: () => Promise<T>): Promise<{ result: T; span: Span }> {
  if (spread > 0) await passed(Math.random() * spread);
  const from = performance.now();
  const result = await work();
  return { result, span: { from, to: performance.now() } };
}

async function prepare(place: BucketPlace, count: number): Promise<Races> {
  const keys = Array.from({ length: count }, (_, i) => `race/${i}`);
  await place.putAll(Object.fromEntries(keys.map((key) => [key, first(key)])));
  // Two contents of a key never share a time, which is in whole seconds.
  await passed(1100);
  const store = await place.store(systemClock, AT_ONCE);
  const prepared: Prepared[] = [];
  const time = idTime(Date.now());
  for await (const page of store.list('race/')) {
    for (const listed of page) {
      if (listed.type === 'refused') throw new Error(listed.why);
      const { key, revision } = listed;
      const id = makeTombstoneId(time, revisionHash(revision), prepared.length, systemRandom);
      prepared.push({ key, id, item: { key, id, revision } });
    }
  }
  expect(prepared).to.have.length(count);
  return { store, prepared };
}

async function judged<Outcome>(
  place: BucketPlace,
  rounds: readonly Round<Outcome>[],
  acknowledged: (round: Round<Outcome>) => readonly string[],
): Promise<Round<Outcome>[]> {
  const held = new Map<string, Set<string>>();
  for (const [name, content] of await place.contents()) {
    const key = name.startsWith(PENDING) ? name.slice(PENDING.length, name.lastIndexOf('~')) : name;
    held.set(key, (held.get(key) ?? new Set()).add(content));
  }
  return rounds.map((round) => ({
    ...round,
    lost: acknowledged(round).filter((content) => held.get(round.key)?.has(content) !== true),
  }));
}
