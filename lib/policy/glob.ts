import picomatch from 'picomatch';

/**
 * Whether a key matches any of the globs: `*` stops at `/`, `**` does not, names
 * with a dot match, case counts. No globs match nothing.
 */
export function matcher(globs: readonly string[]): (key: string) => boolean {
  if (globs.length === 0) return () => false;
  // 's': a name may have line breaks, and `**` must not stop there.
  return picomatch([...globs], { dot: true, nonegate: true, windows: false, flags: 's' });
}
