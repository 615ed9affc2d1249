import { asKey, type Key } from '../domain/key.ts';
import type { Backup } from './metadata.ts';

/** How a kind of lines becomes rows of numbers, in the order by which they are sorted, and is made of them again. */
export interface RowForm<T extends Backup> {
  readonly width: number;
  readonly numbers: (line: T) => readonly bigint[];
  readonly line: (numbers: readonly bigint[], manifest: Key) => T;
}

/**
 * Lines of one kind, kept as columns: some 100 bytes a line, so that a million fit. Sorted by their numbers
 * in the order of their members, then by manifest, each once, as the original tools have them.
 */
export class Rows<T extends Backup> {
  readonly #form: RowForm<T>;
  readonly #numbers: BigUint64Array;
  readonly #manifests: Manifests;
  readonly #order: Uint32Array;

  private constructor(form: RowForm<T>, numbers: BigUint64Array, manifests: Manifests, order: Uint32Array) {
    this.#form = form;
    this.#numbers = numbers;
    this.#manifests = manifests;
    this.#order = order;
  }

  /** Of unsorted rows, which stay as they are. */
  static sorted<T extends Backup>(form: RowForm<T>, numbers: BigUint64Array, manifests: Manifests): Rows<T> {
    const count = manifests.length;
    const { width } = form;
    const compare = (a: number, b: number): number => {
      for (let column = 0; column < width; column++) {
        const x = numbers[a * width + column] ?? 0n;
        const y = numbers[b * width + column] ?? 0n;
        if (x !== y) return x < y ? -1 : 1;
      }
      return manifests.compare(a, b);
    };
    // Most pairs differ in the first number, and by more than a double rounds off.
    const rough = new Float64Array(count);
    for (let row = 0; row < count; row++) rough[row] = Number(numbers[row * width] ?? 0n);
    const order = Uint32Array.from({ length: count }, (_, row) => row).toSorted(
      (a, b) => (rough[a] ?? 0) - (rough[b] ?? 0) || compare(a, b),
    );
    let kept = 0;
    for (const row of order) {
      const before = order[kept - 1];
      if (before === undefined || compare(before, row) !== 0) order[kept++] = row;
    }
    return new Rows(form, numbers, manifests, order.slice(0, kept));
  }

  get length(): number {
    return this.#order.length;
  }

  /** The line at a place in the order; undefined where there is none. */
  at(index: number): T | undefined {
    const row = this.#order[index];
    if (row === undefined) return undefined;
    const { width, line } = this.#form;
    return line([...this.#numbers.subarray(row * width, (row + 1) * width)], this.#manifests.at(row));
  }

  *[Symbol.iterator](): Generator<T> {
    for (let index = 0; index < this.length; index++) {
      const line = this.at(index);
      if (line !== undefined) yield line;
    }
  }

  /** From the last to the first. */
  *backwards(): Generator<T> {
    for (let index = this.length - 1; index >= 0; index--) {
      const line = this.at(index);
      if (line !== undefined) yield line;
    }
  }
}

/** Takes lines of one kind in any order. */
export class RowsBuilder<T extends Backup> {
  readonly #form: RowForm<T>;
  readonly #manifests = new Manifests();
  #numbers: BigUint64Array;
  #length = 0;

  constructor(form: RowForm<T>) {
    this.#form = form;
    this.#numbers = new BigUint64Array(64 * form.width);
  }

  add(line: T): void {
    if (this.#length === this.#numbers.length) {
      const grown = new BigUint64Array(this.#length * 2);
      grown.set(this.#numbers);
      this.#numbers = grown;
    }
    this.#numbers.set(this.#form.numbers(line), this.#length);
    this.#length += this.#form.width;
    this.#manifests.add(line.manifest);
  }

  /** What was taken so far. Lines that are added later are in the next one. */
  rows(): Rows<T> {
    return Rows.sorted(this.#form, this.#numbers.slice(0, this.#length), this.#manifests.copy());
  }
}

/** Texts in one buffer; a string each would take twice the memory. */
class Manifests {
  #bytes = Buffer.alloc(4096);
  #ends = new Float64Array(64);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  add(manifest: Key): void {
    const begin = this.#begin(this.#length);
    const size = Buffer.byteLength(manifest);
    if (begin + size > this.#bytes.length) {
      this.#bytes = Buffer.concat([this.#bytes], Math.max(this.#bytes.length * 2, begin + size));
    }
    if (this.#length === this.#ends.length) {
      const grown = new Float64Array(this.#length * 2);
      grown.set(this.#ends);
      this.#ends = grown;
    }
    this.#bytes.write(manifest, begin);
    this.#ends[this.#length] = begin + size;
    this.#length += 1;
  }

  copy(): Manifests {
    const copy = new Manifests();
    copy.#bytes = Buffer.from(this.#bytes.subarray(0, this.#begin(this.#length)));
    copy.#ends = this.#ends.slice(0, this.#length);
    copy.#length = this.#length;
    return copy;
  }

  at(row: number): Key {
    const text = this.#slice(row).toString();
    const key = asKey(text);
    if (key === undefined) throw new RangeError(`row ${row} has no manifest`);
    return key;
  }

  compare(a: number, b: number): number {
    return Buffer.compare(this.#slice(a), this.#slice(b));
  }

  #slice(row: number): Buffer {
    return this.#bytes.subarray(this.#begin(row), this.#begin(row + 1));
  }

  #begin(row: number): number {
    return row === 0 ? 0 : (this.#ends[row - 1] ?? 0);
  }
}
