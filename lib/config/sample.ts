import { stringify } from 'yaml';
import { formatDuration } from '../domain/quantities.ts';
import type { StoreFormat } from '../domain/store-format.ts';
import { CONFIG_DEFAULTS, STORE_DEFAULTS } from './defaults.ts';

/**
 * The commented config that `tombstonectl init` writes: every member with its
 * default, and no policy in force, so that a fresh store loses nothing.
 */
export function sampleConfig(given: {
  url: string;
  name: string;
  catalog: string;
  format?: StoreFormat;
}): string {
  const { log, historyFor, clockTolerance, metrics, notify } = CONFIG_DEFAULTS;
  const { safetyWindow, sweepEvery, purgeEvery, exemptAfterRestore, minimumAge, limits, aptos } =
    STORE_DEFAULTS;
  return `# Config of tombstoned, which deletes from backup stores in two steps: a sweep moves what has
# expired to pending_deletion/, and a purge removes it for good after a safety window.
#
# Durations are written 90s, 15m, 36h or 7d. Paths are absolute. No credentials belong here.
# What stands here are the defaults; a member that is left out has its default.

# The database of what was tombstoned. One catalog owns a store. Keep it on a local disk and
# outside every store.
catalog: ${scalar(given.catalog)}

log:
  # error, warn, info or debug
  level: ${log.level}
  # A file, or null: the journal under systemd, else the terminal.
  file: ${scalar(log.file)}

# How long the catalog remembers what was purged.
historyFor: ${formatDuration(historyFor)}

# By how much the clock may be off before nothing is purged: docs/clock.md.
clockTolerance: ${formatDuration(clockTolerance)}

# Where Prometheus finds figures (/metrics), and others whether all is well (/healthz, /readyz).
# They name stores, never keys, and ask for no password: keep it on loopback. null is nowhere.
metrics:
  listen: ${metrics.listen.host}:${metrics.listen.port}

# A command for /bin/sh that is run when something fails, waits for approval or looks wrong. It
# is told as JSON on stdin, and in TOMBSTONED_EVENT, TOMBSTONED_STORE and TOMBSTONED_MESSAGE.
# For example: 'mail -s "tombstoned: $TOMBSTONED_EVENT" root'
notify: ${scalar(notify)}

stores:
    # What commands call the store: tombstonectl --store NAME.
  - name: ${scalar(given.name)}

    # Where the backups are.
    url: ${scalar(given.url)}

    # What the store holds: plain is any files, aptos what the backup tools of Aptos-family nodes
    # write (docs/aptos.md).
    format: ${given.format ?? STORE_DEFAULTS.format}

    # Where tombstoned objects wait, below the store. Fixed once the store is in use.
    pendingPrefix: ${scalar(STORE_DEFAULTS.pendingPrefix)}

    # How long a tombstoned object can still be read and restored. Make it longer than the longest
    # restore. A longer window applies at once, a shorter one to new tombstones only.
    safetyWindow: ${formatDuration(safetyWindow)}

    # How often the daemon sweeps, and how often it purges.
    sweepEvery: ${formatDuration(sweepEvery)}
    purgeEvery: ${formatDuration(purgeEvery)}

    # How long policies leave an object alone after it was restored.
    exemptAfterRestore: ${formatDuration(exemptAfterRestore)}

    # Nothing younger than this is ever tombstoned, whatever a policy says.
    minimumAge: ${formatDuration(minimumAge)}

    # How long both sides wait before they look, where a listing may be stale: auto is 65s on
    # network file systems, and no time elsewhere.
    settle: ${STORE_DEFAULTS.settle}

    # A policy that names more than this moves nothing until somebody approves its plan: see
    # tombstonectl sweeps. maxFraction is of the live objects that its prefix and match select;
    # maxBytes is a size such as 10GiB. null is no limit. A policy may have limits of its own.
    limits:
      maxObjects: ${scalar(limits.maxObjects)}
      maxFraction: ${scalar(limits.maxFraction)}
      maxBytes: ${scalar(limits.maxBytes)}

    # Globs of keys that are never tombstoned. * stops at /, ** does not; case counts.
    # For example: ["**/identity.meta"]
    protect: []

    # Of a store with format aptos: how often the daemon compacts its metadata (null is never), how
    # many lines a compacted file has, and how long a file stays after it was replaced. See
    # docs/aptos.md, also for who compacts by hand or with the original tool.
    aptos:
      compactEvery: ${scalar(aptos.compactEvery)}
      factors:
        epochEndings: ${aptos.factors.epochEndings}
        stateSnapshots: ${aptos.factors.stateSnapshots}
        transactions: ${aptos.factors.transactions}
      removeAfter: ${formatDuration(aptos.removeAfter)}

    # What expires. Nothing does until a policy says so. To use this example, remove the # in
    # front of its lines, then look at what it would take: tombstonectl sweep --dry-run
    policies:
${EXAMPLE_POLICY}`;
}

/** Lines that are valid below \`policies:\` with their first character gone. */
const EXAMPLE_POLICY = `#      - name: old-logs
#        type: age
#        # Keys begin with this; "" is every key.
#        prefix: logs/
#        # A glob on the key below the prefix.
#        match: "**/*.meta"
#        # By the time of last modification.
#        olderThan: 30d
#        # The newest so many stay, however old.
#        keepLast: 3
#        # object: each by itself. directory: the first directory below the prefix as a whole,
#        # when the newest object in it has expired.
#        unit: object
#      - name: requests
#        # Other programs ask for deletions by moving files of keys here: see docs/drop-in.md.
#        type: drop-in
#        directory: /var/lib/tombstoned/requests
#      # With format: aptos there are aptos-compaction and aptos-payload too: see docs/aptos.md.
`;

/** A value on one line, quoted where YAML would read it as something else. */
function scalar(value: string | number | null): string {
  return stringify(value, { lineWidth: 0, blockQuote: false }).trimEnd();
}
