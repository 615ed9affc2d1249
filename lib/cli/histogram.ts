import { formatSize } from '../domain/quantities.ts';

/** How wide the longest bar is. Characters. */
const WIDTH = 40;
const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** Bars with their labels, counts and bytes, a line each. What is not nothing has a mark. */
export function histogram(
  bars: readonly { readonly label: string; readonly count: number; readonly bytes: number }[],
  isUnicode: boolean,
): string[] {
  const most = Math.max(...bars.map(({ count }) => count), 1);
  const labels = Math.max(...bars.map(({ label }) => label.length));
  const counts = String(most).length;
  const sizes = bars.map(({ count, bytes }) => (count === 0 ? '' : formatSize(bytes)));
  const size = Math.max(...sizes.map((text) => text.length));
  return bars.map(({ label, count }, i) => {
    const length = count === 0 ? 0 : Math.max((count / most) * WIDTH, 1 / 8);
    const bar = isUnicode ? unicodeBar(length) : '#'.repeat(Math.ceil(length));
    const text = `${String(count).padStart(counts)}  ${(sizes[i] ?? '').padStart(size)}`;
    return `${label.padEnd(labels)}  ${text}  ${bar}`.trimEnd();
  });
}

function unicodeBar(length: number): string {
  const eighths = Math.round(length * 8);
  return '█'.repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? '');
}
