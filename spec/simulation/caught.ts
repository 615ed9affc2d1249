import { readFileSync } from 'node:fs';
import path from 'node:path';

/** Where the seed that catches each mutation is kept. */
export const CAUGHT = path.join(import.meta.dirname, 'caught.json');

export interface Caught {
  readonly seed: number;
  /** What breaks by it, as it was when the seed was found. */
  readonly breaks: string;
}

/** The seed that catches each mutation, by its name. Renewed by `npm run simulate -- --find`. */
export function caught(): Readonly<Record<string, Caught>> {
  return JSON.parse(readFileSync(CAUGHT, 'utf8')) as Record<string, Caught>;
}
