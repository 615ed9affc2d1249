import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { readManifest } from '../../lib/aptos/manifest.ts';
import type { Backup, KnownMetadata } from '../../lib/aptos/metadata.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { epoch, inPieces, snapshot, transactions } from './lines.ts';
import { endingManifest, tinyBackup, transactionManifest } from './tiny-backup.ts';

const ENDING = epoch([3, 3], [40, 40], 'e/epoch_ending.manifest');

function backup(line: KnownMetadata): Backup {
  if (!('manifest' in line)) throw new Error('it has no manifest');
  return line;
}

async function files(line: KnownMetadata, bytes: string | Uint8Array): Promise<readonly string[]> {
  return readManifest(backup(line), inPieces(Buffer.from(bytes), 4096));
}

async function refusal(bytes: string | Uint8Array, line = ENDING): Promise<string> {
  try {
    await files(line, bytes);
  } catch (error) {
    if (error instanceof TombstonedError && error.code === 'failed') return error.message;
    throw error;
  }
  return 'it was read';
}

describe('a manifest', () => {
  it('of each kind names its chunks, packed or not', async () => {
    for (const isGzip of [false, true]) {
      const tiny = tinyBackup({ isGzip });
      const manifest = (name: string): Buffer => tiny.get(name) ?? Buffer.alloc(0);
      const ending = epoch([1, 1], [19, 19], 'epoch_ending_1-.01/epoch_ending.manifest');
      expect(await files(ending, manifest('epoch_ending_1-.01/epoch_ending.manifest'))).to.deep.equal([
        'epoch_ending_1-.01/1-.chunk',
      ]);
      const state = 'state_epoch_1_ver_19.21';
      expect(await files(snapshot(1, 19, `${state}/m`), manifest(`${state}/state.manifest`))).to.deep.equal([
        `${state}/0-.chunk`,
        `${state}/0-7.proof`,
        `${state}/state.proof`,
      ]);
      const range = 'transaction_10-.11';
      expect(
        await files(transactions(10, 19, `${range}/m`), manifest(`${range}/transaction.manifest`)),
      ).to.deep.equal([`${range}/10-.chunk`, `${range}/10-19.proof`]);
    }
  });

  const DEEP = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  const HUGE = '18446744073709551616';
  for (const [what, bytes, message] of [
    ['is empty', '', 'it is empty'],
    ['is half-written', endingManifest(3, 'e/3-.chunk').slice(0, -9), 'it ends in the middle of a value'],
    [
      'is half of what gzip packed',
      gzipSync(endingManifest(3, 'e/c')).subarray(0, -9),
      'what gzip packed has no end',
    ],
    ['is no UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), 'it is not valid UTF-8'],
    ['is larger than any can be', Buffer.alloc(100 * 1024 ** 2, ' '), 'it is larger than 64 MiB'],
    ['unpacks to 100 MB', gzipSync(Buffer.alloc(100 * 1024 ** 2, ' ')), 'it is larger than 64 MiB unpacked'],
    ['is nested without end', `{"first_epoch":${DEEP}}`, 'values are nested deeper than 128'],
    ['is a list', '[]', '"manifest" is a list: expected an object'],
    [
      'has a number of 2^64',
      endingManifest(3, 'e/c').replace(':3,', `:${HUGE},`),
      `"first_epoch" is ${HUGE}: expected a whole number from 0 to 18446744073709551615`,
    ],
    [
      'names a file outside of the backup',
      endingManifest(3, '../../etc/passwd'),
      '"ledger_infos" is "../../etc/passwd", which names no file in the backup: it has a ".." segment',
    ],
    [
      'names an absolute path',
      endingManifest(3, '/etc/passwd'),
      '"ledger_infos" is "/etc/passwd", which names no file in the backup: it is absolute',
    ],
    [
      'is of another range',
      endingManifest(4, 'e/c'),
      'it has the epochs 4 to 4, and its metadata line says 3 to 3',
    ],
    [
      'has no chunks',
      endingManifest(3, 'e/c').replace(/\[\{.*\}\]/, '[]'),
      'its chunks do not have the epochs 3 to 3 without a gap',
    ],
    [
      'has a chunk that is none',
      endingManifest(3, 'e/c').replace(/\[\{.*\}\]/, '[7]'),
      '"chunks[0]" is 7: expected an object',
    ],
  ] as const) {
    it(`that ${what} is an error that names it`, async () => {
      expect(await refusal(bytes)).to.equal(`manifest "e/epoch_ending.manifest": ${message}`);
    });
  }

  it('whose chunks leave a gap is an error that names it', async () => {
    const line = transactions(10, 29, 't/m');
    const chunks = [10, 25].map((first) => JSON.parse(transactionManifest(first, first + 4, 't')).chunks[0]);
    const text = JSON.stringify({ first_version: 10, last_version: 29, chunks });
    expect(await refusal(text, line)).to.equal(
      'manifest "t/m": its chunks do not have the versions 10 to 29 without a gap',
    );
  });
});
