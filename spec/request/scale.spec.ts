import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { isSweep, RunningDaemon } from '../daemon/running-daemon.ts';
import { builtProgram } from '../support/built-cli.ts';
import { FAST } from '../support/phases.ts';
import { TempStore } from '../support/temp-store.ts';

/** Of what Node keeps, threads aside; what the lines of the requests here would take is more. MiB. */
const HEAP = 40;
/** Of the whole process: that, Node itself, and what SQLite keeps. MiB. */
const MOST = 256;
/** Of one line. */
const BYTES = 1000;
const LINES = 20_000;
const FILES = 500;

describe('requests of many lines', function () {
  this.timeout(120_000);
  let store: TempStore;
  let inbox: string;
  let daemon: RunningDaemon | undefined;

  before(() => {
    builtProgram('daemon');
  });
  beforeEach(async () => {
    store = new TempStore(FAST);
    inbox = path.join(store.directory, 'requests');
    mkdirSync(inbox);
    const policy = { name: 'requests', type: 'drop-in', directory: inbox, limits: { maxObjects: 10 } };
    store.configure({ main: { policies: [policy] } });
    await store.init();
  });
  afterEach(async () => {
    await daemon?.remove();
    store.remove();
  });

  function drop(name: string, lines: Iterable<string>): void {
    const fd = openSync(path.join(inbox, `${name}.keys`), 'w');
    let text = '';
    for (const line of lines) {
      text += `${line}\n`;
      if (text.length < 1_000_000) continue;
      writeSync(fd, text);
      text = '';
    }
    writeSync(fd, text);
    closeSync(fd);
  }

  function* long(count: number, last?: string): Generator<string> {
    for (let i = 0; i < count; i++)
      yield `${String(i).padStart(8, '0')}/${'k'.repeat(120)}`.repeat(8).slice(0, BYTES);
    if (last !== undefined) yield last;
  }

  /** The peak of a daemon that serves what lies there. MiB. */
  async function peakOf(): Promise<number> {
    const running = new RunningDaemon(['--config', store.configFile], {
      NODE_OPTIONS: `--max-old-space-size=${HEAP}`,
    });
    daemon = running;
    await running.until(isSweep);
    const status = readFileSync(`/proc/${running.pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
  }

  it('and hundreds of small ones are served with memory that does not grow with them', async () => {
    drop('many', long(LINES));
    for (let i = 0; i < FILES; i++) drop(`r${i}`, long(1));
    expect(await peakOf()).to.be.below(MOST);
    for (const name of ['many', 'r0', `r${FILES - 1}`])
      expect(existsSync(path.join(inbox, `${name}.done`)), name).to.equal(true);
  });

  it('are refused so too, where the last is malformed or all are', async () => {
    drop('last', long(3 * LINES, '/bad'));
    drop(
      'all',
      (function* () {
        for (const line of long(3 * LINES)) yield `/${line}`;
      })(),
    );
    expect(await peakOf()).to.be.below(MOST);
    expect(readFileSync(path.join(inbox, 'last.error'), 'utf8')).to.match(/line 60001: "\/bad" is not a key/);
    expect(readFileSync(path.join(inbox, 'all.error'), 'utf8')).to.match(/line 1: /);
  });
});
