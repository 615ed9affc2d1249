import { readFileSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { readEnvironment } from '../config/environment.ts';
import type { Actor } from '../run/place.ts';

// Seen when the program begins: as root it becomes the catalog's owner later.
const started = { uid: process.getuid?.(), user: userName() ?? `uid ${process.geteuid?.() ?? '?'}` };
let via: string | undefined;

/** Says which program this process is, and what it was told to do: `tombstonectl restore`. */
export function actVia(command: string): void {
  via = command;
}

/** Who this process is, for runs, claims and the log. */
export function currentActor(): Actor {
  const host = hostname();
  const { uid } = started;
  // Root alone is believed about whom it acts for.
  const sudo = uid === 0 ? readEnvironment().sudoUser : undefined;
  return {
    pid: process.pid,
    host,
    boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    by: `${started.user}@${host}`,
    uid,
    via: sudo === undefined ? via : `${via ?? ''} (sudo of ${sudo})`.trim(),
  };
}

/** Whom this process acts as now; undefined of a user without an entry in passwd. */
export function userName(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}
