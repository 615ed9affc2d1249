const nothing = (): void => undefined;

/** Lets one go on at a time, in the order in which they came. */
export class OneByOne {
  #last: Promise<void> = Promise.resolve();

  /** Waits for its turn; gives what ends it, which may be called again. */
  async take(): Promise<() => void> {
    const before = this.#last;
    let end: () => void = nothing;
    this.#last = new Promise((resolve) => {
      end = resolve;
    });
    await before;
    return end;
  }
}
