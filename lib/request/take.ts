import { closeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { RequestLine, RequestRow } from '../catalog/requests.ts';
import { TombstonedError } from '../domain/errors.ts';
import { makePlainId } from '../domain/ids.ts';
import { printable } from '../domain/key.ts';
import { linesOf } from '../domain/lines.ts';
import type { Place } from '../run/place.ts';
import type { Run } from '../run/run.ts';
import { type Inbox, type OpenRequest, Unreadable } from './inbox.ts';
import { readLine, type StoreKind } from './line.ts';

/** How many files are taken by one commit, and how many lines one commit writes. */
const FILES = 500;
const LINES = 5000;

export interface Taking {
  readonly place: Place;
  readonly run: Run;
  readonly inbox: Inbox;
  /** The policy's name. */
  readonly policy: string;
  /** Reads the files, and leaves them where they are. */
  readonly isDry: boolean;
  readonly signal?: AbortSignal | undefined;
  /** How many lines have been read. */
  readonly onRead?: ((lines: number) => void) | undefined;
  /** What is wrong with a file that is refused or left. */
  readonly onProblem: (problem: TombstonedError) => void;
}

/**
 * Takes the files that lie in a drop-in directory: each becomes a request in the
 * catalog, with all of its lines, or is refused whole. The row is made before the
 * file is renamed, so that a crash between any two steps leaves a file that is
 * still to be taken, or a row that says whose it is. Gives the row numbers of a dry run.
 */
export async function takeRequests(taking: Taking): Promise<number[]> {
  const { place, run, inbox, policy, isDry, signal } = taking;
  const { requests } = place.catalog;
  const all: number[] = [];
  if (!isDry) await takeAgain(taking);
  const names = inbox.names((file, why) => leave(taking, file, why));
  for (let from = 0; from < names.length; from += FILES) {
    if (signal?.aborted === true) break;
    const free = names.slice(from, from + FILES).filter((name) => isTakeable(taking, name));
    const now = place.clock.now();
    const files = free.map((name) => ({ id: makePlainId('q', now, place.random), name }));
    const of = { store: place.row.n, run: run.n, policy, directory: inbox.directory, isDry, now };
    const rows = requests.begin(of, files);
    all.push(...rows.map(({ n }) => n));
    await readAll(taking, isDry ? rows : renamed(taking, rows));
  }
  return all;
}

/** Whether a file can be a request, and its result will have a place. */
function isTakeable(taking: Taking, name: string): boolean {
  const { inbox } = taking;
  const file = `${name}.keys`;
  const opened = inbox.open(name, 'keys');
  if (opened === undefined) return false; // moved away meanwhile
  if ('left' in opened) {
    leave(taking, file, opened.left);
    return false;
  }
  closeSync(opened.fd);
  const other = inbox.inTheWay(name);
  if (other === undefined) return true;
  // One of that name that is under way, and ours, comes to its end.
  if (!taking.place.catalog.requests.has(inbox.directory, name)) {
    leave(taking, file, `${printable(other)} is in its way: move that away`);
  }
  return false;
}

function renamed(taking: Taking, rows: readonly RequestRow[]): RequestRow[] {
  const { inbox } = taking;
  const taken = rows.filter((row) => {
    const how = inbox.take(row.name);
    if (how === 'taken') return true;
    if (how !== 'gone') leave(taking, `${row.name}.keys`, how.left);
    forget(taking, row);
    return false;
  });
  if (taken.length > 0) inbox.sync();
  return taken;
}

/** Reads again what a run that died was about to take. */
export async function takeAgain(taking: Taking): Promise<void> {
  const { place, run, inbox, policy } = taking;
  const { requests } = place.catalog;
  const of = { store: place.row.n, run: run.n, policy, directory: inbox.directory };
  const again = requests.claim(of).filter(({ state }) => state === 'reading');
  const there = again.filter((row) => {
    if (inbox.isTaken(row.name)) return true;
    forget(taking, row); // it had not been renamed, or was refused, or somebody took it away
    return false;
  });
  for (const { n } of there) while (requests.dropLines(n, LINES)) continue;
  if (there.length > 0) inbox.sync();
  await readAll(taking, there);
}

async function readAll(taking: Taking, rows: readonly RequestRow[]): Promise<void> {
  const { catalog } = taking.place;
  const buffer: (RequestLine & { request: number })[] = [];
  const whole: number[] = [];
  let count = 0;
  const write = (): void => {
    const lines = buffer.splice(0);
    count += lines.length;
    const ready = whole.splice(0);
    catalog.transaction(() => {
      if (lines.length > 0) catalog.requests.addLines(lines);
      if (ready.length > 0 && !taking.isDry) catalog.requests.setState(ready, 'taken');
    });
    taking.onRead?.(count);
  };
  for (const row of rows) {
    if (taking.signal?.aborted === true) break; // those that are not read are read again by the next
    const end = await readOne(taking, row, (line) => {
      buffer.push({ ...line, request: row.n });
      if (buffer.length >= LINES) write();
    });
    if (end === 'whole') {
      whole.push(row.n);
      continue;
    }
    // Its lines are the last of those that are not written yet.
    const first = buffer.findIndex(({ request }) => request === row.n);
    if (first >= 0) buffer.splice(first);
    giveUp(taking, row, end);
  }
  write();
}

type ReadEnd = 'whole' | 'gone' | 'changing' | { readonly refused: string } | { readonly unreadable: string };

async function readOne(
  { inbox, isDry, place: { store } }: Taking,
  { name }: RequestRow,
  onLine: (line: RequestLine) => void,
): Promise<ReadEnd> {
  const as = isDry ? 'keys' : 'taken';
  const opened = inbox.open(name, as);
  if (opened === undefined) return 'gone';
  if ('left' in opened)
    return opened.isForNow === true ? { unreadable: opened.left } : { refused: opened.left };
  try {
    const kind: StoreKind = store.directory === undefined ? 's3' : 'local';
    const problem = await readLines(inbox, opened, kind, onLine);
    // What is still being written may only look malformed.
    if (!inbox.isUnchanged(name, as, opened)) return 'changing';
    return problem === undefined ? 'whole' : { refused: problem };
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return { unreadable: error.message };
  } finally {
    closeSync(opened.fd);
  }
}

/** Reads the lines of a request; gives what is wrong with the first that is malformed. */
async function readLines(
  inbox: Inbox,
  opened: OpenRequest,
  kind: StoreKind,
  onLine: (line: RequestLine) => void,
): Promise<string | undefined> {
  let number = 0;
  for await (const line of linesOf(chunksOf(inbox, opened))) {
    number++;
    const where = `line ${number}: `;
    if ('problem' in line) {
      return `${where}${line.problem}${line.hint === undefined ? '' : ` (${line.hint})`}`;
    }
    // Half a key may be another key.
    if (!line.isEnded) return `${where}the last line has no line end, so the file may have been cut short`;
    const asked = readLine(line.text, kind);
    if (asked === undefined) continue;
    if ('problem' in asked) return `${where}${asked.problem}`;
    onLine({ line: number, ...asked });
  }
  return undefined;
}

/** Bytes. */
const CHUNK = 1 << 18;

async function* chunksOf(inbox: Inbox, { fd, stat }: OpenRequest): AsyncGenerator<Uint8Array> {
  const size = Math.min(CHUNK, Number(stat.size) + 1);
  for (let position = 0; ; ) {
    const chunk = inbox.read(fd, position, size);
    if (chunk.length === 0) return;
    yield chunk;
    position += chunk.length;
    if (position >= CHUNK) await setImmediate(); // of a long file: others get their turn
  }
}

function giveUp(taking: Taking, row: RequestRow, end: Exclude<ReadEnd, 'whole'>): void {
  const { inbox, isDry, place } = taking;
  const file = `${row.name}.keys`;
  const { requests } = place.catalog;
  while (requests.dropLines(row.n, LINES)) continue;
  if (end === 'changing') {
    // Its row stays as it is, and so does the file: it is read again later.
    place.report('info', `${about(taking, file)} is still being written: it is read again later`);
    return;
  }
  if (end === 'gone') {
    if (!isDry) forget(taking, row);
    return;
  }
  if ('unreadable' in end) {
    // As it is, with its row: it keeps no other from being read.
    const what = `is not served: ${end.unreadable}`;
    taking.onProblem(problemOf(taking, isDry ? file : `${row.name}.taken`, what, 'see to its disk'));
    return;
  }
  if (isDry) {
    taking.onProblem(problemOf(taking, file, `would be refused whole: ${end.refused}`, MEND));
    return;
  }
  if (!inbox.reject(row.name, `${printable(file)}: ${end.refused}\n`)) {
    leave(taking, `${row.name}.taken`, `it is malformed, and ${row.name}.rejected is in its way`);
    return;
  }
  forget(taking, row);
  taking.onProblem(problemOf(taking, file, `is refused whole: ${end.refused}`, MEND));
}

const MEND = 'mend it, and move it into the directory again as NAME.keys';

function forget({ place }: Taking, { n }: RequestRow): void {
  while (place.catalog.requests.drop([n], LINES)) continue;
}

function leave(taking: Taking, file: string, why: string): void {
  taking.onProblem(
    problemOf(taking, file, `is not taken: ${why}`, 'take it away, or make it a file of keys'),
  );
}

function problemOf(taking: Taking, file: string, what: string, hint: string): TombstonedError {
  return new TombstonedError('failed', `${about(taking, file)} ${what}`, {
    key: `${taking.inbox.directory}/${file}`,
    hint,
  });
}

function about({ inbox, policy }: Taking, file: string): string {
  return `policy ${policy}: ${printable(`${inbox.directory}/${file}`)}`;
}
