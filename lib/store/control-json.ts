/** Control objects are one line of JSON each, ended by a newline (design, section 3). */
export function line(value: object): string {
  return `${JSON.stringify(value)}\n`;
}

/** The object of a control object's bytes; undefined where they are empty, cut short or something else. */
export function parseObject(body: Buffer): Record<string, unknown> | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
    if (!text.endsWith('\n')) return undefined;
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether a value is a list of texts. */
export function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

/** Whether a value is a whole number. */
export function isInteger(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value);
}

/** A text for people, or none. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
