import type { HeldLease } from './held-lease.ts';

/** Stands for a lease where none can be written: it keeps nothing away, and is never lost. */
export class NoLease implements HeldLease {
  readonly id = '';
  readonly signal: AbortSignal = new AbortController().signal;
  check(): void {}
  async confirm(): Promise<void> {}
  async listed(): Promise<void> {}
  async release(): Promise<void> {}
}
