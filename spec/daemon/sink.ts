import { Writable } from 'node:stream';

/** Somewhere for a log to go: a pipe, or a terminal. */
export class Sink extends Writable {
  readonly isTTY: boolean;
  text = '';
  /** Is told each write, at once. */
  onText: (text: string) => void = () => undefined;

  constructor({ isTTY = false } = {}) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
  }

  override _write(text: string, _encoding: string, done: () => void): void {
    this.text += text;
    this.onText(text);
    done();
  }

  /** Its lines, as JSON. */
  lines(): Record<string, unknown>[] {
    return this.text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}
