import { actVia } from '../app/actor.ts';
import { becomeOwnerOf } from '../app/become-owner.ts';
import { realSurroundings } from '../app/surroundings.ts';
import { programVersion } from '../app/version.ts';
import type { Config } from '../config/config.ts';
import { readEnvironment, takeServiceManager } from '../config/environment.ts';
import { configPath, loadConfig } from '../config/load.ts';
import { exitCodeOf, messageOf, TombstonedError } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';
import { collectAlone } from '../run/small-heap.ts';
import { HELP, parseArguments } from './arguments.ts';
import { runDaemon } from './daemon.ts';
import { Log } from './log.ts';
import { ProcessEvents } from './process-events.ts';
import { Reloads } from './reloads.ts';
import { Service } from './service.ts';

/** The program: its arguments in, its exit code out. Ends after a signal, or when it can't start. */
export async function tombstoned(args: readonly string[]): Promise<number> {
  try {
    const asked = parseArguments(args);
    switch (asked.does) {
      case 'help':
        process.stdout.write(HELP);
        return 0;
      case 'version':
        process.stdout.write(`tombstoned ${programVersion()}\n`);
        return 0;
      case 'run':
        return await run(loadConfig(configPath(asked.config)));
    }
  } catch (error) {
    process.stderr.write(`${startError(error)}\n`);
    return exitCodeOf(error);
  }
}

async function run(config: Config): Promise<number> {
  collectAlone(); // with all processors taken it is to answer in time
  actVia('tombstoned');
  becomeOwnerOf(config.catalog); // before the log's file is opened, which may be made
  const surroundings = realSurroundings(() => undefined);
  const { clock } = surroundings;
  const { noColor } = readEnvironment();
  const log = new Log(config.log, { out: process.stdout, noColor, now: () => clock.now() });
  const service = new Service({ manager: takeServiceManager(process.pid), clock, log });
  const events = new ProcessEvents(process, log, clock);
  const reloads = new Reloads();
  events.onHangup = () => reloads.ask('SIGHUP');
  reloads.on('begin', () => service.reloading());
  reloads.on('end', () => service.reloaded());
  events.signal.addEventListener('abort', () => service.stopping(), { once: true });
  try {
    const version = programVersion();
    const { signal } = events;
    await runDaemon({ ...surroundings, config, log, version, service, reloads, signal });
    return events.exitCode;
  } finally {
    await events.close();
  }
}

/** What kept the program from starting, on one line. */
function startError(error: unknown): string {
  const hint = error instanceof TombstonedError ? error.hint : undefined;
  return `tombstoned: ${printable(messageOf(error))}${hint === undefined ? '' : ` (${printable(hint)})`}`;
}
