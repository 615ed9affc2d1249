import { expect } from 'chai';
import { whatToAllow } from '../../lib/store/s3/permissions.ts';

const ASKED = { operation: 'PutObject', isOfVersion: false, bucket: 'b', fullName: 'p/a' };

describe('what to allow where a request was denied', () => {
  it('is what the store names, on what it names', () => {
    const said =
      'User: arn:aws:iam::111122223333:user/x is not authorized to perform: s3:PutObjectTagging on resource: "arn:aws:s3:::b/p/a~1" because no identity-based policy allows the s3:PutObjectTagging action';
    expect(whatToAllow(said, { ...ASKED, operation: 'CopyObject' })).to.match(
      /^allow these credentials s3:PutObjectTagging on arn:aws:s3:::b\/p\/a~1: /,
    );
  });

  for (const [operation, isOfVersion, says] of [
    ['PutObject', false, 's3:PutObject on arn:aws:s3:::b/p/a:'],
    ['DeleteObject', false, 's3:DeleteObject on arn:aws:s3:::b/p/a:'],
    ['DeleteObject', true, 's3:DeleteObjectVersion on arn:aws:s3:::b/p/a:'],
    ['HeadObject', true, 's3:GetObjectVersion on arn:aws:s3:::b/p/a:'],
    ['ListObjectsV2', false, 's3:ListBucket on arn:aws:s3:::b:'],
    [
      'CopyObject',
      false,
      's3:GetObject and s3:GetObjectTagging on arn:aws:s3:::b/p/a, and s3:PutObject and s3:PutObjectTagging where its copy goes:',
    ],
  ] as const) {
    it(`is what ${operation}${isOfVersion ? ' of a version' : ''} needs, where the store names nothing`, () => {
      const hint = whatToAllow('', { ...ASKED, operation, isOfVersion });
      expect(hint).to.contain(`allow these credentials ${says}`);
    });
  }
});
