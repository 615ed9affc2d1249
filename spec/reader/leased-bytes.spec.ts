import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { LeasedBytes } from '../../lib/reader/leased-bytes.ts';

describe('leased bytes', () => {
  const LOST = new Error('lost');
  let isLost: boolean;
  beforeEach(() => {
    isLost = false;
  });

  function source(count: number, size = 10): Readable {
    let given = 0;
    return new Readable({
      highWaterMark: 1_000_000,
      read() {
        this.push(given++ < count ? Buffer.alloc(size, given) : null);
      },
    });
  }

  function leased(of: Readable): LeasedBytes {
    return new LeasedBytes(of, () => {
      if (isLost) throw LOST;
    });
  }

  /** Lets all that can be read ahead be read ahead. */
  async function readAhead(): Promise<void> {
    for (let i = 0; i < 20; i++) await setImmediate();
  }

  it('are the bytes, all of them', async () => {
    const chunks: Buffer[] = [];
    for await (const chunk of leased(source(500, 1000))) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks)).to.deep.equal(
      Buffer.concat(Array.from({ length: 500 }, (_, i) => Buffer.alloc(1000, i + 1))),
    );
    for await (const chunk of leased(source(0))) expect(chunk).to.equal(undefined);
  });

  it('are not handed out once the lease is lost, though they were read long before', async () => {
    const stream = leased(source(100));
    stream.on('error', () => undefined);
    stream.on('readable', () => undefined);
    await readAhead();
    expect(stream.readableLength).to.be.greaterThan(20);
    expect(stream.read(10)).to.have.length(10);
    isLost = true;
    expect(stream.read(10)).to.equal(null);
    expect(stream.errored).to.equal(LOST);
  });

  it('are not pushed to a listener once the lease is lost', async () => {
    const stream = leased(source(100));
    let chunks = 0;
    stream.on('data', () => {
      chunks++;
      isLost = true;
    });
    const error: unknown = await new Promise((resolve) => {
      stream.on('error', resolve);
    });
    expect(error).to.equal(LOST);
    expect(chunks).to.equal(1);
  });

  it('do not end as if they were whole once the lease is lost', async () => {
    const stream = leased(source(3));
    let bytes = 0;
    const counted = async (): Promise<void> => {
      for await (const chunk of stream) {
        bytes += (chunk as Buffer).length;
        if (bytes === 30) isLost = true;
      }
    };
    expect(await counted().catch((e: unknown) => e)).to.equal(LOST);
  });

  it('end in the error of what they come from', async () => {
    const broken = new Readable({
      read() {
        this.destroy(new Error('EIO'));
      },
    });
    const error = await pipeline(leased(broken), async (stream) => {
      for await (const chunk of stream) expect(chunk).to.equal(undefined);
    }).catch((e: unknown) => e);
    expect(String(error)).to.include('EIO');
  });

  it('free what they come from when nobody wants more', async () => {
    const from = source(1000, 100_000);
    for await (const chunk of leased(from)) {
      expect(chunk).to.have.property('length');
      break;
    }
    expect(from.closed).to.equal(true);
  });

  it('do not read ahead of a slow reader without end', async () => {
    let read = 0;
    const endless = new Readable({
      highWaterMark: 1000,
      read() {
        read += 1000;
        this.push(Buffer.alloc(1000));
      },
    });
    const stream = leased(endless);
    stream.on('readable', () => undefined);
    await readAhead();
    expect(read).to.be.at.most(200_000);
    stream.destroy();
  });
});
