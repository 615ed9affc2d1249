/**
 * What `act` makes of each, in their order, so many at a time. Throws the first failure, of an act or of the
 * items themselves, when none is under way any more.
 */
export async function inFlight<Item, Result>(
  count: number,
  items: Iterable<Item> | AsyncIterable<Item>,
  act: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const rest = entriesOf(items);
  let failure: { readonly error: unknown } | undefined;
  const work = async (): Promise<void> => {
    try {
      for await (const [i, item] of rest) {
        if (failure !== undefined) return;
        results[i] = await act(item);
      }
    } catch (error) {
      failure ??= { error };
    }
  };
  await Promise.all(Array.from({ length: count }, work));
  if (failure !== undefined) throw failure.error;
  return results;
}

async function* entriesOf<Item>(
  items: Iterable<Item> | AsyncIterable<Item>,
): AsyncGenerator<readonly [number, Item]> {
  let i = 0;
  for await (const item of items) yield [i++, item];
}
