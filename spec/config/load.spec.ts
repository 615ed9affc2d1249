import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { configPath, loadConfig, selectStores } from '../../lib/config/load.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';

const DAY = 86_400_000;
const HOUR = 3_600_000;

let directory: string;
let file: string;

before(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-config-'));
  file = path.join(directory, 'tombstoned.yaml');
});

after(() => rmSync(directory, { recursive: true }));

function load(text: string | object) {
  writeFileSync(file, typeof text === 'string' ? text : JSON.stringify(text));
  return loadConfig(file);
}

/** What a load fails with. */
function failure(act: () => unknown): TombstonedError {
  try {
    act();
  } catch (error) {
    if (error instanceof TombstonedError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

const policy = (members: object = {}) => ({ name: 'old', type: 'age', olderThan: '30d', ...members });
const store = (members: object = {}) => ({ name: 'mainnet', url: 'file:///srv/mainnet', ...members });
const withStore = (members: object) => ({ stores: [store(members)] });
const withPolicy = (members: object) => withStore({ policies: [policy(members)] });

describe('a good config', () => {
  it('needs no more than a store, and gets the defaults', () => {
    expect(load('stores:\n  - name: mainnet\n    url: file:///srv/mainnet\n')).to.deep.equal({
      file,
      catalog: '/var/lib/tombstoned/catalog.db',
      metrics: { listen: { host: '127.0.0.1', port: 9644 } },
      log: { level: 'info', file: null },
      historyFor: 400 * DAY,
      clockTolerance: 300_000,
      notify: null,
      stores: [
        {
          name: 'mainnet',
          url: 'file:///srv/mainnet',
          location: { kind: 'local', directory: '/srv/mainnet' },
          format: 'plain',
          s3: { endpoint: null, region: null, forcePathStyle: false, versions: 'keep' },
          pendingPrefix: 'pending_deletion/',
          safetyWindow: 7 * DAY,
          sweepEvery: HOUR,
          purgeEvery: 900_000,
          exemptAfterRestore: 7 * DAY,
          minimumAge: HOUR,
          settle: 'auto',
          throttle: { requestsPerSecond: null, bytesPerSecond: null, concurrency: 32 },
          limits: { maxObjects: 100_000, maxFraction: 0.5, maxBytes: null },
          protect: [],
          policies: [],
          aptos: {
            compactEvery: null,
            factors: { epochEndings: 100, stateSnapshots: 100, transactions: 100 },
            removeAfter: DAY,
          },
        },
      ],
    });
  });

  it('may set every member', () => {
    const text = `
catalog: /data/./catalog.db
metrics: { listen: "[::1]:0" }
log: { level: debug, file: /var/log/tombstoned.log }
historyFor: 2w
clockTolerance: 90s
notify: /usr/local/bin/tell "a b"
stores:
  - name: testnet-2
    url: s3://backups/testnet/2
    format: aptos
    aptos: { compactEvery: 1d, removeAfter: 36h, factors: { transactions: 50, epochEndings: 1, stateSnapshots: 7 } }
    s3: { endpoint: "https://s3.example:9000", region: eu-1, forcePathStyle: true, versions: purge }
    pendingPrefix: a/b/
    safetyWindow: 36h
    sweepEvery: 0s
    purgeEvery: 250ms
    exemptAfterRestore: 0d
    minimumAge: 1.5h
    settle: 65s
    throttle: { requestsPerSecond: 0.5, bytesPerSecond: 10MiB, concurrency: 1 }
    limits: { maxObjects: null, maxFraction: 1, maxBytes: 1.5GB }
    protect: ["**/identity.meta", "keep/**"]
    policies:
      - name: old-logs
        type: age
        prefix: logs/2026-
        match: "**/*.meta"
        olderThan: 30d
        keepLast: 3
        unit: directory
        limits: { maxObjects: 0, maxFraction: null }
`;
    expect(load(text)).to.deep.equal({
      file,
      catalog: '/data/catalog.db',
      metrics: { listen: { host: '::1', port: 0 } },
      log: { level: 'debug', file: '/var/log/tombstoned.log' },
      historyFor: 14 * DAY,
      clockTolerance: 90_000,
      notify: '/usr/local/bin/tell "a b"',
      stores: [
        {
          name: 'testnet-2',
          url: 's3://backups/testnet/2',
          location: { kind: 's3', bucket: 'backups', prefix: 'testnet/2/' },
          format: 'aptos',
          aptos: {
            compactEvery: DAY,
            factors: { epochEndings: 1, stateSnapshots: 7, transactions: 50 },
            removeAfter: 36 * HOUR,
          },
          s3: {
            endpoint: 'https://s3.example:9000',
            region: 'eu-1',
            forcePathStyle: true,
            versions: 'purge',
          },
          pendingPrefix: 'a/b/',
          safetyWindow: 36 * HOUR,
          sweepEvery: 0,
          purgeEvery: 250,
          exemptAfterRestore: 0,
          minimumAge: 1.5 * HOUR,
          settle: 65_000,
          throttle: { requestsPerSecond: 0.5, bytesPerSecond: 10 * 1024 ** 2, concurrency: 1 },
          limits: { maxObjects: null, maxFraction: 1, maxBytes: 1_500_000_000 },
          protect: ['**/identity.meta', 'keep/**'],
          policies: [
            {
              name: 'old-logs',
              type: 'age',
              prefix: 'logs/2026-',
              match: '**/*.meta',
              olderThan: 30 * DAY,
              keepLast: 3,
              unit: 'directory',
              limits: { maxObjects: 0, maxFraction: null, maxBytes: 1_500_000_000 },
            },
          ],
        },
      ],
    });
  });

  it('gives a policy every key below the store, and the limits of the store', () => {
    const { stores } = load(withStore({ limits: { maxObjects: 7 }, policies: [policy()] }));
    expect(stores[0]?.policies).to.deep.equal([
      {
        name: 'old',
        type: 'age',
        prefix: '',
        match: '**',
        olderThan: 30 * DAY,
        keepLast: 0,
        unit: 'object',
        limits: { maxObjects: 7, maxFraction: 0.5, maxBytes: null },
      },
    ]);
  });

  it('may have lists and mappings with nothing left in them', () => {
    const lines = ['log:', 'stores:', '  - name: a', '    url: file:///a', '    limits:', '    policies:'];
    const { log, stores } = load(lines.join('\n'));
    expect(log.level).to.equal('info');
    expect(stores[0]?.limits.maxObjects).to.equal(100_000);
    expect(stores[0]?.policies).to.deep.equal([]);
  });

  it('may turn metrics off', () => {
    for (const metrics of [null, { listen: null }])
      expect(load({ metrics, stores: [store()] }).metrics).to.deep.equal({ listen: null });
  });

  it('may share a part through an anchor', () => {
    const { stores } = load(`stores:
  - { name: a, url: "file:///a", protect: &p [x] }
  - { name: b, url: "file:///b", protect: *p }`);
    expect(stores.map((one) => one.protect)).to.deep.equal([['x'], ['x']]);
  });

  it('may begin with a byte order mark, and be reached through a link', () => {
    load(`\uFEFF${JSON.stringify(withStore({}))}`);
    const link = path.join(directory, 'link.yaml');
    symlinkSync(file, link);
    expect(loadConfig(link).file).to.equal(link);
  });

  it('may have stores side by side', () => {
    const urls = [
      'file:///srv/a',
      'file:///srv/ab',
      'file:///srv/..a',
      's3://bkt/a',
      's3://bkt/ab',
      's3://other',
      's3://other',
    ];
    const stores = urls.map((url, i) =>
      store({ name: `s${i}`, url, s3: { endpoint: i === 6 ? 'http://elsewhere' : null } }),
    );
    expect(load({ stores }).stores).to.have.length(urls.length);
  });
});

describe('a bad config is refused in one line', () => {
  const DURATION = 'expected a duration such as 30d';
  const NAME = 'expected a name of small letters, digits, ".", "_" and "-", such as mainnet';
  const URL = 'expected file:///directory or s3://bucket/prefix';
  const GLOB = 'expected a glob such as "**/*.meta"';
  const PENDING = 'expected a key prefix that ends in "/", such as pending_deletion/';
  const PREFIX = 'expected the beginning of keys, such as logs/';
  const FRACTION = 'expected a number from 0 to 1, or null';
  const COUNT = 'expected a whole number from 0 up';
  const STORES = 'expected a list of at least one store';
  const LISTEN = 'expected an address and port such as 127.0.0.1:9644, or null';
  const PATH = 'expected an absolute path of a file';

  const table: [what: string, config: string | object, message: string][] = [
    ['a text', 'hello', 'expected a mapping, got "hello"'],
    ['a list', '- a', 'expected a mapping, got a list'],
    ['no stores', 'catalog: /a', `stores: ${STORES}, got nothing`],
    ['stores that are all comments', 'stores:\n  # - a', `stores: ${STORES}, got null`],
    ['an empty list of stores', 'stores: []', `stores: ${STORES}, got an empty list`],
    ['one store without its dash', { stores: store() }, `stores: ${STORES}, got a mapping`],
    ['a store that is a text', { stores: ['file:///a'] }, 'stores[0]: expected a mapping, got "file:///a"'],
    ['an empty store', 'stores:\n  -\n', `stores[0].name: ${NAME}, got nothing`],
    [
      'a number for a list',
      withStore({ policies: 3 }),
      'stores[0].policies: expected a list of policies, got 3',
    ],
    [
      'a list for a mapping',
      withStore({ limits: [] }),
      'stores[0].limits: expected a mapping, got an empty list',
    ],

    [
      'an unknown member',
      { stor: [] },
      'stor: no such member; there are catalog, metrics, log, historyFor, clockTolerance, notify, stores',
    ],
    ['a letter less', { store: [] }, 'store: no such member; did you mean stores?'],
    [
      'a letter more',
      withStore({ safetyWindows: '1d' }),
      'stores[0].safetyWindows: no such member; did you mean safetyWindow?',
    ],
    [
      'another letter',
      withStore({ sweepEvory: '1d' }),
      'stores[0].sweepEvory: no such member; did you mean sweepEvery?',
    ],
    [
      'two letters swapped',
      withStore({ polciies: [] }),
      'stores[0].polciies: no such member; did you mean policies?',
    ],
    [
      'another case',
      withStore({ minimumage: '1d' }),
      'stores[0].minimumage: no such member; did you mean minimumAge?',
    ],
    [
      'a misspelt member that must be there',
      { stores: [{ nmae: 'a', url: 'file:///a' }] },
      'stores[0].nmae: no such member; did you mean name?',
    ],
    [
      'an unknown member of a policy',
      withPolicy({ older: '1d' }),
      'stores[0].policies[0].older: no such member; there are type, name, prefix, match, olderThan, keepLast, unit, limits',
    ],
    [
      'credentials',
      withStore({ s3: { secretAccessKey: 'hush' } }),
      'stores[0].s3.secretAccessKey: no such member; there are endpoint, region, forcePathStyle, versions',
    ],
    [
      'a member of every object',
      withStore({ toString: '1d' }),
      'stores[0].toString: no such member; there are name, url, format, s3, pendingPrefix, safetyWindow, sweepEvery, purgeEvery, exemptAfterRestore, minimumAge, settle, throttle, limits, protect, policies, aptos',
    ],
    [
      '__proto__',
      '__proto__: { catalog: /a }\nstores: [{ name: a, url: "file:///a" }]',
      '__proto__: no such member; there are catalog, metrics, log, historyFor, clockTolerance, notify, stores',
    ],
    [
      'a member with odd characters',
      { 'a\n b': 1, stores: [store()] },
      '["a\\n b"]: no such member; there are catalog, metrics, log, historyFor, clockTolerance, notify, stores',
    ],

    [
      'a relative catalog',
      { catalog: 'catalog.db', stores: [store()] },
      `catalog: ${PATH}, got "catalog.db"`,
    ],
    [
      'a directory as catalog',
      { catalog: '/var/lib/', stores: [store()] },
      `catalog: ${PATH}, got "/var/lib/"`,
    ],
    ['no catalog', { catalog: null, stores: [store()] }, `catalog: ${PATH}, got null`],
    [
      'an unknown log level',
      { log: { level: 'trace' }, stores: [store()] },
      'log.level: expected error, warn, info or debug, got "trace"',
    ],
    [
      'a relative log file',
      { log: { file: 'a.log' }, stores: [store()] },
      `log.file: ${PATH}, or null, got "a.log"`,
    ],
    [
      'a port alone',
      { metrics: { listen: '9644' }, stores: [store()] },
      `metrics.listen: ${LISTEN}, got "9644"`,
    ],
    [
      'a port that is none',
      { metrics: { listen: 'localhost:65536' }, stores: [store()] },
      `metrics.listen: ${LISTEN}, got "localhost:65536"`,
    ],
    ['an empty command', { notify: ' ', stores: [store()] }, 'notify: expected a command, or null, got " "'],
    [
      'no clock tolerance',
      { clockTolerance: null, stores: [store()] },
      `clockTolerance: ${DURATION}, got null`,
    ],

    ['a name in capitals', withStore({ name: 'Main' }), `stores[0].name: ${NAME}, got "Main"`],
    ['a name that is a number', withStore({ name: 3 }), `stores[0].name: ${NAME}, got 3`],
    ['a name that begins with a dash', withStore({ name: '-a' }), `stores[0].name: ${NAME}, got "-a"`],
    ['a name and a line', withStore({ name: 'a\n' }), `stores[0].name: ${NAME}, got "a\\n"`],
    ['no url', { stores: [{ name: 'a' }] }, `stores[0].url: ${URL}, got nothing`],
    [
      'a path for a url',
      withStore({ url: '/srv/my backups' }),
      `stores[0].url: ${URL}, got "/srv/my backups": write file:///srv/my%20backups`,
    ],
    [
      'an unknown format',
      withStore({ format: 'zip' }),
      'stores[0].format: expected plain or aptos, got "zip"',
    ],
    [
      'compaction of a plain store',
      withStore({ aptos: { compactEvery: '1d' } }),
      'stores[0].aptos: the store has format plain; this is for format aptos',
    ],
    [
      'a compacted file without lines',
      withStore({ format: 'aptos', aptos: { factors: { transactions: 0 } } }),
      'stores[0].aptos.factors.transactions: expected a whole number from 1 up, got 0',
    ],
    [
      'an endpoint without a scheme',
      withStore({ s3: { endpoint: 'host:9000' } }),
      'stores[0].s3.endpoint: expected an http:// or https:// URL, or null, got "host:9000"',
    ],
    [
      'an endpoint with credentials',
      withStore({ s3: { endpoint: 'http://me:hush@host' } }),
      'stores[0].s3.endpoint: credentials do not belong here: the AWS SDK finds them where it always does',
    ],
    [
      'a text for a flag',
      withStore({ s3: { forcePathStyle: 'yes' } }),
      'stores[0].s3.forcePathStyle: expected true or false, got "yes"',
    ],
    [
      'unknown versions',
      withStore({ s3: { versions: 'all' } }),
      'stores[0].s3.versions: expected keep or purge, got "all"',
    ],
    [
      'a pending prefix without its slash',
      withStore({ pendingPrefix: 'pending' }),
      `stores[0].pendingPrefix: ${PENDING}, got "pending"`,
    ],
    [
      'an empty pending prefix',
      withStore({ pendingPrefix: '' }),
      `stores[0].pendingPrefix: ${PENDING}, got ""`,
    ],
    [
      'an absolute pending prefix',
      withStore({ pendingPrefix: '/a/' }),
      `stores[0].pendingPrefix: ${PENDING}, got "/a/"`,
    ],
    [
      'a pending prefix that climbs',
      withStore({ pendingPrefix: 'a/../' }),
      `stores[0].pendingPrefix: ${PENDING}, got "a/../"`,
    ],
    [
      'a pending prefix among control objects',
      withStore({ pendingPrefix: '.tombstoned/p/' }),
      `stores[0].pendingPrefix: ${PENDING}, got ".tombstoned/p/"`,
    ],
    ['a duration without unit', withStore({ safetyWindow: 7 }), `stores[0].safetyWindow: ${DURATION}, got 7`],
    ['a negative duration', withStore({ minimumAge: '-1h' }), `stores[0].minimumAge: ${DURATION}, got "-1h"`],
    [
      'a duration no date can hold',
      withStore({ purgeEvery: '36501d' }),
      'stores[0].purgeEvery: expected a duration of at most 36500d, got "36501d"',
    ],
    [
      'settling by a word',
      withStore({ settle: 'never' }),
      'stores[0].settle: expected auto or a duration such as 65s, got "never"',
    ],
    [
      'no concurrency',
      withStore({ throttle: { concurrency: 0 } }),
      'stores[0].throttle.concurrency: expected a whole number from 1 to 1024, got 0',
    ],
    [
      'a rate of 0',
      withStore({ throttle: { requestsPerSecond: 0 } }),
      'stores[0].throttle.requestsPerSecond: expected a number above 0, or null, got 0',
    ],
    [
      'an infinite rate',
      'stores: [{ name: a, url: "file:///a", throttle: { requestsPerSecond: .inf } }]',
      'stores[0].throttle.requestsPerSecond: expected a number above 0, or null, got Infinity',
    ],
    [
      'a size without unit',
      withStore({ limits: { maxBytes: 10 } }),
      'stores[0].limits.maxBytes: expected a size such as 10MiB, or null, got 10',
    ],
    [
      'a broken count',
      withStore({ limits: { maxObjects: 1.5 } }),
      `stores[0].limits.maxObjects: ${COUNT}, or null, got 1.5`,
    ],
    [
      'a fraction above 1',
      withStore({ limits: { maxFraction: 50 } }),
      `stores[0].limits.maxFraction: ${FRACTION}, got 50`,
    ],
    [
      'a negative fraction',
      withPolicy({ limits: { maxFraction: -0.1 } }),
      `stores[0].policies[0].limits.maxFraction: ${FRACTION}, got -0.1`,
    ],
    [
      'a fraction that is no number',
      'stores: [{ name: a, url: "file:///a", limits: { maxFraction: .nan } }]',
      `stores[0].limits.maxFraction: ${FRACTION}, got NaN`,
    ],
    ['an empty glob', withStore({ protect: ['a', ''] }), `stores[0].protect[1]: ${GLOB}, got ""`],
    [
      'a glob beside its list',
      withStore({ protect: '**' }),
      'stores[0].protect: expected a list of globs, got "**"',
    ],

    [
      'requests without a directory',
      withStore({ policies: [{ name: 'a', type: 'drop-in' }] }),
      'stores[0].policies[0].directory: expected an absolute path of a directory, got nothing',
    ],
    [
      'requests with an age',
      withStore({ policies: [{ name: 'a', type: 'drop-in', directory: '/in', olderThan: '1d' }] }),
      'stores[0].policies[0].olderThan: no such member; there are type, name, directory, limits',
    ],
    [
      'requests inside the store',
      withStore({ policies: [{ name: 'a', type: 'drop-in', directory: '/srv/mainnet/in' }] }),
      'stores[0].policies[0].directory: "/srv/mainnet/in" lies inside the store "mainnet", where a sweep could take it',
    ],
    [
      'requests of two policies in one directory',
      withStore({
        policies: [
          { name: 'a', type: 'drop-in', directory: '/in' },
          { name: 'b', type: 'drop-in', directory: '/in/' },
        ],
      }),
      'stores[0].policies[1].directory: is the directory of stores[0].policies[0].directory already',
    ],
    [
      'a policy that asks metadata, of a store that has none',
      withStore({ policies: [{ name: 'a', type: 'aptos-compaction' }] }),
      'stores[0].policies[0].type: aptos-compaction is for stores with format: aptos, and this one is plain',
    ],
    [
      'a payload policy that keeps no snapshot',
      withStore({
        format: 'aptos',
        policies: [{ name: 'a', type: 'aptos-payload', olderThan: '1d', keepSnapshots: 0 }],
      }),
      'stores[0].policies[0].keepSnapshots: expected a whole number from 1 up, or null, got 0',
    ],
    [
      'a payload policy without an age',
      withStore({ format: 'aptos', policies: [{ name: 'a', type: 'aptos-payload' }] }),
      'stores[0].policies[0].olderThan: expected a duration such as 30d, got nothing',
    ],
    [
      'an unknown policy',
      withPolicy({ type: 'size' }),
      'stores[0].policies[0].type: expected age, drop-in, aptos-compaction or aptos-payload, got "size"',
    ],
    [
      'a policy without an age',
      withStore({ policies: [{ name: 'a', type: 'age' }] }),
      `stores[0].policies[0].olderThan: ${DURATION}, got nothing`,
    ],
    [
      'an age in words',
      withStore({ policies: [policy(), policy({ name: 'b', olderThan: 'thirty' })] }),
      `stores[0].policies[1].olderThan: ${DURATION}, got "thirty"`,
    ],
    [
      'an absolute prefix',
      withPolicy({ prefix: '/logs/' }),
      `stores[0].policies[0].prefix: ${PREFIX}, got "/logs/": it is absolute`,
    ],
    [
      'a prefix of control objects',
      withPolicy({ prefix: '.tombstoned/' }),
      `stores[0].policies[0].prefix: ${PREFIX}, got ".tombstoned/": it has a ".tombstoned" segment`,
    ],
    ['an empty match', withPolicy({ match: '' }), `stores[0].policies[0].match: ${GLOB}, got ""`],
    ['a negative keepLast', withPolicy({ keepLast: -1 }), `stores[0].policies[0].keepLast: ${COUNT}, got -1`],
    [
      'a keepLast in quotes',
      withPolicy({ keepLast: '3' }),
      `stores[0].policies[0].keepLast: ${COUNT}, got "3"`,
    ],
    [
      'an unknown unit',
      withPolicy({ unit: 'file' }),
      'stores[0].policies[0].unit: expected object or directory, got "file"',
    ],
    [
      'a long text',
      withPolicy({ unit: 'x'.repeat(1000) }),
      `stores[0].policies[0].unit: expected object or directory, got "${'x'.repeat(60)}…"`,
    ],
    [
      'a text with control characters',
      withPolicy({ unit: 'a\u001b[2J\u202e' }),
      'stores[0].policies[0].unit: expected object or directory, got "a\\u001b[2J\\u202e"',
    ],

    [
      'two stores of one name',
      { stores: [store(), store({ url: 'file:///b' })] },
      'stores[1].name: stores[0] is called "mainnet" already',
    ],
    [
      'two policies of one name',
      withStore({ policies: [policy(), policy({ olderThan: '1d' })] }),
      'stores[0].policies[1].name: policies[0] is called "old" already',
    ],
    [
      'one directory twice',
      { stores: [store(), store({ name: 'b', url: 'file:///srv//x/../mainnet/' })] },
      'stores[1].url: is the same directory as the store "mainnet" ("file:///srv/mainnet")',
    ],
    [
      'a nested store',
      { stores: [store(), store({ name: 'b', url: 'file:///srv/mainnet/b' })] },
      'stores[1].url: lies inside the store "mainnet" ("file:///srv/mainnet"); stores may not overlap',
    ],
    [
      'a parent store',
      {
        stores: [store({ url: 's3://bkt' }), store({ name: 'b' }), store({ name: 'c', url: 'file:///srv' })],
      },
      'stores[2].url: contains the store "b" ("file:///srv/mainnet"); stores may not overlap',
    ],
    [
      'one bucket twice',
      { stores: [store({ url: 's3://bkt/a' }), store({ name: 'b', url: 's3://bkt/a/b/' })] },
      'stores[1].url: overlaps the store "mainnet" ("s3://bkt/a"): one prefix begins with the other',
    ],
    [
      'a bucket and a prefix of it',
      { stores: [store({ url: 's3://bkt/a' }), store({ name: 'b', url: 's3://bkt' })] },
      'stores[1].url: overlaps the store "mainnet" ("s3://bkt/a"): one prefix begins with the other',
    ],
    [
      'the catalog in a store',
      { catalog: '/srv/mainnet/t/catalog.db', stores: [store()] },
      'catalog: "/srv/mainnet/t/catalog.db" lies inside the store "mainnet", where a sweep could take it',
    ],
    [
      'the catalog in the place of a store',
      { catalog: '/srv/mainnet', stores: [store()] },
      'catalog: "/srv/mainnet" lies inside the store "mainnet", where a sweep could take it',
    ],
    [
      'the log in a store',
      { log: { file: '/srv/mainnet/..log' }, stores: [store()] },
      'log.file: "/srv/mainnet/..log" lies inside the store "mainnet", where a sweep could take it',
    ],

    [
      'a member that is there twice',
      'stores: []\nlog: {}\nstores: []\n',
      'line 3, column 1: not valid YAML: this member is there already',
    ],
    [
      'a list that does not end',
      'stores: [\n',
      'line 2, column 1: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
    [
      'a quote that does not end',
      'catalog: "a\n',
      'line 2, column 1: not valid YAML: Missing closing "quote',
    ],
    ['tabs', 'stores:\n\t- a', 'line 2, column 1: not valid YAML: Tabs are not allowed as indentation'],
    [
      'a colon in a colon',
      'stores: a: b',
      'line 1, column 9: not valid YAML: Nested mappings are not allowed in compact mappings',
    ],
    [
      'two documents',
      'stores: []\n---\nstores: []',
      'line 2, column 1: not valid YAML: a second document begins here',
    ],
    ['a list as a name', '? [a]\n: b', 'line 1, column 3: not valid YAML: the name of a member is a text'],
    ['an unknown tag', 'stores: !env STORES', 'line 1, column 9: not valid YAML: Unresolved tag: !env'],
    [
      'an unknown directive',
      '%SAFE\n---\nstores: []',
      'line 1, column 1: not valid YAML: Unknown directive %SAFE',
    ],
    [
      'an unknown alias',
      'stores: *all',
      'not valid YAML: Unresolved alias (the anchor must be set before the alias): all',
    ],
    ['an alias bomb', bomb(), 'not valid YAML: Excessive alias count indicates a resource exhaustion attack'],
    ['a list in itself', 'stores: &s [*s]', 'stores[0]: expected a mapping, got a list'],
  ];

  for (const [what, config, message] of table) {
    it(what, () => {
      const error = failure(() => load(config));
      expect(error.message).to.equal(`${file}: ${message}`);
      expect(error.message).not.to.include('\n');
      expect(error).to.include({ code: 'config', key: file });
    });
  }

  it('brackets in brackets without end', () => {
    const { message } = failure(() => load('['.repeat(50_000)));
    expect(message).to.match(/: line 1, column \d+: not valid YAML: nested too deeply$/);
  });

  it('whatever it holds', () => {
    const scalar = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('30d', 'age', 'file:///a', 's3://bkt/c', null, 1, {}, []),
    );
    const half = fc.record(
      { name: scalar, url: scalar, protect: scalar, limits: scalar, policies: scalar, settle: scalar },
      { requiredKeys: [] },
    );
    const config = fc.oneof(scalar, fc.record({ stores: fc.array(fc.oneof(half, scalar)), log: scalar }));
    fc.assert(
      fc.property(config, (value) => {
        try {
          load(JSON.stringify(value));
        } catch (error) {
          expect(error).to.be.instanceOf(TombstonedError);
          expect(error).to.include({ code: 'config' });
          expect((error as Error).message).to.match(/^[^\p{Cc}\u2028\u2029]+$/u);
        }
      }),
      { numRuns: 300 },
    );
  });

  function bomb(): string {
    const lines = Array.from({ length: 9 }, (_, i) => {
      const items = i === 0 ? 'x' : Array.from({ length: 9 }, () => `*l${i - 1}`).join(', ');
      return `l${i}: &l${i} [${items}]`;
    });
    return lines.join('\n');
  }
});

describe('a config that cannot be read', () => {
  it('is missing: the hint says how to make one', () => {
    const missing = path.join(directory, 'missing.yaml');
    const error = failure(() => loadConfig(missing));
    expect(error.message).to.equal(`${missing}: there is no such file`);
    expect(error).to.include({ code: 'config', key: missing, hint: 'make one with `tombstonectl init URL`' });
  });

  it('is below a file', () => {
    load(withStore({}));
    const error = failure(() => loadConfig(path.join(file, 'a.yaml')));
    expect(error.message).to.equal(`${file}/a.yaml: there is no such file`);
  });

  it('is a directory', () => {
    const error = failure(() => loadConfig(directory));
    expect(error.message).to.equal(`${directory}: is a directory, not a file`);
  });

  it('is a device', () => {
    expect(failure(() => loadConfig('/dev/zero')).message).to.equal('/dev/zero: is no regular file');
  });

  it('is not for this user', () => {
    load(withStore({}));
    chmodSync(directory, 0o711);
    chmodSync(file, 0);
    // Root may read everything, so another user looks.
    if (process.getuid?.() === 0) process.seteuid?.(65_534);
    try {
      expectForbidden();
    } finally {
      if (process.getuid?.() === 0) process.seteuid?.(0);
      chmodSync(file, 0o600);
    }
  });

  function expectForbidden(): void {
    const error = failure(() => loadConfig(file));
    expect(error.message).to.equal(`${file}: may not be read by this user`);
    expect(error.hint).to.equal("run as the catalog's owner, or as root");
  }

  for (const [what, text] of [
    ['is empty', ''],
    ['holds only comments', '# a\n'],
    ['holds only the end of a document', '---\n...\n'],
    ['holds null', 'null'],
  ] as const) {
    it(what, () => {
      const error = failure(() => load(text));
      expect(error.message).to.equal(`${file}: holds no config: it is empty`);
      expect(error.hint).to.equal('make one with `tombstonectl init URL`');
    });
  }

  it('is too long to be a config', () => {
    const error = failure(() => load('#'.repeat(1024 * 1024 + 1)));
    expect(error.message).to.equal(`${file}: is no config: it has 1048577 bytes, over 1 MiB`);
    expect(() => load(`${JSON.stringify(withStore({}))}\n`.padEnd(1024 * 1024, '#'))).not.to.throw();
  });

  it('is not text', () => {
    writeFileSync(file, Buffer.from([0x61, 0x3a, 0x20, 0xff]));
    expect(failure(() => loadConfig(file)).message).to.equal(`${file}: is not valid UTF-8`);
  });

  it('has a name that would upset a terminal', () => {
    const odd = path.join(directory, 'a\nb');
    mkdirSync(odd);
    const error = failure(() => loadConfig(odd));
    expect(error.message).to.equal(`"${directory}/a\\nb": is a directory, not a file`);
    expect(error.key).to.equal(odd);
  });
});

describe('the path of the config', () => {
  const before = process.env['TOMBSTONED_CONFIG'];

  afterEach(() => {
    if (before === undefined) delete process.env['TOMBSTONED_CONFIG'];
    else process.env['TOMBSTONED_CONFIG'] = before;
  });

  it('is what --config says, then what the environment says, then the one in /etc', () => {
    process.env['TOMBSTONED_CONFIG'] = '/env.yaml';
    expect(configPath('/flag.yaml')).to.equal('/flag.yaml');
    expect(configPath(undefined)).to.equal('/env.yaml');
    process.env['TOMBSTONED_CONFIG'] = '';
    expect(configPath(undefined)).to.equal('/etc/tombstoned/tombstoned.yaml');
    delete process.env['TOMBSTONED_CONFIG'];
    expect(configPath(undefined)).to.equal('/etc/tombstoned/tombstoned.yaml');
  });

  it('is absolute', () => {
    expect(configPath('a.yaml')).to.equal(path.resolve('a.yaml'));
  });

  it('is not empty', () => {
    expect(failure(() => configPath(''))).to.include({ code: 'usage', message: '--config names no file' });
  });
});

describe('choosing stores', () => {
  const two = () => load({ stores: [store({ name: 'a' }), store({ name: 'b', url: 'file:///b' })] });

  it('gives the one that is named, or all', () => {
    const config = two();
    expect(selectStores(config, 'b')).to.deep.equal([config.stores[1]]);
    expect(selectStores(config, undefined)).to.deep.equal(config.stores);
  });

  it('refuses a name that is none, and says which there are', () => {
    const error = failure(() => selectStores(two(), 'c'));
    expect(error.message).to.equal(`${file} has no store "c"`);
    expect(error).to.include({ code: 'usage', key: 'c', hint: 'its stores are: a, b' });
  });
});
