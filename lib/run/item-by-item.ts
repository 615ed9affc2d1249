import type { Clock } from '../domain/clock.ts';

/** How long it takes until a store that is not there is given up. ms. */
const OUTAGE_MS = 20_000;

/**
 * Asks about a whole batch, and where that throws about each item by itself:
 * what harms one keeps nobody else from an answer. An item's error stands in its
 * answer's place. Only for questions that may be asked twice.
 */
export async function itemByItem<T, A extends object>(
  items: readonly T[],
  clock: Pick<Clock, 'monotonic'>,
  ask: (items: readonly T[]) => Promise<readonly A[]>,
): Promise<(A | Error)[]> {
  const answers = await asked(items, ask);
  if (!(answers instanceof Error)) return [...answers];
  if (items.length === 1) return [answers];
  const each: (A | Error)[] = [];
  let outage: Error | undefined;
  for (const item of items) {
    const began = clock.monotonic();
    const answer = outage ?? (await asked([item], ask));
    each.push(...(answer instanceof Error ? [answer] : answer));
    // What takes so long to fail is not the item's: the others are not asked about one by one.
    if (answer instanceof Error && clock.monotonic() - began > OUTAGE_MS) outage = answer;
  }
  return each;
}

async function asked<T, A>(
  items: readonly T[],
  ask: (items: readonly T[]) => Promise<readonly A[]>,
): Promise<readonly A[] | Error> {
  try {
    const answers = await ask(items);
    if (answers.length === items.length) return answers;
    return new TypeError(`${answers.length} answers for ${items.length}`);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
