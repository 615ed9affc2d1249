import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { Hook, type Notice } from '../../lib/daemon/hook.ts';
import { Log } from '../../lib/daemon/log.ts';
import { DrivenClock, HOUR, START } from '../support/place.ts';
import { Sink } from './sink.ts';

const NASTY = `a"; touch hacked; $(touch hacked) \`touch hacked\` '\n\u202e*`;

describe('the notify command', function () {
  this.timeout(20_000);

  let directory: string;
  let clock: DrivenClock;
  let out: Sink;
  let hook: Hook;

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-hook-'));
    clock = new DrivenClock();
    out = new Sink();
    hook = make();
  });
  afterEach(async () => {
    await hook.close();
    rmSync(directory, { recursive: true });
  });

  function make(limit = 10_000): Hook {
    const log = new Log({ level: 'debug', file: null }, { out, noColor: true, now: () => clock.now() });
    return new Hook({ config: '/etc/tombstoned/x.yaml', host: 'spec-host', clock, log, limit });
  }

  const file = (name: string): string => path.join(directory, name);
  const text = (name: string): string => readFileSync(file(name), 'utf8');
  const notice = (members: Partial<Notice> = {}): Notice => ({
    event: 'failure',
    store: 'main',
    about: 'sweep',
    message: 'sweep failed: the disk is gone',
    ...members,
  });
  /** Appends what it is told to `told`. */
  const note = (): string => `cat >> ${file('told')}`;
  const told = (): Record<string, unknown>[] =>
    text('told')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  it('is told as JSON on stdin and in its environment', async () => {
    hook.use(
      `cat > ${file('stdin')}; env | grep ^TOMBSTONED_ | grep -v ^TOMBSTONED_TEST_ | sort > ${file('env')}`,
    );
    hook.tell(notice({ hint: 'mount it', detail: { job: 'sweep' } }));
    await hook.idle();
    expect(JSON.parse(text('stdin'))).to.deep.equal({
      type: 'notice',
      event: 'failure',
      store: 'main',
      about: 'sweep',
      at: new Date(START).toISOString(),
      host: 'spec-host',
      message: 'sweep failed: the disk is gone',
      hint: 'mount it',
      repeated: 0,
      detail: { job: 'sweep' },
    });
    expect(text('env').split('\n').slice(0, -1)).to.deep.equal([
      `TOMBSTONED_AT=${new Date(START).toISOString()}`,
      'TOMBSTONED_CONFIG=/etc/tombstoned/x.yaml',
      'TOMBSTONED_EVENT=failure',
      'TOMBSTONED_HINT=mount it',
      'TOMBSTONED_MESSAGE=sweep failed: the disk is gone',
      'TOMBSTONED_STORE=main',
    ]);
  });

  it('is never made of what a key is called', async () => {
    hook.use(`cd ${directory}; cat > stdin; printf %s "$TOMBSTONED_MESSAGE" > env`);
    hook.tell(
      notice({ message: `${NASTY} can't be moved`, about: NASTY, hint: NASTY, detail: { key: NASTY } }),
    );
    await hook.idle();
    expect(existsSync(file('hacked'))).to.equal(false);
    expect(JSON.parse(text('stdin'))).to.deep.include({ message: `${NASTY} can't be moved`, about: NASTY });
    expect(text('env')).to.not.match(/[\n\u202e]/);
  });

  it('gets no credentials of the AWS SDK', async () => {
    process.env['AWS_SECRET_ACCESS_KEY'] = 'hush';
    try {
      hook.use(`cat > /dev/null; env > ${file('env')}`);
      hook.tell(notice());
      await hook.idle();
    } finally {
      delete process.env['AWS_SECRET_ACCESS_KEY'];
    }
    expect(text('env')).to.include('PATH=').and.not.include('hush').and.not.include('AWS_SECRET');
  });

  it('is told the same once an hour, and then how often it was not', async () => {
    hook.use(note());
    for (let i = 0; i < 5; i++) hook.tell(notice());
    hook.tell(notice({ store: 'other' }));
    hook.tell(notice({ about: 'purge' }));
    hook.tell(notice({ event: 'limit' }));
    await hook.idle();
    expect(told()).to.have.length(4);
    clock.advance(HOUR - 1);
    hook.tell(notice());
    clock.advance(1);
    hook.tell(notice());
    await hook.idle();
    expect(told()).to.have.length(5);
    expect(told().at(-1)).to.deep.include({ event: 'failure', store: 'main', about: 'sweep', repeated: 5 });
  });

  it('runs one at a time', async () => {
    hook.use(
      `cat > /dev/null; mkdir ${file('busy')} && sleep 0.05 && rmdir ${file('busy')} && echo x >> ${file('runs')}`,
    );
    for (let i = 0; i < 4; i++) hook.tell(notice({ about: String(i) }));
    await hook.idle();
    expect(text('runs')).to.equal('x\n'.repeat(4));
  });

  it('is killed with all it has started when it takes too long, and the next one runs', async () => {
    hook = make(150);
    hook.use(
      `case "$TOMBSTONED_STORE" in slow) (sleep 1; touch ${file('late')}) & sleep 60;; esac; ${note()}`,
    );
    const begun = performance.now();
    hook.tell(notice({ store: 'slow' }));
    hook.tell(notice({ store: 'main' }));
    await hook.idle();
    expect(performance.now() - begun).to.be.below(5000);
    expect(told().map(({ store }) => store)).to.deep.equal(['main']);
    expect(out.lines()[0]).to.include({
      level: 'warn',
      message: 'notify: the command took longer than 150ms and was killed: nobody was told of failure',
      store: 'slow',
    });
  });

  it('is logged when it fails, and that is all', async () => {
    hook.use('echo "mail: no such\nhost" >&2; exit 3');
    hook.tell(notice({ message: 'x'.repeat(300_000) })); // more than a pipe takes: it is not read
    await hook.idle();
    hook.use('/nowhere/tell');
    hook.tell(notice({ event: 'limit' }));
    await hook.idle();
    const [first, second] = out.lines();
    expect(first).to.include({
      level: 'warn',
      message: 'notify: the command ended with exit code 3 (mail: no such host): nobody was told of failure',
    });
    expect(second?.['message']).to.match(
      /^notify: the command ended with exit code 127 \(.*\/nowhere\/tell.*not found\)/,
    );
  });

  it('does not keep the daemon from stopping', async () => {
    hook.use(`touch ${file('begun')}; exec sleep 60`);
    hook.tell(notice());
    hook.tell(notice({ event: 'limit' }));
    while (!existsSync(file('begun'))) await new Promise((resolve) => setTimeout(resolve, 5));
    const begun = performance.now();
    await hook.close();
    expect(performance.now() - begun).to.be.below(4000);
    expect(out.lines().map(({ message }) => message)).to.deep.equal([
      'notify: the command was ended, as the daemon stops: nobody was told of failure',
    ]);
  });

  it('is nobody, and costs nothing, until there is one', async () => {
    hook.tell(notice());
    await hook.idle();
    writeFileSync(file('told'), '');
    hook.use(note());
    hook.use(null);
    hook.tell(notice());
    await hook.idle();
    expect(told()).to.deep.equal([]);
    hook.use(note());
    hook.tell(notice());
    await hook.idle();
    expect(told()).to.have.length(1);
  });
});
