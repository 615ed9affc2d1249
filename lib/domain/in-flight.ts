/** What `act` makes of each, in their order, so many at a time. Throws the first failure when none is under way any more. */
export async function inFlight<Item, Result>(
  count: number,
  items: Iterable<Item>,
  act: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const rest = entriesOf(items);
  let failure: { readonly error: unknown } | undefined;
  const work = async (): Promise<void> => {
    for (const [i, item] of rest) {
      if (failure !== undefined) return;
      try {
        results[i] = await act(item);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: count }, work));
  if (failure !== undefined) throw failure.error;
  return results;
}

function* entriesOf<Item>(items: Iterable<Item>): Generator<[number, Item]> {
  let i = 0;
  for (const item of items) yield [i++, item];
}
