import type { CopyOptions } from './api.ts';
import { copySource, quotedEtag } from './encoding.ts';

/** How a copy's request says what its source must be. */
export interface Guard {
  /** The version it names; null: the newest. */
  readonly versionId: string | null;
  readonly input: {
    readonly CopySource: string;
    readonly CopySourceIfMatch?: string;
    readonly CopySourceIfUnmodifiedSince?: Date;
  };
  readonly headers: Readonly<Record<string, string>>;
}

/** The guard of a copy's source (R3), for a request that copies. */
export function guardOf(bucket: string, key: string, { source, guard }: CopyOptions): Guard {
  const { etag, modifiedAt, versionId } = source;
  // A version that was written while none were kept is called null; without an id the newest would be copied.
  const named = guard === 'version' ? (versionId ?? 'null') : null;
  const CopySource = copySource(bucket, key, named);
  switch (guard) {
    case 'unmodified-since':
      // The header has whole seconds. Never earlier than it was changed.
      return {
        versionId: named,
        input: { CopySource, CopySourceIfUnmodifiedSince: new Date(Math.ceil(modifiedAt / 1000) * 1000) },
        headers: {},
      };
    case 'if-match':
      return { versionId: named, input: { CopySource, CopySourceIfMatch: quotedEtag(etag) }, headers: {} };
    case 'rgw-if-match':
      return { versionId: named, input: { CopySource }, headers: { 'x-amz-copy-if-match': etag } };
    case 'version':
    case 'none':
      return { versionId: named, input: { CopySource }, headers: {} };
  }
}

/** The same as a request's headers, its source among them. */
export function guardHeaders({ input, headers }: Guard): Record<string, string | undefined> {
  return {
    'x-amz-copy-source': input.CopySource,
    'x-amz-copy-source-if-match': input.CopySourceIfMatch,
    'x-amz-copy-source-if-unmodified-since': input.CopySourceIfUnmodifiedSince?.toUTCString(),
    ...headers,
  };
}

/** A command's middleware that gives its request more headers, before it is signed. */
interface Extensible {
  readonly middlewareStack: {
    add(
      middleware: <A extends { request?: unknown }, R>(
        next: (args: A) => Promise<R>,
      ) => (args: A) => Promise<R>,
      options: { step: 'build'; name: string },
    ): void;
  };
}

export function addHeaders(command: Extensible, headers: Readonly<Record<string, string>>): void {
  if (Object.keys(headers).length === 0) return;
  command.middlewareStack.add(
    (next) => async (args) => {
      const { request } = args;
      if (typeof request !== 'object' || request === null || !('headers' in request)) {
        throw new TypeError('the SDK made a request without headers');
      }
      Object.assign(request.headers ?? {}, headers);
      return next(args);
    },
    { step: 'build', name: 'tombstonedHeaders' },
  );
}
