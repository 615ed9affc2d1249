import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import type { Config } from '../../lib/config/config.ts';
import { Log } from '../../lib/daemon/log.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { BoundedReport, MOST_LINES } from '../../lib/run/bounded-report.ts';
import { START } from '../support/place.ts';
import { Sink } from './sink.ts';

const TIME = new Date(START).toISOString();

function logTo(out: Sink, config: Partial<Config['log']> = {}, noColor = false): Log {
  return new Log({ level: 'info', file: null, ...config }, { out, noColor, now: () => START });
}

describe('the log in a pipe', () => {
  it('is one JSON object a line, written before the call ends', () => {
    const out = new Sink();
    const log = logTo(out);
    log.write('info', 'first');
    expect(out.text).to.equal(`{"time":"${TIME}","level":"info","message":"first"}\n`);
    log.write('warn', 'two\nlines', { store: 'main', planned: 3, sweep: null, key: undefined });
    expect(out.lines()[1]).to.deep.equal({
      time: TIME,
      level: 'warn',
      message: 'two\nlines',
      store: 'main',
      planned: 3,
      sweep: null,
    });
  });

  it('leaves out what is below its level', () => {
    const out = new Sink();
    const log = logTo(out, { level: 'warn' });
    for (const level of ['debug', 'info', 'warn', 'error'] as const) log.write(level, level);
    expect(out.lines().map(({ level }) => level)).to.deep.equal(['warn', 'error']);
  });

  it('tells an error on one line, with its key, code and hint, and no stack', () => {
    const out = new Sink();
    const error = new TombstonedError('blocked', 'it is\n held', {
      reason: 'hold',
      key: 'a\nb',
      hint: 'release it',
    });
    logTo(out).failure(error, { store: 'main' });
    expect(out.lines()).to.deep.equal([
      {
        time: TIME,
        level: 'error',
        message: 'it is held',
        store: 'main',
        key: 'a\nb',
        hint: 'release it',
        code: 'blocked',
        reason: 'hold',
      },
    ]);
  });

  it('adds the stack, and those of the causes, when the level is debug', () => {
    const out = new Sink();
    const error = new Error('outer', { cause: new RangeError('inner') });
    logTo(out, { level: 'debug' }).failure(error);
    const [line] = out.lines();
    expect(line?.['message']).to.equal('outer');
    expect(line?.['stack']).to.match(/Error: outer\n +at .*RangeError: inner\n +at /s);
  });

  it('tells of anything else that is thrown', () => {
    const out = new Sink();
    logTo(out).failure('just a text');
    expect(out.lines()).to.deep.equal([
      { time: TIME, level: 'error', message: 'just a text', code: 'failed' },
    ]);
  });
});

describe('the log on a terminal', () => {
  it('is readable and coloured', () => {
    const out = new Sink({ isTTY: true });
    const log = logTo(out);
    log.reportFor('main')('warn', 'a is kept', { hint: 'wait', key: 'a' });
    log.write('error', 'broken');
    expect(out.text).to.equal(
      `${TIME} \u001b[33mwarn \u001b[39m main: a is kept (wait)\n${TIME} \u001b[31merror\u001b[39m broken\n`,
    );
  });

  it('has no colours where they are not wanted', () => {
    const out = new Sink({ isTTY: true });
    logTo(out, {}, true).write('info', 'plain');
    expect(out.text).to.equal(`${TIME} info  plain\n`);
  });

  it('lets nothing through that moves the cursor', () => {
    const out = new Sink({ isTTY: true });
    logTo(out, {}, true).write('info', 'a\u001b[2Jb\rc', { store: 'x\u001b[0m', hint: 'h\n' });
    expect(out.text).to.match(/^[\x20-\x7e]+\n$/);
  });

  it('shows a stack below the line', () => {
    const out = new Sink({ isTTY: true });
    logTo(out, { level: 'debug' }, true).failure(new Error('broken'));
    expect(out.text).to.match(/error broken\n {4}Error: broken\n {4} +at /);
  });
});

describe('the log in a file', () => {
  let directory: string;
  let file: string;
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-log-'));
    file = path.join(directory, 'tombstoned.log');
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it('is JSON there, added to what there is, and nothing elsewhere', () => {
    const out = new Sink({ isTTY: true });
    logTo(out, { file }).write('info', 'first');
    logTo(out, { file }).write('info', 'second');
    const line = (message: string): string => `{"time":"${TIME}","level":"info","message":"${message}"}\n`;
    expect(readFileSync(file, 'utf8')).to.equal(line('first') + line('second'));
    expect(out.text).to.equal('');
    expect(statSync(file).mode & 0o007).to.equal(0);
  });

  it('goes to a new file when the old one is renamed away', () => {
    const log = logTo(new Sink(), { file });
    log.write('info', 'first');
    renameSync(file, `${file}.1`);
    log.write('info', 'second');
    expect(readFileSync(`${file}.1`, 'utf8'))
      .to.contain('first')
      .and.not.contain('second');
    expect(readFileSync(file, 'utf8')).to.contain('second');
  });

  it('is an error of the config when it can’t be written', () => {
    let error: unknown;
    try {
      logTo(new Sink(), { file: path.join(directory, 'missing/tombstoned.log') });
    } catch (thrown) {
      error = thrown;
    }
    expect(error).to.be.instanceOf(TombstonedError).and.include({ code: 'config' });
    expect(String(error)).to.match(/log\.file: .*missing\/tombstoned\.log can't be written: ENOENT/);
  });

  it('says once that it can’t be written any more, and loses no line', () => {
    const out = new Sink();
    const log = logTo(out, { file });
    rmSync(file);
    mkdirSync(file);
    log.write('info', 'first');
    log.write('info', 'second');
    const [told, ...rest] = out.lines().map(({ message }) => message);
    expect(told).to.match(/^the log file .*tombstoned\.log can't be written, lines go here: EISDIR/);
    expect(rest).to.deep.equal(['first', 'second']);
    rmSync(file, { recursive: true });
    log.write('info', 'third');
    expect(readFileSync(file, 'utf8')).to.contain('third');
    expect(out.lines()).to.have.length(3);
  });
});

describe('a bounded report', () => {
  it('passes on the first lines of each level, and counts the others', () => {
    const said: string[] = [];
    const bounded = new BoundedReport((level, message, fields) =>
      said.push(`${level}: ${message} ${JSON.stringify(fields ?? {})}`),
    );
    for (let i = 1; i <= MOST_LINES + 23; i++) bounded.report('warn', `line ${i}`, { key: `k${i}` });
    bounded.report('error', 'still heard');
    bounded.finish();
    expect(said).to.have.length(MOST_LINES + 2);
    expect(said[MOST_LINES - 1]).to.equal('warn: line 100 {"key":"k100"}');
    expect(said.slice(MOST_LINES)).to.deep.equal([
      'error: still heard {}',
      'warn: and 23 more of level warn {"more":23}',
    ]);
  });

  it('says nothing of its own when all was passed on', () => {
    const said: string[] = [];
    const bounded = new BoundedReport((_level, message) => said.push(message));
    for (let i = 1; i <= MOST_LINES; i++) bounded.report('warn', `line ${i}`);
    bounded.finish();
    expect(said).to.have.length(MOST_LINES);
  });
});
