import type { Clock } from '../../domain/clock.ts';
import { errnoOf, messageOf, TombstonedError } from '../../domain/errors.ts';
import { CONTROL_SEGMENT } from '../../domain/key.ts';
import type { ControlSpace, Temporary } from '../store.ts';
import { type Capabilities, type Got, type PutOptions, type S3Api, Unanswered } from './api.ts';
import { statusOf } from './probe.ts';

/** No control object is near this; a larger one is not ours. Bytes. */
const MAX_SIZE = 64 * 1024 * 1024;
/** How long it is tried to find out what became of a request. ms. */
const PATIENCE_MS = 60_000;
/** The same for a renewal: its holder tries the next one by itself. ms. */
const RENEWAL_PATIENCE_MS = 10_000;
/** But at least so often. */
const ATTEMPTS = 3;
/** Before the second attempt, and twice as long before each after it, up to the longest. ms. */
const PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;
/**
 * Where no condition keeps two from making one name: how long whoever has put it
 * waits before it looks whose it is. One that had looked earlier has put by then. ms.
 */
const OVERTAKEN_MS = 2000;
const CONTENT_TYPE = 'application/json';

/** Scratch names of a probe: all that is in `tmp/`. */
const OWN_TEMPORARY = /^probe-[\da-f-]{36}\/\d+$/;

/** Tells whether the store honours a condition of what is written: probed when it is first asked. */
export interface WriteConditions {
  (name: 'putIfAbsent'): Promise<Pick<Capabilities, 'putIfAbsent'>>;
  (name: 'putIfMatch'): Promise<Pick<Capabilities, 'putIfMatch'>>;
}

interface Found {
  readonly etag: string;
  readonly body: Buffer;
}

/**
 * Control objects in a bucket, below `.tombstoned/` (design, section 3). A write
 * that got no answer is looked up, and made again, until it is known; what stays
 * unknown is thrown. `passing` and `orEmpty` mean nothing here: what the store has
 * answered is durable.
 */
export class ControlObjects implements ControlSpace {
  readonly #api: S3Api;
  readonly #capabilities: WriteConditions;
  readonly #clock: Clock;

  /** `capabilities` is asked only before something is written: who only reads may be allowed no more. */
  constructor(options: { api: S3Api; capabilities: WriteConditions; clock: Clock }) {
    this.#api = options.api;
    this.#capabilities = options.capabilities;
    this.#clock = options.clock;
  }

  async prepare(): Promise<void> {
    // a bucket has no directories, and no disk that is ours to fill
  }

  async read(name: string): Promise<Buffer | undefined> {
    return (await this.#look(name))?.body;
  }

  async list(directory: string): Promise<string[]> {
    const below = fullName(directory === '' ? '' : `${directory}/`);
    const names: string[] = [];
    for await (const page of this.#api.list(below)) {
      for (const { name } of page) {
        const rest = name.slice(below.length);
        // Not the mark of a folder, as some programs leave it, nor what is further down.
        if (rest !== '' && !rest.includes('/')) names.push(rest);
      }
    }
    return names.toSorted();
  }

  async create(name: string, text: string): Promise<'created' | 'exists'> {
    const { putIfAbsent } = await this.#capabilities('putIfAbsent');
    const body = Buffer.from(text);
    let mayBeOurs = false;
    let looksFirst = !putIfAbsent;
    return this.#untilKnown(name, PATIENCE_MS, async () => {
      const found = looksFirst ? await this.#look(name) : undefined;
      // No two make the same bytes: ids, uuids and times are in them.
      if (found !== undefined) return mayBeOurs && found.body.equals(body) ? 'created' : 'exists';
      looksFirst = true;
      const wasUnclear = mayBeOurs;
      mayBeOurs = true;
      const isDone = await this.#put(name, body, putIfAbsent ? { ifAbsent: true } : {});
      mayBeOurs = isDone || wasUnclear;
      // Refused by what is there, or by a writer that was in the way and may have left nothing.
      if (!isDone) return undefined;
      if (putIfAbsent) return 'created';
      // Leases, fences and holds have names that nobody else uses; `store.json` and `owner.json` have not.
      if (!name.includes('/')) await this.#clock.sleep(OVERTAKEN_MS);
      const now = await this.#look(name);
      if (now === undefined) return undefined;
      return now.body.equals(body) ? 'created' : 'exists';
    });
  }

  async rewrite(name: string, before: string, after: string): Promise<'rewritten' | 'gone' | 'changed'> {
    const body = Buffer.from(after);
    const expected = Buffer.from(before);
    if (body.length !== expected.length) throw new RangeError(`${name}: another length than before`);
    const { putIfMatch } = await this.#capabilities('putIfMatch');
    let mayBeWritten = false;
    return this.#untilKnown(name, RENEWAL_PATIENCE_MS, async () => {
      const found = await this.#look(name);
      if (found === undefined) return 'gone';
      if (mayBeWritten && found.body.equals(body)) return 'rewritten';
      if (!found.body.equals(expected)) return 'changed';
      mayBeWritten = true;
      const isDone = await this.#put(name, body, overOnly(found, putIfMatch));
      if (putIfMatch !== 'no') return isDone ? 'rewritten' : undefined;
      const now = await this.#look(name);
      if (now === undefined) return 'gone';
      return now.body.equals(body) ? 'rewritten' : 'changed';
    });
  }

  async replace(name: string, text: string): Promise<void> {
    const { putIfAbsent } = await this.#capabilities('putIfAbsent');
    const { putIfMatch } = await this.#capabilities('putIfMatch');
    const body = Buffer.from(text);
    await this.#untilKnown(name, PATIENCE_MS, async () => {
      const found = await this.#look(name);
      if (found?.body.equals(body) === true) return true;
      // With a condition, though it replaces anything: one that is late must not undo what somebody did since.
      const options =
        found === undefined ? (putIfAbsent ? { ifAbsent: true } : {}) : overOnly(found, putIfMatch);
      return (await this.#put(name, body, options)) ? true : undefined;
    });
  }

  async remove(name: string): Promise<void> {
    await this.#untilKnown(name, PATIENCE_MS, async () => {
      await this.#api.delete(fullName(name));
      return true;
    });
  }

  async temporaries(): Promise<Temporary[]> {
    const below = fullName('tmp/');
    const found: Temporary[] = [];
    for await (const page of this.#api.list(below)) {
      for (const { name: full, modifiedAt: changedAt } of page) {
        const name = full.slice(below.length);
        if (name !== '') found.push({ name, changedAt, isOurs: OWN_TEMPORARY.test(name) });
      }
    }
    return found;
  }

  async removeTemporary(name: string): Promise<void> {
    if (!OWN_TEMPORARY.test(name)) throw this.#error(`tmp/${name}`, 'it has no name that this program gives');
    await this.remove(`tmp/${name}`);
  }

  /** Whether it was put; false where its condition did not hold. */
  async #put(name: string, body: Buffer, options: PutOptions): Promise<boolean> {
    const put = await this.#api.put(fullName(name), body, { ...options, contentType: CONTENT_TYPE });
    return typeof put === 'object';
  }

  /** What is there; undefined only where the store says that there is nothing. */
  async #look(name: string): Promise<Found | undefined> {
    for (let attempt = 1; ; attempt++) {
      const got = await this.#api.get(fullName(name));
      if (got === undefined) return undefined;
      try {
        return { etag: got.etag, body: await this.#bytes(name, got) };
      } catch (error) {
        if (error instanceof TombstonedError) throw error;
        if (attempt >= ATTEMPTS) throw this.#error(name, `it can't be read: ${messageOf(error)}`, error);
      }
      await this.#clock.sleep(PAUSE_MS * attempt);
    }
  }

  async #bytes(name: string, { body, size }: Got): Promise<Buffer> {
    if (size > MAX_SIZE) {
      body.on('error', () => undefined); // nobody wants it
      body.destroy();
      throw this.#error(name, `no object of ours: it has ${size} bytes`);
    }
    const chunks: Buffer[] = [];
    for await (const chunk of body) chunks.push(Buffer.from(chunk));
    const bytes = Buffer.concat(chunks);
    if (bytes.length !== size) throw new Error(`${bytes.length} of ${size} bytes came`);
    return bytes;
  }

  /**
   * Takes a step again, after a look or because somebody was faster, until it says
   * what has become of it. Throws what kept it from that.
   */
  async #untilKnown<T>(name: string, patience: number, step: () => Promise<T | undefined>): Promise<T> {
    const began = this.#clock.monotonic();
    let unanswered: Unanswered | undefined;
    let unclear: Error | undefined;
    for (let attempt = 1, pause = PAUSE_MS; ; attempt++, pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        const known = await step();
        if (known !== undefined) return known;
      } catch (error) {
        // A later no of the store says nothing of an earlier request that may still have its effect.
        if (!isUnclear(error)) throw unanswered ?? error;
        if (error instanceof Unanswered) unanswered ??= error;
        unclear = error;
      }
      if (attempt >= ATTEMPTS && this.#clock.monotonic() - began >= patience)
        throw unanswered ?? unclear ?? this.#error(name, 'others change it again and again');
      await this.#clock.sleep(pause);
    }
  }

  #error(name: string, what: string, cause?: unknown): TombstonedError {
    const where = `${this.#api.url.replace(/\/$/, '')}/${fullName(name)}`;
    return new TombstonedError('failed', `${where}: ${what}`, {
      key: where,
      hint: 'look at that object; nothing was marked as gone',
      cause,
    });
  }
}

function fullName(name: string): string {
  return `${CONTROL_SEGMENT}/${name}`;
}

function overOnly({ etag }: Found, putIfMatch: Capabilities['putIfMatch']): PutOptions {
  return putIfMatch === 'no' ? {} : { ifMatch: { etag, quoted: putIfMatch === 'quoted' } };
}

/** Why a request does not reach a server that was there before: it may reach it in a moment. */
const UNREACHED = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
]);

/**
 * Whether a write is worth another look and attempt: it may have had its effect, or
 * never came to the server. RGW answers some that lose a race with 500.
 */
function isUnclear(error: unknown): error is Error {
  if (error instanceof Unanswered) return true;
  if (error instanceof TombstonedError && UNREACHED.has(errnoOf(error.cause) ?? '')) return true;
  const status = statusOf(error);
  return status === 409 || status === 429 || (status !== undefined && status >= 500 && status !== 501);
}
