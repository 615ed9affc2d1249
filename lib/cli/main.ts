#!/usr/bin/env node
import { readEnvironment, readTerminal } from '../config/environment.ts';
import { exitCodeOf } from '../domain/errors.ts';
import { Output } from './output.ts';
import { plainTask } from './plain-task.ts';

const words = process.argv.slice(2);
const end = words.indexOf('--');
const flags = end < 0 ? words : words.slice(0, end);
const out = new Output({
  isJson: flags.includes('--json') || flags.includes('--json=true'),
  isDebug: flags.includes('--debug') || flags.includes('--debug=true'),
  noColor: readEnvironment().noColor,
  ...readTerminal(),
});
try {
  process.exitCode = await answer();
  out.finish();
} catch (error) {
  out.fail(error);
  process.exitCode = exitCodeOf(error);
}

async function answer(): Promise<number> {
  const plain = await plainTask(words);
  if (plain !== undefined) return plain(out);
  const { tombstonectl } = await import('./tombstonectl.ts');
  return tombstonectl(words, flags, out);
}
