import { parseArgs } from 'node:util';
import { messageOf, TombstonedError } from '../domain/errors.ts';

/** What the command line asks for. */
export type Asked =
  | { readonly does: 'help' | 'version' }
  | { readonly does: 'run'; readonly config: string | undefined };

/** Reads the command line. Throws `usage` for anything that is not in the help. */
export function parseArguments(args: readonly string[]): Asked {
  const { help, version, config = [] } = parse(args);
  if (help === true) return { does: 'help' };
  if (version === true) return { does: 'version' };
  if (config.length > 1) throw usage('--config is given more than once');
  return { does: 'run', config: config[0] };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        config: { type: 'string', multiple: true },
        help: { type: 'boolean' },
        version: { type: 'boolean' },
      },
      strict: true,
      allowPositionals: false,
    }).values;
  } catch (error) {
    // Node's first sentence says what is wrong; the others are about its own API.
    throw usage(messageOf(error).replace(/\. .*$/, ''), error);
  }
}

function usage(problem: string, cause?: unknown): TombstonedError {
  return new TombstonedError('usage', problem, { hint: 'see tombstoned --help', cause });
}

export const HELP = `NAME
    tombstoned - deletes expired backup objects in two steps, on a schedule

SYNOPSIS
    tombstoned [--config FILE]
    tombstoned --help | --version

DESCRIPTION
    Runs in the foreground until it gets a signal. For each store of the config it
    sweeps every sweepEvery (what has expired moves to pending_deletion/), and purges
    every purgeEvery (what waited there for the safety window is removed for good).
    Both begin right after the start. Before each, what a process that died has left
    half-done is finished or taken back.

    A store that can't be used (an unmounted disk, another catalog's store) is an error
    in the log and is tried again at its next interval; the other stores go on.

    Make a config, a store's identity and a catalog with tombstonectl init. Commands of
    tombstonectl work beside a running daemon. One daemon runs on a catalog.

OPTIONS
    --config FILE
        The config. Otherwise $TOMBSTONED_CONFIG, otherwise
        /etc/tombstoned/tombstoned.yaml. It is read again when it changes.
    --help
        Shows this text.
    --version
        Shows the version.

SIGNALS
    SIGTERM, SIGINT
        Finishes the batch that is under way and exits with 0, within 10 seconds. A
        second one exits at once; the next start, or the next command, finishes what
        is left.
    SIGHUP
        Reads the config again, as a change of its file does. A store that is changed
        goes on as the new config says after the batch that is under way. A bad config
        is refused, with an error in the log, and the one before stays in force; so is
        another catalog, which needs a restart.

SERVICE
    Under systemd (tombstoned.service, Type=notify) it is ready when what dead processes
    have left was seen to, shows how its stores stand in systemctl status, and feeds the
    watchdog as long as the work of every store goes on. It needs notify-exec for that,
    which the unit starts it with.

METRICS
    /metrics (for Prometheus), /healthz and /readyz are served over HTTP at the address
    metrics.listen, 127.0.0.1:9644 unless set; null is nowhere. They never name keys. The
    notify command is run when something fails, waits for approval or looks wrong.

LOG
    One JSON object a line to stdout, or readable lines where stdout is a terminal
    (without colours if NO_COLOR is set). With log.file in the config, JSON lines go
    to that file instead. It is opened for each line, so it can be renamed away.

EXIT STATUS
    0    Stopped by a signal.
    1    The catalog can't be used, another daemon runs on it, the log can't be
         written, an unexpected error, or a batch that did not end within 10 seconds.
    2    Bad arguments, or a bad config.
    130, 143
         Stopped by a second SIGINT or SIGTERM.

FILES
    CATALOG.daemon.lock    Held by the daemon that runs on a catalog.
    CATALOG.daemon.pid     That daemon's process id.

EXAMPLES
    tombstonectl init file:///srv/backups/mainnet
    tombstonectl sweep --dry-run
    tombstoned
`;
