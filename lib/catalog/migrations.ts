/** The schema, step by step; `PRAGMA user_version` counts the steps done. Never edited, only added to. */
export const MIGRATIONS: readonly string[] = [
  `
CREATE TABLE catalog (
  uuid TEXT NOT NULL,
  created_at INTEGER NOT NULL          -- ms, as all times here
) STRICT;

CREATE TABLE stores (
  n INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  uuid TEXT NOT NULL UNIQUE,
  url TEXT NOT NULL,
  pending_prefix TEXT NOT NULL,
  last_batch_at INTEGER NOT NULL DEFAULT 0   -- the time in the newest ids given out
) STRICT;

-- One process's turn at moving, purging or restoring. Open while ended_at is null.
CREATE TABLE runs (
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  store INTEGER NOT NULL REFERENCES stores (n),
  kind TEXT NOT NULL CHECK (kind IN ('sweep', 'purge', 'restore')),
  pid INTEGER NOT NULL,
  host TEXT NOT NULL,
  boot TEXT NOT NULL,
  by TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  outcome TEXT
) STRICT;
CREATE INDEX runs_open ON runs (store) WHERE ended_at IS NULL;
CREATE INDEX runs_ended ON runs (store, kind, n) WHERE ended_at IS NOT NULL;

CREATE TABLE sweeps (
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  store INTEGER NOT NULL REFERENCES stores (n),
  run INTEGER NOT NULL REFERENCES runs (n),
  state TEXT NOT NULL CHECK (state IN ('planning', 'moving', 'done', 'failed', 'interrupted', 'blocked')),
  reason TEXT,
  dry INTEGER NOT NULL DEFAULT 0,      -- 1: it only plans
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  planned INTEGER NOT NULL DEFAULT 0,
  moved INTEGER NOT NULL DEFAULT 0,
  abandoned INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL DEFAULT 0,
  first_batch_at INTEGER,
  last_batch_at INTEGER
) STRICT;
CREATE INDEX sweeps_by_store ON sweeps (store, n);
CREATE INDEX sweeps_open ON sweeps (run) WHERE state IN ('planning', 'moving');

-- Why something was tombstoned: a policy's name, or none and somebody's reason.
CREATE TABLE causes (
  n INTEGER PRIMARY KEY,
  policy TEXT,
  reason TEXT
) STRICT;
CREATE UNIQUE INDEX causes_unique ON causes (coalesce(policy, char(0)), coalesce(reason, char(0)));

-- What a sweep is about to move, in key order. (No foreign keys here and in
-- tombstones: their checks cost a quarter of a sweep's time in the catalog.)
CREATE TABLE plan_items (
  sweep INTEGER NOT NULL,
  key TEXT NOT NULL,
  size INTEGER NOT NULL,
  revision TEXT NOT NULL,
  modified_at INTEGER NOT NULL,
  cause INTEGER NOT NULL,
  unit TEXT,
  kept INTEGER NOT NULL,               -- 1: a guard keeps it, and it only counts for keepLast
  PRIMARY KEY (sweep, key)
) STRICT, WITHOUT ROWID;

-- Tombstones whose outcome is recorded. Those in moving are in open_batches, so
-- that each is written here once.
CREATE TABLE tombstones (
  id TEXT PRIMARY KEY,
  store INTEGER NOT NULL,
  key TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'purging', 'purged', 'restoring', 'restored', 'abandoned')),
  prior TEXT CHECK (prior IN ('pending', 'restored')),  -- where purging and restoring came from
  size INTEGER NOT NULL,
  revision TEXT NOT NULL,
  cause INTEGER NOT NULL,
  sweep INTEGER NOT NULL,
  run INTEGER NOT NULL,                                 -- the last run that took it
  gone_at INTEGER,
  purge_after INTEGER,
  ended_at INTEGER                                      -- when it was purged or abandoned
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_by_key ON tombstones (store, key, id);
CREATE INDEX tombstones_by_state ON tombstones (store, state, id);
-- With all that its statements ask for, so that they read nothing else.
CREATE INDEX tombstones_due ON tombstones (store, purge_after, id, gone_at, size, state) WHERE state IN ('pending', 'restored');
CREATE INDEX tombstones_taken ON tombstones (run, id) WHERE state IN ('purging', 'restoring');
CREATE INDEX tombstones_ended ON tombstones (ended_at) WHERE ended_at IS NOT NULL;

-- Batches of intents whose outcome is not yet recorded: tombstones in moving.
-- Their ids begin with the batch's time.
CREATE TABLE open_batches (
  run INTEGER NOT NULL REFERENCES runs (n),
  batch_at INTEGER NOT NULL,
  store INTEGER NOT NULL REFERENCES stores (n),
  sweep INTEGER NOT NULL REFERENCES sweeps (n),
  intents TEXT NOT NULL,               -- JSON: [id, key, size, revision, cause] each
  PRIMARY KEY (run, batch_at)
) STRICT;

-- Where a restore that has been begun puts its object back.
CREATE TABLE restores (
  tombstone TEXT PRIMARY KEY REFERENCES tombstones (id),
  target TEXT NOT NULL,
  exemption TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- How many tombstones, and bytes, are in each state; kept by the same transactions.
CREATE TABLE tallies (
  store INTEGER NOT NULL REFERENCES stores (n),
  state TEXT NOT NULL,
  count INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  PRIMARY KEY (store, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
  n INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  store INTEGER NOT NULL REFERENCES stores (n),
  run INTEGER REFERENCES runs (n),
  what TEXT NOT NULL,
  tombstone TEXT,
  batch_at INTEGER,
  count INTEGER,
  bytes INTEGER,
  detail TEXT
) STRICT;
CREATE INDEX events_by_tombstone ON events (tombstone, n) WHERE tombstone IS NOT NULL;
CREATE INDEX events_by_batch ON events (batch_at, n) WHERE batch_at IS NOT NULL;
CREATE TRIGGER events_append_only BEFORE UPDATE ON events
  BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- What the store's control objects say; only a cache, filled by each look.
CREATE TABLE holds (
  store INTEGER NOT NULL REFERENCES stores (n),
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  blocks TEXT NOT NULL,
  scope TEXT NOT NULL CHECK (scope IN ('keys', 'prefix', 'ids')),
  prefix TEXT,
  until INTEGER,
  reason TEXT NOT NULL,
  by TEXT NOT NULL,
  host TEXT NOT NULL,
  created_at TEXT NOT NULL,
  problem TEXT,
  PRIMARY KEY (store, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE hold_members (
  store INTEGER NOT NULL,
  member TEXT NOT NULL,                -- a key or an id
  name TEXT NOT NULL,
  PRIMARY KEY (store, member, name),
  FOREIGN KEY (store, name) REFERENCES holds (store, name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_members_by_name ON hold_members (store, name);
`,
  `
-- What tells the run's lock file from a copy of it: that one can be locked while the process lives.
ALTER TABLE runs ADD COLUMN lock TEXT;
`,
  `
-- Since when a lease's number stands still: ms of the monotonic clock of a boot.
CREATE TABLE lease_watch (
  store INTEGER NOT NULL REFERENCES stores (n),
  name TEXT NOT NULL,
  renewal INTEGER NOT NULL,
  boot TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (store, name)
) STRICT, WITHOUT ROWID;
`,
  `
-- When a run was first found dead, by its store's own time, ms: requests of it may still take effect.
ALTER TABLE runs ADD COLUMN dead_since INTEGER;
`,
  `
-- Until when the store itself keeps a version of it (object lock), ms: no purge tries it before.
ALTER TABLE tombstones ADD COLUMN locked_until INTEGER;
`,
  `
-- A policy's plan that is over a limit: it waits, under its sweep's id, until somebody decides.
CREATE TABLE waiting_plans (
  sweep INTEGER PRIMARY KEY REFERENCES sweeps (n),
  store INTEGER NOT NULL REFERENCES stores (n),
  policy TEXT NOT NULL,
  cause INTEGER NOT NULL REFERENCES causes (n),
  state TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'rejected', 'expired')),
  over TEXT NOT NULL,                  -- which limit, in words
  objects INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  filed_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  ended_at INTEGER,
  reason TEXT                          -- why it was rejected
) STRICT;
CREATE UNIQUE INDEX waiting_plans_one ON waiting_plans (store, policy) WHERE state = 'waiting';

-- Which sweep moved something last: an approved plan may be older than others.
CREATE INDEX sweeps_by_last_batch ON sweeps (store, last_batch_at) WHERE first_batch_at IS NOT NULL;

-- What such a plan names, in key order.
CREATE TABLE waiting_items (
  sweep INTEGER NOT NULL,
  key TEXT NOT NULL,
  size INTEGER NOT NULL,
  revision TEXT NOT NULL,
  PRIMARY KEY (sweep, key)
) STRICT, WITHOUT ROWID;
`,
  `
-- What files in drop-in directories ask for (design, section 8), from when they
-- are taken until their results are there; dry: a dry run looks, and takes nothing.
CREATE TABLE requests (
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  store INTEGER NOT NULL REFERENCES stores (n),
  policy TEXT NOT NULL,
  directory TEXT NOT NULL,
  name TEXT NOT NULL,                  -- without .keys
  state TEXT NOT NULL CHECK (state IN ('reading', 'taken', 'waiting', 'done', 'told')),
  dry INTEGER NOT NULL DEFAULT 0,
  run INTEGER NOT NULL REFERENCES runs (n),   -- who has it, until that run has ended
  sweep INTEGER REFERENCES sweeps (n), -- the last one that was to move its keys
  taken_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX requests_by_name ON requests (directory, name) WHERE dry = 0;
CREATE INDEX requests_by_sweep ON requests (sweep) WHERE sweep IS NOT NULL;
CREATE TABLE request_keys (
  request INTEGER NOT NULL,
  line INTEGER NOT NULL,
  key TEXT NOT NULL,
  wanted TEXT,                         -- the revision that the line names
  reason TEXT,                         -- the line's own
  cause INTEGER,
  seen TEXT,                           -- the revision when it was first planned: another one is left alone
  size INTEGER,
  modified_at INTEGER,
  outcome TEXT,                        -- null while it is not known
  tombstone TEXT,
  detail TEXT,
  kept TEXT,                           -- why, of the closed list
  PRIMARY KEY (request, line)
) STRICT, WITHOUT ROWID;
CREATE INDEX request_keys_open ON request_keys (key, request) WHERE outcome IS NULL;
`,
  `
-- How the wall clock stood when somebody last looked (domain/clock-guard.ts); one row. gone_at and
-- purge_after of tombstones are counted time, which was wall time before there was this table.
CREATE TABLE clock (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  boot TEXT NOT NULL,
  since_boot INTEGER NOT NULL,
  counted INTEGER NOT NULL,
  ahead INTEGER NOT NULL,
  restarted INTEGER NOT NULL,
  wrong_since INTEGER,
  synced_boot TEXT,
  synced_wall INTEGER,
  synced_counted INTEGER
) STRICT;
-- By how much wall time was ahead of a store's own: what somebody has accepted, and what keeps purges now.
CREATE TABLE store_clocks (
  store INTEGER PRIMARY KEY REFERENCES stores (n),
  accepted INTEGER NOT NULL DEFAULT 0,
  off INTEGER
) STRICT;
`,
  `
-- What the store itself keeps, for figures: few of all tombstones, or none.
CREATE INDEX tombstones_locked ON tombstones (store, locked_until, id, size, gone_at, purge_after, state)
  WHERE locked_until IS NOT NULL AND state IN ('pending', 'restored');
`,
  `
-- Who runs: the user that started the process, and by which program and command.
ALTER TABLE runs ADD COLUMN uid INTEGER;
ALTER TABLE runs ADD COLUMN via TEXT;

-- The log becomes a chain: each entry has the hash of the one before (log-chain.ts).
DROP TRIGGER events_append_only;
DROP INDEX events_by_tombstone;
DROP INDEX events_by_batch;
ALTER TABLE events RENAME TO events_before;
CREATE TABLE events (
  n INTEGER PRIMARY KEY,               -- without gaps, in the order of commits
  at INTEGER NOT NULL,
  store INTEGER,                       -- these two without foreign keys: an entry outlives what it names
  run INTEGER,
  by TEXT,
  uid INTEGER,
  via TEXT,
  what TEXT NOT NULL,
  tombstone TEXT,
  key TEXT,
  batch_at INTEGER,
  count INTEGER,
  bytes INTEGER,
  cause TEXT,                          -- the policies, or why by hand
  detail TEXT,
  rows BLOB,                           -- a digest over the tombstones that it is about
  prev BLOB NOT NULL,
  hash BLOB NOT NULL
) STRICT;

-- Where the chain ends, and where it begins: after the entries that retention has removed.
CREATE TABLE log_ends (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  head_n INTEGER NOT NULL,
  head_hash BLOB NOT NULL,
  removed_n INTEGER NOT NULL DEFAULT 0,
  removed_hash BLOB NOT NULL DEFAULT (zeroblob(32)),
  -- Tombstones that ended before are forgotten: older entries can't be compared with them.
  forgotten_before INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO events
WITH RECURSIVE
  chain (n, was, at, store, run, by, what, tombstone, batch_at, count, bytes, detail, prev, hash) AS (
    SELECT 0, 0, 0, NULL, NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, zeroblob(32), zeroblob(32)
    UNION ALL
    SELECT c.n + 1, e.n, e.at, e.store, e.run, r.by, e.what, e.tombstone, e.batch_at, e.count, e.bytes, e.detail, c.hash,
      log_hash(c.n + 1, e.at, e.store, e.run, r.by, NULL, NULL, e.what, e.tombstone, NULL, e.batch_at, e.count,
        e.bytes, NULL, e.detail, NULL, c.hash)
    FROM chain c JOIN events_before e ON e.n = (SELECT min(n) FROM events_before WHERE n > c.was) LEFT JOIN runs r ON r.n = e.run
  )
SELECT n, at, store, run, by, NULL, NULL, what, tombstone, NULL, batch_at, count, bytes, NULL, detail, NULL, prev, hash
FROM chain WHERE n > 0;
INSERT INTO log_ends (one, head_n, head_hash)
SELECT 1, coalesce(max(n), 0), coalesce((SELECT hash FROM events ORDER BY n DESC LIMIT 1), zeroblob(32)) FROM events;
DROP TABLE events_before;

CREATE INDEX events_by_tombstone ON events (tombstone, n) WHERE tombstone IS NOT NULL;
CREATE INDEX events_by_batch ON events (batch_at, n) WHERE batch_at IS NOT NULL;
CREATE INDEX events_by_key ON events (key, n) WHERE key IS NOT NULL;
CREATE INDEX events_by_time ON events (at, n);
CREATE INDEX events_by_store ON events (store, at, n);
CREATE TRIGGER events_append_only BEFORE UPDATE ON events
  BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_in_order BEFORE INSERT ON events
  WHEN NEW.n IS NOT (SELECT head_n + 1 FROM log_ends) OR NEW.prev IS NOT (SELECT head_hash FROM log_ends)
  BEGIN SELECT RAISE(ABORT, 'events follow one another'); END;
CREATE TRIGGER events_stay BEFORE DELETE ON events
  WHEN OLD.n > (SELECT removed_n FROM log_ends)
  BEGIN SELECT RAISE(ABORT, 'events go by retention only'); END;
CREATE TRIGGER log_ends_grow BEFORE UPDATE ON log_ends
  WHEN NEW.head_n < OLD.head_n OR NEW.removed_n < OLD.removed_n OR NEW.removed_n > NEW.head_n
  BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER log_ends_stay BEFORE DELETE ON log_ends
  BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
`,
  `
-- Before when runs and sweeps have ended of which none is left that nothing refers to, ms; one row.
CREATE TABLE retention (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  runs_before INTEGER NOT NULL
) STRICT;
INSERT INTO retention (one, runs_before) VALUES (1, 0);
CREATE INDEX sweeps_by_run ON sweeps (run);
CREATE INDEX requests_by_run ON requests (run);
`,
];
