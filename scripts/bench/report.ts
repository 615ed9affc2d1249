import { type Sample, TASKS, type Task } from './contenders.ts';
import { type Goal, median } from './part.ts';

export interface Row {
  readonly task: Task;
  readonly command: string;
  /** Medians over the rounds. */
  readonly filesPerSecond: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakMiB: number;
  /** Our speed over this command's, within each round; empty for our own row, or where ours did not run. */
  readonly ratios: readonly number[];
}

/** A row for each command, grouped by task; `rounds` are the samples of each round, `ours` begins our commands. */
export function rowsOf(rounds: readonly (readonly Sample[])[], files: number, ours: string): Row[] {
  return TASKS.flatMap((task) => {
    const ofTask = rounds.map((round) => round.filter((sample) => sample.task === task));
    const commands = new Set(ofTask.flat().map(({ command }) => command));
    const own = [...commands].find((command) => command.startsWith(ours));
    // Ours first, whichever the first round began with.
    const inOrder = [...commands].toSorted((a, b) => Number(b === own) - Number(a === own));
    return inOrder.map((command): Row => {
      const samples = ofTask.flatMap((round) => round.filter((s) => s.command === command));
      const ratios = ofTask.flatMap((round) => {
        const mine = round.find((s) => s.command === own);
        const theirs = round.find((s) => s.command === command);
        return command === own || mine === undefined || theirs === undefined
          ? []
          : [theirs.seconds / mine.seconds];
      });
      const seconds = median(samples.map((s) => s.seconds));
      return {
        task,
        command,
        filesPerSecond: Math.round(files / seconds),
        seconds,
        cpuSeconds: median(samples.map((s) => s.userSeconds + s.systemSeconds)),
        peakMiB: median(samples.map((s) => s.peakKiB)) / 1024,
        ratios,
      };
    });
  });
}

/** The ratios of a task against a command, as goals; none where that did not run. */
export function ratiosIn(
  rows: readonly Row[],
  wanted: readonly { readonly task: Task; readonly command: string; readonly atLeast?: number }[],
  prefix = '',
): Goal[] {
  return wanted.flatMap(({ task, command, atLeast }) => {
    const row = rows.find((one) => one.task === task && one.command === command);
    if (row === undefined || row.ratios.length === 0) return [];
    const figures = {
      median: median(row.ratios),
      lowest: Math.min(...row.ratios),
      highest: Math.max(...row.ratios),
    };
    const what = `${prefix}${task} against ${command}`;
    return [{ what, ...figures, unit: 'times', ...(atLeast === undefined ? {} : { atLeast }) } as const];
  });
}

/** The rows as a Markdown table. */
export function tableOf(rows: readonly Row[], ours: string): string {
  return markdown(
    ['task', 'command', 'files/s', 'seconds', 'CPU s', 'peak MiB', `${ours} is … times as fast`],
    rows.map(({ task, command, filesPerSecond, seconds, cpuSeconds, peakMiB, ratios }) => [
      task,
      `\`${command.replaceAll('|', '\\|')}\``,
      filesPerSecond.toLocaleString('en'),
      seconds.toFixed(2),
      cpuSeconds.toFixed(2),
      peakMiB.toFixed(0),
      ratios.length === 0
        ? '–'
        : spread(median(ratios), Math.min(...ratios), Math.max(...ratios), (ratio) => ratio.toFixed(2)),
    ]),
  );
}

/** The goals as a Markdown table. */
export function goalsTable(goals: readonly Goal[]): string {
  return markdown(
    ['what', 'measured', 'wanted', ''],
    goals.map((goal) => {
      const { what, median: middle, lowest, highest, unit, atLeast, atMost } = goal;
      const text = (value: number): string => {
        if (unit === 'times' || unit === 'requests') return value.toFixed(2);
        return value < 10 ? value.toFixed(1) : value.toFixed(0);
      };
      const suffix = unit === 'times' ? '' : ` ${unit}`;
      const wanted =
        atLeast === undefined
          ? atMost === undefined
            ? '–'
            : `≤ ${atMost}${suffix}`
          : `≥ ${atLeast}${suffix}`;
      return [
        what.replaceAll('|', '\\|'),
        spread(middle, lowest, highest, text) + suffix,
        wanted,
        wanted === '–' ? '' : isMet(goal) ? 'met' : 'missed',
      ];
    }),
  );
}

export function isMet({ median: middle, atLeast, atMost }: Goal): boolean {
  return middle >= (atLeast ?? Number.NEGATIVE_INFINITY) && middle <= (atMost ?? Number.POSITIVE_INFINITY);
}

function spread(middle: number, lowest: number, highest: number, text: (value: number) => string): string {
  return lowest === highest ? text(middle) : `${text(middle)} (${text(lowest)}–${text(highest)})`;
}

/** A table whose columns line up. */
export function markdown(head: readonly string[], body: readonly (readonly string[])[]): string {
  const lines = [head, ...body];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const [first, ...rest] = lines.map(
    (line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  );
  const rule = `| ${widths.map((width) => '-'.repeat(Math.max(width, 3))).join(' | ')} |`;
  return [first, rule, ...rest].join('\n');
}
