import { MalformedAnswer } from './http.ts';

/** Elements that hold no others, by their names: what each has as text. */
export type Fields = ReadonlyMap<string, string>;

/** An element in a document's root that holds elements. */
interface XmlRecord {
  readonly name: string;
  readonly fields: Fields;
}

export interface Records {
  /** Elements of the root that hold no others. */
  readonly fields: Fields;
  /** Those that are asked for, in the document's order. */
  readonly records: readonly XmlRecord[];
}

/** What is wanted of a document, by the names of elements. */
export interface Wanted {
  readonly root: string;
  readonly records: ReadonlySet<string>;
  /** Of the root, and of each record. */
  readonly fields: ReadonlySet<string>;
}

/**
 * Reads a list as S3 answers with: records in a root. What is not wanted is passed over,
 * but for its form. Throws a `MalformedAnswer` where the document is not well-formed, has
 * another root, or says twice what is wanted: nothing is guessed, and no record lost.
 */
export function readRecords(document: string, wanted: Wanted): Records {
  return new Reader(document, wanted).read();
}

const SLASH = 0x2f;
const BANG = 0x21;
const QUESTION = 0x3f;
/** A document's root, a record in it, and what such a record has. */
const ROOT = 1;
const RECORD = 2;
/** No answer of S3 is deeper. */
const DEEPEST = 32;

class Reader {
  readonly #text: string;
  readonly #wanted: Wanted;
  readonly #open: string[] = [];
  readonly #ofRoot = new Map<string, string>();
  readonly #records: XmlRecord[] = [];
  #ofRecord = new Map<string, string>();
  /** The innermost element's text so far. */
  #content = '';
  /** Whether the innermost element has no elements, so far. */
  #isLeaf = false;
  #root: string | undefined;

  constructor(text: string, wanted: Wanted) {
    this.#text = text;
    this.#wanted = wanted;
  }

  read(): Records {
    const { root } = this.#wanted;
    const text = this.#text;
    let at = text.startsWith('\ufeff') ? 1 : 0;
    for (;;) {
      const tag = text.indexOf('<', at);
      this.#take(tag < 0 ? text.slice(at) : text.slice(at, tag));
      if (tag < 0) break;
      switch (text.charCodeAt(tag + 1)) {
        case SLASH:
          at = this.#after('>', tag + 2);
          this.#close(text.slice(tag + 2, at - 1).trimEnd());
          break;
        case QUESTION:
          at = this.#after('?>', tag + 2);
          break;
        case BANG:
          at = this.#special(tag);
          break;
        default:
          at = this.#after('>', tag + 1);
          this.#start(text.slice(tag + 1, at - 1));
      }
    }
    if (this.#open.length > 0) throw malformed(`ends within ${this.#open.at(-1) ?? ''}`);
    if (this.#root !== root) throw malformed(`has ${this.#root ?? 'nothing'} in the place of ${root}`);
    return { fields: this.#ofRoot, records: this.#records };
  }

  /** Where what begins here ends. */
  #after(end: string, from: number): number {
    const at = this.#text.indexOf(end, from);
    if (at < 0) throw malformed('is cut short');
    return at + end.length;
  }

  /** A comment, or text as it is. A document with declarations of its own is none of S3's. */
  #special(tag: number): number {
    if (this.#text.startsWith('<!--', tag)) return this.#after('-->', tag + 4);
    if (!this.#text.startsWith('<![CDATA[', tag)) throw malformed('declares something');
    const end = this.#after(']]>', tag + 9);
    if (this.#open.length === 0) throw malformed('has text outside of its root');
    this.#content += this.#text.slice(tag + 9, end - 3);
    return end;
  }

  #take(text: string): void {
    if (text === '') return;
    if (this.#open.length > 0) this.#content += text.includes('&') ? decoded(text) : text;
    else if (text.trim() !== '') throw malformed('has text outside of its root');
  }

  #start(tag: string): void {
    const isEmpty = tag.charCodeAt(tag.length - 1) === SLASH;
    const name = nameOf(isEmpty ? tag.slice(0, -1) : tag);
    const depth = this.#open.length;
    if (depth === 0) {
      if (this.#root !== undefined) throw malformed('has two roots');
      this.#root = name;
    } else if (this.#content.trim() !== '') throw malformed('has text beside elements');
    if (depth >= DEEPEST) throw malformed('is too deep');
    this.#open.push(name);
    this.#content = '';
    this.#isLeaf = true;
    if (isEmpty) this.#close(name);
  }

  #close(name: string): void {
    if (this.#open.pop() !== name) throw malformed(`closes ${name} where that is not open`);
    const depth = this.#open.length;
    const isRecord = depth === ROOT && this.#wanted.records.has(name);
    if ((isRecord || !this.#isLeaf) && this.#content.trim() !== '')
      throw malformed('has text beside elements');
    if (isRecord) this.#records.push({ name, fields: this.#ofRecord });
    else if (this.#isLeaf && depth === ROOT) this.#note(this.#ofRoot, name);
    else if (this.#isLeaf && depth === RECORD) this.#note(this.#ofRecord, name);
    if (depth === ROOT) this.#ofRecord = new Map();
    this.#content = '';
    this.#isLeaf = false;
  }

  #note(fields: Map<string, string>, name: string): void {
    if (!this.#wanted.fields.has(name)) return;
    if (fields.has(name)) throw malformed(`says ${name} twice`);
    fields.set(name, this.#content);
  }
}

function malformed(what: string): MalformedAnswer {
  return new MalformedAnswer(`the answer's document ${what}`);
}

/** A tag's name; of its attributes nothing is wanted. */
function nameOf(tag: string): string {
  if (NAME.test(tag)) return tag;
  const name = WITH_ATTRIBUTES.exec(tag)?.[1];
  if (name === undefined) throw malformed('has a tag that is none');
  return name;
}

const NAME = /^[A-Za-z_][\w.-]*$/;
const WITH_ATTRIBUTES = /^([A-Za-z_][\w.-]*)(?:\s+[\w.:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*\s*$/;

function decoded(text: string): string {
  return text.replaceAll(/&([^;&]{0,10};?)/g, (all, entity: string) => {
    const plain = ENTITIES[entity] ?? characterOf(entity);
    if (plain === undefined) throw malformed(`has ${all}`);
    return plain;
  });
}

const ENTITIES: Readonly<Record<string, string>> = {
  'lt;': '<',
  'gt;': '>',
  'amp;': '&',
  'quot;': '"',
  'apos;': "'",
};

function characterOf(entity: string): string | undefined {
  const [, hex, decimal] = /^#(?:x([\da-f]{1,6})|(\d{1,7}));$/i.exec(entity) ?? [];
  const code = hex === undefined ? Number(decimal ?? Number.NaN) : Number.parseInt(hex, 16);
  return code <= 0x10ffff ? String.fromCodePoint(code) : undefined;
}
