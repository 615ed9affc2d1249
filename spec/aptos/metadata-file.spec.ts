import { gunzipSync, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import { metadataFileBytes, metadataText, readMetadataFile } from '../../lib/index.ts';
import { anyMetadata, inPieces, MOST, read, refusal } from './lines.ts';

const LINE = '{"TransactionBackup":{"first_version":0,"last_version":9,"manifest":"transaction_0-.89de/m"}}';

function withVersion(number: string): string {
  return `{"TransactionBackup":{"first_version":${number},"last_version":${MOST},"manifest":"t/m"}}\n`;
}

function withManifest(handle: string): string {
  return `${LINE.replace('"transaction_0-.89de/m"', JSON.stringify(handle))}\n`;
}

describe('a metadata file', () => {
  it('has all that was written, packed or plain, in whatever pieces it comes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyMetadata, { minLength: 1 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 99 }),
        async (all, isGzip, size) => {
          const texts = all.map(metadataText);
          const bytes = await metadataFileBytes(texts, { isGzip });
          const file = await readMetadataFile('metadata/x.meta', inPieces(bytes, size));
          expect(file.isGzip).to.equal(isGzip);
          expect(file.lines.map(({ metadata }) => metadata)).to.deep.equal(all);
          expect(file.lines.map(({ text }) => text)).to.deep.equal(texts);
          expect(file.lines.some(({ hasMore }) => hasMore)).to.equal(false);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('is never read when it was cut, wherever that was, unless at the end of a line', async () => {
    const line = fc.nat({ max: 2 ** 40 }).map((n) => LINE.replace(':9,', `:${n},`));
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        async (texts, isGzip, part) => {
          const bytes = await metadataFileBytes(texts, { isGzip });
          const cut = bytes.subarray(0, Math.floor(bytes.length * part));
          const isWhole = !isGzip && cut.at(-1) === 0x0a;
          if (isWhole)
            expect((await read(cut)).lines.map(({ text }) => text)).to.deep.equal(
              texts.slice(0, cut.toString().split('\n').length - 1),
            );
          else expect(await refusal(cut)).to.match(/^metadata file "metadata\/a\.meta".*was cut short/);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('is known to be cut at the end of a line by the name that the tools gave it', async () => {
    const lines = [0, 1, 2].map(
      (n) =>
        `{"TransactionBackup":{"first_version":${n * 10},"last_version":${n * 10 + 9},"manifest":"t/${n}"}}\n`,
    );
    const handle = 'metadata/transaction_compacted_0-29.meta';
    expect((await read(lines.join(''), handle)).lines).to.have.length(3);
    expect(await refusal(lines.slice(0, 2).join(''), handle)).to.contain(
      'its name says 0 to 29, its lines have 0 to 19: was it cut short',
    );
    expect(await refusal(lines.slice(1).join(''), handle)).to.contain('have 10 to 29');
  });

  it('is refused when its lines are others than its name says, whichever variant it is', async () => {
    const other = `{"Identity":{"id":"${'a'.repeat(64)}"}}\n`;
    for (const [name, said] of [
      ['epoch_ending_3-4', '3 to 4'],
      ['epoch_ending_compacted_0-99', '0 to 99'],
      ['state_snapshot_ver_5', '5'],
      ['state_snapshot_compacted_epoch_1_2', '1 to 2'],
      ['transaction_0-1', '0 to 1'],
      ['transaction_compacted_0-1', '0 to 1'],
      ['compaction_timestamps_1700000000', '1700000000'],
    ])
      expect(await refusal(other, `metadata/${name}.meta`)).to.contain(
        `its name says ${said}, its lines have none`,
      );
    for (const name of ['identity.meta', 'transaction_a-b.meta', 'mine.meta', 'xtransaction_0-1.meta'])
      expect(await refusal(other, `metadata/${name}`)).to.equal('it was read');
  });

  it('has every 64-bit number exactly, also when it is written again', async () => {
    for (const n of [2n ** 53n + 1n, 2n ** 63n, MOST]) {
      const [line] = (await read(withVersion(`${n}`))).lines;
      expect(line?.metadata).to.deep.include({ firstVersion: n, lastVersion: MOST });
      if (line?.metadata.kind !== 'transaction') expect.fail();
      expect(`${metadataText(line.metadata)}\n`).to.equal(withVersion(`${n}`));
    }
  });

  it('is refused with a number that is none of 64 bits', async () => {
    for (const number of [`${MOST + 1n}`, '-1', '-0', '1.0', '1e3', '"1"', 'null', '9'.repeat(5000)])
      expect(await refusal(withVersion(number)), number).to.match(
        /line 1: "first_version" is .*: expected a whole/,
      );
    expect(() =>
      metadataText({ kind: 'compaction-timestamps', fileCompactedAt: -1n, timestamps: new Map() }),
    ).to.throw('-1 is no unsigned 64-bit number');
  });

  it('keeps a variant that it does not know as it is, and says where a known one has more than it knows', async () => {
    const unknown = ' {"Later" : {"a":1e400,"b":[18446744073709551616]}}\t\r';
    const more = LINE.replace('"manifest"', '"later":1,"manifest"');
    const file = await read(`${unknown}\n${more}\n`);
    expect(file.lines.map(({ text, hasMore }) => ({ text, hasMore }))).to.deep.equal([
      { text: unknown, hasMore: false },
      { text: more, hasMore: true },
    ]);
    expect(file.lines[0]?.metadata).to.deep.equal({ kind: 'unknown', variant: 'Later' });
    expect(file.lines[1]?.metadata).to.include({ kind: 'transaction', lastVersion: 9n });
  });

  it('is read with carriage returns, as the tools read it', async () => {
    const file = await read(`${LINE}\r\n${LINE}\r\n`);
    expect(file.lines.map(({ text }) => text)).to.deep.equal([`${LINE}\r`, `${LINE}\r`]);
  });

  it('is refused by the line that is malformed', async () => {
    const hint = '(put back a whole copy, or have the backup tool write it again)';
    for (const [line, problem] of [
      ['', 'it is empty'],
      ['  \r', 'it is empty'],
      ['\u{feff}{}', 'it begins with a byte order mark'],
      ['{}', 'expected one JSON object with one member, the variant'],
      ['[]', 'expected one JSON object with one member, the variant'],
      ['"Identity"', 'expected one JSON object with one member, the variant'],
      ['{"A":1,"B":2}', 'expected one JSON object with one member, the variant'],
      [`${LINE}${LINE}`, `unexpected "{" at character ${LINE.length + 1}`],
      [LINE.replace('"last', '"first'), '"first_version" is there twice'],
      [LINE.replace(':9', ':9,"x":2,"x":2'), '"x" is there twice'],
      ['{"TransactionBackup":[0,9,"t/m"]}', '"TransactionBackup" is a list: expected an object'],
      ['{"Identity":{}}', '"Identity" has no "id"'],
      ['{"Identity":{"id":"xyz"}}', '"id" is "xyz": expected 64 hex digits'],
      ['{"Identity":{"id":1}}', '"id" is 1: expected a text'],
      [LINE.replace('n":0', 'n":10'), '"last_version" is 9, before "first_version", 10'],
      [`{"Later":${'['.repeat(500)}`, 'values are nested deeper than 128'],
      [
        '{"CompactionTimestamps":{"file_compacted_at":1,"compaction_timestamps":[]}}',
        'is a list: expected an object',
      ],
      [
        '{"CompactionTimestamps":{"file_compacted_at":1,"compaction_timestamps":{"a":true}}}',
        'the time of "a" is true: expected seconds, or null',
      ],
      [`{"Later":"${'x'.repeat(70_000)}"}`, 'it is longer than 64 KiB'],
    ]) {
      const said = await refusal(`${LINE}\n${line}\n${LINE}\n`);
      expect(said).to.match(/^metadata file "metadata\/a\.meta", line 2: /);
      expect(said).to.contain(problem);
      expect(said).to.contain(`[metadata/a.meta] ${hint}`);
    }
    expect(await refusal(Buffer.from([0x7b, 0xff, 0x0a]))).to.contain('line 1: it is not valid UTF-8');
  });

  it('is refused with a manifest, or a file, that is outside of the backup', async () => {
    for (const handle of [
      '../../etc/passwd',
      '/etc/passwd',
      'a/../b',
      'a/./b',
      'a//b',
      '',
      'a\0b',
      'a\nb',
      'a\u009bb',
      '.tombstoned/x',
      'a/'.repeat(3000),
    ]) {
      expect(await refusal(withManifest(handle)), handle).to.match(
        /line 1: "manifest" is .*, which names no file/,
      );
      const times = `{"CompactionTimestamps":{"file_compacted_at":1,"compaction_timestamps":{${JSON.stringify(handle)}:null}}}\n`;
      expect(await refusal(times), handle).to.match(
        /line 1: a name in "compaction_timestamps" is .*, which names/,
      );
    }
    expect(await refusal(withManifest('a\u001b[2J'))).to.not.match(/\p{Cc}/u);
  });

  it('is refused when it is empty, packed or not', async () => {
    for (const bytes of [Buffer.alloc(0), gzipSync('')])
      expect(await refusal(bytes)).to.match(/a\.meta": it is empty .*\(it was cut short while/);
    expect(await refusal('\n')).to.contain('line 1: it is empty');
  });

  it('is refused when what was packed is damaged, or something else follows it', async () => {
    const packed = gzipSync(`${LINE}\n`);
    const damaged = Buffer.from(packed);
    damaged[20] = (damaged[20] ?? 0) ^ 0xff;
    expect(await refusal(damaged)).to.match(/what gzip packed is damaged: .*\(put back a whole copy/);
    expect(await refusal(Buffer.concat([packed, Buffer.from('more')]))).to.contain(
      'what gzip packed is damaged: incorrect header check',
    );
    expect((await read(Buffer.concat([packed, packed]))).lines, 'parts, one after another').to.have.length(2);
  });

  it('is refused when it unpacks to more than it may, long before that fills the memory', async () => {
    const bomb = gzipSync(Buffer.alloc(80 * 1024 ** 2, `${' '.repeat(60_000)}{"A":1}\n`), { level: 1 });
    expect(bomb.length).to.be.lessThan(1024 ** 2);
    expect(await refusal(bomb)).to.contain('it is larger than 64 MiB unpacked');
    const line = gzipSync(`${' '.repeat(100_000)}\n`);
    expect(await refusal(line)).to.contain('line 1: it is longer than 64 KiB');
    let given = 0;
    async function* huge(): AsyncGenerator<Uint8Array> {
      const piece = Buffer.alloc(1024 ** 2, 'x\n');
      for (; given < 100; given += 1) yield piece;
    }
    const error = await readMetadataFile('metadata/a.meta', huge()).catch((e: unknown) => e);
    expect(error)
      .to.be.an('error')
      .with.property('message', 'metadata file "metadata/a.meta": it is larger than 64 MiB');
    expect(given).to.equal(64);
  });

  it('may name very many files in its timestamps', async () => {
    const names = Array.from(
      { length: 20_000 },
      (_, n) => `"metadata/transaction_${n}00001-${n + 1}00000.meta":null`,
    );
    const text = `{"CompactionTimestamps":{"file_compacted_at":7,"compaction_timestamps":{${names.join(',')}}}}`;
    const [line] = (await read(`${text}\n`)).lines;
    if (line?.metadata.kind !== 'compaction-timestamps') expect.fail();
    expect(line.metadata.timestamps.size).to.equal(20_000);
    expect(metadataText(line.metadata)).to.equal(text);
  });

  it('lets through what reading its bytes throws, and closes them', async () => {
    let closed = 0;
    async function* failing(first: Uint8Array): AsyncGenerator<Uint8Array> {
      try {
        yield first;
        throw new Error('403');
      } finally {
        closed += 1;
      }
    }
    for (const first of [Buffer.from(LINE), gzipSync(`${LINE}\n`).subarray(0, 30), Buffer.from('{')]) {
      const error = await readMetadataFile('metadata/a.meta', failing(first)).catch((e: unknown) => e);
      expect(error).to.be.an('error').with.property('message', '403');
    }
    await readMetadataFile('metadata/a.meta', failing(Buffer.from('bad\n'))).catch(() => undefined);
    expect(closed).to.equal(4);
  });

  it('is not written without lines, nor of lines that are more than one', async () => {
    for (const lines of [[], [''], [`${LINE}\n`], [LINE, `{\n}`]]) {
      const error = await metadataFileBytes(lines, { isGzip: false }).catch((e: unknown) => e);
      expect(error).to.be.an('error').with.property('message', 'these are not the lines of a metadata file');
    }
  });

  it('is packed as gzip unpacks it, and the same each time', async () => {
    const bytes = await metadataFileBytes([LINE, LINE], { isGzip: true });
    expect(gunzipSync(bytes).toString()).to.equal(`${LINE}\n${LINE}\n`);
    expect((await metadataFileBytes([LINE, LINE], { isGzip: true })).equals(bytes)).to.equal(true);
  });
});
