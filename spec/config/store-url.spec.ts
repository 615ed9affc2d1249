import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import fc from 'fast-check';
import { STORE_DEFAULTS } from '../../lib/config/defaults.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';

describe('a store known by its URL', () => {
  it('has the defaults, and the name of its last segment', () => {
    expect(storeConfigFromUrl('file:///srv/backups/mainnet')).to.deep.equal({
      ...STORE_DEFAULTS,
      name: 'mainnet',
      url: 'file:///srv/backups/mainnet',
      location: { kind: 'local', directory: '/srv/backups/mainnet' },
    });
  });

  const directories: [url: string, directory: string][] = [
    ['file:///a', '/a'],
    ['file:///a/', '/a'],
    ['file:////a//b/./c/../d/', '/a/b/d'],
    ['file://localhost/a', '/a'],
    ['file:///a%20b%C3%A9', '/a bé'],
    ['file:///a b é', '/a b é'],
    ['file:///a%23b%3Fc%25d', '/a#b?c%d'],
    ['file:///a%0Ab', '/a\nb'],
    ['file:///a\\b', '/a\\b'],
  ];
  for (const [url, directory] of directories) {
    it(`finds ${directory.replace('\n', '\\n')} at ${url}`, () => {
      expect(storeConfigFromUrl(url)).to.deep.include({ url, location: { kind: 'local', directory } });
    });
  }

  it('finds any directory at the URL that Node gives it', () => {
    const segment = fc
      .string({ unit: 'grapheme', minLength: 1 })
      .filter((s) => !/[/\0]/.test(s) && !/^\.\.?$/.test(s));
    fc.assert(
      fc.property(fc.array(segment, { minLength: 1, maxLength: 4 }), (segments) => {
        const directory = `/${segments.join('/')}`;
        const found = storeConfigFromUrl(pathToFileURL(directory).href);
        expect(found.location).to.deep.equal({ kind: 'local', directory });
        expect(found.name).to.match(/^[a-z0-9][a-z0-9._-]*$/);
      }),
    );
  });

  const buckets: [url: string, bucket: string, prefix: string, name: string][] = [
    ['s3://bucket', 'bucket', '', 'bucket'],
    ['s3://bucket/', 'bucket', '', 'bucket'],
    ['s3://bucket/a/b', 'bucket', 'a/b/', 'b'],
    ['s3://bucket/a/b/', 'bucket', 'a/b/', 'b'],
    ['s3://Old_Bucket/a%20b?#', 'Old_Bucket', 'a%20b?#/', 'a-20b'],
  ];
  for (const [url, bucket, prefix, name] of buckets) {
    it(`finds bucket ${bucket}, prefix ${prefix === '' ? 'none' : prefix} at ${url}`, () => {
      const location = { kind: 's3', bucket, prefix };
      expect(storeConfigFromUrl(url)).to.deep.include({ name, location });
    });
  }

  const names: [url: string, name: string][] = [
    ['file:///srv/My%20Backups', 'my-backups'],
    ['file:///srv/.hidden', 'hidden'],
    ['file:///srv/--x--', 'x'],
    ['file:///srv/%E6%97%A5%E6%9C%AC', 'store'],
    ['file:///srv/a.b_c-1', 'a.b_c-1'],
  ];
  for (const [url, name] of names) {
    it(`is called ${name} at ${url}`, () => expect(storeConfigFromUrl(url).name).to.equal(name));
  }

  const WHAT = 'expected file:///directory or s3://bucket/prefix';
  const bad: [url: string, message: string][] = [
    ['', `${WHAT}, got ""`],
    ['mainnet', `${WHAT}, got "mainnet"`],
    ['./mainnet', `${WHAT}, got "./mainnet"`],
    ['/srv/my backups', `${WHAT}, got "/srv/my backups": write file:///srv/my%20backups`],
    ['file:a', `${WHAT}, got "file:a": three slashes, and an absolute directory`],
    ['file://srv/a', `${WHAT}, got "file://srv/a": three slashes, and an absolute directory`],
    ['FILE:///a', `${WHAT}, got "FILE:///a"`],
    ['file:///', `${WHAT}, got "file:///": the root directory cannot be a store`],
    ['file:///a/..', `${WHAT}, got "file:///a/..": the root directory cannot be a store`],
    ['file:///a#b', `${WHAT}, got "file:///a#b": write "?" as %3F and "#" as %23`],
    ['file:///a?b', `${WHAT}, got "file:///a?b": write "?" as %3F and "#" as %23`],
    ['file:///100%', `${WHAT}, got "file:///100%": write "%" as %25`],
    ['file:///a%FFb', `${WHAT}, got "file:///a%FFb": write "%" as %25`],
    ['file:///a%00b', `${WHAT}, got "file:///a%00b": no path has a NUL`],
    [
      'file:///a\nb',
      `${WHAT}, got "file:///a\\nb": percent-encode control characters, and spaces at either end`,
    ],
    ['file:///a ', `${WHAT}, got "file:///a ": percent-encode control characters, and spaces at either end`],
    [
      'file:///a\ud800',
      `${WHAT}, got "file:///a\\ud800": percent-encode control characters, and spaces at either end`,
    ],
    ['s3://', `${WHAT}, got "s3://": that is no bucket's name`],
    ['s3:///a', `${WHAT}, got "s3:///a": that is no bucket's name`],
    ['s3://b', `${WHAT}, got "s3://b": that is no bucket's name`],
    ['s3://id:hush@bucket/a', `${WHAT}, got "s3://…@bucket/a": that is no bucket's name`],
    ['s3://bucket//a', `${WHAT}, got "s3://bucket//a": the prefix "/a" is absolute`],
    ['s3://bucket/a//b', `${WHAT}, got "s3://bucket/a//b": the prefix "a//b" has an empty segment`],
    ['s3://bucket/a/../b', `${WHAT}, got "s3://bucket/a/../b": the prefix "a/../b" has a ".." segment`],
    [
      's3://bucket/.tombstoned',
      `${WHAT}, got "s3://bucket/.tombstoned": the prefix ".tombstoned" has a ".tombstoned" segment`,
    ],
    ['https://user:hush@host/a', `${WHAT}, got "https://…@host/a"`],
  ];
  for (const [url, message] of bad) {
    it(`is refused at ${JSON.stringify(url)}`, () => {
      expect(() => storeConfigFromUrl(url))
        .to.throw(TombstonedError)
        .that.includes({ code: 'usage', key: url, message });
    });
  }

  it('never has a relative directory', () => {
    fc.assert(
      fc.property(fc.webUrl({ validSchemes: ['file', 's3'] }), (url) => {
        const text = url.replace(/^file:\/\/[^/]*/, 'file://');
        let location;
        try {
          ({ location } = storeConfigFromUrl(text));
        } catch (error) {
          expect(error).to.be.instanceOf(TombstonedError);
          return;
        }
        if (location.kind === 's3') expect(location.prefix).to.match(/^$|[^/]\/$/);
        else
          expect(path.normalize(location.directory))
            .to.equal(location.directory)
            .and.match(/^\/[^/]/);
      }),
    );
  });
});
