import { execFile } from 'node:child_process';

/** How long a program of the system may take to answer. ms. */
const TIMEOUT_MS = 5000;

/** What a program of the system says; `missing` where there is none, and its first line of complaint where it fails. */
export async function askedOf(
  command: string,
  args: readonly string[],
): Promise<{ readonly said: string } | { readonly failed: string } | 'missing'> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) resolve({ said: stdout });
      else if (error.code === 'ENOENT') resolve('missing');
      else resolve({ failed: stderr.trim().split('\n')[0] || `it ended with ${String(error.code)}` });
    });
  });
}
