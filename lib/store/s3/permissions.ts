/** What was asked for, and of what. */
export interface Asked {
  /** As the SDK calls it: `CopyObject`. */
  readonly operation: string;
  /** Whether it named a version, which has permissions of its own. */
  readonly isOfVersion: boolean;
  readonly bucket: string;
  /** With the store's prefix; undefined: the bucket itself. */
  readonly fullName: string | undefined;
}

/** What an operator has to allow, where a request was denied: what the store names, else what such a request needs. */
export function whatToAllow(said: string, { operation, isOfVersion, bucket, fullName }: Asked): string {
  // Amazon says it; an explicit deny stands in its message, which is shown as it is.
  const named = /not authorized to perform: (?<action>s3:\w+)(?: on resource: "?(?<on>[^\s"]+))?/.exec(
    said,
  )?.groups;
  const action =
    named?.['action'] ??
    (isOfVersion ? OF_VERSIONS[operation] : undefined) ??
    OF_NAMES[operation] ??
    `s3:${operation}`;
  const arn = `arn:aws:s3:::${bucket}`;
  const on =
    named?.['on'] ?? (OF_BUCKETS.has(operation) || fullName === undefined ? arn : `${arn}/${fullName}`);
  const copy = named === undefined ? (OF_COPIES[operation] ?? '') : '';
  return `allow these credentials ${action} on ${on}${copy}: config/iam has a policy for each role`;
}

const OF_BUCKETS = new Set(['HeadBucket', 'ListObjectsV2', 'ListObjectVersions', 'GetBucketVersioning']);

const OF_NAMES: Readonly<Record<string, string>> = {
  HeadObject: 's3:GetObject (and s3:ListBucket on the bucket: without it, what is missing is denied)',
  GetObject: 's3:GetObject (and s3:ListBucket on the bucket: without it, what is missing is denied)',
  HeadBucket: 's3:ListBucket',
  ListObjectsV2: 's3:ListBucket',
  ListObjectVersions: 's3:ListBucketVersions',
  CopyObject: 's3:GetObject and s3:GetObjectTagging',
  UploadPartCopy: 's3:GetObject',
  CreateMultipartUpload: 's3:PutObject and s3:PutObjectTagging',
  CompleteMultipartUpload: 's3:PutObject',
  DeleteObjects: 's3:DeleteObject',
};

const OF_VERSIONS: Readonly<Record<string, string>> = {
  HeadObject: 's3:GetObjectVersion',
  GetObject: 's3:GetObjectVersion',
  GetObjectTagging: 's3:GetObjectVersionTagging',
  PutObjectTagging: 's3:PutObjectVersionTagging',
  CopyObject: 's3:GetObjectVersion and s3:GetObjectVersionTagging',
  UploadPartCopy: 's3:GetObjectVersion',
  DeleteObject: 's3:DeleteObjectVersion',
  DeleteObjects: 's3:DeleteObjectVersion',
};

/** Beside what the source needs. */
const OF_COPIES: Readonly<Record<string, string>> = {
  CopyObject: ', and s3:PutObject and s3:PutObjectTagging where its copy goes',
  UploadPartCopy: ', and s3:PutObject where its copy goes',
};
