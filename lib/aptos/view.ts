import { type Break, breaksOf, type Covered, type Reach, reachOf } from './continuity.ts';
import type { EpochEnding, Metadata, StateSnapshot, TransactionRange } from './metadata.ts';
import { type RowForm, type Rows, RowsBuilder } from './rows.ts';

/** What lines say that a backup can be restored to. Whether its manifests and chunks are there is not looked at. */
export interface Restorable {
  /** The newest version; null is none. */
  readonly version: bigint | null;
  /** Epoch endings are continuous to this epoch; null is none. */
  readonly lastEpoch: bigint | null;
  /** Transactions are continuous to this version; null is none. */
  readonly lastTransaction: bigint | null;
  /** The snapshot that a restore to `version` begins with; null is none. */
  readonly snapshot: StateSnapshot | null;
}

/** Takes the lines of files, in any order and any number of times. */
export class ViewBuilder {
  readonly #epochEndings = new RowsBuilder(EPOCH_ENDING);
  readonly #snapshots = new RowsBuilder(STATE_SNAPSHOT);
  readonly #transactions = new RowsBuilder(TRANSACTION);

  /** Lines that say nothing of backups are passed over. */
  add(metadata: Metadata): void {
    switch (metadata.kind) {
      case 'epoch-ending':
        this.#epochEndings.add(metadata);
        break;
      case 'state-snapshot':
        this.#snapshots.add(metadata);
        break;
      case 'transaction':
        this.#transactions.add(metadata);
        break;
      case 'identity':
      case 'compaction-timestamps':
      case 'unknown':
        break;
    }
  }

  view(): MetadataView {
    return new MetadataView(this.#epochEndings.rows(), this.#snapshots.rows(), this.#transactions.rows());
  }
}

/** What metadata lines say of backups: each once, sorted. */
export class MetadataView {
  readonly epochEndings: Rows<EpochEnding>;
  readonly snapshots: Rows<StateSnapshot>;
  readonly transactions: Rows<TransactionRange>;

  constructor(
    epochEndings: Rows<EpochEnding>,
    snapshots: Rows<StateSnapshot>,
    transactions: Rows<TransactionRange>,
  ) {
    this.epochEndings = epochEndings;
    this.snapshots = snapshots;
    this.transactions = transactions;
  }

  /** Where epochs are missing or there twice, in order. */
  epochBreaks(): Generator<Break> {
    return breaksOf(this.#epochs());
  }

  /** Where versions are missing or there twice, in order. */
  transactionBreaks(): Generator<Break> {
    return breaksOf(this.#versions());
  }

  /** The newest snapshot at a version or before, null where there is none. */
  snapshotFor(target: bigint): StateSnapshot | null {
    for (const snapshot of this.snapshots.backwards()) if (snapshot.version <= target) return snapshot;
    return null;
  }

  /**
   * Snapshots that a restore can begin with: no newer than the newest version. One that was made before its
   * transactions were backed up is not among them yet.
   */
  usableSnapshots(): number {
    const { version } = this.restorable();
    let count = 0;
    if (version === null) return count;
    for (const snapshot of this.snapshots) if (snapshot.version <= version) count += 1;
    return count;
  }

  /** What could be restored: never more than the original tools accept and can prove. */
  restorable(): Restorable {
    const epochs = reachOf(this.#epochs());
    const transactions = reachOf(this.#versions());
    const version = this.#restorableTo(transactions);
    return {
      version,
      lastEpoch: epochs.last,
      lastTransaction: transactions.last,
      snapshot: version === null ? null : this.snapshotFor(version),
    };
  }

  #restorableTo({ last, brokenAt }: Reach): bigint | null {
    if (last === null) return null;
    // The tools refuse every target from where a line begins too early.
    const reached = brokenAt === null ? last : least(last, brokenAt - 1n);
    const proven = this.#provenTo();
    const version = proven === undefined ? reached : least(reached, proven);
    return version < 0n ? null : version;
  }

  /**
   * The last version that is sure to be proven by epoch endings that are continuous: those prove
   * their own epochs and the one after. Undefined where no line shows that an ending is missing or
   * there twice, so that there is nothing that they do not prove.
   */
  #provenTo(): bigint | undefined {
    let version = -1n;
    let unproven: bigint | undefined;
    let next = 0n;
    for (const { firstEpoch, lastEpoch, firstVersion, lastVersion } of this.epochEndings) {
      if (firstEpoch !== next) {
        unproven = firstVersion;
        break;
      }
      version = lastVersion;
      next = lastEpoch + 1n;
    }
    for (const snapshot of this.snapshots) {
      if (snapshot.epoch > next) {
        unproven = unproven === undefined ? snapshot.version : least(unproven, snapshot.version);
      } else if (snapshot.version > version) version = snapshot.version;
    }
    return unproven === undefined ? undefined : least(version, unproven - 1n);
  }

  *#epochs(): Generator<Covered> {
    for (const { firstEpoch, lastEpoch } of this.epochEndings) yield { first: firstEpoch, last: lastEpoch };
  }

  *#versions(): Generator<Covered> {
    for (const { firstVersion, lastVersion } of this.transactions)
      yield { first: firstVersion, last: lastVersion };
  }
}

const EPOCH_ENDING: RowForm<EpochEnding> = {
  width: 4,
  numbers: ({ firstEpoch, lastEpoch, firstVersion, lastVersion }) => [
    firstEpoch,
    lastEpoch,
    firstVersion,
    lastVersion,
  ],
  line: ([firstEpoch = 0n, lastEpoch = 0n, firstVersion = 0n, lastVersion = 0n], manifest) => ({
    kind: 'epoch-ending',
    firstEpoch,
    lastEpoch,
    firstVersion,
    lastVersion,
    manifest,
  }),
};

const STATE_SNAPSHOT: RowForm<StateSnapshot> = {
  width: 2,
  numbers: ({ epoch, version }) => [epoch, version],
  line: ([epoch = 0n, version = 0n], manifest) => ({ kind: 'state-snapshot', epoch, version, manifest }),
};

const TRANSACTION: RowForm<TransactionRange> = {
  width: 2,
  numbers: ({ firstVersion, lastVersion }) => [firstVersion, lastVersion],
  line: ([firstVersion = 0n, lastVersion = 0n], manifest) => ({
    kind: 'transaction',
    firstVersion,
    lastVersion,
    manifest,
  }),
};

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
