import { readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Config } from '../../config/config.ts';
import { errnoOf } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { shellWord } from '../explanation.ts';
import { dropInFor } from '../service-drop-in.ts';
import { askedOf } from './command.ts';
import { type Finding, failing, ok, warning } from './finding.ts';

/** What systemd knows of a unit. */
type Unit = ReadonlyMap<string, string>;

const ASKED = [
  'LoadState',
  'ActiveState',
  'UnitFileState',
  'NeedDaemonReload',
  'User',
  'ProtectSystem',
  'ReadWritePaths',
  'StateDirectory',
  'LogsDirectory',
];

/** Examines what runs the program on this host: a daemon that holds the catalog, and the units of systemd. */
export async function* examineUnits(config: Config): AsyncGenerator<Finding> {
  const pid = runningDaemon(config.catalog);
  const name = unitOf(config.file);
  const unit = name === undefined ? undefined : await shown(name);
  if (unit === undefined || name === undefined) {
    yield warning(
      'units',
      `${printable(config.file)} is no config of a unit: what runs tombstoned by it is not known`,
      'units read /etc/tombstoned/tombstoned.yaml, or NAME.yaml there for tombstoned@NAME.service',
    );
  } else if (typeof unit === 'string') {
    yield warning('units', `no service manager here: ${unit}; what starts tombstoned is not known`, null);
  } else {
    yield* unitFindings(name, unit, config);
  }
  const start =
    name === undefined ? `tombstoned --config ${shellWord(config.file)}` : `systemctl start ${name}`;
  yield await daemonFinding(start, pid);
}

/** The unit whose config a file is; undefined for one elsewhere. */
function unitOf(file: string): string | undefined {
  const base = /^\/etc\/tombstoned\/([\w.-]+)\.yaml$/.exec(file)?.[1];
  if (base === undefined) return undefined;
  return base === 'tombstoned' ? 'tombstoned.service' : `tombstoned@${base}.service`;
}

/** What systemd says of a unit, or why it says nothing. */
async function shown(name: string): Promise<Unit | string> {
  const answer = await askedOf('systemctl', ['show', name, `--property=${ASKED.join(',')}`]);
  if (answer === 'missing') return 'there is no systemctl';
  if ('failed' in answer) return answer.failed;
  return new Map(
    answer.said.split('\n').flatMap((line) => {
      const cut = line.indexOf('=');
      return cut < 0 ? [] : [[line.slice(0, cut), line.slice(cut + 1)] as const];
    }),
  );
}

async function* unitFindings(name: string, unit: Unit, config: Config): AsyncGenerator<Finding> {
  if (unit.get('LoadState') !== 'loaded') {
    const timers = await enabledTimers();
    if (timers) yield ok('units', 'tombstoned-sweep.timer and tombstoned-purge.timer are enabled');
    else {
      yield warning(
        'units',
        `${name} is not installed (${unit.get('LoadState') ?? 'not known'}): nothing sweeps or purges by itself`,
        'install the package, or scripts/install; see docs/service.md',
      );
    }
    return;
  }
  yield await stateFinding(name, unit);
  yield* userFindings(name, unit, config.catalog);
  yield* sandboxFindings(name, unit, config);
}

async function stateFinding(name: string, unit: Unit): Promise<Finding> {
  const active = unit.get('ActiveState');
  const file = unit.get('UnitFileState');
  if (unit.get('NeedDaemonReload') === 'yes')
    return warning(
      'units',
      `${name} has changed on the disk since systemd read it`,
      `systemctl daemon-reload`,
    );
  if (active === 'failed') return failing('units', `${name} has failed`, `journalctl -e -u ${name}`);
  const isEnabled = file?.startsWith('enabled') === true;
  if (isEnabled && (active === 'active' || active === 'activating'))
    return ok('units', `${name} is enabled and ${active}`);
  if (await enabledTimers())
    return ok('units', `the timers of sweep and purge are enabled, and ${name} is not`);
  const how = `${isEnabled ? 'enabled' : `not enabled (${file ?? 'not known'})`} and ${active ?? 'not known'}`;
  return warning('units', `${name} is ${how}`, `systemctl enable --now ${name}`);
}

async function enabledTimers(): Promise<boolean> {
  const answer = await askedOf('systemctl', [
    'is-enabled',
    'tombstoned-sweep.timer',
    'tombstoned-purge.timer',
  ]);
  return typeof answer === 'object' && 'said' in answer;
}

/** A unit whose user is not the catalog's owner can't work, or leaves files behind that the owner can't use. */
async function* userFindings(name: string, unit: Unit, catalog: string): AsyncGenerator<Finding> {
  const user = unit.get('User') || 'root';
  const answer = await askedOf('id', ['-u', user]);
  const stats = statSync(catalog, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (typeof answer === 'string' || 'failed' in answer) {
    yield failing('units', `${name} runs as ${user}, and there is no such user`, 'systemd-sysusers');
  } else if (Number(answer.said) !== stats.uid) {
    yield failing(
      'units',
      `${name} runs as ${user}, and the catalog belongs to uid ${stats.uid}`,
      `chown -R ${shellWord(user)} ${shellWord(path.dirname(catalog))}`,
    );
  }
}

/** What the unit's sandbox leaves writable covers all that is to be written. */
function* sandboxFindings(name: string, unit: Unit, config: Config): Generator<Finding> {
  const protection = unit.get('ProtectSystem') ?? '';
  if (protection !== 'strict') {
    yield ok('sandbox', `${name} has ProtectSystem=${protection || 'no'}: no ReadWritePaths is needed`);
    return;
  }
  const open = [
    ...words(unit.get('ReadWritePaths') ?? '').map((word) => word.replace(/^[-+]+/, '')),
    ...words(unit.get('StateDirectory') ?? '').map((word) => `/var/lib/${word}`),
    ...words(unit.get('LogsDirectory') ?? '').map((word) => `/var/log/${word}`),
  ];
  const needed = written(config);
  const closed = needed.filter(({ directory }) => !open.some((one) => isWithin(directory, one)));
  const split = needed.flatMap(({ directory, store, isStore }) =>
    isStore
      ? open.filter((one) => one !== directory && isWithin(one, directory)).map((at) => ({ at, store }))
      : [],
  );
  if (closed.length + split.length === 0)
    yield ok('sandbox', `${name} may write all stores and directories of the config`);
  for (const { directory, what, store } of closed) {
    const { file } = dropInFor({ name: store, location: { kind: 'local', directory } });
    yield failing(
      'sandbox',
      `${name} may not write ${what} ${printable(directory)}: no ReadWritePaths has it`,
      `in ${file.replace('tombstoned.service', name)}, below [Service]: ReadWritePaths=${printable(directory)}; then systemctl daemon-reload`,
    );
  }
  for (const { at, store } of split) {
    yield failing(
      'sandbox',
      `${name} has a ReadWritePaths inside the store ${store}, ${printable(at)}: nothing can be renamed into it or out of it`,
      'name the whole store in one ReadWritePaths',
    );
  }
}

/** Every directory that a daemon with this config writes. */
function written({ catalog, log, stores }: Config): Written[] {
  return [
    { directory: path.dirname(catalog), what: 'the state directory', store: 'state' },
    ...(log.file === null
      ? []
      : [{ directory: path.dirname(log.file), what: "the log's directory", store: 'log' }]),
    ...stores.flatMap(({ name: store, location, policies }) => [
      ...(location.kind === 'local'
        ? [{ directory: location.directory, what: 'the store', store, isStore: true }]
        : []),
      ...policies.flatMap((policy) =>
        policy.type === 'drop-in'
          ? [{ directory: policy.directory, what: `the requests of ${policy.name},`, store }]
          : [],
      ),
    ]),
  ];
}

interface Written {
  readonly directory: string;
  readonly what: string;
  /** Whose it is: a store's name, or what else names a drop-in of the unit. */
  readonly store: string;
  readonly isStore?: boolean;
}

/** Paths of a unit as systemd shows them: by spaces, and those with one in quotes. */
function words(text: string): string[] {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll(/\\(.)/g, '$1') ?? plain ?? '',
  );
}

function isWithin(directory: string, top: string): boolean {
  return top === '/' || directory === top || directory.startsWith(`${top.replace(/\/$/, '')}/`);
}

async function daemonFinding(start: string, pid: string | undefined): Promise<Finding> {
  if (pid !== undefined) return ok('daemon', `a tombstoned (pid ${pid}) runs on this catalog`);
  const text = 'no tombstoned runs on this catalog now';
  if (await enabledTimers()) return ok('daemon', `${text}; timers do its work`);
  return warning('daemon', `${text}: nothing is swept or purged by itself`, start);
}

/**
 * The daemon that holds a catalog's lock, as the kernel lists locks and the file beside
 * it says; the lock itself is left alone, as a daemon may be about to take it.
 */
function runningDaemon(catalog: string): string | undefined {
  try {
    const beside = `${realpathSync(catalog)}.daemon`;
    const pid = readFileSync(`${beside}.pid`, 'utf8').trim();
    const { ino } = statSync(`${beside}.lock`);
    const locks = readFileSync('/proc/locks', 'utf8').split('\n');
    const isHeld = locks.some((line) => {
      const [, , , kind, holder, file] = line.split(/\s+/);
      return kind === 'WRITE' && holder === pid && file?.split(':')[2] === String(ino);
    });
    return isHeld ? pid : undefined;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
