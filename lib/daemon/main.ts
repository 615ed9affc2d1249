#!/usr/bin/env node
import { tombstoned } from './tombstoned.ts';

process.exitCode = await tombstoned(process.argv.slice(2));
