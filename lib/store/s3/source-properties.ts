import type { HeadObjectCommandOutput, PutObjectCommandInput, Tag } from '@aws-sdk/client-s3';
import { compareKeys } from '../../domain/key.ts';
import { bareEtag } from './encoding.ts';
import { checkDocument } from './http.ts';
import { failed, type Sender } from './sender.ts';

export interface Source {
  readonly etag: string;
  readonly size: number;
  readonly versionId?: string | null;
}

/** What goes with an object's bytes, for a request that has to be told. */
export interface Properties {
  readonly input: Pick<
    PutObjectCommandInput,
    | 'ContentType'
    | 'CacheControl'
    | 'ContentDisposition'
    | 'ContentEncoding'
    | 'ContentLanguage'
    | 'Metadata'
    | 'StorageClass'
    | 'WebsiteRedirectLocation'
    | 'Tagging'
    | 'ServerSideEncryption'
    | 'SSEKMSKeyId'
    | 'BucketKeyEnabled'
  >;
  readonly headers: Readonly<Record<string, string>>;
  /** They are in `input` too. */
  readonly tags: readonly Tag[];
}

/** What a copy's source is, with all that goes with it. */
export async function headOf(
  sender: Sender,
  from: string,
  source: Source,
): Promise<HeadObjectCommandOutput | 'changed' | 'gone'> {
  return sender.repeated<HeadObjectCommandOutput, HeadObjectCommandOutput | 'changed' | 'gone'>({
    operation: 'HeadObject',
    what: 'copied',
    name: from,
    versionId: source.versionId,
    answers: null,
    send: async (_, options, sdk) => {
      const { client, commands } = await sdk();
      return client.send(
        new commands.HeadObjectCommand({
          Bucket: sender.bucket,
          Key: sender.prefix + from,
          VersionId: source.versionId ?? undefined,
        }),
        options,
      );
    },
    read: (output) =>
      bareEtag(output.ETag) === source.etag && output.ContentLength === source.size ? output : 'changed',
    // That the bucket is there, the caller has made sure of.
    refused: ({ status }) => (status === 404 ? 'gone' : undefined),
  });
}

export async function propertiesOf(
  sender: Sender,
  from: string,
  source: Source,
  head: HeadObjectCommandOutput,
): Promise<Properties> {
  if ((head.MissingMeta ?? 0) > 0) {
    throw failed(
      sender.about({ operation: 'HeadObject', what: 'copied', name: from }),
      'it has metadata that the store does not give',
      'copy it by hand',
    );
  }
  const tags = await tagsOf(sender, from, source);
  return {
    tags,
    input: {
      ContentType: head.ContentType,
      CacheControl: head.CacheControl,
      ContentDisposition: head.ContentDisposition,
      ContentEncoding: head.ContentEncoding,
      ContentLanguage: head.ContentLanguage,
      Metadata: head.Metadata,
      StorageClass: head.StorageClass,
      WebsiteRedirectLocation: head.WebsiteRedirectLocation,
      ...encryptionOf(head),
      ...(tags.length === 0 ? {} : { Tagging: taggingOf(tags) }),
    },
    // As it is, whether it is a date or not.
    headers: head.ExpiresString === undefined ? {} : { expires: head.ExpiresString },
  };
}

/** A key of its own; what every object of a bucket has is the bucket's to say. */
function encryptionOf(head: HeadObjectCommandOutput): Partial<Properties['input']> {
  const { ServerSideEncryption, SSEKMSKeyId, BucketKeyEnabled } = head;
  return SSEKMSKeyId === undefined ? {} : { ServerSideEncryption, SSEKMSKeyId, BucketKeyEnabled };
}

export async function tagsOf(
  sender: Sender,
  from: string,
  source: Pick<Source, 'versionId'>,
): Promise<readonly Tag[]> {
  return sender.repeated<{ TagSet: Tag[] | undefined }, readonly Tag[]>({
    operation: 'GetObjectTagging',
    what: 'copied',
    name: from,
    versionId: source.versionId,
    answers: null,
    send: async (_, options, sdk) => {
      const { client, commands } = await sdk();
      return client.send(
        new commands.GetObjectTaggingCommand({
          Bucket: sender.bucket,
          Key: sender.prefix + from,
          VersionId: source.versionId ?? undefined,
        }),
        options,
      );
    },
    read: ({ TagSet }, answer) => {
      // RGW says nothing at all of some objects without tags.
      if (answer.text !== '') checkDocument(answer, 'Tagging');
      return TagSet ?? [];
    },
    // A store that knows no tags has none.
    refused: ({ status, code }) => (status === 501 || code === 'NoSuchTagSet' ? [] : undefined),
  });
}

/** Whether two have the same tags; their order means nothing. */
export function areSameTags(a: readonly Tag[], b: readonly Tag[]): boolean {
  return new URLSearchParams(sorted(a)).toString() === new URLSearchParams(sorted(b)).toString();
}

function sorted(tags: readonly Tag[]): [string, string][] {
  return tags
    .map(({ Key = '', Value = '' }): [string, string] => [Key, Value])
    .toSorted(([a], [b]) => compareKeys(a, b));
}

function taggingOf(tags: readonly Tag[]): string {
  return tags
    .map(({ Key, Value }) => `${encodeURIComponent(Key ?? '')}=${encodeURIComponent(Value ?? '')}`)
    .join('&');
}
