import { type Sample, TASKS, type Task } from './contenders.ts';

export interface Row {
  readonly task: Task;
  readonly command: string;
  /** Medians over the rounds. */
  readonly filesPerSecond: number;
  readonly seconds: number;
  readonly peakMiB: number;
  /** Our speed over this command's, compared within each round; null for our own row, or where ours did not run. */
  readonly ratio: { readonly median: number; readonly lowest: number; readonly highest: number } | null;
}

/** A row for each command, grouped by task; `rounds` are the samples of each round, `ours` begins our commands. */
export function rowsOf(rounds: readonly (readonly Sample[])[], files: number, ours: string): Row[] {
  return TASKS.flatMap((task) => {
    const commands = new Set(rounds.flat().flatMap((s) => (s.task === task ? [s.command] : [])));
    const own = [...commands].find((command) => command.startsWith(ours));
    // Ours first, whichever the first round began with.
    const inOrder = [...commands].toSorted((a, b) => Number(b === own) - Number(a === own));
    return inOrder.map((command): Row => {
      const samples = rounds.flatMap((round) => round.filter((s) => s.command === command));
      const ratios = rounds.flatMap((round) => {
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
        peakMiB: median(samples.map((s) => s.peakKiB)) / 1024,
        ratio:
          ratios.length === 0
            ? null
            : { median: median(ratios), lowest: Math.min(...ratios), highest: Math.max(...ratios) },
      };
    });
  });
}

/** The rows as a Markdown table. */
export function tableOf(rows: readonly Row[], ours: string): string {
  const lines = [
    ['task', 'command', 'files/s', 'seconds', 'peak MiB', `${ours} is … times as fast`],
    ...rows.map(({ task, command, filesPerSecond, seconds, peakMiB, ratio }) => [
      task,
      `\`${command.replaceAll('|', '\\|')}\``,
      filesPerSecond.toLocaleString('en'),
      seconds.toFixed(2),
      peakMiB.toFixed(0),
      ratio === null
        ? '–'
        : `${ratio.median.toFixed(2)} (${ratio.lowest.toFixed(2)}–${ratio.highest.toFixed(2)})`,
    ]),
  ];
  const widths = (lines[0] ?? []).map((_, column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  );
  const [head, ...body] = lines.map(
    (line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  );
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`;
  return [head, rule, ...body].join('\n');
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle)] ?? Number.NaN)) / 2;
}
