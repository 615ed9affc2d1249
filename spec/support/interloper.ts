import { execFileSync } from 'node:child_process';
import {
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

/** What somebody may put in a live file's place. */
export const KINDS = [
  'file',
  'empty directory',
  'filled directory',
  'link',
  'link to a directory',
  'dangling link',
  'FIFO',
] as const;
export type Kind = (typeof KINDS)[number];

/**
 * Somebody who puts things in a live file's place, and keeps account: of what
 * they put there, and of what they themselves replaced, which nobody else lost.
 */
export class Interloper {
  readonly #aside: string;
  readonly #live: string;
  readonly #seconds: number;
  readonly #mustBe: Set<string>;
  #count = 0;
  #last: bigint | undefined;

  /** `aside` is on the same disk, and outside the store; new files are as old as `seconds` since 1970 says. */
  constructor(aside: string, live: string, seconds: number) {
    mkdirSync(aside, { recursive: true });
    this.#aside = mkdtempSync(path.join(aside, 'i-'));
    this.#live = live;
    this.#seconds = seconds;
    this.#mustBe = new Set(thingsAt(live));
  }

  /** Everything that must still be somewhere. */
  get mustBe(): readonly string[] {
    return [...this.#mustBe];
  }

  /** Replaces what is there now: a file atomically, by renaming over it. */
  put(kind: Kind): void {
    for (const thing of thingsAt(this.#live)) this.#mustBe.delete(thing);
    const made = path.join(this.#aside, `made-${this.#count++}`);
    this.#make(kind, made);
    for (const thing of thingsAt(made)) this.#mustBe.add(thing);
    const now = lstatSync(this.#live, { throwIfNoEntry: false });
    if (now !== undefined && (now.isDirectory() || lstatSync(made).isDirectory())) {
      rmSync(this.#live, { recursive: true });
    }
    // A directory that is renamed back may replace an empty one.
    this.#last = kind === 'empty directory' ? undefined : lstatSync(made, { bigint: true }).ino;
    renameSync(made, this.#live);
  }

  /** Whether what was put there last is there, or nothing ever was that nobody may replace. */
  get isLastLive(): boolean {
    const now = lstatSync(this.#live, { bigint: true, throwIfNoEntry: false });
    return this.#last === undefined || now?.ino === this.#last;
  }

  #make(kind: Kind, made: string): void {
    const content = `${kind} ${this.#count} of ${this.#aside}`;
    switch (kind) {
      case 'file':
        writeFileSync(made, content);
        utimesSync(made, this.#seconds, this.#seconds);
        return;
      case 'empty directory':
        mkdirSync(made);
        return;
      case 'filled directory':
        mkdirSync(path.join(made, 'below'), { recursive: true });
        writeFileSync(path.join(made, 'inner'), content);
        writeFileSync(path.join(made, 'below/inner'), `below ${content}`);
        symlinkSync(`nowhere-${content}`, path.join(made, 'below/link'));
        return;
      case 'link':
        writeFileSync(`${made}-target`, 'outside');
        symlinkSync(`${made}-target`, made);
        return;
      case 'link to a directory':
        mkdirSync(`${made}-target`);
        symlinkSync(`${made}-target`, made);
        return;
      case 'dangling link':
        symlinkSync(`${made}-nowhere`, made);
        return;
      case 'FIFO':
        linkSync(fifo(path.dirname(this.#aside)), made);
    }
  }

  /** What the links lead to must be as it was made. */
  checkOutside(): string[] {
    return readdirSync(this.#aside)
      .filter((name) => name.endsWith('-target'))
      .filter((name) => {
        const target = path.join(this.#aside, name);
        return lstatSync(target).isDirectory()
          ? readdirSync(target).length > 0
          : readFileSync(target, 'utf8') !== 'outside';
      });
  }
}

let fifos = 0;

/** A new FIFO to link into place. */
function fifo(directory: string): string {
  const made = path.join(directory, `fifo-${fifos++}`);
  execFileSync('mkfifo', [made]);
  return made;
}

/** Everything below a path that has content of its own, as text: files, links, FIFOs. */
export function thingsAt(where: string): string[] {
  const stats = lstatSync(where, { throwIfNoEntry: false });
  if (stats === undefined) return [];
  if (stats.isDirectory()) {
    return readdirSync(where)
      .filter((name) => name !== '.tombstoned')
      .flatMap((name) => thingsAt(path.join(where, name)));
  }
  if (stats.isSymbolicLink()) return [`link to ${readlinkSync(where)}`];
  return [stats.isFile() ? readFileSync(where, 'utf8') : `special ${stats.ino}`];
}
