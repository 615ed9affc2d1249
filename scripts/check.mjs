// The gate, the same for people and CI: each step in order, up to the first that fails.
import { spawnSync } from 'node:child_process';
import path from 'node:path';

// The specs also run what the build made, so it comes before them.
const STEPS = ['types', 'lint', 'format', 'layers', 'dead-code', 'build', 'test'];

for (const step of STEPS) {
  console.log(`\n== ${step}`);
  const begun = performance.now();
  const { status, signal, error } = spawnSync('npm', ['run', '--silent', step], {
    cwd: path.resolve(import.meta.dirname, '..'),
    stdio: 'inherit',
  });
  if (status !== 0) {
    const why = error?.message ?? (signal === null ? `exit code ${status}` : `stopped by ${signal}`);
    console.error(`\ncheck: ${step} failed (${why}); to run it alone: npm run ${step}`);
    process.exit(1);
  }
  console.log(`-- ${step}: ${((performance.now() - begun) / 1000).toFixed(1)} s`);
}
