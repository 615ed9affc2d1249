import { gzipSync } from 'node:zlib';
import { type KnownMetadata, metadataText } from '../../lib/aptos/metadata.ts';
import { epoch, snapshot, transactions } from './lines.ts';

/** A small backup: three epochs, of ten versions each; transactions by ten; snapshots at 9 and 19. By key. */
export function tinyBackup({ isGzip = false } = {}): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  const put = (key: string, text: string): void => {
    files.set(key, isGzip ? gzipSync(text) : Buffer.from(text));
  };
  const meta = (name: string, line: KnownMetadata): void =>
    put(`metadata/${name}.meta`, `${metadataText(line)}\n`);
  for (let i = 0; i < 3; i++) {
    const [first, last] = [i * 10, i * 10 + 9];
    const ending = `epoch_ending_${i}-.0${i}`;
    meta(`epoch_ending_${i}-${i}`, epoch([i, i], [last, last], `${ending}/epoch_ending.manifest`));
    put(`${ending}/epoch_ending.manifest`, endingManifest(i, `${ending}/${i}-.chunk`));
    put(`${ending}/${i}-.chunk`, `ending ${i}`);
    const range = `transaction_${first}-.1${i}`;
    meta(`transaction_${first}-${last}`, transactions(first, last, `${range}/transaction.manifest`));
    put(`${range}/transaction.manifest`, transactionManifest(first, last, range));
    put(`${range}/${first}-.chunk`, `transactions ${first}`);
    put(`${range}/${first}-${last}.proof`, `proof ${first}`);
  }
  for (const [ofEpoch, version] of [
    [0, 9],
    [1, 19],
  ] as const) {
    const state = `state_epoch_${ofEpoch}_ver_${version}.2${ofEpoch}`;
    meta(`state_snapshot_ver_${version}`, snapshot(ofEpoch, version, `${state}/state.manifest`));
    put(`${state}/state.manifest`, stateManifest(ofEpoch, version, state));
    put(`${state}/0-.chunk`, `state ${version}`);
    put(`${state}/0-7.proof`, `state proof ${version}`);
    put(`${state}/state.proof`, `root proof ${version}`);
  }
  return files;
}

export function endingManifest(of: number, chunk: string): string {
  const range = { first_epoch: of, last_epoch: of };
  return JSON.stringify({ ...range, waypoints: [`${of}:00`], chunks: [{ ...range, ledger_infos: chunk }] });
}

export function transactionManifest(first: number, last: number, directory: string): string {
  const range = { first_version: first, last_version: last };
  const files = {
    transactions: `${directory}/${first}-.chunk`,
    proof: `${directory}/${first}-${last}.proof`,
  };
  return JSON.stringify({ ...range, chunks: [{ ...range, ...files, format: 'V1' }] });
}

function stateManifest(ofEpoch: number, version: number, directory: string): string {
  const chunk = { first_idx: 0, last_idx: 7, first_key: '00', last_key: 'ff' };
  const files = { blobs: `${directory}/0-.chunk`, proof: `${directory}/0-7.proof` };
  const proof = `${directory}/state.proof`;
  return JSON.stringify({
    version,
    epoch: ofEpoch,
    root_hash: '00',
    chunks: [{ ...chunk, ...files }],
    proof,
  });
}
