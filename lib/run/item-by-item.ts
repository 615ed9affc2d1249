/**
 * Asks about a whole batch, and where that throws about each item by itself:
 * what harms one keeps nobody else from an answer. An item's error stands in its
 * answer's place. Only for questions that may be asked twice.
 */
export async function itemByItem<T, A extends object>(
  items: readonly T[],
  ask: (items: readonly T[]) => Promise<readonly A[]>,
): Promise<(A | Error)[]> {
  const answers = await asked(items, ask);
  if (!(answers instanceof Error)) return [...answers];
  if (items.length === 1) return [answers];
  const each: (A | Error)[] = [];
  for (const item of items) {
    const answer = await asked([item], ask);
    each.push(...(answer instanceof Error ? [answer] : answer));
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
