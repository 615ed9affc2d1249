const nothing = (): void => undefined;

/** Lets one piece of work go on at a time, in the order in which they came. */
export class Turns {
  #last: Promise<void> = Promise.resolve();

  /** `end` lets the next begin before the work is over. */
  async take<T>(work: (end: () => void) => Promise<T>): Promise<T> {
    const before = this.#last;
    let end: () => void = nothing;
    this.#last = new Promise((resolve) => {
      end = resolve;
    });
    await before;
    try {
      return await work(end);
    } finally {
      end();
    }
  }
}
