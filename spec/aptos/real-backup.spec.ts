import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect } from 'chai';
import fc from 'fast-check';
import { type MetadataFile, metadataFileBytes, metadataText, ViewBuilder } from '../../lib/index.ts';
import { extractRealBackup, hasRealBackup, NEEDS_REAL_BACKUP } from '../support/real-backup.ts';
import { read, refusal } from './lines.ts';

describe(`the metadata of a real backup (${NEEDS_REAL_BACKUP})`, function () {
  this.timeout(30_000);
  const contents = new Map<string, Buffer>();
  const files = new Map<string, MetadataFile>();

  before(async function () {
    if (!hasRealBackup()) this.skip();
    const directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-metadata-'));
    extractRealBackup(directory, 'metadata');
    for (const name of readdirSync(path.join(directory, 'metadata')))
      contents.set(`metadata/${name}`, readFileSync(path.join(directory, 'metadata', name)));
    rmSync(directory, { recursive: true });
    for (const [handle, bytes] of contents) files.set(handle, await read(bytes, handle));
  });

  function restorableWithout(...handles: readonly string[]) {
    const builder = new ViewBuilder();
    for (const [handle, { lines }] of files) {
      if (handles.includes(handle)) continue;
      for (const { metadata } of lines) builder.add(metadata);
    }
    return builder.view();
  }

  it('is written again byte for byte', async () => {
    expect(files.size).to.equal(964);
    for (const [handle, { lines, isGzip }] of files) {
      const texts = lines.map(({ metadata, text }) =>
        metadata.kind === 'unknown' ? text : metadataText(metadata),
      );
      const bytes = contents.get(handle) ?? Buffer.alloc(0);
      expect(isGzip, handle).to.equal(true);
      expect((await metadataFileBytes(texts, { isGzip: false })).equals(gunzipSync(bytes)), handle).to.equal(
        true,
      );
    }
  });

  it('has 194 epochs, 662 transaction files to version 66,100,000, 107 snapshots and no gap', () => {
    const view = restorableWithout();
    expect([view.epochEndings.length, view.transactions.length, view.snapshots.length]).to.deep.equal([
      194, 662, 107,
    ]);
    expect([...view.epochBreaks(), ...view.transactionBreaks()]).to.deep.equal([]);
    const { version, lastEpoch, snapshot } = view.restorable();
    expect([version, lastEpoch, snapshot?.version]).to.deep.equal([66_100_000n, 193n, 65_795_482n]);
    expect(view.usableSnapshots(), 'the newest is past the last transaction').to.equal(106);
  });

  it('has exactly the gap that a missing file leaves', () => {
    const transactions = restorableWithout('metadata/transaction_300001-400000.meta');
    expect([...transactions.transactionBreaks()]).to.deep.equal([
      { kind: 'missing', first: 300_001n, last: 400_000n, at: 400_001n },
    ]);
    expect(transactions.restorable().version).to.equal(300_000n);
    const epochs = restorableWithout('metadata/epoch_ending_150-150.meta');
    expect([...epochs.epochBreaks()]).to.deep.equal([{ kind: 'missing', first: 150n, last: 150n, at: 151n }]);
    expect(epochs.restorable().version, 'where epoch 150 ended').to.equal(50_962_834n);
  });

  it('is restorable to 65,795,482 without its last two endings, as a snapshot tells', () => {
    const last = ['metadata/epoch_ending_193-193.meta', 'metadata/epoch_ending_192-192.meta'];
    expect(restorableWithout(...last.slice(0, 1)).restorable().version).to.equal(66_100_000n);
    expect(restorableWithout(...last).restorable().version).to.equal(65_795_482n);
  });

  it('is never said to be restorable past what random removals leave', () => {
    const all = [...files.keys()];
    fc.assert(
      fc.property(fc.subarray(all, { maxLength: 20 }), (removed) => {
        const { version } = restorableWithout(...removed).restorable();
        const cuts = removed.flatMap((handle) => {
          const first = /transaction_(\d+)-/.exec(handle)?.[1];
          return first === undefined ? [] : [Number(first)];
        });
        expect(Number(version ?? -1)).to.be.lessThanOrEqual(
          Math.min(66_100_000, ...cuts.map((first) => first - 1)),
        );
      }),
      { numRuns: 30 },
    );
  });

  it('is refused by name wherever it is cut, and never read as something else when a bit turns', async () => {
    const anyFile = fc.constantFrom(...contents.keys());
    await fc.assert(
      fc.asyncProperty(anyFile, fc.nat(), fc.nat(7), async (handle, at, bit) => {
        const bytes = contents.get(handle) ?? Buffer.alloc(0);
        const place = at % bytes.length;
        expect(await refusal(bytes.subarray(0, place), handle)).to.contain(`metadata file "${handle}"`);
        const turned = Buffer.from(bytes);
        turned[place] = (turned[place] ?? 0) ^ (1 << bit);
        // Some bits of gzip's own header say nothing of what is in it.
        const file = await read(turned, handle).catch(() => undefined);
        if (file !== undefined) expect(file.lines).to.deep.equal(files.get(handle)?.lines);
      }),
      { numRuns: 300 },
    );
  });
});
