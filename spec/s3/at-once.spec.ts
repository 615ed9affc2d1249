import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as passed } from 'node:timers/promises';
import { expect } from 'chai';
import { Attempt, type AttemptOptions, Connections } from '../../lib/store/s3/http.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import type { ControlSpace, RemoveItem } from '../../lib/store/store.ts';
import { DrivenClock } from '../support/place.ts';
import { AMAZON } from './capabilities.ts';
import { MemoryS3 } from './memory-api.ts';

describe('requests to S3 at once', () => {
  it('remove some pages of a batch at the same time, each in one request', async () => {
    const clock = new DrivenClock();
    const api = new MemoryS3({ clock });
    const control = {} as ControlSpace;
    const capabilities = async (): Promise<typeof AMAZON> => AMAZON;
    const store = new S3Store({
      api,
      control,
      capabilities,
      pendingPrefix: 'pending_deletion/',
      clock,
      concurrency: 16,
    });
    for (let i = 0; i < 3000; i++)
      api.seed(`pending_deletion/k${i}~20261122T101500123Z-k3v0q8tzm2xj4d`, 'content');
    clock.advance(10_000);
    const batch: RemoveItem[] = [];
    for await (const page of store.listPending(''))
      for (const item of page)
        if (item.type === 'pending')
          batch.push({ key: item.key, id: item.id, revision: item.copy.revision, from: 'pending' });
    let [running, most] = [0, 0];
    api.before = async ({ kind }) => {
      if (kind !== 'deleteMany') return undefined;
      running += 1;
      most = Math.max(most, running);
      await passed(50);
      running -= 1;
      return undefined;
    };
    const outcomes = await store.remove(batch);
    expect(outcomes.filter(({ outcome }) => outcome === 'removed')).to.have.length(3000);
    expect(api.count('deleteMany')).to.equal(3);
    expect(most).to.equal(3);
  });

  it('go over a connection that is there, and no more than there are at once', async () => {
    const server = createServer((_, answer) => answer.end('<a/>'));
    let connected = 0;
    server.on('connection', () => {
      connected += 1;
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const connections = new Connections(4, () => undefined);
    const ask = async (): Promise<void> => {
      const options: AttemptOptions = { attempt: new Attempt(null, 1000) };
      await connections.handle(
        {
          protocol: 'http:',
          hostname: '127.0.0.1',
          port,
          method: 'GET',
          path: '/',
          query: {},
          headers: {},
        },
        options,
      );
    };
    try {
      for (let i = 0; i < 20; i++) await ask();
      expect(connected).to.equal(1);
      for (let i = 0; i < 5; i++) await Promise.all([ask(), ask(), ask(), ask()]);
      expect(connected).to.equal(4);
    } finally {
      connections.destroy();
      server.close();
    }
  });
});
