import v8 from 'node:v8';

/** The one V8 that this was tried with: Node 20's. */
const TRIED = /^11\./;

/**
 * Keeps this process's heap small, where what it leaves is short-lived, as of a large
 * sweep: what is young stays at its size, which V8 would let grow to 48 MiB, and what has
 * grown old by accident is collected when it is more by 60 %, not by 300. A thread that
 * begins sets the first back: call this again when it is up.
 */
export function keepHeapSmall(): void {
  if (!TRIED.test(process.versions.v8)) return;
  v8.setFlagsFromString('--semi-space-growth-factor=1');
  v8.setFlagsFromString('--heap-growing-percent=60');
}

/**
 * Has what is young collected by the thread that it is of, alone: this takes some ms, and V8 would
 * share it with threads of its own, for which that one waits where they get no processor.
 */
export function collectAlone(): void {
  if (TRIED.test(process.versions.v8)) v8.setFlagsFromString('--no-parallel-scavenge');
}
