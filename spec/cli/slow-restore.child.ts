// A restore tool that takes its time: lists what is below a prefix, then reads one file after the other.
// Arguments: the library's entry, `session` or `reader`, the store's URL, the prefix, the directory to fill.
import { createWriteStream, mkdirSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';

const [library = '', how, url = '', prefix = '', to = ''] = process.argv.slice(2);
const { openReader, openSession, parseKey } = (await import(library)) as typeof import('../../lib/index.ts');

const session = how === 'session' ? await openSession({ url, prefixes: [prefix] }) : undefined;
const reader = await openReader({ url });
const keys: string[] = [];
for await (const page of session?.view() ?? reader.liveKeys(prefix)) keys.push(...page.map(({ key }) => key));
process.stdout.write(`${keys.length} listed\n`);

let fromPending = 0;
for (const key of keys) {
  await delay(2);
  const object = await (session ?? reader).open(parseKey(key));
  if (object.location === 'pending') fromPending += 1;
  const file = path.join(to, key);
  mkdirSync(path.dirname(file), { recursive: true });
  await pipeline(object.read(), createWriteStream(file));
}
process.stdout.write(`${fromPending} from pending copies\n`);
reader.close();
await session?.close();
