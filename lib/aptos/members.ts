import { asKey, type Key, keyProblem } from '../domain/key.ts';
import { type Json, MOST_U64, OtherNumber, shortened } from './exact-json.ts';
import { Malformed } from './malformed.ts';

/** The members of an object, as they are asked for. What is not as it should be is `Malformed`. */
export class Members {
  readonly #name: string;
  readonly #content: Json;
  #asked = 0;

  constructor(name: string, content: Json) {
    this.#name = name;
    this.#content = content;
  }

  /** Whether there are others than were asked for. */
  get hasMore(): boolean {
    return this.#content instanceof Map && this.#content.size > this.#asked;
  }

  u64(name: string): bigint {
    const value = this.#take(name);
    if (typeof value === 'bigint') return value;
    throw new Malformed(`"${name}" is ${shown(value)}: expected a whole number from 0 to ${MOST_U64}`);
  }

  range(first: string, last: string): readonly [bigint, bigint] {
    const from = this.u64(first);
    const to = this.u64(last);
    if (from <= to) return [from, to];
    throw new Malformed(`"${last}" is ${to}, before "${first}", ${from}`);
  }

  text(name: string): string {
    const value = this.#take(name);
    if (typeof value === 'string') return value;
    throw new Malformed(`"${name}" is ${shown(value)}: expected a text`);
  }

  handle(name: string): Key {
    return asHandle(`"${name}"`, this.text(name));
  }

  /** The items of a list, each with a name for messages. */
  list(name: string): readonly Members[] {
    const value = this.#take(name);
    if (!Array.isArray(value)) throw new Malformed(`"${name}" is ${shown(value)}: expected a list`);
    return value.map((item: Json, i) => new Members(`${name}[${i}]`, item));
  }

  timesByHandle(name: string): ReadonlyMap<Key, bigint | null> {
    const value = this.#take(name);
    if (!(value instanceof Map)) throw new Malformed(`"${name}" is ${shown(value)}: expected an object`);
    const times = new Map<Key, bigint | null>();
    for (const [handle, at] of value) {
      if (at !== null && typeof at !== 'bigint')
        throw new Malformed(`the time of ${shortened(handle)} is ${shown(at)}: expected seconds, or null`);
      times.set(asHandle(`a name in "${name}"`, handle), at);
    }
    return times;
  }

  #take(name: string): Json {
    if (!(this.#content instanceof Map))
      throw new Malformed(`"${this.#name}" is ${shown(this.#content)}: expected an object`);
    const value: Json | undefined = this.#content.get(name);
    if (value === undefined) throw new Malformed(`"${this.#name}" has no "${name}"`);
    this.#asked += 1;
    return value;
  }
}

/** No path that a system takes is longer. */
const LONGEST_HANDLE = 4096;

/** What is wrong with the name of a file that a metadata file gives, or undefined: names there are anybody's. */
function handleProblem(handle: string): string | undefined {
  if (handle.length > LONGEST_HANDLE) return `is longer than ${LONGEST_HANDLE} characters`;
  if (/\p{Cc}/u.test(handle)) return 'contains a control character';
  return keyProblem(handle);
}

function asHandle(what: string, text: string): Key {
  const problem = handleProblem(text);
  const key = asKey(text);
  if (problem === undefined && key !== undefined) return key;
  throw new Malformed(`${what} is ${shortened(text)}, which names no file in the backup: it ${problem}`);
}

function shown(value: Json): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return shortened(value);
  if (value instanceof OtherNumber) return value.text.slice(0, 60);
  if (typeof value === 'object') return value instanceof Map ? 'an object' : 'a list';
  return String(value);
}
