import { closeSync, createReadStream, fstatSync, openSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { messageOf, TombstonedError } from '../domain/errors.ts';
import { parseTombstoneId } from '../domain/ids.ts';
import { asKey, type Key, keyProblem, quote } from '../domain/key.ts';
import { linesOf } from '../domain/lines.ts';
import type { Call } from './command.ts';
import { usageError } from './fail.ts';

/** What a command is to act on: a key, or one tombstone by its id. */
export type Target = { readonly by: 'key'; readonly key: Key } | { readonly by: 'id'; readonly id: string };

/** What the command line and `--from-file` name; their `each` may be called once. */
export interface Named<T> {
  /** How many the command line itself names. */
  readonly named: readonly T[];
  /** Whether there is a file of more. */
  readonly hasFile: boolean;
  /**
   * All of them; memory does not grow with their number. The signal ends the wait
   * for stdin. Throws `usage` with the line of one that is none.
   */
  each(signal?: AbortSignal): AsyncIterable<T>;
}

/** Keys and ids. */
export type Targets = Named<Target>;

/** How one thing that is named is read, by itself and as JSON; `where` is its line, or nothing. */
interface Reading<T> {
  readonly text: (text: string, where: string) => T;
  readonly json: (text: string, where: string) => T;
}

/** Keys and ids of tombstones. */
export async function targetsOf({ operands, options }: Call, file?: string): Promise<Targets> {
  const text = (one: string, where: string): Target => targetOf(one, options.key, where);
  return namedIn(operands, file, { text, json: fromJson });
}

/** Ids of holds, leases or fences; a JSON line is what a command that lists them has written. */
export async function idsOf({ operands }: Call, file?: string): Promise<Named<string>> {
  return namedIn(operands, file, { text: (text) => text, json: idFromJson });
}

/**
 * Reads the operands, and opens `--from-file` before the process may become
 * another user. A file that can be read twice is checked whole before any of it
 * is acted upon.
 */
async function namedIn<T>(
  operands: readonly string[],
  file: string | undefined,
  reading: Reading<T>,
): Promise<Named<T>> {
  const named = operands.map((text) => reading.text(text, ''));
  if (file === undefined) return { named, hasFile: false, each: () => both(named, undefined) };
  if (file === '-') {
    const lines = (signal?: AbortSignal): Lines<T> => ({
      name: 'stdin',
      chunks: untilAborted(process.stdin, signal),
      reading,
    });
    return { named, hasFile: true, each: (signal) => both(named, lines(signal)) };
  }
  const fd = open(file);
  const lines = (): Lines<T> => ({ name: file, chunks: chunksOf(fd), reading });
  if (fstatSync(fd).isFile()) for await (const _ of eachIn(lines())) continue;
  return {
    named,
    hasFile: true,
    each: async function* () {
      try {
        yield* both(named, lines());
      } finally {
        closeSync(fd);
      }
    },
  };
}

interface Lines<T> {
  readonly name: string;
  readonly chunks: AsyncIterable<Uint8Array>;
  readonly reading: Reading<T>;
}

async function* both<T>(named: readonly T[], lines: Lines<T> | undefined): AsyncGenerator<T> {
  yield* named;
  if (lines !== undefined) yield* eachIn(lines);
}

function open(file: string): number {
  try {
    return openSync(file, 'r');
  } catch (error) {
    throw usageError(
      `--from-file ${quote(file)} can't be read: ${messageOf(error)}`,
      'name a file with a key or id a line, or - for stdin',
      file,
    );
  }
}

/** A stream's chunks up to the signal; it may never end by itself. */
async function* untilAborted(stream: Readable, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const stop = (): void => void stream.destroy();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    if (signal?.aborted !== true) yield* stream;
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

/** From the beginning, where the file can be read again. */
function chunksOf(fd: number): AsyncIterable<Uint8Array> {
  const start = fstatSync(fd).isFile() ? { start: 0 } : {};
  return createReadStream('', { fd, autoClose: false, ...start });
}

async function* eachIn<T>({ name, chunks, reading }: Lines<T>): AsyncGenerator<T> {
  let number = 0;
  for await (const line of linesOf(chunks)) {
    number++;
    const where = `${name}, line ${number}: `;
    if ('problem' in line) throw usageError(`${where}${line.problem}`, line.hint, name);
    const { text } = line;
    if (text === '' || text.startsWith('#')) continue;
    yield text.startsWith('{') ? reading.json(text, where) : reading.text(text, where);
  }
}

function targetOf(text: string, isKey: boolean, where: string): Target {
  if (!isKey && parseTombstoneId(text) !== undefined) return { by: 'id', id: text };
  return { by: 'key', key: keyOf(text, where) };
}

function keyOf(text: string, where: string): Key {
  const key = asKey(text);
  if (key !== undefined) return key;
  throw usageError(
    `${where}${quote(text)} is not a key: it ${keyProblem(text)}`,
    "a key is the object's path below the store's root, such as metadata/a.meta",
    text,
  );
}

/** `{"key":…}`, as `ls --json` and `keys --json` write it; with an `id`, it is about that tombstone. */
function fromJson(text: string, where: string): Target {
  const { key, id } = jsonOf(text, where);
  if (typeof id === 'string' && parseTombstoneId(id) !== undefined) return { by: 'id', id };
  if (typeof key !== 'string') throw usageError(`${where}the object has no "key"`, 'write {"key":"…"}');
  return { by: 'key', key: keyOf(key, where) };
}

/** `{"id":…}`, as `holds --json` writes it. */
function idFromJson(text: string, where: string): string {
  const { id } = jsonOf(text, where);
  if (typeof id === 'string') return id;
  throw usageError(`${where}the object has no "id"`, 'write {"id":"…"}');
}

function jsonOf(text: string, where: string): { key?: unknown; id?: unknown } {
  try {
    return membersOf(JSON.parse(text));
  } catch (error) {
    throw usageError(
      `${where}not valid JSON: ${messageOf(error)}`,
      'a key that begins with { is written as JSON',
    );
  }
}

function membersOf(value: unknown): { key?: unknown; id?: unknown } {
  return typeof value === 'object' && value !== null ? value : {};
}

/** Throws `usage` when nothing is named at all; `page` is the command whose help says more. */
export function needTargets(targets: Named<unknown>, command: string, what: string, page = command): void {
  if (targets.named.length > 0 || targets.hasFile) return;
  throw usageError(`${command} needs ${what}`, `see tombstonectl ${page} --help`);
}

/** The keys of targets, for a command that takes no ids. */
export async function* keysOf(targets: Targets, command: string, signal: AbortSignal): AsyncGenerator<Key> {
  for await (const target of targets.each(signal)) yield keyOnly(target, command);
}

/** A target that must be a key. */
export function keyOnly(target: Target, command: string): Key {
  if (target.by === 'key') return target.key;
  throw new TombstonedError('usage', `${command} takes keys, and ${target.id} looks like a tombstone's id`, {
    key: target.id,
    hint: 'add --key if it is a key',
  });
}
