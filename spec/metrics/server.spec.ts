import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { expect } from 'chai';
import { type Page, PageServer } from '../../lib/metrics/server.ts';
import { ask } from './scrape.ts';

const page = (body: string): Page => ({ status: 200, type: 'text/plain', body });

describe('the server of metrics', () => {
  let server: PageServer;
  let failures: unknown[];
  beforeEach(() => {
    failures = [];
    server = new PageServer(
      {
        '/good': () => page('good\n'),
        '/bad': () => {
          throw new Error('the key secret/a.meta');
        },
      },
      (error) => failures.push(error),
    );
  });
  afterEach(async () => server.close());

  const url = (path: string): string => `${server.url ?? ''}${path}`;

  it('answers GET and HEAD of its pages, and nothing else', async () => {
    await server.listen({ host: '127.0.0.1', port: 0 });
    expect(await ask(url('/good?x=1'))).to.deep.equal({ status: 200, type: 'text/plain', body: 'good\n' });
    expect(await ask(url('/good'), 'HEAD')).to.include({ status: 200, body: '' });
    expect(await ask(url('/good'), 'POST')).to.include({ status: 405 });
    for (const path of ['/', '/goods', '/__proto__', '/toString', '//good'])
      expect(await ask(url(path)), path).to.include({ status: 404, body: 'there are /good, /bad\n' });
  });

  it('tells who asks nothing of what went wrong', async () => {
    await server.listen({ host: '127.0.0.1', port: 0 });
    const { status, body } = await ask(url('/bad'));
    expect({ status, body }).to.deep.equal({ status: 500, body: 'the daemon could not tell: see its log\n' });
    expect(failures).to.have.length(1);
  });

  it('listens on the address it is given and on no other', async function () {
    const others = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter(({ internal, family }) => !internal && family === 'IPv4');
    await server.listen({ host: '127.0.0.1', port: 0 });
    expect(server.url).to.match(/^http:\/\/127\.0\.0\.1:\d+$/);
    const { port } = new URL(server.url ?? '');
    for (const { address } of [...others, { address: '127.0.0.2' }]) {
      const error = await ask(`http://${address}:${port}/good`).catch(
        (refused: NodeJS.ErrnoException) => refused,
      );
      expect(error, address).to.have.property('code', 'ECONNREFUSED');
    }
  });

  it('moves to another address, and off', async () => {
    expect(await server.listen({ host: '127.0.0.1', port: 0 })).to.equal(true);
    const before = url('/good');
    expect(await server.listen({ host: '127.0.0.1', port: 0 }), 'the same').to.equal(false);
    expect(url('/good')).to.equal(before);
    await server.listen({ host: '127.0.0.2', port: 0 });
    expect(server.url).to.match(/^http:\/\/127\.0\.0\.2:/);
    expect(await ask(url('/good'))).to.include({ status: 200 });
    await server.listen(null);
    expect(server.url).to.equal(undefined);
    for (const old of [before]) {
      const error = await ask(old).catch((refused: NodeJS.ErrnoException) => refused);
      expect(error).to.have.property('code', 'ECONNREFUSED');
    }
  });

  it('does not wait for those who keep a connection when it closes', async () => {
    await server.listen({ host: '127.0.0.1', port: 0 });
    const { port } = new URL(server.url ?? '');
    const idle = connect(Number(port), '127.0.0.1');
    idle.on('error', () => undefined); // it is reset
    await new Promise((resolve) => idle.once('connect', resolve));
    const closed = new Promise((resolve) => idle.once('close', resolve));
    await server.close();
    await closed;
  });
});
