import { type Break, breaksOf, type Covered } from './continuity.ts';
import type { Backup, EpochEnding, StateSnapshot, TransactionRange } from './metadata.ts';
import type { MetadataView } from './view.ts';

/** Numbers that lines do not have, or have twice, so that a restore would have a hole or be refused. */
export interface Gap extends Covered {
  readonly of: 'epochs' | 'versions';
  readonly kind: Break['kind'];
}

/** What a restore to a version needs, as far as lines say. */
export interface RestorePlan {
  /** In the order in which the original tools read them: all epoch endings, the snapshot, all transactions. */
  readonly backups: readonly Backup[];
  /** The one it begins with, or null: it would begin with the first transaction. */
  readonly snapshot: StateSnapshot | null;
  /** Why it can't be done; none is that it can. */
  readonly gaps: readonly Gap[];
}

/** Plans a restore to a version. With gaps, `backups` are those that are there. */
export function planRestore(view: MetadataView, target: bigint): RestorePlan {
  const snapshot = view.snapshotFor(target);
  const endings = [...upTo(view.epochEndings, target, firstOfEnding)];
  const transactions = [...upTo(view.transactions, target, firstOfTransactions)];
  const backups = [...endings, ...(snapshot === null ? [] : [snapshot]), ...transactions];
  return { backups, snapshot, gaps: gapsUpTo(view, target) };
}

/** All gaps that lines show, of epochs, then of versions. */
export function allGaps(view: MetadataView): Gap[] {
  return [
    ...epochGaps(view.epochEndings, view.snapshots),
    ...[...view.transactionBreaks()].map((one) => gap('versions', one)),
  ];
}

function gapsUpTo(view: MetadataView, target: bigint): Gap[] {
  const endings = [...upTo(view.epochEndings, target, firstOfEnding)];
  const snapshots = upTo(view.snapshots, target, ({ version }) => version);
  const transactions = [...upTo(view.transactions, target, firstOfTransactions)];
  const gaps = [
    ...epochGaps(endings, snapshots),
    ...[...breaksOf(transactions.map(versionsOf))].map((one) => gap('versions', one)),
  ];
  const reached = transactions.reduce(
    (most, { lastVersion }) => (lastVersion > most ? lastVersion : most),
    -1n,
  );
  if (reached < target) gaps.push({ of: 'versions', kind: 'missing', first: reached + 1n, last: target });
  const { version } = view.restorable();
  if (gaps.length > 0 || (version !== null && target <= version)) return gaps;
  // Nothing before the target shows it: an ending that is missing is seen by what comes after.
  const [first] = epochGaps(view.epochEndings, view.snapshots);
  return [first ?? { of: 'versions', kind: 'missing', first: (version ?? -1n) + 1n, last: target }];
}

/** Where epoch endings are not continuous; a snapshot shows that all epochs before its own have ended. */
function epochGaps(endings: Iterable<EpochEnding>, snapshots: Iterable<StateSnapshot>): Gap[] {
  const epochs = [...endings].map(({ firstEpoch, lastEpoch }) => ({ first: firstEpoch, last: lastEpoch }));
  const gaps = [...breaksOf(epochs)].map((one) => gap('epochs', one));
  let ended = epochs.reduce((most, { last }) => (last > most ? last : most), -1n);
  for (const { epoch } of snapshots) {
    if (epoch <= ended + 1n) continue;
    gaps.push({ of: 'epochs', kind: 'missing', first: ended + 1n, last: epoch - 1n });
    ended = epoch - 1n;
  }
  return gaps;
}

function gap(of: Gap['of'], { kind, first, last }: Break): Gap {
  return { of, kind, first, last };
}

/** Lines in their order, up to the first that begins after the target, where the original tools stop. */
function* upTo<T>(lines: Iterable<T>, target: bigint, first: (line: T) => bigint): Generator<T> {
  for (const line of lines) {
    if (first(line) > target) return;
    yield line;
  }
}

function firstOfEnding({ firstVersion }: EpochEnding): bigint {
  return firstVersion;
}

function firstOfTransactions({ firstVersion }: TransactionRange): bigint {
  return firstVersion;
}

function versionsOf({ firstVersion, lastVersion }: TransactionRange): Covered {
  return { first: firstVersion, last: lastVersion };
}
