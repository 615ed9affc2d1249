import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { expect } from 'chai';
import { isPurge, RunningDaemon, saysRuns } from '../daemon/running-daemon.ts';
import { builtProgram } from '../support/built-cli.ts';
import { TempStore } from '../support/temp-store.ts';
import { ask, samples } from './scrape.ts';

/** Where a process listens, as the kernel has it: hexadecimal addresses. */
function listening(pid: number): string[] {
  const own = new Set(
    readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        return ''; // closed meanwhile
      }
    }),
  );
  return ['tcp', 'tcp6'].flatMap((family) =>
    readFileSync(`/proc/${pid}/net/${family}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , , state, , , , , , inode]) => state === '0A' && own.has(`socket:[${inode ?? ''}]`))
      .map(([, local = '']) => local.replace(/:.*/, '')),
  );
}

describe('metrics of tombstoned', function () {
  this.timeout(60_000);

  let store: TempStore;
  let daemon: RunningDaemon | undefined;

  before(() => {
    builtProgram('daemon');
  });
  beforeEach(() => {
    store = new TempStore();
  });
  afterEach(async () => {
    await daemon?.remove();
    store.remove();
  });

  async function start(metrics: unknown): Promise<RunningDaemon> {
    store.configure({ main: {} }, { metrics });
    await store.init();
    daemon = new RunningDaemon(['--config', store.configFile]);
    return daemon;
  }

  it('are on loopback only, and end with it', async () => {
    const running = await start({ listen: '127.0.0.1:0' });
    const { message } = await running.until(({ message: text }) => text.startsWith('metrics are at '));
    await running.until(isPurge);
    const url = message.replace('metrics are at ', '');
    const { status, type, body } = await ask(url);
    expect({ status, type }).to.deep.equal({
      status: 200,
      type: 'text/plain; version=0.0.4; charset=utf-8',
    });
    expect(samples(body)).to.include({
      'tombstoned_runs_total{job="purge",outcome="success",store="main"}': 1,
    });
    expect(await ask(url.replace('/metrics', '/readyz'))).to.include({ status: 200 });
    expect(listening(running.pid)).to.deep.equal(['0100007F']); // 127.0.0.1
    running.kill('SIGTERM');
    expect(await running.ended).to.include({ code: 0, stderr: '' });
    const error = await ask(url).catch((refused: NodeJS.ErrnoException) => refused);
    expect(error).to.have.property('code', 'ECONNREFUSED');
  });

  it('are elsewhere only where the config says so, with a warning', async () => {
    const running = await start({ listen: '0.0.0.0:0' });
    await running.until(isPurge);
    expect(listening(running.pid)).to.deep.equal(['00000000']);
    expect(
      running
        .lines()
        .find(({ level, message }) => level === 'warn' && message.startsWith('metrics.listen: ')),
    )
      .to.have.property('message')
      .that.includes('0.0.0.0 is no loopback address');
  });

  it('are not there when they are off', async () => {
    const running = await start(null);
    await running.until(saysRuns);
    await running.until(isPurge);
    expect(listening(running.pid)).to.deep.equal([]);
  });
});
