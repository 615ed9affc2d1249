import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { compiledModules } from '../support/built-cli.ts';
import { OLD, TempStore } from '../support/temp-store.ts';
import { beforeAllBuild, ctlWith, NOBODY } from './ctl.ts';

const ID = '20261122T101500123Z-k3v0q8tzm2xj4d';
const BECAUSE = ['--reason', 'spec'];

/** Every command, as it is called; one that is new and has no line here is called by its name alone. */
const CALLS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  init: [['--store', 'main', 'init']],
  sweep: [['sweep'], ['sweep', '--dry-run']],
  sweeps: [['sweeps'], ['sweeps', 's-20261122T101500123Z-k3v0q8']],
  approve: [['approve', 's-20261122T101500123Z-k3v0q8']],
  reject: [['reject', 's-20261122T101500123Z-k3v0q8', ...BECAUSE]],
  purge: [['purge'], ['purge', '--dry-run'], ['purge', '--now', ID, ...BECAUSE]],
  tombstone: [['tombstone', 'a']],
  ls: [['ls']],
  show: [['show', ID]],
  explain: [['explain', 'a']],
  restore: [
    ['restore', 'a'],
    ['restore', '--sweep', 'last'],
  ],
  hold: [['hold', 'a', ...BECAUSE]],
  release: [['release', 'h-20261122T101500123Z-k3v0q8']],
  holds: [['holds']],
  pause: [['pause', ...BECAUSE]],
  resume: [['resume']],
  cat: [['cat', 'a']],
  keys: [['keys'], ['keys', '--no-lease']],
  fetch: [['fetch', '', '--to', 'TO']],
  'with-lease': [['with-lease', '--', 'true']],
  lease: [
    ['lease', 'ls'],
    ['lease', 'break', 'l-20261122T101500123Z-k3v0q8', ...BECAUSE],
  ],
  fence: [
    ['fence', 'ls'],
    ['fence', 'break', 'r-20261122T101500123Z-k3v0q8-1', ...BECAUSE],
  ],
  clock: [['clock'], ['clock', 'accept']],
  verify: [['verify'], ['verify', '--repair']],
  log: [['log'], ['log', '--check']],
  status: [['status']],
  adopt: [['adopt']],
  rebuild: [['rebuild']],
  catalog: [['catalog', 'backup', '/tmp/none/such.db']],
};

/** Those that need no catalog, and say what the store lets them. */
const BY_URL = [
  'cat',
  'explain',
  'fence',
  'fetch',
  'hold',
  'holds',
  'keys',
  'lease',
  'pause',
  'release',
  'resume',
  'with-lease',
];

/** Those that read the store, and open no catalog. */
const WITHOUT_CATALOG = ['cat', 'keys', 'fetch', 'with-lease'];

/** Runs command lines one after the other in one process, as `main` does; marks where each ends. */
const RUNNER = `
import { writeSync } from 'node:fs';
const [, base, lines] = process.argv;
const { Output } = await import(base + '/cli/output.js');
const { tombstonectl } = await import(base + '/cli/tombstonectl.js');
const { exitCodeOf } = await import(base + '/domain/errors.js');
for (const words of JSON.parse(lines)) {
  const out = new Output({ isJson: words.includes('--json'), isDebug: false, noColor: true, isUnicode: true, isDumb: true });
  let code;
  try {
    code = await tombstonectl(words, words, out);
    out.finish();
  } catch (error) {
    out.fail(error);
    code = exitCodeOf(error);
  }
  writeSync(1, '\\0' + code + '\\0');
  writeSync(2, '\\0');
}
`;

interface Refusal {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a user is not let do, and what each command says then. */
const CASES: readonly {
  readonly what: string;
  readonly close: (place: { store: TempStore; state: string }) => void;
  /** Which commands are refused; every one unless it says so. */
  readonly of?: 'catalog' | 'url';
  readonly says: RegExp;
}[] = [
  {
    what: 'a config that it may not read',
    close: ({ store }) => chmodSync(store.configFile, 0o600),
    says: /may not be read by this user \(run as the catalog's owner, or as root\)/,
  },
  {
    what: 'a state directory that it may not enter',
    close: ({ state }) => chmodSync(state, 0o700),
    of: 'catalog',
    says: /EACCES|SQLITE_CANTOPEN|may not|permission denied|can't be opened/,
  },
  {
    what: 'a catalog that it may not read',
    close: ({ state }) => chmodSync(path.join(state, 'catalog.db'), 0o600),
    of: 'catalog',
    says: /catalog\.db.*(run as .*owner|as its owner|its directory can't be written)/,
  },
  {
    what: 'a catalog that it may read, and not write',
    close: () => undefined,
    of: 'catalog',
    says: /catalog\.db.*(run as .*owner|as its owner|its directory can't be written)/,
  },
  {
    what: 'a store that it may not enter, by its URL',
    close: ({ store }) => chmodSync(store.root, 0o700),
    of: 'url',
    says: /\/store.*(may this user read the directory|permission denied|let this user in)/,
  },
];

describe('tombstonectl of a user who may not', function () {
  this.timeout(60_000);
  beforeAllBuild();
  let store: TempStore;
  let state: string;
  let names: string[];

  before(async function () {
    if (process.geteuid?.() !== 0) return this.skip();
    if ((await ctlWith({ uid: NOBODY, gid: NOBODY }, '--version')).code !== 0) return this.skip();
    const { stdout } = await ctlWith({}, '--help');
    const [, list] = /COMMANDS\n((?: {4}.*\n)+)/.exec(stdout) ?? [];
    names = (list ?? '').split('\n').flatMap((line) => /^ {4}([\w-]+)/.exec(line)?.[1] ?? []);
  });
  beforeEach(async () => {
    store = new TempStore();
    state = path.join(store.directory, 'state');
    mkdirSync(state);
    store.configure(
      { main: { safetyWindow: '7d', policies: [OLD] } },
      { catalog: path.join(state, 'catalog.db') },
    );
    await store.init();
    for (const [name, mode] of [
      [store.directory, 0o755],
      [state, 0o755],
      [path.join(state, 'catalog.db'), 0o644],
      [store.configFile, 0o644],
    ] as const)
      chmodSync(name, mode);
  });
  afterEach(() => store?.remove());

  function runAll(lines: readonly (readonly string[])[]): Refusal[] {
    const base = pathToFileURL(compiledModules()).href;
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', RUNNER, base, JSON.stringify(lines)],
      {
        uid: NOBODY,
        gid: NOBODY,
        cwd: '/',
        env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
        encoding: 'utf8',
      },
    );
    const outs = stdout.split('\0');
    const errs = stderr.split('\0');
    return lines.map((_, i) => ({
      stdout: outs[2 * i] ?? 'none',
      code: Number(outs[2 * i + 1]),
      stderr: errs[i] ?? 'none',
    }));
  }

  for (const { what, close, of: whom, says } of CASES) {
    it(`is refused by every command in one line that says why and what to do: ${what}`, () => {
      close({ store, state });
      // Doctor has a line for each such thing, and specs of its own.
      const of = (whom === 'url' ? BY_URL : names).filter(
        (name) => name !== 'doctor' && !(whom === 'catalog' && WITHOUT_CATALOG.includes(name)),
      );
      const where = whom === 'url' ? ['--url', store.url] : ['--config', store.configFile];
      const to = path.join(store.directory, 'to');
      mkdirSync(to);
      chmodSync(to, 0o777);
      const lines = of.flatMap((name) =>
        (CALLS[name] ?? [[name]]).map((line) => ({
          name,
          line: line.map((word) => (word === 'TO' ? to : word)),
        })),
      );
      const answers = runAll(
        lines.flatMap(({ line }) => [
          [...where, ...line],
          ['--json', ...where, ...line],
        ]),
      );
      for (const [i, { name, line }] of lines.entries()) {
        for (const [answer, isJson] of [
          [answers[2 * i], false],
          [answers[2 * i + 1], true],
        ] as const) {
          const shown = `${line.join(' ')}: ${JSON.stringify(answer)}`;
          expect(answer?.stdout, shown).to.equal('');
          expect(answer?.code, shown).to.be.oneOf([1, 2]);
          const errors = (answer?.stderr ?? '')
            .split('\n')
            .filter((one) => one !== '' && !one.includes(': warning: '));
          expect(errors, shown).to.have.length(1);
          expect(errors[0], shown).not.to.match(/\bat .*\.js:\d|TypeError|bug|undefined/);
          const error = isJson ? (JSON.parse(errors[0] ?? '') as Record<string, unknown>) : {};
          const told = isJson ? `${String(error['message'])} (${String(error['hint'])})` : errors[0];
          if (name in CALLS) expect(told, shown).to.match(says);
          if (isJson)
            expect(error, shown)
              .to.include({ type: 'error' })
              .and.to.have.property('hint')
              .that.is.a('string');
        }
      }
    });
  }
});
