const { env } = process;

/** What the program takes from its environment; an empty variable counts as none. */
export interface Environment {
  /** `TOMBSTONED_CONFIG`: the config's file. */
  readonly configFile: string | undefined;
  /** `TOMBSTONED_URL`: the store's URL, where no `--url` says otherwise. */
  readonly url: string | undefined;
  /** `TOMBSTONED_LEASE`: the id of the lease of `with-lease` around this process, at the store of `url`. */
  readonly lease: string | undefined;
  /** `NO_COLOR`: no colours, whatever the terminal. */
  readonly noColor: boolean;
  /** `SUDO_USER`: whom `sudo` says that it acts for. */
  readonly sudoUser: string | undefined;
}

/** Reads the environment as it is now. The rest of the program never reads `process.env`. */
export function readEnvironment(): Environment {
  return {
    configFile: variable('TOMBSTONED_CONFIG'),
    url: variable('TOMBSTONED_URL'),
    lease: variable('TOMBSTONED_LEASE'),
    noColor: variable('NO_COLOR') !== undefined,
    sudoUser: variable('SUDO_USER'),
  };
}

/** The whole environment, for a command that is run under a lease: that lease, and its store. */
export function environmentUnder(lease: string, url: string): NodeJS.ProcessEnv {
  return { ...env, TOMBSTONED_LEASE: lease, TOMBSTONED_URL: url };
}

/**
 * The environment of a command that the operator has asked for: this process's own, with
 * `variables`, and without what the AWS SDK may take credentials from.
 */
export function environmentOfHook(variables: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const own = Object.entries(env).filter(([name]) => !name.startsWith('AWS_'));
  return { ...Object.fromEntries(own), ...variables };
}

/** What systemd tells a service of `Type=notify` about itself. */
export interface ServiceManager {
  /** `NOTIFY_SOCKET`: where it listens. */
  readonly socket: string;
  /** `TOMBSTONED_NOTIFY_FD`: a descriptor that is connected to that, from `notify-exec`. */
  readonly descriptor: number | undefined;
  /** `WatchdogSec=`, ms: how long this process may be silent. */
  readonly watchdog: number | undefined;
}

/**
 * Takes what the service manager has put into the environment, so that no process that
 * is started later finds it there; undefined where nobody is to be notified.
 */
export function takeServiceManager(pid: number): ServiceManager | undefined {
  const socket = taken('NOTIFY_SOCKET');
  const descriptor = wholeNumber(taken('TOMBSTONED_NOTIFY_FD'));
  const limit = wholeNumber(taken('WATCHDOG_USEC')) ?? 0;
  const watched = wholeNumber(taken('WATCHDOG_PID')) ?? pid;
  if (socket === undefined) return undefined;
  return { socket, descriptor, watchdog: watched === pid && limit > 0 ? limit / 1000 : undefined };
}

function taken(name: string): string | undefined {
  const value = variable(name);
  delete env[name];
  return value;
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** What the environment says about the terminal. */
export interface TerminalSettings {
  /** Whether the locale's characters are UTF-8. */
  readonly isUnicode: boolean;
  /** `TERM=dumb`: nothing but lines of text. */
  readonly isDumb: boolean;
}

export function readTerminal(): TerminalSettings {
  const locale = variable('LC_ALL') ?? variable('LC_CTYPE') ?? variable('LANG') ?? 'C';
  return { isUnicode: /utf-?8/i.test(locale), isDumb: variable('TERM') === 'dumb' };
}

function variable(name: string): string | undefined {
  const value = env[name];
  return value === '' ? undefined : value;
}

/** Keeps the AWS SDK from its remarks about Node's version on stderr: what it needs is this program's to see to. */
export function quietSdk(): void {
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
}
