import { expect } from 'chai';
import { connect, wayOf } from '../../lib/store/s3/connection.ts';
import { Connections } from '../../lib/store/s3/http.ts';
import { plainWay, type S3Place } from '../../lib/store/s3/way.ts';

describe('the way to a bucket', () => {
  const environment = { ...process.env };
  const clean = (): void => {
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
  };
  beforeEach(() => {
    clean();
    Object.assign(process.env, {
      AWS_ACCESS_KEY_ID: 'key',
      AWS_SECRET_ACCESS_KEY: 'secret',
      AWS_SESSION_TOKEN: 'token',
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_SHARED_CREDENTIALS_FILE: '/nonexistent',
      AWS_CONFIG_FILE: '/nonexistent',
      AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
    });
  });
  afterEach(() => {
    clean();
    Object.assign(process.env, environment);
  });

  const OWN: S3Place = { endpoint: 'http://127.0.0.1:9000', region: 'default', forcePathStyle: true };

  for (const [what, place, region] of [
    ['an endpoint of its own', OWN],
    ['one without a port', { ...OWN, endpoint: 'https://s3.example.org/' }],
    ['a standard port', { ...OWN, endpoint: 'https://s3.example.org:443' }],
    ['one of IPv6', { ...OWN, endpoint: 'http://[::1]:9000', forcePathStyle: false }],
    ['an address, which no bucket stands before', { ...OWN, forcePathStyle: false }],
    ['the region of the environment', { ...OWN, region: null }, 'eu-north-1'],
    ['no region', { ...OWN, region: null }],
  ] as const satisfies [string, S3Place, string?][]) {
    it(`is the SDK's where there is ${what}`, async () => {
      if (region !== undefined) process.env['AWS_REGION'] = region;
      const connections = new Connections(1, () => undefined);
      const { credentials, ...plain } = (await plainWay(place, 'some.bucket-1')) ?? {};
      const sdk = await connect(place, 'some.bucket-1', connections);
      const { credentials: known, ...way } = await wayOf(sdk, 'some.bucket-1');
      expect(plain).to.deep.equal(way);
      expect(way.host).to.equal(sdk.host);
      const { accessKeyId, secretAccessKey, sessionToken } = await known();
      expect(await credentials?.()).to.include({ accessKeyId, secretAccessKey, sessionToken });
      connections.destroy();
    });
  }

  for (const [what, place, bucket, variable] of [
    ['no endpoint is named', { ...OWN, endpoint: null }, 'bucket'],
    [
      'the bucket stands before the host',
      { ...OWN, endpoint: 'https://s3.example.org', forcePathStyle: false },
      'bucket',
    ],
    ['the endpoint is Amazon’s', { ...OWN, endpoint: 'https://s3.eu-north-1.amazonaws.com' }, 'bucket'],
    ['the endpoint has a path', { ...OWN, endpoint: 'https://example.org/s3' }, 'bucket'],
    ['the bucket is a directory bucket', OWN, 'bucket--use1-az4--x-s3'],
    ['the bucket is an access point', OWN, 'arn:aws:s3:us-east-1:123456789012:accesspoint/x'],
    ['the region is of a kind of its own', { ...OWN, region: 'fips-us-east-1' }, 'bucket'],
    ['endpoints must be of FIPS', OWN, 'bucket', 'AWS_USE_FIPS_ENDPOINT'],
    ['endpoints must be of both protocols', OWN, 'bucket', 'AWS_USE_DUALSTACK_ENDPOINT'],
  ] as const satisfies [string, S3Place, string, string?][]) {
    it(`is for the SDK to tell where ${what}`, async () => {
      if (variable !== undefined) process.env[variable] = 'true';
      expect(await plainWay(place, bucket)).to.equal(undefined);
    });
  }
});
