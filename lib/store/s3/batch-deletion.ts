import { createHash } from 'node:crypto';
import type { DirectAnswer } from './direct.ts';
import { escapeXml, isPlainInXml } from './encoding.ts';
import { exhaustedError, isNoSuchObject, isPassingCode, refusalError } from './errors.ts';
import type { Sender } from './sender.ts';
import { readRecords, type Wanted } from './xml.ts';

/** What S3 takes at once. */
const MOST = 1000;
const RETRY_FOR_MS = 60_000;
const FIRST_PAUSE_MS = 200;

export interface Doomed {
  readonly name: string;
  readonly versionId?: string;
}

interface Entry {
  readonly item: Doomed;
  readonly index: number;
}

interface EntryError {
  readonly code: string;
  readonly message: string;
}

/** Deletes many names; what became of each, in their order. */
export async function deleteBatches(
  sender: Sender,
  items: readonly Doomed[],
): Promise<('deleted' | Error)[]> {
  const results = Array.from<'deleted' | Error>({ length: items.length });
  const entries = items.map((item, index) => ({ item, index }));
  const batches = batchesOf(entries.filter(({ item }) => isPlainInXml(item.name)));
  const singles = entries.filter(({ item }) => !isPlainInXml(item.name));
  await Promise.all([
    ...batches.map(async (batch) => new Batch(sender, results).remove(batch)),
    ...singles.map(async (entry) => removeSingle(sender, results, entry)),
  ]);
  return results;
}

/** A name occurs once in a batch, so that its result is told by its name. */
function batchesOf(entries: readonly Entry[]): Entry[][] {
  const batches: Map<string, Entry>[] = [];
  const occurrences = new Map<string, number>();
  const firstOpen: number[] = [];
  for (const entry of entries) {
    const { name } = entry.item;
    const nth = occurrences.get(name) ?? 0;
    occurrences.set(name, nth + 1);
    let at = firstOpen[nth] ?? nth;
    while ((batches[at]?.size ?? 0) >= MOST || batches[at]?.has(name) === true) at += 1;
    firstOpen[nth] = at;
    while (batches.length <= at) batches.push(new Map());
    batches[at]?.set(name, entry);
  }
  return batches.filter(({ size }) => size > 0).map((batch) => [...batch.values()]);
}

async function removeSingle(
  sender: Sender,
  results: ('deleted' | Error)[],
  { item, index }: Entry,
): Promise<void> {
  const { name, versionId } = item;
  try {
    results[index] = await sender.repeated<unknown, 'deleted'>({
      operation: 'DeleteObject',
      what: 'deleted',
      name,
      versionId,
      answers: null,
      changes: true,
      send: async (direct, options) =>
        direct.send({ method: 'DELETE', key: sender.prefix + name, versionId }, options),
      read: () => 'deleted',
      refused: (refusal) => (isNoSuchObject(refusal) ? 'deleted' : undefined),
    });
  } catch (error) {
    results[index] = error instanceof Error ? error : new Error(String(error));
  }
}

class Batch {
  readonly #sender: Sender;
  readonly #results: ('deleted' | Error)[];

  constructor(sender: Sender, results: ('deleted' | Error)[]) {
    this.#sender = sender;
    this.#results = results;
  }

  async remove(entries: Entry[]): Promise<void> {
    const { clock } = this.#sender;
    const startedAt = clock.monotonic();
    let left = entries;
    for (let tries = 1; ; tries++) {
      const answered = await this.#request(left);
      if (answered instanceof Error) {
        for (const { index } of left) this.#results[index] = answered;
        return;
      }
      if (answered === 'not-supported') {
        await Promise.all(left.map(async (entry) => removeSingle(this.#sender, this.#results, entry)));
        return;
      }
      const again: Entry[] = [];
      for (const entry of left) {
        const result = answered.get(entry.item.name);
        const settled = result === undefined ? undefined : this.#settled(entry, result);
        if (settled === undefined) again.push(entry);
        else this.#results[entry.index] = settled;
      }
      if (again.length === 0) return;
      const pause = FIRST_PAUSE_MS * 2 ** (tries - 1);
      const passed = clock.monotonic() - startedAt;
      if (passed + pause > RETRY_FOR_MS) {
        for (const { index, item } of again) {
          const said = answered.get(item.name);
          const last = new Error(said === undefined || said === 'deleted' ? 'no word of it' : said.code);
          const about = this.#sender.about({ ...CALLED, ...item });
          this.#results[index] = exhaustedError(last, about, Math.round(passed / 1000));
        }
        return;
      }
      await clock.sleep(pause);
      left = again;
    }
  }

  /** The final result of an entry; undefined where it is to be tried again. */
  #settled({ item }: Entry, result: 'deleted' | EntryError): 'deleted' | Error | undefined {
    if (result === 'deleted' || result.code === 'NoSuchKey' || result.code === 'NoSuchVersion')
      return 'deleted';
    if (isPassingCode(result.code)) return undefined;
    const refusal = {
      ...result,
      status: result.code === 'AccessDenied' ? 403 : 200,
      region: undefined,
      condition: undefined,
      headers: {},
    };
    return refusalError(refusal, this.#sender.about({ ...CALLED, ...item }), undefined);
  }

  async #request(
    entries: readonly Entry[],
  ): Promise<Map<string, 'deleted' | EntryError> | 'not-supported' | Error> {
    const { prefix } = this.#sender;
    const body = bodyOf(prefix, entries);
    const headers = {
      'content-type': 'application/xml',
      'content-md5': createHash('md5').update(body).digest('base64'), // every store knows it
    };
    try {
      return await this.#sender.repeated<DirectAnswer, Map<string, 'deleted' | EntryError> | 'not-supported'>(
        {
          ...CALLED,
          answers: RESULTS.root,
          changes: true,
          send: async (direct, options) =>
            direct.send({ method: 'POST', query: { delete: '' }, headers, body }, options),
          read: (_, { text }) => resultsIn(text, prefix),
          refused: ({ status, code }) =>
            status === 405 || status === 501 || (status === 400 && !NOT_OF_THE_BATCH.has(code))
              ? 'not-supported'
              : undefined,
        },
      );
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }
}

const CALLED = { operation: 'DeleteObjects', what: 'deleted' } as const;
/** With 400 like what is wrong with a batch, and no different one by one. */
const NOT_OF_THE_BATCH = new Set([
  'AuthorizationHeaderMalformed',
  'ExpiredToken',
  'InvalidToken',
  'TokenRefreshRequired',
  'InvalidBucketName',
]);

const RESULTS: Wanted = {
  root: 'DeleteResult',
  records: new Set(['Deleted', 'Error']),
  fields: new Set(['Key', 'Code', 'Message']),
};

function bodyOf(prefix: string, entries: readonly Entry[]): Buffer {
  const objects = entries.map(({ item: { name, versionId } }) => {
    const version = versionId === undefined ? '' : `<VersionId>${escapeXml(versionId)}</VersionId>`;
    return `<Object><Key>${escapeXml(prefix + name)}</Key>${version}</Object>`;
  });
  const text = `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${objects.join('')}</Delete>`;
  return Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${text}`);
}

/** What became of each, by its name below the prefix; an error of one counts, whatever else is said of it. */
function resultsIn(text: string, prefix: string): Map<string, 'deleted' | EntryError> {
  const results = new Map<string, 'deleted' | EntryError>();
  for (const { name: kind, fields } of readRecords(text, RESULTS).records) {
    const key = fields.get('Key');
    if (key?.startsWith(prefix) !== true) continue; // it says nothing of what was asked for
    const name = key.slice(prefix.length);
    const code = fields.get('Code') ?? 'Unknown';
    if (kind === 'Error') results.set(name, { code, message: fields.get('Message') ?? '' });
    else if (!results.has(name)) results.set(name, 'deleted');
  }
  return results;
}
