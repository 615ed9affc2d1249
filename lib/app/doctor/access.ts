import { accessSync, constants, type Stats, statSync } from 'node:fs';
import { errnoOf, messageOf } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { currentRights } from '../../store/local/may-move.ts';
import { userName } from '../actor.ts';
import { shellWord } from '../explanation.ts';
import { type Finding, failing, ok, warning } from './finding.ts';

/** A file or directory, and what this process must be able to do with it. */
export interface Needed {
  readonly path: string;
  /** Of a directory: `enter` reads it, `write` also makes and removes names. Of a file: `read`, or `write` both. */
  readonly to: 'enter' | 'read' | 'write';
  /** Whether it may be missing: it is made when it is needed. */
  readonly isOptional?: boolean;
  /** What it means that others may write it: a failure, a warning, or nothing, as that is what it is for. */
  readonly others: 'fail' | 'warn' | 'fine';
}

const FOR_OTHERS = 0o002;
const STICKY = 0o1000;

/** A line for each that is not as it must be, or one that says that all are. */
export function accessFindings(check: string, needed: readonly Needed[]): Finding[] {
  const found = needed.flatMap((one) => problemOf(check, one) ?? []);
  const problems = found.filter((one) => typeof one !== 'string');
  if (problems.length > 0) return problems;
  const paths = found.filter((one) => typeof one === 'string').join(', ');
  return [ok(check, `${whoActs()} may use ${paths}`)];
}

/** What is wrong, or the path of what is there and is not; nothing of what may be missing, and is. */
function problemOf(check: string, { path, to, isOptional, others }: Needed): Finding | string | undefined {
  let stats: Stats | undefined;
  try {
    stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined) {
      if (isOptional === true) return undefined;
      return failing(check, `${printable(path)} is missing`, remedyOfMissing(path, to));
    }
    const isDirectory = stats.isDirectory();
    if (to === 'enter' && !isDirectory)
      return failing(check, `${printable(path)} is not a directory`, 'move it away');
    accessSync(path, modeFor(to, isDirectory));
  } catch (error) {
    return failing(check, refusalText(path, to, error, stats), remedyOf(path, to, error, stats));
  }
  if (to === 'write' && isClosedBySticky(stats)) {
    return failing(
      check,
      `${printable(path)} is sticky, and of uid ${stats.uid}: ${whoActs()} may move and remove only its own files there`,
      `chmod -t ${shellWord(path)}, or chown ${shellWord(whoActs())} ${shellWord(path)}`,
    );
  }
  const isOpen = (stats.mode & FOR_OTHERS) !== 0 && (stats.mode & STICKY) === 0;
  if (others === 'fine' || !isOpen) return printable(path);
  const text = `every user may write ${printable(path)}`;
  const remedy = `chmod o-w ${shellWord(path)}`;
  return others === 'fail' ? failing(check, text, remedy) : warning(check, text, remedy);
}

function isClosedBySticky(stats: Stats): boolean {
  if (!stats.isDirectory() || (stats.mode & STICKY) === 0) return false;
  const { uid, foreign } = currentRights();
  return stats.uid !== uid && !foreign;
}

function modeFor(to: Needed['to'], isDirectory: boolean): number {
  const { R_OK, W_OK, X_OK } = constants;
  return R_OK | (to === 'write' ? W_OK : 0) | (isDirectory ? X_OK : 0);
}

function refusalText(path: string, to: Needed['to'], error: unknown, stats: Stats | undefined): string {
  const name = printable(path);
  const code = errnoOf(error) ?? '';
  if (code === 'EROFS') return `${name} is on a file system that is mounted read-only`;
  if (code !== 'EACCES' && code !== 'EPERM') return `${name}: ${messageOf(error)}`;
  const whose = stats === undefined ? 'a directory above it is closed to this user' : whoseText(stats);
  return `${whoActs()} may not ${to === 'enter' ? 'enter' : to} ${name} (${whose})`;
}

function whoseText({ uid, gid, mode }: Stats): string {
  return `of uid ${uid}, gid ${gid}, mode ${(mode & 0o7777).toString(8).padStart(4, '0')}`;
}

function remedyOf(path: string, to: Needed['to'], error: unknown, stats: Stats | undefined): string {
  const code = errnoOf(error) ?? '';
  if (code === 'EROFS') return 'remount it read-write; if the kernel made it read-only, look at its log';
  if (code !== 'EACCES' && code !== 'EPERM') return `ls -ld ${shellWord(path)}`;
  if (stats === undefined) return `namei -l ${shellWord(path)}`;
  const letters = { enter: 'rx', read: 'r', write: stats.isDirectory() ? 'rwx' : 'rw' }[to];
  if (stats.uid === process.geteuid?.()) return `chmod u+${letters} ${shellWord(path)}`;
  return `chown ${shellWord(whoActs())} ${shellWord(path)}, or let its group: chmod g+${letters} ${shellWord(path)}`;
}

function remedyOfMissing(path: string, to: Needed['to']): string {
  if (to === 'read') return 'tombstonectl init URL';
  return `install -d -o ${shellWord(whoActs())} -m 0750 ${shellWord(path)}`;
}

/** Whom this process acts as, as `chown` takes it. */
export function whoActs(): string {
  return userName() ?? String(process.geteuid?.() ?? 'this user');
}
