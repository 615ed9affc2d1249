import type {
  CompletedPart,
  CompleteMultipartUploadCommandOutput,
  HeadObjectCommandOutput,
  Tag,
} from '@aws-sdk/client-s3';
import { type Copied, type CopyOptions, Unanswered } from './api.ts';
import { addHeaders, type Guard } from './copy-guard.ts';
import { bareEtag, quotedEtag, sizeOf, timeOf, versionOf } from './encoding.ts';
import { isConditionFailed, isNoSuchObject } from './errors.ts';
import { MalformedAnswer } from './http.ts';
import type { Sender } from './sender.ts';
import { areSameTags, headOf, type Properties, propertiesOf, tagsOf } from './source-properties.ts';

const MIN_PART = 64 * 2 ** 20;
const MAX_PARTS = 10_000;
/** How many parts of one object are copied at once, of the store's requests. */
const AT_ONCE = 8;

export interface PartsOptions extends CopyOptions {
  readonly from: string;
  readonly to: string;
  /** How each part is guarded. */
  readonly guarded: Guard;
  /** Null: parts as large as S3 wants them. Bytes. */
  readonly partSize: number | null;
  /** How long a part may take without a byte. ms */
  readonly patienceOf: (bytes: number) => number;
}

type Failed = 'changed' | 'gone' | 'exists';

/** Copies an object in parts, with everything that goes with it; what it began is taken back where it failed. */
export async function copyParts(sender: Sender, options: PartsOptions): Promise<Copied | Failed> {
  const { from, source } = options;
  const head = await headOf(sender, from, source);
  if (typeof head === 'string') return head;
  const properties = await propertiesOf(sender, from, source, head);
  const uploadId = await begin(sender, options, properties);
  let isOpen = true;
  try {
    const parts = await copyAll(sender, options, uploadId);
    if (typeof parts === 'string') return parts;
    // Some stores ignore a part's guard: all parts are of one object only if it is still the same.
    const after = await headOf(sender, from, source);
    if (typeof after === 'string') return after;
    if (timeOf(after.LastModified) !== timeOf(head.LastModified)) return 'changed';
    const copied = await complete(sender, options, uploadId, parts, properties.tags);
    isOpen = copied === 'exists';
    return copied;
  } catch (error) {
    // It may be complete, or still become so.
    if (error instanceof Unanswered) isOpen = false;
    throw error;
  } finally {
    if (isOpen) await abort(sender, options, uploadId);
  }
}

async function begin(sender: Sender, { to }: PartsOptions, properties: Properties): Promise<string> {
  return sender.repeated({
    operation: 'CreateMultipartUpload',
    what: 'written',
    name: to,
    answers: 'InitiateMultipartUploadResult',
    send: async (_, options, sdk) => {
      const { client, commands } = await sdk();
      const command = new commands.CreateMultipartUploadCommand({
        Bucket: sender.bucket,
        Key: sender.prefix + to,
        ...properties.input,
      });
      addHeaders(command, properties.headers);
      return client.send(command, options);
    },
    read: ({ UploadId }) => {
      if (UploadId === undefined || UploadId === '') throw new MalformedAnswer('the answer has no UploadId');
      return UploadId;
    },
  });
}

async function copyAll(
  sender: Sender,
  options: PartsOptions,
  uploadId: string,
): Promise<CompletedPart[] | Failed> {
  const { size } = options.source;
  const partSize = options.partSize ?? Math.max(MIN_PART, Math.ceil(size / MAX_PARTS / 2 ** 20) * 2 ** 20);
  const count = Math.ceil(size / partSize);
  const parts: CompletedPart[] = [];
  let next = 0;
  let failure: Failed | undefined;
  let thrown: { readonly error: unknown } | undefined;
  const work = async () => {
    while (next < count && failure === undefined && thrown === undefined) {
      const at = next++;
      try {
        const part = await copyPart(sender, options, uploadId, {
          number: at + 1,
          first: at * partSize,
          last: Math.min(size, (at + 1) * partSize) - 1,
        });
        if (typeof part === 'string') failure ??= part;
        else parts[at] = part;
      } catch (error) {
        thrown ??= { error };
      }
    }
  };
  // All of them end before the upload is aborted: a part that came later would stay.
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, count) }, work));
  if (failure !== undefined) return failure;
  if (thrown !== undefined) throw thrown.error;
  return parts;
}

async function copyPart(
  sender: Sender,
  { from, to, guarded, patienceOf }: PartsOptions,
  uploadId: string,
  part: { number: number; first: number; last: number },
): Promise<CompletedPart | Failed> {
  await sender.mayCopy(part.last - part.first + 1);
  return sender.repeated<
    { CopyPartResult?: { ETag?: string | undefined } | undefined },
    CompletedPart | Failed
  >({
    operation: 'UploadPartCopy',
    what: 'copied',
    name: from,
    versionId: guarded.versionId,
    answers: 'CopyPartResult',
    patience: patienceOf(part.last - part.first + 1),
    send: async (_, options, sdk) => {
      const { client, commands } = await sdk();
      const command = new commands.UploadPartCopyCommand({
        Bucket: sender.bucket,
        Key: sender.prefix + to,
        UploadId: uploadId,
        PartNumber: part.number,
        CopySourceRange: `bytes=${part.first}-${part.last}`,
        ...guarded.input,
      });
      addHeaders(command, guarded.headers);
      return client.send(command, options);
    },
    read: ({ CopyPartResult }) => ({
      PartNumber: part.number,
      ETag: quotedEtag(bareEtag(CopyPartResult?.ETag)),
    }),
    refused: (refusal) => {
      if (isConditionFailed(refusal)) return 'changed';
      return isNoSuchObject(refusal) ? 'gone' : undefined;
    },
  });
}

async function complete(
  sender: Sender,
  { to, ifAbsent, source, patienceOf }: PartsOptions,
  uploadId: string,
  parts: CompletedPart[],
  tags: readonly Tag[],
): Promise<Copied | 'exists'> {
  const call = { operation: 'CompleteMultipartUpload', what: 'written', name: to };
  const completed = await sender.once<
    CompleteMultipartUploadCommandOutput,
    { etag: string | undefined; versionId: string | null } | 'exists'
  >({
    ...call,
    answers: 'CompleteMultipartUploadResult',
    patience: patienceOf(source.size),
    send: async (_, options, sdk) => {
      const { client, commands } = await sdk();
      return client.send(
        new commands.CompleteMultipartUploadCommand({
          Bucket: sender.bucket,
          Key: sender.prefix + to,
          UploadId: uploadId,
          MultipartUpload: { Parts: parts },
          ...(ifAbsent === true ? { IfNoneMatch: '*' } : {}),
        }),
        options,
      );
    },
    // RGW gives an empty ETag.
    read: ({ ETag, VersionId }) => ({
      etag: ETag === undefined || ETag === '' ? undefined : bareEtag(ETag),
      versionId: versionOf(VersionId),
    }),
    refused: (refusal) => (ifAbsent === true && isConditionFailed(refusal) ? 'exists' : undefined),
  });
  if (completed === 'exists') return completed;
  const { etag, versionId } = completed;
  // Without its tags it is no copy: what keeps them from it is told, and the source stays.
  if (tags.length > 0) await keepTags(sender, to, versionId, tags);
  try {
    if (etag !== undefined) return { etag, versionId, modifiedAt: null };
    return await copyAt(sender, to, source.size, versionId);
  } catch (error) {
    throw sender.unanswered(call, undefined, error);
  }
}

/** Some stores forget the tags that an upload was begun with. */
async function keepTags(
  sender: Sender,
  to: string,
  versionId: string | null,
  tags: readonly Tag[],
): Promise<void> {
  if (areSameTags(await tagsOf(sender, to, { versionId }), tags)) return;
  await sender.repeated({
    operation: 'PutObjectTagging',
    what: 'tagged',
    name: to,
    versionId,
    answers: null,
    send: async (_, options, sdk) => {
      const { client, commands } = await sdk();
      return client.send(
        new commands.PutObjectTaggingCommand({
          Bucket: sender.bucket,
          Key: sender.prefix + to,
          VersionId: versionId ?? undefined,
          Tagging: { TagSet: [...tags] },
        }),
        options,
      );
    },
    read: () => 'tagged',
  });
}

/** The copy as it stands, where the answer that it is complete did not say. */
async function copyAt(sender: Sender, to: string, size: number, versionId: string | null): Promise<Copied> {
  return sender.repeated<HeadObjectCommandOutput, Copied>({
    operation: 'HeadObject',
    what: 'looked at',
    name: to,
    answers: null,
    send: async (_, options, sdk) => {
      const { client, commands } = await sdk();
      return client.send(
        new commands.HeadObjectCommand({
          Bucket: sender.bucket,
          Key: sender.prefix + to,
          VersionId: versionId ?? undefined,
        }),
        options,
      );
    },
    read: (output) => {
      if (sizeOf(output.ContentLength) !== size) throw new MalformedAnswer('the copy is of another size');
      return { etag: bareEtag(output.ETag), versionId, modifiedAt: timeOf(output.LastModified) };
    },
  });
}

/** Its failure is not told: what was asked for has failed already, or was told, and parts cost no more than room. */
async function abort(sender: Sender, { to }: PartsOptions, uploadId: string): Promise<void> {
  try {
    await sender.repeated({
      operation: 'AbortMultipartUpload',
      what: 'written',
      name: to,
      answers: null,
      send: async (_, options, sdk) => {
        const { client, commands } = await sdk();
        return client.send(
          new commands.AbortMultipartUploadCommand({
            Bucket: sender.bucket,
            Key: sender.prefix + to,
            UploadId: uploadId,
          }),
          options,
        );
      },
      read: () => 'aborted',
    });
  } catch {
    // A rule of the bucket's lifecycle ends what stays open.
  }
}
