import { setTimeout as passed } from 'node:timers/promises';
import { expect } from 'chai';
import { systemClock } from '../../lib/domain/clock.ts';
import { idTime, makeTombstoneId, systemRandom } from '../../lib/domain/ids.ts';
import type { Key } from '../../lib/domain/key.ts';
import { revisionHash } from '../../lib/domain/revision.ts';
import type { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { MoveOutcome, PutBackOutcome } from '../../lib/store/store.ts';
import { s3ServerOrSkip } from '../support/s3-server.ts';
import { type BucketKind, BucketPlace, inFlight, PENDING, withCredentials } from './bucket-place.ts';

const ROUNDS = 300;
const RESTORES = 150;
const AT_ONCE = 20;
/** How many of the keys only show how long it takes. */
const TRIALS = 40;

type NamedKind = BucketKind & { readonly name: string };

const GUARDED: readonly NamedKind[] = [
  { name: 'RGW behind a proxy that does as Amazon', semantics: 'amazon' },
  { name: 'RGW with versions', versioned: true },
];
const PLAIN: NamedKind = { name: 'RGW' };

/** A key with a first content, as it is listed. */
interface Prepared {
  readonly key: Key;
  readonly id: string;
  readonly item: Parameters<S3Store['move']>[0][number];
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
      await using place = await BucketPlace.make(kind);
      const { rounds } = await raceMoves(place);
      expect(rounds.filter(({ lost }) => lost.length > 0)).to.deep.equal([]);
      expectBothSides(rounds.map(({ outcome }) => outcome.outcome));
    });
  }

  it(`a move takes nothing that is written before or after it: ${PLAIN.name}`, async () => {
    await using place = await BucketPlace.make();
    const { rounds, spread } = await raceMoves(place);
    const lost = rounds.filter((round) => round.lost.length > 0);
    // Writers begin at random within the spread: what part of them is lost is what part of it is the window.
    const window = (lost.length / ROUNDS) * spread;
    process.stderr.write(
      `      ${lost.length} of ${ROUNDS} writes lost: for ${window.toFixed(0)} ms of the ${spread.toFixed(0)} that a move takes\n`,
    );
    const apart = lost.filter(({ mover, writer }) => writer.to < mover.from || writer.from > mover.to);
    expect(apart).to.deep.equal([]);
  });

  for (const kind of [PLAIN, ...GUARDED]) {
    it(`a restore replaces nothing that is written meanwhile: ${kind.name}`, async () => {
      await using place = await BucketPlace.make(kind);
      const rounds = await raceRestores(place);
      expect(rounds.filter(({ lost }) => lost.length > 0)).to.deep.equal([]);
      expectBothSides(rounds.map(({ outcome }) => outcome.outcome));
    });
  }
});

/** A race that one side always wins shows nothing. */
function expectBothSides(outcomes: readonly string[]): void {
  expect(new Set(outcomes).size, JSON.stringify([...new Set(outcomes)])).to.be.greaterThan(1);
}

/** An overwrite, acknowledged by the server, against a move of the first content. */
async function raceMoves(place: BucketPlace): Promise<{ rounds: Round<MoveOutcome>[]; spread: number }> {
  const { store, prepared } = await prepare(place, ROUNDS);
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
  const judgement = await judged(place, rounds, ({ key, outcome }) =>
    // What was there first is replaced by its writer where it was not moved.
    outcome.outcome === 'moved' ? [first(key), second(key)] : [second(key)],
  );
  return { rounds: judgement, spread };
}

/** A write of a key that is only pending, acknowledged by the server, against its restore. */
async function raceRestores(place: BucketPlace): Promise<Round<PutBackOutcome>[]> {
  const { store, prepared } = await prepare(place, RESTORES);
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

async function prepare(
  place: BucketPlace,
  rounds: number,
): Promise<{ store: S3Store; prepared: Prepared[] }> {
  const keys = Array.from({ length: rounds + TRIALS }, (_, i) => `race/${i}`);
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
  expect(prepared).to.have.length(rounds + TRIALS);
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
