import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { DropIn, Guards, Limits } from '../../lib/policy/policy.ts';
import type { Place } from '../../lib/run/place.ts';
import { type SweepResult, sweep } from '../../lib/sweep/sweep.ts';
import { NO_GUARDS, NO_LIMITS, TempPlace } from '../support/place.ts';

/** A line of a result. */
export interface Result {
  readonly type: string;
  readonly key: string;
  readonly id: string | null;
  readonly outcome: string;
  readonly detail: string | null;
  readonly reason: string | null;
  readonly sweep: string | null;
  readonly decision: string | null;
}

export interface ServeOptions {
  readonly limits?: Limits;
  readonly guards?: Guards;
  readonly dryRun?: boolean;
  readonly isOnlyNew?: boolean;
  readonly place?: Place;
  readonly signal?: AbortSignal;
  readonly batchSize?: number;
}

/** A temporary store with a drop-in directory beside it. */
export class InboxPlace {
  readonly temp: TempPlace;
  readonly inbox: string;

  private constructor(temp: TempPlace) {
    this.temp = temp;
    this.inbox = path.join(temp.directory, 'requests');
    mkdirSync(this.inbox);
  }

  static async make(parent?: string): Promise<InboxPlace> {
    return new InboxPlace(await TempPlace.make(parent));
  }

  /** The policy that takes what lies there. */
  dropIn(limits: Limits = NO_LIMITS): DropIn {
    return { name: 'requests', directory: this.inbox, limits };
  }

  /** Moves a file into place, as other programs do. */
  drop(name: string, content: string | Buffer): void {
    const outside = path.join(this.temp.directory, `${name}.writing`);
    writeFileSync(outside, content);
    renameSync(outside, path.join(this.inbox, `${name}.keys`));
  }

  async serve(options: ServeOptions = {}): Promise<SweepResult> {
    this.temp.clock.advance(1000); // an id is used once
    const { limits, place: given, guards = NO_GUARDS, dryRun = false, batchSize = 1000, ...others } = options;
    const place = given ?? this.temp.open();
    try {
      const dropIns = [this.dropIn(limits)];
      return await sweep(place, { policies: [], dropIns, guards, dryRun, batchSize, ...others });
    } finally {
      if (given === undefined) this.temp.close(place);
    }
  }

  /** All files there but temporary ones. */
  files(): string[] {
    return readdirSync(this.inbox)
      .filter((name) => !name.startsWith('.'))
      .toSorted();
  }

  results(name: string): Result[] {
    return readFileSync(path.join(this.inbox, `${name}.done`), 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Result);
  }

  outcomes(name: string): [string, string][] {
    return this.results(name).map(({ key, outcome }) => [key, outcome]);
  }
}
