import { readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { type CompactOptions, type CompactResult, compact } from '../../lib/compact/compact.ts';
import type { Place } from '../../lib/run/place.ts';
import type { HandOutcome } from '../../lib/sweep/hand-outcome.ts';
import { FAST } from '../support/phases.ts';
import { DAY, NO_GUARDS, NO_LIMITS, TempPlace } from '../support/place.ts';

/** Metadata of a backup: so many epochs of ten versions each, and a snapshot at the end of every second. */
export function backupOf(epochs: number, from = 0): Map<string, string> {
  const files = new Map<string, string>();
  for (let epoch = from; epoch < from + epochs; epoch++) {
    const [first, last] = [epoch * 10, epoch * 10 + 9];
    files.set(
      `epoch_ending_${epoch}-${epoch}.meta`,
      `{"EpochEndingBackup":{"first_epoch":${epoch},"last_epoch":${epoch},"first_version":${last},"last_version":${last},"manifest":"epoch_ending_${epoch}-.aa/epoch_ending.manifest"}}\n`,
    );
    files.set(
      `transaction_${first}-${last}.meta`,
      `{"TransactionBackup":{"first_version":${first},"last_version":${last},"manifest":"transaction_${first}-.aa/transaction.manifest"}}\n`,
    );
    if (epoch % 2 === 1) {
      files.set(
        `state_snapshot_ver_${last}.meta`,
        `{"StateSnapshotBackup":{"epoch":${epoch},"version":${last},"manifest":"state_epoch_${epoch}_ver_${last}.aa/state.manifest"}}\n`,
      );
    }
  }
  return files;
}

export const IDENTITY = `{"Identity":{"id":"${'ab'.repeat(32)}"}}\n`;

/** A store with the metadata of a backup, and its compactions. */
export class AptosPlace {
  readonly temp: TempPlace;
  #opened = 10;

  private constructor(temp: TempPlace) {
    this.temp = temp;
  }

  static async make(files: ReadonlyMap<string, string> = backupOf(10)): Promise<AptosPlace> {
    const place = new AptosPlace(await TempPlace.make(FAST));
    place.temp.format = 'aptos';
    place.addAll(files);
    return place;
  }

  get directory(): string {
    return path.join(this.temp.root, 'metadata');
  }

  get now(): number {
    return Math.floor(this.temp.clock.wall / 1000);
  }

  /** Files of a backup that is two hours old. */
  addAll(files: ReadonlyMap<string, string>): void {
    for (const [name, content] of files) this.temp.write(`metadata/${name}`, content, DAY / 12);
  }

  pack(): void {
    for (const name of this.names()) writeFileSync(this.file(name), gzipSync(readFileSync(this.file(name))));
  }

  file(name: string): string {
    return path.join(this.directory, name);
  }

  names(): string[] {
    return readdirSync(this.directory).toSorted();
  }

  content(name: string): string {
    const raw = readFileSync(this.file(name));
    return (raw[0] === 0x1f ? gunzipSync(raw) : raw).toString();
  }

  /** All lines that live files have, but for timestamps. */
  lines(): Set<string> {
    const lines = this.names().flatMap((name) => this.content(name).split('\n'));
    return new Set(lines.filter((line) => line !== '' && !line.startsWith('{"CompactionTimestamps"')));
  }

  timestamps(name = this.newestTimestamps()): Record<string, number> {
    const line = JSON.parse(this.content(name ?? '')) as {
      CompactionTimestamps: { compaction_timestamps: Record<string, number> };
    };
    return line.CompactionTimestamps.compaction_timestamps;
  }

  newestTimestamps(): string | undefined {
    return this.names().findLast((name) => name.startsWith('compaction_timestamps_'));
  }

  /** One run in a process of its own. */
  async compact(
    options: Partial<CompactOptions> & { factor?: number } = {},
  ): Promise<CompactResult & { outcomes: Map<string, HandOutcome> }> {
    const place = this.open();
    try {
      return await compactIn(place, options);
    } finally {
      this.temp.close(place);
      this.date();
    }
  }

  /** Opens the place as another process. */
  open(wrap: Parameters<TempPlace['open']>[0] = {}): Place {
    this.#opened += 1;
    return this.temp.open({ ...wrap, seed: this.#opened });
  }

  /** What was written just now was, by the driven clock. */
  date(): void {
    for (const name of this.names()) {
      const at = this.temp.clock.wall / 1000;
      if (statSync(this.file(name)).mtimeMs > this.temp.clock.wall) utimesSync(this.file(name), at, at);
    }
  }
}

export async function compactIn(
  place: Place,
  { factor = 4, ...options }: Partial<CompactOptions> & { factor?: number } = {},
): Promise<CompactResult & { outcomes: Map<string, HandOutcome> }> {
  const outcomes = new Map<string, HandOutcome>();
  const result = await compact(place, {
    factors: { epochEndings: factor, stateSnapshots: factor, transactions: factor },
    removeAfter: DAY,
    guards: NO_GUARDS,
    limits: NO_LIMITS,
    concurrency: 4,
    dryRun: false,
    onReplaced: (outcome) => outcomes.set(outcome.key, outcome),
    ...options,
  });
  return { ...result, outcomes };
}
