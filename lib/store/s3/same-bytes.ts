import { createHash } from 'node:crypto';
import { finished } from 'node:stream/promises';
import type { Head, S3Api } from './api.ts';

/** An object that was looked at. */
export interface Named {
  readonly name: string;
  readonly head: Pick<Head, 'etag' | 'size'>;
}

/**
 * Whether two objects have the same bytes: where they may have, and their ETags do
 * not say so (those of parts, and of some encryptions, tell nothing), both are read.
 */
export async function haveSameBytes(api: S3Api, a: Named, b: Named): Promise<boolean> {
  if (a.head.size !== b.head.size) return false;
  if (a.head.etag === b.head.etag) return true;
  const [one, other] = await Promise.all([digestOf(api, a), digestOf(api, b)]);
  return one !== undefined && one === other;
}

async function digestOf(api: S3Api, { name, head }: Named): Promise<string | undefined> {
  const got = await api.get(name, { ifMatch: head.etag });
  if (got === undefined) return undefined; // it is another by now
  const hash = createHash('sha256');
  got.body.on('data', (chunk: Buffer) => hash.update(chunk));
  await finished(got.body);
  return hash.digest('hex');
}
