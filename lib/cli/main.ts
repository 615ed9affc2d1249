#!/usr/bin/env node
import { Loader } from './loader.ts';

process.exitCode = 1;
process.once('beforeExit', onNothingLeft);
void main();

async function main(): Promise<void> {
  const loader = new Loader(import.meta.dirname, process.sourceMapsEnabled);
  process.exitCode = await loader.program(process.argv.slice(2));
  process.off('beforeExit', onNothingLeft);
}

/** A process that runs out of things to wait for, with its command not at its end, has failed. */
function onNothingLeft(): void {
  process.stderr.write(
    'tombstonectl: the command stopped half-way, which is a fault of the program: report it\n',
  );
}
