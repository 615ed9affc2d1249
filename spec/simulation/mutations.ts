import type { Drill } from './drills.ts';

/** One change of the code that leaves a rule out: what the simulation must notice. */
export interface Mutation {
  readonly name: string;
  /** The model's switch, or the rule of the design. */
  readonly rule: string;
  /** What is left out, in words. */
  readonly without: string;
  /** What is likely to catch it; all kinds of histories, where there is none. */
  readonly drill?: Drill;
  readonly edits: readonly Edit[];
}

/** A change of source text; `find` occurs once in the file. */
export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const BATCH = 'lib/run/batch.ts';
const SESSION = 'lib/reader/session.ts';
const MEMORY_STORE = 'spec/simulation/memory-store.ts';
const TOMBSTONES = 'lib/catalog/tombstones.ts';

const PUT_UP = 'const name = await run.fences.putUp(place, announcement);';
const CHECKED = 'if ((await readFence(store.control, name)) !== undefined) return;';
const LOOKED = 'let leases = await lookAtLeases(place);';

/** Batches of a kind without a fence. */
function unfenced(kind: 'sweep' | 'purge'): Edit[] {
  return [
    {
      file: BATCH,
      find: PUT_UP,
      replace: `const name = announcement.kind === '${kind}' ? 'none' : await run.fences.putUp(place, announcement);`,
    },
    { file: BATCH, find: CHECKED, replace: `if (name === 'none') return; ${CHECKED}` },
  ];
}

/** Batches of a kind that don't look at leases. */
function blind(kind: 'sweep' | 'purge'): Edit {
  return {
    file: BATCH,
    find: LOOKED,
    replace: `let leases = announcement.kind === '${kind}' ? [] : await lookAtLeases(place);`,
  };
}

/** In the order of the models' switches, then what the models leave out. */
export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'unique',
    rule: 'tombstone.pml UNIQUE (R1)',
    without: 'all tombstones of a key share one pending name',
    edits: [
      {
        file: 'lib/domain/ids.ts',
        find: 'return `${pendingPrefix}${key}~${id}`;',
        replace: "return `${pendingPrefix}${key}~${id === '' ? id : '20260101T000000000Z-00000000000000'}`;",
      },
    ],
  },
  {
    name: 'fence',
    rule: 'tombstone.pml FENCE (R5)',
    without: 'a purger looks at leases, and puts up no fence',
    drill: 'purges',
    edits: unfenced('purge'),
  },
  {
    name: 'lease-first',
    rule: 'tombstone.pml and session.pml LEASE_FIRST (R5)',
    without: 'a session looks at the fences before it writes its lease',
    drill: 'beginnings',
    edits: [
      {
        file: SESSION,
        find: 'const lease = await LeaseHolder.acquire(',
        replace:
          'await waitForFences(store, prefixes, { clock, timeout: fenceTimeout, signal, onWait });\n  const lease = await LeaseHolder.acquire(',
      },
      {
        file: SESSION,
        find: 'await waitForFences(store, prefixes, { clock, timeout: fenceTimeout, signal: ended, onWait });',
        replace: 'ended.throwIfAborted();',
      },
    ],
  },
  {
    name: 'live-first-listing',
    rule: 'tombstone.pml LIVE_FIRST (R6)',
    without: 'a listing of both prefixes looks at pending copies first',
    drill: 'readers',
    edits: [
      {
        file: 'lib/reader/all-keys.ts',
        find: 'for await (const page of reader.liveKeys(prefix, signal)) scratch.add(page);',
        replace: 'for await (const page of reader.pendingKeys(prefix, signal)) scratch.add(page);',
      },
      {
        file: 'lib/reader/all-keys.ts',
        find: '    for await (const page of reader.pendingKeys(prefix, signal)) scratch.add(page);\n    for (',
        replace:
          '    for await (const page of reader.liveKeys(prefix, signal)) scratch.add(page);\n    for (',
      },
    ],
  },
  {
    name: 'one-remover',
    rule: 'tombstone.pml ONE_REMOVER (R4)',
    without: 'a restore removes the copy that it has put back',
    edits: [
      {
        file: 'lib/restore/restore.ts',
        find: 'const outcomes = await store.putBack(items);',
        replace:
          "const outcomes = await store.putBack(items);\n  await store.remove(items.map((item) => ({ ...item, from: 'restored' as const })));",
      },
    ],
  },
  {
    name: 'guard-s3',
    rule: 'tombstone.pml GUARD (R3), copy and delete',
    without: 'the live object is deleted whatever it is by then',
    drill: 'put-back',
    edits: [
      {
        file: MEMORY_STORE,
        find: 'if (live !== undefined && sameRevision(live.revision, copy.revision))\n',
        replace: 'if (live !== undefined)\n',
      },
    ],
  },
  {
    name: 'guard-local',
    rule: 'tombstone.pml GUARD (R2, R3), rename',
    without: 'what was renamed is not looked at',
    drill: 'link-back',
    edits: [
      {
        file: 'lib/store/local/local-store.ts',
        find: 'if (isMeant && moved.isFile() && sameRevision(revisionOf(moved), item.revision))',
        replace: 'if (moved.isFile() || isMeant)',
      },
    ],
  },
  {
    name: 'cas',
    rule: 'tombstone.pml CAS (R7)',
    without: 'a purger takes a tombstone that a restore has',
    drill: 'restores',
    edits: [
      {
        file: TOMBSTONES,
        find: "`UPDATE tombstones SET prior = state, state = 'purging', run = ?\n       WHERE id IN (SELECT value FROM json_each(?)) AND +store = ? AND +state IN ('pending', 'restored')\n         AND +purge_after",
        replace:
          "`UPDATE tombstones SET prior = coalesce(prior, state), state = 'purging', run = ?\n       WHERE id IN (SELECT value FROM json_each(?)) AND +store = ? AND +state IN ('pending', 'restored', 'restoring')\n         AND +purge_after",
      },
    ],
  },
  {
    name: 'restoring',
    rule: 'tombstone.pml RESTORING (R8)',
    without: 'a tombstone stays purgeable while a restore puts it back',
    drill: 'restores',
    edits: [
      {
        file: TOMBSTONES,
        find: "`UPDATE tombstones SET prior = state, state = 'restoring', run = ?",
        replace: '`UPDATE tombstones SET prior = state, run = ?',
      },
    ],
  },
  {
    name: 'absent-s3',
    rule: 'tombstone.pml ABSENT (R3), put if absent',
    without: 'a restore puts back over whatever is there',
    drill: 'put-back',
    edits: [
      {
        file: MEMORY_STORE,
        find: "if (live !== undefined) return { outcome: 'conflict' };\n      if (this.#copy",
        replace: 'if (this.#copy',
      },
    ],
  },
  {
    name: 'absent-local',
    rule: 'tombstone.pml ABSENT (R3), link',
    without: 'a restore makes way for what it links back',
    drill: 'link-back',
    edits: [
      {
        file: 'lib/store/local/local-store.ts',
        find: "    try {\n      this.#fs.link(found.path, at(target, live.base));\n      return { outcome: 'restored' };",
        replace:
          "    try {\n      if (this.#fs.lstat(at(target, live.base)) !== undefined) this.#fs.unlink(at(target, live.base));\n      this.#fs.link(found.path, at(target, live.base));\n      return { outcome: 'restored' };",
      },
    ],
  },
  {
    name: 'copy-first',
    rule: 'tombstone.pml COPY_FIRST (R2)',
    without: 'recovery believes an intent, and does not look at the store',
    edits: [
      {
        file: 'lib/sweep/recover.ts',
        find: 'async (moves) =>\n    place.store.move(moves, { resume: true }),',
        replace: "async (moves) =>\n    moves.map(() => ({ outcome: 'moved' as const })),",
      },
    ],
  },
  {
    name: 'mover-fence',
    rule: 'session.pml MOVER_FENCE (R5)',
    without: 'movers neither announce nor look at leases',
    edits: [...unfenced('sweep'), blind('sweep')],
  },
  {
    name: 'mover-fence-only',
    rule: 'R5',
    without: 'movers look at leases, and put up no fence',
    edits: unfenced('sweep'),
  },
  {
    name: 'purger-fence',
    rule: 'session.pml PURGER_FENCE (R5)',
    without: 'purgers neither announce nor look at leases',
    edits: [...unfenced('purge'), blind('purge')],
  },
  {
    name: 'opening',
    rule: 'session.pml OPENING (R5)',
    without: 'a session lists under a lease that keeps only purges away',
    drill: 'listing',
    edits: [{ file: SESSION, find: "blocks: 'sweep', ttl, holder", replace: "blocks: 'purge', ttl, holder" }],
  },
  {
    name: 'wait',
    rule: 'session.pml WAIT (R5)',
    without: 'claimers do not wait for the fences they see',
    edits: [
      {
        file: 'lib/run/wait-for-fences.ts',
        find: 'if (seen.size === 0) return [];',
        replace: 'if (seen.size >= 0) return [];',
      },
    ],
  },
  {
    name: 'live-first-reading',
    rule: 'session.pml LIVE_FIRST (R6)',
    without: 'a session looks at pending copies, then at the live object, once',
    drill: 'readers',
    edits: [
      {
        file: SESSION,
        find: 'const rounds = this.#store.settle > 0 ? ROUNDS + 1 : ROUNDS;',
        replace: `const rounds = ROUNDS - 2;
    for (const id of await this.#store.pendingIds(key)) {
      const copy = await this.#store.openPending(key, id);
      if (isRevision(copy, revision)) return foundAs(key, copy, id);
    }`,
      },
      {
        file: SESSION,
        find: 'for (const id of likeliestFirst(await this.#store.pendingIds(key), revision)) {',
        replace: 'for (const id of likeliestFirst([], revision)) {',
      },
    ],
  },
  {
    name: 'by-revision',
    rule: 'session.pml BY_REVISION (R6)',
    without: 'a session takes whatever has the key',
    edits: [
      {
        file: SESSION,
        find: 'if (isIt) return true;',
        replace: 'if (isIt || object.size > 0) return true;',
      },
    ],
  },
  {
    name: 'keep-fence',
    rule: 'session.pml KEEP_FENCE (R5)',
    without: 'recovery takes a dead run’s fences down before it has finished its batches',
    drill: 'deaths',
    edits: [
      {
        file: 'lib/run/dead-run.ts',
        find: 'fences.push(fence);',
        replace: 'fences.push(fence);\n      await takeDownFence(store.control, name);',
      },
    ],
  },
  {
    name: 'run-lock',
    rule: 'session.pml RUN_LOCK (section 5)',
    without: 'recovery does not wait for a run to be dead',
    edits: [
      {
        file: 'lib/catalog/run-lock.ts',
        find: "return lock(file, { mustExist: true }) ?? 'held';",
        replace:
          "return lock(file, { mustExist: true }) ?? { identity: '', release: () => undefined, remove: () => undefined };",
      },
    ],
  },
  {
    name: 'settle-of-claims',
    rule: 'R5, stale listings',
    without: 'a claimer does not let its claim settle before it looks',
    drill: 'stale-listings',
    edits: [
      { file: 'lib/run/wait-for-fences.ts', find: 'if (ms === 0) return;', replace: 'if (ms >= 0) return;' },
    ],
  },
  {
    name: 'settle-of-batches',
    rule: 'R5, stale listings',
    without: 'a batch does not let its fence settle before it looks',
    drill: 'stale-listings',
    edits: [
      {
        file: BATCH,
        find: 'if (store.settle > 0) await clock.sleep(store.settle, signal);',
        replace: '',
      },
    ],
  },
  {
    name: 'lease-deadline',
    rule: 'leases without clocks',
    without: 'a holder believes in its lease until the store says otherwise',
    drill: 'frozen-holders',
    edits: [
      {
        file: 'lib/reader/lease-term.ts',
        find: 'if (passed < this.#ttl * RELIABLE) return;',
        replace: 'if (passed < Infinity) return;',
      },
    ],
  },
  {
    name: 'whole-ttl',
    rule: 'leases without clocks',
    without: 'a watcher takes a lease as dead after a third of its TTL',
    drill: 'slow-holders',
    edits: [
      {
        file: 'lib/run/leases.ts',
        find: 'lease.ttlSeconds * 1000 + store.settle',
        replace: 'lease.ttlSeconds * 333 + store.settle',
      },
    ],
  },
  {
    name: 'broken-mark',
    rule: 'lease-watch.pml BROKEN',
    without: 'who takes a lease as dead leaves no mark, and the lease where it is',
    drill: 'wrong-clocks',
    edits: [
      {
        file: 'lib/run/leases.ts',
        find: 'await markBroken(store.control, id, { by: actor.by, reason, at });',
        replace: 'void at;',
      },
      { file: 'lib/run/leases.ts', find: 'await buryLease({ store, clock }, name);', replace: '' },
    ],
  },
  {
    name: 'broken-look',
    rule: 'lease-watch.pml LOOK_LISTED, LOOK_MISSED',
    without: 'a holder does not look whether somebody has taken its lease as dead',
    drill: 'wrong-clocks',
    edits: [
      {
        file: 'lib/reader/lease-holder.ts',
        find: 'if (await isBroken(this.#store.control, this.id)) throw',
        replace: "if (this.id === '') throw",
      },
      {
        file: 'lib/reader/lease-holder.ts',
        find: "if (outcome === 'gone') throw this.#term.lose('its object is gone');",
        replace: '',
      },
      {
        file: 'lib/reader/lease-holder.ts',
        find: "if (object === undefined) throw this.#term.lose('its object is gone');",
        replace: 'if (object === undefined) return;',
      },
    ],
  },
  {
    name: 'own-fence',
    rule: 'R5',
    without: 'a run does not mind that its own fence has gone',
    drill: 'broken-fences',
    // It does look, and goes on: from then on the simulation breaks its fence no more.
    edits: [
      {
        file: BATCH,
        find: CHECKED,
        replace: "if ((await readFence(store.control, name)) !== undefined || name !== '') return;",
      },
    ],
  },
  {
    name: 'owner-look',
    rule: 'R5, take-over',
    without: 'a batch does not look at the owner after its fence',
    drill: 'take-over',
    edits: [
      {
        file: BATCH,
        find: '  await checkOwner(place.store, place.catalog.uuid);\n',
        replace: '',
      },
    ],
  },
  {
    name: 'holds-look',
    rule: 'R5, holds',
    without: 'a batch does not read the holds after its fence',
    drill: 'holds',
    edits: [
      {
        file: BATCH,
        find: '  await refreshHolds(place);\n}',
        replace: '}',
      },
    ],
  },
  {
    name: 'unanswered',
    rule: 'late-requests.pml EACH_REQUEST (R5)',
    without: 'a fence goes while a request under it may still land',
    drill: 'late-requests',
    edits: [
      {
        file: MEMORY_STORE,
        find: 'while (!this.isAllAnswered) {',
        replace: 'while (!this.isAllAnswered && this.#lastUnder < 0) {',
      },
    ],
  },
];
