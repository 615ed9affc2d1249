import { EventEmitter } from 'node:events';
import { expect } from 'chai';
import { Log } from '../../lib/daemon/log.ts';
import { type HostProcess, ProcessEvents } from '../../lib/daemon/process-events.ts';
import { DrivenClock, START } from '../support/place.ts';
import { Sink } from './sink.ts';

class FakeProcess extends EventEmitter implements HostProcess {
  readonly stdout = new EventEmitter();
  said = '';
  readonly stderr = { write: (text: string): void => void (this.said += text) };
  readonly exits: number[] = [];
  exit(code: number): void {
    this.exits.push(code);
  }
}

describe('what happens to the process', () => {
  let host: FakeProcess;
  let out: Sink;
  let events: ProcessEvents;
  /** Ends the time that a batch has. */
  let runOut: () => void;
  let grace: number | undefined;

  beforeEach(() => {
    const clock = new DrivenClock();
    clock.sleep = async (ms: number, signal?: AbortSignal) => {
      grace = ms;
      await new Promise<void>((resolve) => {
        runOut = resolve;
        if (signal?.aborted === true) resolve();
        signal?.addEventListener('abort', () => resolve());
      });
    };
    host = new FakeProcess();
    out = new Sink();
    const log = new Log({ level: 'info', file: null }, { out, noColor: true, now: () => START });
    events = new ProcessEvents(host, log, clock);
  });
  afterEach(async () => events.close());

  const said = (): unknown[] =>
    out.lines().map(({ level, message }) => `${String(level)}: ${String(message)}`);

  for (const name of ['SIGTERM', 'SIGINT']) {
    it(`stops after the batch on ${name}`, () => {
      expect(events.signal.aborted).to.equal(false);
      host.emit(name);
      expect(events.signal.aborted).to.equal(true);
      expect(host.exits).to.deep.equal([]);
      expect(events.exitCode).to.equal(0);
      expect(said()).to.deep.equal([`info: ${name}: stopping after the batch that is under way`]);
    });
  }

  it('exits at once on a second signal, with 128 and its number', () => {
    host.emit('SIGINT');
    host.emit('SIGTERM');
    expect(host.exits).to.deep.equal([143]);
    host.emit('SIGINT');
    expect(host.exits).to.deep.equal([143, 130]);
    expect(said()[1]).to.equal('warn: SIGTERM again: exiting at once, what is left is for the next start');
  });

  it('passes SIGHUP on and goes on', () => {
    let hangups = 0;
    events.onHangup = () => hangups++;
    host.emit('SIGHUP');
    expect(hangups).to.equal(1);
    expect(events.signal.aborted).to.equal(false);
    expect(host.exits).to.deep.equal([]);
    expect(said()).to.deep.equal([]);
  });

  for (const name of ['uncaughtException', 'unhandledRejection']) {
    it(`logs an ${name} and exits with 1`, () => {
      host.emit(name, new Error('a bug'));
      expect(host.exits).to.deep.equal([1]);
      expect(said()).to.deep.equal(['error: a bug']);
    });
  }

  it('exits with 1 even when the log fails with it', () => {
    out.onText = () => {
      throw new Error('and the log');
    };
    try {
      host.emit('uncaughtException', new Error('a bug'));
    } catch {
      // Node would end the process here.
    }
    expect(host.exits).to.deep.equal([1]);
  });

  it('stops, and ends with 1, when nobody reads the log any more', () => {
    host.stdout.emit('error', new Error('write EPIPE'));
    host.stdout.emit('error', new Error('write EPIPE'));
    expect(events.signal.aborted).to.equal(true);
    expect(events.exitCode).to.equal(1);
    expect(host.exits).to.deep.equal([]);
    expect(host.said).to.equal("tombstoned: the log can't be written, stopping: write EPIPE\n");
  });

  it('exits with 1 when the batch does not end in time', async () => {
    host.emit('SIGTERM');
    expect(grace).to.be.within(9000, 9999);
    expect(host.exits).to.deep.equal([]);
    runOut();
    await new Promise(setImmediate);
    expect(host.exits).to.deep.equal([1]);
    expect(said()[1]).to.equal(
      'error: the batch did not end in time: exiting, what is left is for the next start',
    );
  });

  it('leaves nothing behind', async () => {
    host.emit('SIGTERM');
    await events.close();
    expect(host.exits).to.deep.equal([]);
    expect(host.eventNames()).to.deep.equal([]);
  });

  it('takes an error of the last line, after everything else has ended', async () => {
    await events.close();
    host.stdout.emit('error', new Error('write EPIPE'));
    expect(host.said).to.match(/EPIPE/);
    expect(host.exits).to.deep.equal([]);
  });
});
