import { lchownSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { OLD, TempStore } from '../support/temp-store.ts';
import { RunningDaemon } from './running-daemon.ts';

const NOBODY = 65_534;

describe('tombstoned that root starts', function () {
  this.timeout(120_000);
  let store: TempStore;
  let daemon: RunningDaemon | undefined;

  before(function () {
    if (process.geteuid?.() !== 0) this.skip();
  });
  afterEach(async () => {
    await daemon?.remove();
    store.remove();
  });

  it('acts as the owner of the catalog, and leaves nothing behind that is root’s', async () => {
    store = new TempStore();
    const log = path.join(store.directory, 'daemon.log');
    store.configure({ main: { policies: [OLD], limits: { maxFraction: null } } }, { log: { file: log } });
    await store.init();
    store.write('logs/a', 'a', 86_400_000);
    for (const name of ['', ...readdirSync(store.directory, { recursive: true, encoding: 'utf8' })]) {
      lchownSync(path.join(store.directory, name), NOBODY, NOBODY);
    }
    daemon = new RunningDaemon(['--config', store.configFile]);
    const logged = (): string => {
      try {
        return readFileSync(log, 'utf8');
      } catch {
        return '';
      }
    };
    while (!logged().includes('"type":"sweep"')) {
      expect(daemon.process.exitCode, daemon.stderr).to.equal(null);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    daemon.kill('SIGTERM');
    const { code, stderr } = await daemon.ended;
    expect(code, stderr).to.equal(0);
    expect(
      logged()
        .split('\n')
        .filter((line) => line.includes('"type":"sweep"'))[0],
    ).to.contain('moved 1');
    for (const name of readdirSync(store.directory, { recursive: true, encoding: 'utf8' })) {
      expect(statSync(path.join(store.directory, name)).uid, name).to.equal(NOBODY);
    }
  });
});
