/** Whether two words are one apart: a letter more, less, other or swapped, or only the case. */
export function isNearWord(a: string, b: string): boolean {
  const [x, y] = [a.toLowerCase(), b.toLowerCase()];
  let start = 0;
  while (start < x.length && x[start] === y[start]) start++;
  const rest = (text: string, skip: number): string => text.slice(start + skip);
  return (
    x === y ||
    rest(x, 1) === rest(y, 1) ||
    rest(x, 1) === rest(y, 0) ||
    rest(x, 0) === rest(y, 1) ||
    (x[start] === y[start + 1] && x[start + 1] === y[start] && rest(x, 2) === rest(y, 2))
  );
}
