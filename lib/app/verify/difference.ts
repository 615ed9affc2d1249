import path from 'node:path';
import { printable } from '../../domain/key.ts';
import type { Store } from '../../store/store.ts';
import { shellWord } from '../explanation.ts';

/** What `verify` finds, a closed list: of pending copies, of live objects, and what crashes and claims have left. */
export type Problem =
  | 'missing-copy'
  | 'missing-row'
  | 'other-key'
  | 'changed-copy'
  | 'left-copy'
  | 'future-id'
  | 'malformed-name'
  | 'unreadable-copy'
  | 'wrong-checksum'
  | 'duplicate-row'
  | 'stuck-row'
  | 'live-too'
  | 'misplaced-copy'
  | 'dead-run'
  | 'left-lock'
  | 'left-temporary'
  | 'left-fence'
  | 'unclear-fence'
  | 'dead-lease'
  | 'unclear-lease'
  | 'expired-hold'
  | 'expired-exemption'
  | 'unclear-hold';

/** Something that is not as it should be. */
export interface Difference {
  readonly problem: Problem;
  /** The key, or of what has none the path in the store. */
  readonly key: string | null;
  /** The tombstone's, run's, lease's, fence's or hold's. */
  readonly id: string | null;
  readonly detail: string;
  /** The command that mends it, or what to do. */
  readonly remedy: string;
}

/** What `--repair` did about a difference; null: it is none of the safe ones, or nobody asked. */
export type Repair = 'done' | 'would-be' | 'left' | null;

/** How command lines about a store begin, and where its names are for other programs. */
export class Remedies {
  readonly #ctl: string;
  readonly #store: Pick<Store, 'url' | 'directory'>;

  constructor(ctl: string, store: Pick<Store, 'url' | 'directory'>) {
    this.#ctl = ctl;
    this.#store = store;
  }

  /** A command of this program. */
  ctl(...words: readonly string[]): string {
    return [this.#ctl, ...words].join(' ');
  }

  move(from: string, to: string): string {
    const { directory } = this.#store;
    return directory === undefined
      ? `aws s3 mv ${this.#word(from)} ${this.#word(to)}`
      : `mv -n ${this.#word(from)} ${this.#word(to)}`;
  }

  remove(name: string): string {
    return `${this.#store.directory === undefined ? 'aws s3 rm' : 'rm'} ${this.#word(name)}`;
  }

  /** A name outside of the store, where `name` may wait for somebody to look at it. */
  away(name: string): string {
    const { directory } = this.#store;
    const base = shellWord(printable(path.basename(name)));
    return directory === undefined
      ? `aws s3 mv ${this.#word(name)} ./${base}`
      : `mv -n ${this.#word(name)} /some/other/place/`;
  }

  #word(name: string): string {
    const { directory, url } = this.#store;
    return shellWord(
      directory === undefined ? `${url.replace(/\/$/, '')}/${name}` : path.join(directory, name),
    );
  }
}
