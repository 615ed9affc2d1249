import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { openReader } from '../../lib/app/reading.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { TempPlace } from '../support/place.ts';

const SIZE = 1024 ** 3;
/** What reading may need beyond what the process has: many chunks, and a small part of the object. Bytes. */
const ROOM = 128 * 1024 ** 2;

describe('an object far larger than a chunk', () => {
  it('is read as a stream: memory does not grow with its size', async function () {
    this.timeout(60_000);
    const temp = await TempPlace.make();
    try {
      const file = path.join(temp.root, 'a/large');
      mkdirSync(path.dirname(file));
      writeFileSync(file, '');
      truncateSync(file, SIZE);
      const reader = await openReader({ url: pathToFileURL(temp.root).href });
      const before = process.memoryUsage.rss();
      let peak = before;
      let bytes = 0;
      for await (const chunk of (await reader.open(parseKey('a/large'))).read()) {
        bytes += Buffer.byteLength(chunk as Buffer);
        peak = Math.max(peak, process.memoryUsage.rss());
      }
      reader.close();
      expect(bytes).to.equal(SIZE);
      expect(peak - before).to.be.lessThan(ROOM);
    } finally {
      temp.remove();
    }
  });
});
