/** A lease under which a session lists and reads: its own, or that of `with-lease` around it. */
export interface HeldLease {
  readonly id: string;
  /** Aborted, with the `LeaseLost`, when the lease is lost. */
  readonly signal: AbortSignal;
  /** Throws `LeaseLost` when the lease may no longer be relied on. Called before anything is handed out. */
  check(): void;
  /** Looks in the store whether the lease is in force now; throws `LeaseLost` when not. */
  confirm(): Promise<void>;
  /** Called when the listing is complete: throws unless it stood still until now. From here on only purges need be kept away. */
  listed(): Promise<void>;
  /** Ends what the session does for the lease. */
  release(): Promise<void>;
}
