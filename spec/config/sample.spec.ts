import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import fc from 'fast-check';
import { CONFIG_DEFAULTS } from '../../lib/config/defaults.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { sampleConfig } from '../../lib/config/sample.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { warnings } from '../../lib/config/warnings.ts';

const SHIPPED = path.join(import.meta.dirname, '../../config/tombstoned.yaml');
const TYPICAL = {
  url: 'file:///srv/backups/mainnet',
  name: 'mainnet',
  catalog: '/var/lib/tombstoned/catalog.db',
};

describe('the sample config', () => {
  let directory: string;
  let file: string;

  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-sample-'));
    file = path.join(directory, 'tombstoned.yaml');
  });

  after(() => rmSync(directory, { recursive: true }));

  function load(text: string) {
    writeFileSync(file, text);
    return loadConfig(file);
  }

  it('says exactly the defaults, and nothing to warn about', () => {
    const config = load(sampleConfig(TYPICAL));
    expect(config).to.deep.equal({ ...CONFIG_DEFAULTS, file, stores: [storeConfigFromUrl(TYPICAL.url)] });
    expect(warnings(config)).to.deep.equal([]);
  });

  it('deletes nothing until its example is put in force', () => {
    const sample = sampleConfig(TYPICAL);
    expect(load(sample).stores[0]?.policies).to.deep.equal([]);
    const [, rest] = sample.split('policies:\n');
    expect(rest).to.match(/^(#.*\n)+$/);
    const inForce = load(sample.replace(rest ?? '', (rest ?? '').replaceAll(/^#/gm, '')));
    expect(inForce.stores[0]?.policies).to.deep.equal([
      {
        name: 'old-logs',
        type: 'age',
        prefix: 'logs/',
        match: '**/*.meta',
        olderThan: 30 * 86_400_000,
        keepLast: 3,
        unit: 'object',
        limits: { maxObjects: 100_000, maxFraction: 0.5, maxBytes: null },
      },
      {
        name: 'requests',
        type: 'drop-in',
        directory: '/var/lib/tombstoned/requests',
        limits: { maxObjects: 100_000, maxFraction: 0.5, maxBytes: null },
      },
    ]);
  });

  it('is what the project ships', () => {
    expect(readFileSync(SHIPPED, 'utf8')).to.equal(sampleConfig(TYPICAL));
    expect(loadConfig(SHIPPED).stores).to.have.length(1);
  });

  it('keeps to a readable width', () => {
    for (const line of sampleConfig(TYPICAL).split('\n')) expect(line.length, line).to.be.at.most(100);
  });

  it('can be read back whatever the store and the catalog are called', () => {
    const segment = fc
      .oneof(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }),
        fc.constantFrom(
          'null',
          'true',
          '1e3',
          '0x1f',
          '~',
          '- a',
          'a: b',
          ' # c',
          '"',
          "'",
          '%',
          '\n',
          '\u2028',
          'x'.repeat(200),
        ),
      )
      .filter((s) => s.isWellFormed() && !/[/\0]/.test(s) && !/^\.\.?$/.test(s));
    const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]*$/);
    fc.assert(
      fc.property(
        segment,
        segment,
        fc.oneof(name, fc.constantFrom('null', 'yes', '12', '0o7')),
        (a, b, called) => {
          const url = pathToFileURL(`/stores/${a}`).href;
          const catalog = `/catalogs/${b}/catalog.db`;
          const config = load(sampleConfig({ url, name: called, catalog }));
          expect(config.catalog).to.equal(catalog);
          expect(config.stores[0]).to.deep.include({ url, name: called });
          expect(config.stores[0]?.location).to.deep.equal({ kind: 'local', directory: `/stores/${a}` });
        },
      ),
      { numRuns: 200 },
    );
  });
});
