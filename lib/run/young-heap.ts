import v8 from 'node:v8';

/** The one V8 that this was tried with: Node 20's. */
const TRIED = /^11\./;

/**
 * Keeps this process's heap for what is short-lived at its size, which V8 would let
 * grow to 48 MiB: what a large sweep leaves is all of that kind, and is collected as
 * cheaply in little room. A thread that begins sets it back: call this again when it is up.
 */
export function keepYoungHeapSmall(): void {
  if (TRIED.test(process.versions.v8)) v8.setFlagsFromString('--semi-space-growth-factor=1');
}
