/**
 * The same pages, each asked for while whoever reads them is at the one before. What fails is told
 * when that page is read. Who ends early waits for what is on its way.
 */
export async function* oneAhead<Page>(pages: AsyncIterable<Page>): AsyncGenerator<Page> {
  const from = pages[Symbol.asyncIterator]();
  let next = from.next();
  try {
    for (let page = await next; page.done !== true; page = await next) {
      next = from.next();
      next.catch(() => undefined); // it is told when it is read
      yield page.value;
    }
  } finally {
    await from.return?.();
  }
}
