import { quote } from '../domain/key.ts';
import { Malformed } from './malformed.ts';

/**
 * A JSON value that has lost nothing: a number that is an unsigned 64-bit one is a bigint, any other is
 * kept by its text. Objects are maps, since their names are anybody's.
 */
export type Json =
  | null
  | boolean
  | string
  | bigint
  | OtherNumber
  | readonly Json[]
  | ReadonlyMap<string, Json>;

/** A number that is no unsigned 64-bit one: negative, with a fraction or an exponent, or too large. */
export class OtherNumber {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export const MOST_U64 = 2n ** 64n - 1n;

/** As deep as the original tools read. */
const DEEPEST = 128;
/** Values of one text. What they take in memory is bounded by this, not by the text's length. */
const MOST_VALUES = 2_000_000;

/** The value of a JSON text; throws `Malformed`, also where an object has a name twice. */
export function parseJson(text: string): Json {
  return new Parser(text).parse();
}

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const U64 = /^\d{1,20}$/;

class Parser {
  readonly #text: string;
  #at = 0;
  #values = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Json {
    const value = this.#value(0);
    this.#skipSpace();
    if (this.#at < this.#text.length) throw this.#unexpected();
    return value;
  }

  #value(depth: number): Json {
    if (depth > DEEPEST) throw new Malformed(`values are nested deeper than ${DEEPEST}`);
    this.#values += 1;
    if (this.#values > MOST_VALUES) throw new Malformed(`there are more than ${MOST_VALUES} values`);
    this.#skipSpace();
    switch (this.#text.charAt(this.#at)) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      default:
        return this.#wordOrNumber();
    }
  }

  #object(depth: number): ReadonlyMap<string, Json> {
    const members = new Map<string, Json>();
    this.#at += 1;
    if (this.#takes('}')) return members;
    do {
      this.#skipSpace();
      if (this.#text[this.#at] !== '"') throw this.#unexpected();
      const name = this.#string();
      if (members.has(name)) throw new Malformed(`${shortened(name)} is there twice`);
      if (!this.#takes(':')) throw this.#unexpected();
      members.set(name, this.#value(depth + 1));
    } while (this.#takes(','));
    if (!this.#takes('}')) throw this.#unexpected();
    return members;
  }

  #array(depth: number): readonly Json[] {
    const items: Json[] = [];
    this.#at += 1;
    if (this.#takes(']')) return items;
    do items.push(this.#value(depth + 1));
    while (this.#takes(','));
    if (!this.#takes(']')) throw this.#unexpected();
    return items;
  }

  #string(): string {
    const begin = this.#at;
    let end = begin + 1;
    while (this.#text[end] !== '"') {
      if (end >= this.#text.length) throw ended();
      end += this.#text[end] === '\\' ? 2 : 1;
    }
    this.#at = end + 1;
    const value = unescaped(this.#text.slice(begin, this.#at));
    if (value === undefined) throw new Malformed(`the text at character ${begin + 1} is no JSON text`);
    return value;
  }

  #wordOrNumber(): null | boolean | bigint | OtherNumber {
    const word = this.#match(WORD);
    if (word !== undefined) return word === 'null' ? null : word === 'true';
    const number = this.#match(NUMBER);
    if (number === undefined) throw this.#unexpected();
    if (!U64.test(number)) return new OtherNumber(number);
    const value = BigInt(number);
    return value <= MOST_U64 ? value : new OtherNumber(number);
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #skipSpace(): void {
    if (this.#text.charCodeAt(this.#at) <= 0x20) this.#match(SPACE);
  }

  #takes(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #unexpected(): Malformed {
    const found = this.#text.codePointAt(this.#at);
    if (found === undefined) return ended();
    return new Malformed(`unexpected ${quote(String.fromCodePoint(found))} at character ${this.#at + 1}`);
  }
}

function ended(): Malformed {
  return new Malformed('it ends in the middle of a value', true);
}

/** The text that a JSON string stands for; undefined where it is none, or no Unicode. */
function unescaped(literal: string): string | undefined {
  try {
    const value: unknown = JSON.parse(literal);
    return typeof value === 'string' && value.isWellFormed() ? value : undefined;
  } catch {
    return undefined;
  }
}

/** A text from a file, in quotes and no longer than a message can be. */
export function shortened(text: string): string {
  return quote(text.length <= 200 ? text : `${text.slice(0, 200).toWellFormed()}…`);
}
