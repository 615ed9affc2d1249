import { readEnvironment, readTerminal } from '../config/environment.ts';
import { exitCodeOf } from '../domain/errors.ts';
import { Output } from './output.ts';
import { plainTask } from './plain-task.ts';

/** Does what a command line asks for, all its errors included, and gives the exit code. */
export async function program(words: readonly string[]): Promise<number> {
  const end = words.indexOf('--');
  const flags = end < 0 ? words : words.slice(0, end);
  const out = new Output({
    isJson: flags.includes('--json') || flags.includes('--json=true'),
    isDebug: flags.includes('--debug') || flags.includes('--debug=true'),
    noColor: readEnvironment().noColor,
    ...readTerminal(),
  });
  try {
    const code = await answer(words, flags, out);
    out.finish();
    return code;
  } catch (error) {
    out.fail(error);
    return exitCodeOf(error);
  }
}

async function answer(words: readonly string[], flags: readonly string[], out: Output): Promise<number> {
  const plain = await plainTask(words);
  if (plain !== undefined) return plain(out);
  const { tombstonectl } = await import('./tombstonectl.ts');
  return tombstonectl(words, flags, out);
}
