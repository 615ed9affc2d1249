// Another process that holds a session, in real time: it reads one object, stops itself (SIGSTOP) after its
// first bytes, and says what it got once it goes on.
import path from 'node:path';
import { systemClock } from '../../lib/domain/clock.ts';
import { systemRandom } from '../../lib/domain/ids.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { openSession } from '../../lib/reader/session.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { say } from '../run/say.ts';
import { ACTOR } from '../support/place.ts';

/** What it is told. */
export interface Reading {
  readonly directory: string;
  readonly ttl: number;
  readonly key: string;
  /** Another key, which it begins to read when it goes on. */
  readonly next: string;
}

const { directory, ttl, key, next } = JSON.parse(process.argv[2] ?? '') as Reading;
const clock = systemClock;
const store = LocalStore.open({
  path: path.join(directory, 'store'),
  pendingPrefix: 'pending_deletion/',
  access: 'read',
  clock,
});
const surroundings = { clock, random: systemRandom, actor: ACTOR };
const session = await openSession(store, surroundings, { prefixes: [''], ttl });
let bytes = 0;
let after = 0;
try {
  for await (const chunk of await session.read(parseKey(key))) {
    if (bytes > 0) after += (chunk as Buffer).length;
    bytes += (chunk as Buffer).length;
    if (after > 0 || bytes > (chunk as Buffer).length) continue;
    say('stopped');
    process.kill(process.pid, 'SIGSTOP');
  }
  say({ error: null, bytes, after });
} catch (error) {
  say({ error: error instanceof Error ? error.name : String(error), bytes, after });
}
try {
  const object = await session.open(parseKey(next));
  object.close();
  say({ error: null, location: object.location });
} catch (error) {
  say({ error: error instanceof Error ? error.name : String(error) });
}
say({ aborted: session.signal.aborted });
await session.close();
store.close();
process.disconnect();
