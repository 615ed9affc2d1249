#!/usr/bin/env node
import { Loader } from './loader.ts';

// A process that runs out of things to wait for, with its command not at its end, has failed.
process.exitCode = 1;
void main();

async function main(): Promise<void> {
  const loader = new Loader(import.meta.dirname, process.sourceMapsEnabled);
  process.exitCode = await loader.program(process.argv.slice(2));
}
