import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { builtProgram } from '../support/built-cli.ts';
import { HOUR } from '../support/place.ts';
import { OLD, TempStore } from '../support/temp-store.ts';
import { isFeed, isReady, isStopping, type Message, NotifySocket } from './notify-socket.ts';
import { isPurge, isSweep, type Line, RunningDaemon } from './running-daemon.ts';

const NOTIFY_EXEC = path.resolve('systemd/notify-exec');
const DEBUG = { log: { level: 'debug' } };
const hasPerl = spawnSync('perl', ['-MIO::Socket::UNIX', '-e', '1']).status === 0;

/** Makes the process hang for good when it gets SIGUSR2. */
const HANG = "process.on('SIGUSR2', () => { for (;;); });\n";

/** What systemd does for a service of `Type=notify` and `Restart=on-failure`, and no more. */
class Manager {
  readonly socket: NotifySocket;
  readonly daemons: RunningDaemon[] = [];
  readonly #args: readonly string[];
  readonly #limit: number;
  #timer: NodeJS.Timeout | undefined;

  private constructor(socket: NotifySocket, args: readonly string[], limit: number) {
    this.socket = socket;
    this.#args = args;
    this.#limit = limit;
  }

  static async make(store: TempStore, limit: number): Promise<Manager> {
    return new Manager(await NotifySocket.listen(store.directory), ['--config', store.configFile], limit);
  }

  get messages(): readonly Message[] {
    return this.socket.messages;
  }

  /** Starts the service; resolves with the process that has got ready. */
  async start(env: Readonly<Record<string, string>> = {}): Promise<RunningDaemon> {
    const from = this.messages.length;
    const daemon = new RunningDaemon(
      this.#args,
      { NOTIFY_SOCKET: this.socket.path, WATCHDOG_USEC: String(this.#limit * 1000), ...env },
      NOTIFY_EXEC,
    );
    this.daemons.push(daemon);
    const ended = daemon.ended.then(({ stdout, stderr }) => {
      throw new Error(`it ended before it was ready:\n${stdout}${stderr}`);
    });
    await Promise.race([this.socket.until(isReady, from), ended]);
    return daemon;
  }

  /** Waits until the service has been silent for the watchdog's time, or has ended. */
  async silence(daemon: RunningDaemon): Promise<'silent' | 'ended'> {
    const silent = (async (): Promise<'silent'> => {
      for (;;) {
        const from = this.messages.length;
        const fed = this.socket.until(isFeed, from).then(() => true);
        const late = new Promise<boolean>((resolve) => {
          this.#timer = setTimeout(() => resolve(false), this.#limit);
        });
        if (!(await Promise.race([fed, late]))) return 'silent';
        clearTimeout(this.#timer);
      }
    })();
    return Promise.race([silent, daemon.ended.then(() => 'ended' as const)]);
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    for (const daemon of this.daemons) await daemon.remove();
    await this.socket.close();
  }
}

describe('tombstoned as a service', function () {
  this.timeout(60_000);

  let store: TempStore;
  let manager: Manager | undefined;

  before(function () {
    if (!hasPerl) this.skip();
    builtProgram('daemon');
  });
  beforeEach(() => {
    store = new TempStore();
  });
  afterEach(async () => {
    await manager?.close();
    manager = undefined;
    store.remove();
  });

  async function managed(limit = 20_000): Promise<Manager> {
    await store.init();
    manager = await Manager.make(store, limit);
    return manager;
  }

  const moved = (line: Line): boolean => /^sweep: [1-9]\d* of \d+ done$/.test(line.message);

  it('is ready once, says how it stands, and stops at once when idle', async () => {
    store.configure({ main: { policies: [OLD], sweepEvery: '1d', purgeEvery: '1d', safetyWindow: '1d' } });
    store.write('a', 'a', 2 * HOUR);
    const { socket, messages, start } = bound(await managed(400));
    const daemon = await start();
    await daemon.until(isPurge);
    await socket.until(({ STATUS = '' }) => STATUS === 'main: purge: removed 0 of 0 due, 0 B');
    const told = performance.now();
    daemon.kill('SIGTERM');
    expect(await daemon.ended).to.include({ code: 0, stderr: '' });
    expect(performance.now() - told).to.be.below(5000);
    expect(messages.filter(isReady)).to.have.length(1);
    expect(messages.filter(isStopping)).to.deep.equal([
      { STOPPING: '1', STATUS: 'stopping after the batch that is under way' },
    ]);
    expect(messages.findIndex(isReady)).to.be.below(messages.findIndex(isStopping));
  });

  it('feeds the watchdog while it waits, all along', async () => {
    store.configure({ main: { policies: [OLD], sweepEvery: '90d', purgeEvery: '90d' } });
    const { socket, start } = bound(await managed(1000));
    await start();
    const begun = performance.now();
    let from = socket.messages.length;
    for (let feeds = 0; feeds < 6; feeds++) {
      await socket.until(isFeed, from);
      from = socket.messages.length;
    }
    // A quarter of a second each; on a busy machine later, but six within a limit each.
    expect(performance.now() - begun).to.be.within(1000, 6000);
  });

  it('feeds it through a sweep that takes longer than the watchdog waits', async () => {
    const FILES = 2500;
    store.configure({ main: { policies: [OLD], safetyWindow: '1d', sweepEvery: '90d' } }, DEBUG);
    for (let i = 0; i < FILES; i++) store.write(`d${i % 200}/f${i}`, 'x', 2 * HOUR);
    const LIMIT = 50;
    const { messages, start } = bound(await managed(LIMIT));
    const daemon = await start();
    const before = messages.length;
    const line = await daemon.until(isSweep);
    expect(line).to.include({ moved: FILES });
    const fed = messages.slice(before).filter(isFeed).length;
    expect(fed).to.be.at.least(2);
    expect(Number(line['ms'])).to.be.above(LIMIT);
  });

  it('starves it when its loop hangs, and goes on in a new process', async () => {
    store.configure({ main: { policies: [OLD], sweepEvery: '0s', purgeEvery: '90d' } });
    const service = await managed(2000);
    const hang = path.join(store.directory, 'hang.mjs');
    writeFileSync(hang, HANG);
    const daemon = await service.start({ NODE_OPTIONS: `--import=${hang}` });
    await daemon.until(isSweep);
    daemon.kill('SIGUSR2');
    expect(await service.silence(daemon)).to.equal('silent');
    daemon.kill('SIGABRT'); // what systemd does then
    expect(await daemon.ended).to.include({ signal: 'SIGABRT' });
    const next = await service.start();
    await next.until(isSweep);
  });

  it('killed in the middle of a sweep, is ready again when what was left has been seen to', async () => {
    const FILES = 4500;
    store.configure({ main: { policies: [OLD], safetyWindow: '1d' } }, DEBUG);
    for (let i = 0; i < FILES; i++) store.write(`d${i % 50}/f${i}`, 'x', 2 * HOUR);
    const { messages, start } = bound(await managed());
    const daemon = await start();
    await daemon.until(moved);
    daemon.kill('SIGKILL');
    expect(await daemon.ended).to.include({ signal: 'SIGKILL' });
    expect(messages.filter(isStopping)).to.deep.equal([]);

    const next = await start();
    await next.until(isSweep);
    const isRecovered = ({ message }: Line): boolean => message.startsWith('recovered run ');
    expect(next.lines().findIndex(isRecovered)).to.be.within(0, next.lines().findIndex(isSweep));
    next.kill('SIGTERM');
    expect(await next.ended).to.include({ code: 0 });
    expect(store.pending()).to.have.length(FILES);
    expect(readdirSync(`${store.catalogFile}.runs`)).to.deep.equal([]);
  });

  for (const [what, write] of [
    ['is in force', () => store.configure({ main: { policies: [OLD], purgeEvery: '80d' } })],
    ['is refused', () => writeFileSync(store.configFile, 'stores: 7')],
  ] as const) {
    it(`tells when it reads its config again, and when that ${what}`, async () => {
      store.configure({ main: { policies: [OLD], sweepEvery: '90d', purgeEvery: '90d' } });
      const { socket, messages, start } = bound(await managed());
      const daemon = await start();
      await daemon.until(isPurge);
      const before = messages.length;
      write();
      daemon.kill('SIGHUP');
      const begun = await socket.until(({ RELOADING }) => RELOADING === '1', before);
      expect(begun['MONOTONIC_USEC']).to.match(/^\d{4,}$/);
      expect(begun).to.not.have.property('READY');
      await socket.until(isReady, messages.indexOf(begun) + 1);
      daemon.kill('SIGTERM');
      expect(await daemon.ended).to.include({ code: 0 });
    });
  }

  it('is ready although a store can’t be used, and says so', async () => {
    store.configure({ main: { policies: [OLD] }, other: { policies: [OLD] } });
    const service = await managed(400);
    store.configure({ main: { policies: [OLD] }, gone: { policies: [OLD] } });
    await service.start();
    await service.socket.until(({ STATUS = '' }) => /gone: \w+ failed: /.test(STATUS));
  });

  it('says nothing, and asks for nothing, where nobody wants to know', async () => {
    store.configure({ main: { policies: [OLD], sweepEvery: '90d', purgeEvery: '90d' } });
    await store.init();
    const daemon = new RunningDaemon(['--config', store.configFile], {}, NOTIFY_EXEC);
    try {
      await daemon.until(isPurge);
      expect(daemon.lines().filter(({ message }) => message.includes('systemd'))).to.deep.equal([]);
    } finally {
      await daemon.remove();
    }
  });

  it('warns once when it is asked for word and was not given a way, and works', async () => {
    store.configure({ main: { policies: [OLD], sweepEvery: '90d', purgeEvery: '90d' } });
    await store.init();
    const NOTIFY_SOCKET = path.join(store.directory, 'nowhere');
    const daemon = new RunningDaemon(['--config', store.configFile], { NOTIFY_SOCKET });
    try {
      await daemon.until(isPurge);
      const warnings = daemon.lines().filter(({ message }) => message.includes('systemd'));
      expect(warnings.map(({ hint }) => hint)).to.deep.equal([
        'start tombstoned through notify-exec, as tombstoned.service does',
      ]);
    } finally {
      await daemon.remove();
    }
  });

  it('does not start where the socket is not there', async () => {
    store.configure({ main: { policies: [OLD] } });
    await store.init();
    const NOTIFY_SOCKET = path.join(store.directory, 'nowhere');
    const { code, stdout, stderr } = await new RunningDaemon([], { NOTIFY_SOCKET }, NOTIFY_EXEC).ended;
    expect({ isDone: code === 0, stdout }).to.deep.equal({ isDone: false, stdout: '' });
    expect(stderr).to.match(/^notify-exec: .*nowhere: No such file or directory\n$/);
    expect(existsSync(`${store.catalogFile}.daemon.pid`)).to.equal(false);
  });
});

/** A manager whose members can be taken out of it. */
function bound(manager: Manager) {
  const { socket, messages } = manager;
  return { socket, messages, start: async (): Promise<RunningDaemon> => manager.start() };
}
