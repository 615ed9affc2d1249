import { createHash } from 'node:crypto';
import { percentEncoded, type S3Answer, type S3Name, type S3Request, type Upstream } from './s3-request.ts';

/**
 * What Amazon S3 does with conditions, before a Ceph RADOS Gateway that ignores most of them. Each condition is
 * checked and acted upon under a lock of its keys, so it holds against all who write through here.
 */
export class Amazon {
  readonly #upstream: Upstream;
  /** As KMS keys and multipart copies do: a copy has another ETag than its source. */
  readonly #copiesGetNewEtags: boolean;
  readonly #locks = new Locks();
  /** By key, then by version: what is shown in place of a copy's ETag. */
  readonly #shown = new Map<string, Map<string, { readonly real: string; readonly shown: string }>>();
  #copies = 0;

  constructor(upstream: Upstream, options: { readonly copiesGetNewEtags: boolean }) {
    this.#upstream = upstream;
    this.#copiesGetNewEtags = options.copiesGetNewEtags;
  }

  async answer(request: S3Request): Promise<S3Answer> {
    switch (request.kind) {
      case 'put':
      case 'complete-multipart':
        return this.#locks.during([request], () => this.#write(request));
      case 'copy':
      case 'copy-part':
        return this.#locks.during([request, request.source ?? request], () => this.#copy(request));
      case 'delete':
        return this.#locks.during([request], () => this.#delete(request));
      case 'batch-delete': {
        const entries = entriesOf(request);
        return this.#locks.during(entries, () => this.#deleteBatch(request, entries));
      }
      case 'head':
      case 'get':
        // A new ETag is known only after its copy has been made.
        return this.#copiesGetNewEtags
          ? this.#locks.during([request], () => this.#read(request))
          : this.#read(request);
      case 'list':
      case 'list-versions':
        return this.#list(request);
      case 'create-multipart':
      case 'upload-part':
      case 'abort-multipart':
      case 'other':
        return this.#upstream.send(request);
    }
  }

  async #write(request: S3Request): Promise<S3Answer> {
    const refusal = await this.#destinationRefusal(request);
    if (refusal !== undefined) return refusal;
    const answer = await this.#upstream.send({ ...request, headers: without(request, 'if-match') });
    if (answer.status < 300) this.#forget(request, versionOf(answer));
    return answer;
  }

  async #copy(request: S3Request): Promise<S3Answer> {
    const condition = await this.#sourceCondition(request);
    if ('status' in condition) return condition;
    const refusal = await this.#destinationRefusal(request);
    if (refusal !== undefined) return refusal;
    const headers = {
      ...without(request, 'if-match', 'if-none-match', /^x-amz-copy-(source-)?if-/),
      ...condition.headers,
    };
    const answer = withSeconds(await this.#upstream.send({ ...request, headers }));
    const real = /<ETag>([^<]*)/.exec(answer.body.toString())?.[1];
    if (answer.status >= 300 || real === undefined) return answer;
    // The gateway says no version of a copy, and its ETag without quotes.
    const version = request.kind === 'copy' ? ((await this.#current(request))?.version ?? 'null') : 'null';
    const shown = request.kind === 'copy' ? this.#copied(request, version, unquoted(unescaped(real))) : real;
    const body = answer.body.toString().replace(real, () => `&quot;${unquoted(unescaped(shown))}&quot;`);
    const versioned = version === 'null' ? {} : { 'x-amz-version-id': version };
    return { ...answer, headers: { ...answer.headers, ...versioned }, body: Buffer.from(body) };
  }

  /** The ETag that a new copy shows. */
  #copied(name: S3Name, version: string, real: string): string {
    this.#forget(name, version);
    if (!this.#copiesGetNewEtags) return real;
    const shown = `${createHash('md5')
      .update(`${real} ${++this.#copies}`)
      .digest('hex')}-1`;
    const versions = this.#shown.get(idOf(name)) ?? new Map<string, { real: string; shown: string }>();
    this.#shown.set(idOf(name), versions.set(version, { real, shown }));
    return shown;
  }

  async #delete(request: S3Request): Promise<S3Answer> {
    const wanted = request.headers['if-match'];
    const refusal = wanted === undefined ? undefined : await this.#mismatch(request, wanted);
    if (refusal !== undefined) return refused(refusal, request);
    const headers = without(request, 'if-match', 'x-amz-delete-if-unmodified-since');
    const answer = await this.#upstream.send({ ...request, headers });
    if (answer.status < 300) this.#forget(request, request.versionId ?? versionOf(answer));
    return answer;
  }

  async #deleteBatch(request: S3Request, entries: readonly BatchEntry[]): Promise<S3Answer> {
    const kept: BatchEntry[] = [];
    let errors = '';
    for (const entry of entries) {
      const refusal = entry.etag === undefined ? undefined : await this.#mismatch(entry, entry.etag);
      if (refusal === undefined) kept.push(entry);
      else errors += `<Error><Key>${escaped(entry.key)}</Key>${codeAndMessage(refusal)}</Error>`;
    }
    if (kept.length === 0 && errors !== '') return xml(200, `<DeleteResult>${errors}</DeleteResult>`);
    const text = request.body.toString();
    const quiet = /<Quiet>.*?<\/Quiet>/s.exec(text)?.[0] ?? '';
    const body = Buffer.from(`<Delete>${kept.map(({ xml: entry }) => entry).join('')}${quiet}</Delete>`);
    const headers = {
      ...without(request, /^x-amz-(checksum-|sdk-checksum)/),
      'content-md5': createHash('md5').update(body).digest('base64'),
    };
    const answer = await this.#upstream.send({ ...request, headers, body });
    if (answer.status >= 300) return answer;
    for (const entry of kept) this.#forget(entry, entry.versionId ?? 'null');
    const came = answer.body.toString();
    const merged = came.includes('</DeleteResult>')
      ? came.replace('</DeleteResult>', () => `${errors}</DeleteResult>`)
      : came.replace(
          /<DeleteResult([^>]*)\/>/,
          (_, rest: string) => `<DeleteResult${rest}>${errors}</DeleteResult>`,
        );
    return { ...answer, body: Buffer.from(merged) };
  }

  async #read(request: S3Request): Promise<S3Answer> {
    const headers = { ...request.headers };
    for (const name of ['if-match', 'if-none-match']) {
      const wanted = headers[name];
      if (wanted !== undefined) headers[name] = this.#asReal(request, wanted);
    }
    const answer = await this.#upstream.send({ ...request, headers });
    const { etag } = answer.headers;
    if (etag === undefined) return answer;
    const shown = this.#shownOf(request, versionOf(answer), unquoted(etag));
    return { ...answer, headers: { ...answer.headers, etag: `"${shown}"` } };
  }

  async #list(request: S3Request): Promise<S3Answer> {
    const answer = withSeconds(await this.#upstream.send(request));
    if (this.#shown.size === 0 || answer.status !== 200) return answer;
    const text = answer.body.toString();
    const isEncoded = text.includes('<EncodingType>url</EncodingType>');
    let body = '';
    let from = 0;
    for (const { 0: entry, index } of text.matchAll(/<(Contents|Version)>.*?<\/\1>/gs)) {
      body += text.slice(from, index);
      from = index + entry.length;
      const key = unescaped(fieldOf(entry, 'Key') ?? '');
      const name = { bucket: request.bucket, key: isEncoded ? decodeURIComponent(key) : key };
      const version = fieldOf(entry, 'VersionId') ?? (await this.#currentVersion(name));
      const real = unquoted(unescaped(fieldOf(entry, 'ETag') ?? ''));
      body += entry.replace(real, () => this.#shownOf(name, version, real));
    }
    return { ...answer, body: Buffer.from(body + text.slice(from)) };
  }

  /** Which version a listing of current ones is about; asked for only where it matters. */
  async #currentVersion(name: S3Name): Promise<string> {
    const versions = this.#shown.get(idOf(name));
    if (versions === undefined || (versions.size === 1 && versions.has('null'))) return 'null';
    return (await this.#current(name))?.version ?? 'null';
  }

  /** What is there now, undefined where there is nothing (or a marker). */
  async #current(name: S3Name): Promise<Current | undefined> {
    const { status, headers } = await this.#upstream.send({
      method: 'HEAD',
      path: `/${percentEncoded(name.bucket)}/${name.key.split('/').map(percentEncoded).join('/')}`,
      query: new URLSearchParams(name.versionId === undefined ? {} : { versionId: name.versionId }),
      headers: {},
      body: Buffer.alloc(0),
    });
    if (status === 404) return undefined;
    const { etag, 'last-modified': modified } = headers;
    if (status !== 200 || etag === undefined) throw new Error(`HEAD ${idOf(name)} answered ${status}`);
    const version = headers['x-amz-version-id'] ?? 'null';
    const real = unquoted(etag);
    return {
      version,
      real,
      shown: this.#shownOf(name, version, real),
      modifiedAt: Date.parse(modified ?? ''),
    };
  }

  /** Why an If-Match about the current version refuses; undefined where it holds. */
  async #mismatch(name: S3Name, wanted: string): Promise<Refusal | undefined> {
    const current = await this.#current({ bucket: name.bucket, key: name.key });
    if (wanted.trim() === '*') return current === undefined ? 'PreconditionFailed' : undefined;
    if (current === undefined) return 'NoSuchKey';
    return listed(wanted).includes(current.shown) ? undefined : 'PreconditionFailed';
  }

  /** The refusal that the destination's conditions of a PUT, COPY or complete-multipart give. */
  async #destinationRefusal(request: S3Request): Promise<S3Answer | undefined> {
    if (request.kind === 'copy-part') return undefined;
    const { 'if-match': wanted, 'if-none-match': unwanted } = request.headers;
    if (unwanted !== undefined) {
      if (unwanted !== '*') return refused('NotImplemented', request);
      if ((await this.#current(request)) !== undefined) return refused('PreconditionFailed', request);
    }
    const refusal = wanted === undefined ? undefined : await this.#mismatch(request, wanted);
    return refusal === undefined ? undefined : refused(refusal, request);
  }

  /** The refusal that a copy's source gives, or what to ask of the gateway in the words that it honours. */
  async #sourceCondition(request: S3Request): Promise<S3Answer | { headers: Record<string, string> }> {
    const asked = (name: string): string | undefined => request.headers[`x-amz-copy-source-if-${name}`];
    const match = asked('match');
    const noneMatch = asked('none-match');
    const unmodified = asked('unmodified-since');
    const modified = asked('modified-since');
    if ((match ?? noneMatch ?? unmodified ?? modified) === undefined) return { headers: {} };
    const current = request.source === undefined ? undefined : await this.#current(request.source);
    if (current === undefined) return { headers: {} }; // its own 404
    const isMatch = match === undefined || match === '*' || listed(match).includes(current.shown);
    const isOther =
      noneMatch === undefined || !(noneMatch === '*' || listed(noneMatch).includes(current.shown));
    // A true If-Match outweighs a false Unmodified-Since.
    const isOld =
      unmodified === undefined || match !== undefined || current.modifiedAt <= Date.parse(unmodified);
    const isNew = modified === undefined || current.modifiedAt > Date.parse(modified);
    if (!isMatch || !isOther || !isOld || !isNew) return refused('PreconditionFailed', request);
    // Whoever writes past this proxy is not held by its locks, only by this.
    return { headers: { 'x-amz-copy-if-match': current.real } };
  }

  #shownOf(name: S3Name, version: string, real: string): string {
    const entry = this.#shown.get(idOf(name))?.get(version);
    return entry?.real === real ? entry.shown : real;
  }

  /** A condition of a read, in the gateway's ETags; a copy's real one matches nothing. */
  #asReal(name: S3Name, wanted: string): string {
    const entries = [...(this.#shown.get(idOf(name)) ?? [])]
      .filter(([version]) => name.versionId === undefined || version === name.versionId)
      .map(([, entry]) => entry);
    const real = (etag: string): string => {
      const entry = entries.find(({ shown }) => shown === etag);
      if (entry !== undefined) return entry.real;
      return entries.some((hidden) => hidden.real === etag) ? 'hidden' : etag;
    };
    return wanted === '*'
      ? wanted
      : listed(wanted)
          .map((etag) => `"${real(etag)}"`)
          .join(', ');
  }

  #forget(name: S3Name, version: string): void {
    const versions = this.#shown.get(idOf(name));
    versions?.delete(version);
    if (versions?.size === 0) this.#shown.delete(idOf(name));
  }
}

interface Current {
  readonly version: string;
  readonly real: string;
  readonly shown: string;
  readonly modifiedAt: number;
}

/** Runs work on names one after the other; work on several waits for all of them. */
class Locks {
  readonly #last = new Map<string, Promise<unknown>>();

  during<T>(names: readonly S3Name[], work: () => Promise<T>): Promise<T> {
    const ids = [...new Set(names.map(idOf))];
    // All places in the queues are taken at once, so no two wait for each other.
    const earlier = ids.map(async (id) => this.#last.get(id));
    const result = Promise.all(earlier).then(work);
    const free = (): void => {
      for (const id of ids) if (this.#last.get(id) === over) this.#last.delete(id);
    };
    const over = result.then(free, free);
    for (const id of ids) this.#last.set(id, over);
    return result;
  }
}

interface BatchEntry extends S3Name {
  readonly etag: string | undefined;
  /** Without its ETag. */
  readonly xml: string;
}

function entriesOf({ bucket, body }: S3Request): BatchEntry[] {
  return Array.from(body.toString().matchAll(/<Object>.*?<\/Object>/gs), ([entry]) => {
    const etag = fieldOf(entry, 'ETag');
    const versionId = fieldOf(entry, 'VersionId');
    return {
      bucket,
      key: unescaped(fieldOf(entry, 'Key') ?? ''),
      ...(versionId === undefined ? {} : { versionId }),
      etag: etag === undefined ? undefined : unescaped(etag),
      xml: entry.replace(/<ETag>.*?<\/ETag>/s, ''),
    };
  });
}

const REFUSALS = {
  PreconditionFailed: [412, 'At least one of the pre-conditions you specified did not hold'],
  NoSuchKey: [404, 'The specified key does not exist.'],
  NotImplemented: [501, 'A header you provided implies functionality that is not implemented'],
} as const;
type Refusal = keyof typeof REFUSALS;

function refused(code: Refusal, { key }: S3Name): S3Answer {
  return xml(REFUSALS[code][0], `<Error>${codeAndMessage(code)}<Key>${escaped(key)}</Key></Error>`);
}

function codeAndMessage(code: Refusal): string {
  return `<Code>${code}</Code><Message>${REFUSALS[code][1]}</Message>`;
}

/** An answer of XML, such as the server's own. */
export function xml(status: number, content: string): S3Answer {
  return {
    status,
    headers: { 'content-type': 'application/xml', 'x-amz-request-id': 'of-the-proxy' },
    body: Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${content}`),
  };
}

/** Amazon knows no milliseconds of a LastModified, in listings either. */
function withSeconds(answer: S3Answer): S3Answer {
  if (answer.status !== 200) return answer;
  const text = answer.body.toString();
  return { ...answer, body: Buffer.from(text.replaceAll(/(<LastModified>[^<.]*)\.\d+Z/g, '$1.000Z')) };
}

function versionOf(answer: S3Answer): string {
  return answer.headers['x-amz-version-id'] ?? 'null';
}

export function without(
  { headers }: S3Request,
  ...names: readonly (string | RegExp)[]
): Record<string, string> {
  const isLeftOut = (header: string): boolean =>
    names.some((name) => (typeof name === 'string' ? name === header : name.test(header)));
  return Object.fromEntries(Object.entries(headers).filter(([header]) => !isLeftOut(header)));
}

function idOf({ bucket, key }: S3Name): string {
  return `${bucket}/${key}`;
}

function listed(etags: string): string[] {
  return etags.split(',').map((etag) => unquoted(etag.trim()));
}

function unquoted(etag: string): string {
  return etag.replaceAll(/^(W\/)?"|"$/g, '');
}

function fieldOf(entry: string, name: string): string | undefined {
  return new RegExp(`<${name}>(.*?)</${name}>`, 's').exec(entry)?.[1];
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescaped(text: string): string {
  return text.replaceAll(
    /&(?:#x([\da-f]+)|#(\d+)|(\w+));/gi,
    (all, hex?: string, decimal?: string, name = '') => {
      if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
      if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
      return ENTITIES[name] ?? all;
    },
  );
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"'\p{Cc}]/gu, (char) => `&#${char.codePointAt(0)};`);
}
