import { expect } from 'chai';
import { beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

const DAY = 86_400_000;
/** A store that nothing is to be warned of. */
const QUIET = { safetyWindow: '7d' };

describe('misuse of tombstonectl', () => {
  beforeAllBuild();
  const stores = tempStores();

  /** One line, exit 2, empty stdout; the same with `--json`, as an object. */
  async function refused(...args: string[]): Promise<string> {
    const [text, json] = await Promise.all([ctlWith({}, ...args), ctlWith({}, '--json', ...args)]);
    for (const answer of [text, json]) {
      expect(answer.code, answer.stderr).to.equal(2);
      expect(answer.stdout).to.equal('');
      expect(answer.errorLines, answer.stderr).to.have.length(1);
    }
    expect(text.stderr).to.match(/^tombstonectl: [^\n]+\n$/);
    expect(Object.keys(json.error ?? {})).to.deep.equal(['type', 'code', 'reason', 'key', 'message', 'hint']);
    expect(json.error).to.include({ type: 'error', reason: null });
    expect(json.error?.['code']).to.be.oneOf(['usage', 'config']);
    expect(text.stderr).to.include(json.error?.['message']);
    return text.stderr;
  }

  it('is no command, a command that is near one, or one that there is not', async () => {
    expect(await refused())
      .to.include('no command')
      .and.include('tombstonectl --help');
    expect(await refused('swep')).to.include('did you mean sweep?');
    expect(await refused('frobnicate')).to.include('no command "frobnicate"');
  });

  it('is an option that there is not, one without its value, and a value where there is none', async () => {
    expect(await refused('sweep', '--dryrun'))
      .to.include('no option --dryrun; did you mean --dry-run?')
      .and.include('sweep --help');
    expect(await refused('cat', '-x'))
      .to.include('no option -x')
      .and.include('goes after --');
    expect(await refused('--jsn', 'ls')).to.include('did you mean --json?');
    expect(await refused('restore', '--forces')).to.include('did you mean --force?');
    expect(await refused('sweep', '--force')).not.to.include('did you mean');
    expect(await refused('ls', '--store')).to.include('--store needs a value');
    expect(await refused('ls', '--store', '--key')).to.include('--store needs a value');
    expect(await refused('sweep', '--dry-run=yes')).to.include('--dry-run takes no value');
  });

  it('is an operand too many, or too few', async () => {
    expect(await refused('sweep', 'mainnet')).to.include('sweep takes no "mainnet"');
    expect(await refused('keys', 'logs/')).to.include(
      'keys takes no "logs/" (for what begins with it: --prefix "logs/")',
    );
    expect(await refused('cat')).to.include('cat needs one key');
    expect(await refused('cat', 'a', 'b')).to.include('cat needs one key');
    expect(await refused('show')).to.include("show needs one tombstone's id");
    expect(await refused('show', 'a', 'b')).to.include("show needs one tombstone's id");
    expect(await refused('explain')).to.include('explain needs one key or id');
    expect(await refused('tombstone')).to.include('tombstone needs a key');
    expect(await refused('restore')).to.include('restore needs an id, a key, --sweep or --prefix');
    expect(await refused('init', 'file:///a', 'file:///b')).to.include('init takes one URL');
  });

  it('is a value that is none', async () => {
    expect(await refused('ls', '--state', 'gone'))
      .to.include('--state "gone"')
      .and.include('pending, purging');
    expect(await refused('ls', '--limit', '-1')).to.include('--limit');
    expect(await refused('ls', '--limit', '1e3')).to.include('--limit "1e3"');
    expect(await refused('ls', '--after', 'metadata/a')).to.include('--after "metadata/a"');
    expect(await refused('ls', '--due-before', 'tomorrow')).to.include('--due-before "tomorrow"');
    expect(await refused('ls', '--prefix', '../')).to.include('--prefix "../"');
    expect(await refused('restore', '--prefix', 'a', '--since', 'x')).to.include('--since "x"');
    expect(await refused('show', 'metadata/a'))
      .to.include("no tombstone's id")
      .and.include('explain KEY');
  });

  it('is a key that is none, and an id where a key must be', async () => {
    for (const key of ['/etc/passwd', '../a', 'a//b', 'a/.tombstoned/b', '']) {
      expect(await refused('cat', key)).to.include('is not a key');
    }
    const id = '20261122T101500123Z-k3v0q8tzm2xj4d';
    expect(await refused('cat', id))
      .to.include('takes keys')
      .and.include('--key');
    expect(await refused('tombstone', id))
      .to.include('takes keys')
      .and.include('--key');
  });

  it('is options of restore that contradict each other', async () => {
    expect(await refused('restore', 'a', '--sweep', 'last')).to.include('not several of them');
    expect(await refused('restore', '--sweep', 'last', '--prefix', 'a')).to.include('not several of them');
    expect(await refused('restore', 'a', '--since', '1h')).to.include('--since goes with --prefix');
    expect(await refused('restore', 'a', 'b', '--to', 'c')).to.include('--to takes one tombstone');
    expect(await refused('restore', '--sweep', 'last', '--to', 'c')).to.include('--to takes one tombstone');
    expect(await refused('restore', 'a', '--to', '/c')).to.include('is not a key');
  });

  it('is a config that is not there, or no config', async () => {
    const store = stores.bare();
    const missing = await refused('--config', store.configFile, 'ls');
    expect(missing).to.include('there is no such file').and.include('tombstonectl init');
    expect(await refused('--config', '', 'ls')).to.include('--config names no file');
    store.configure({});
    expect(await refused('--config', store.configFile, 'status')).to.include('stores: ');
  });

  it('is a store that there is not, or none where there are two', async () => {
    const store = await stores.make(QUIET);
    expect(await refused('--config', store.configFile, '--store', 'x', 'ls')).to.include(
      'its stores are: main',
    );
    store.configure({ main: QUIET, other: QUIET });
    await store.init();
    for (const args of [['tombstone', 'a'], ['restore', 'a'], ['cat', 'a'], ['keys'], ['init']]) {
      expect(await refused('--config', store.configFile, ...args)).to.include('main, other');
    }
    const policy = await refused('--config', store.configFile, 'sweep', '--policy', 'x');
    expect(policy).to.include('there is no policy x');
  });

  it('is --url where a catalog is needed, beside --store, or no URL', async () => {
    for (const command of ['sweep', 'ls', 'status', 'purge', 'sweeps']) {
      expect(await refused('--url', 'file:///srv', command)).to.include('takes no --url');
    }
    expect(await refused('--url', 'file:///srv', '--store', 'a', 'keys')).to.include('--url');
    expect(await refused('--url', '/srv', 'keys')).to.include('file:///srv');
    expect(await refused('--url', 'file:///srv', 'init')).to.include('init file:///srv');
  });

  it('is a store that was never initialised', async () => {
    const store = await stores.make(QUIET);
    store.configure({ main: QUIET, later: QUIET });
    for (const command of ['ls', 'status', 'sweeps']) {
      const line = await refused('--config', store.configFile, command);
      expect(line).to.include('does not know the store later').and.include('init --store later');
    }
  });

  it('is told without a stack, unless --debug asks for it', async () => {
    const plain = await ctlWith({}, 'ls', '--limit', 'x');
    expect(plain.errorLines).to.have.length(1);
    const [text, json] = await Promise.all([
      ctlWith({}, '--debug', 'ls', '--limit', 'x'),
      ctlWith({}, '--debug', '--json', 'ls', '--limit', 'x'),
    ]);
    expect(text.stderr).to.match(/^ {4}at /m);
    expect(text.errorLines.at(-1)).to.equal(plain.errorLines[0]);
    expect(json.stderr).to.match(/^ {4}at /m);
    expect(json.error).to.include({ type: 'error', code: 'usage' });
  });

  it('never breaks the line, whatever the key', async () => {
    const store = await stores.make(QUIET);
    store.write('logs/a', 'a', DAY);
    const answer = await ctl(store, 'cat', 'a\nb\u001B[31m');
    expect(answer.code).to.equal(3);
    expect(answer.errorLines).to.have.length(1);
    expect(answer.stderr).to.include(String.raw`"a\nb\u001b[31m"`);
  });
});
