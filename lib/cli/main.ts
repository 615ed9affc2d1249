#!/usr/bin/env node
import { tombstonectl } from './tombstonectl.ts';

process.exitCode = await tombstonectl(process.argv.slice(2));
