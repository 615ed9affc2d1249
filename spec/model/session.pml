/*
 * A restore session over several keys. For the SPIN model checker; see
 * scripts/check-model.
 *
 * What tombstone.pml leaves out: a listing takes many requests, one key at a
 * time, while movers, purgers, writers and restores go on between them. The
 * session must see each key that was live when it opened, and must read exactly
 * what it listed for as long as its lease stands.
 *
 * A lease blocks sweeps (2: nothing is moved or purged), then, once the listing
 * is complete, purges only (1). Movers and purgers put up a fence for their
 * batch, then look at the lease, then act, then take the fence down. A session
 * writes its lease, looks at the fences once, and waits for the batches it saw.
 *
 * Rules, each with the switch that leaves it out
 *   MOVER_FENCE   R5: movers announce and look, too            -DNO_MOVER_FENCE
 *   PURGER_FENCE  R5: purgers announce and look                -DNO_PURGER_FENCE
 *   OPENING       R5: the session lists under a lease that
 *                 blocks sweeps                                -DNO_OPENING
 *   WAIT          R5: the session waits for the fences it saw  -DNO_WAIT
 *   LEASE_FIRST   R5: lease before the look at the fences      -DNO_LEASE_FIRST
 *   LIVE_FIRST    R6: a read looks at live, then at pending    -DNO_LIVE_FIRST
 *   BY_REVISION   R6: a read takes only the revision listed    -DNO_BY_REVISION
 *   KEEP_FENCE    section 5: a fence left by a crash stays until
 *                 recovery has finished its batch              -DNO_KEEP_FENCE
 *   RUN_LOCK      section 5: recovery waits for the run to be
 *                 dead                                         -DNO_RUN_LOCK
 */

#define KEYS   2
#define TOMBS  3                /* tombstone ids, each used once            */
#define ABSENT 0

/* state of a tombstone in the catalog */
#define NONE      0
#define MOVING    1
#define PENDING   2
#define PURGING   3
#define RESTORING 4
#define RESTORED  5
#define PURGED    6

byte live[KEYS];                /* generation at the live key               */
byte gen[KEYS];                 /* newest generation written                */
byte pend[TOMBS];               /* generation in the pending copy           */
byte ofKey[TOMBS]; byte content[TOMBS]; byte state[TOMBS];
byte used;                      /* ids given out                            */

byte lease;                     /* 0 none, 1 blocks purge, 2 blocks sweep   */

bool mFence; byte mBatch;       /* the mover's fence and its batch number   */
bool pFence; byte pBatch;
bool moverDead;                 /* the mover's run lock is free             */
byte inFlight;                  /* 1 + tombstone the mover left behind      */

bool replaced[KEYS];            /* its writer overwrote what was listed     */
byte want[KEYS];                /* the session's view                       */
bool listed[KEYS];

bool hole;                      /* a key that was live is not in the view   */
bool missed;                    /* a listed revision could not be read      */
bool wrong;                     /* a read gave another revision             */

inline fenceUp(f, b) { d_step { f = true; b++ } }

inline guardedDelete(k, t) {
  d_step { if :: live[k] == content[t] -> live[k] = ABSENT :: else fi }
}

proctype mover() {
  byte k = 0; byte t; bool may;
  do
  :: k < KEYS && used < TOMBS ->
#ifndef NO_MOVER_FENCE
     fenceUp(mFence, mBatch);
     may = (lease != 2);                          /* look               */
#else
     may = true;
#endif
     if
     :: may ->
        d_step {
          if
          :: live[k] != ABSENT ->
             t = used; used++; ofKey[t] = k; content[t] = live[k];
             state[t] = MOVING
          :: else -> may = false
          fi
        }
     :: else
     fi;
     if
     :: may ->
        d_step { if :: live[k] == content[t] -> pend[t] = content[t]
                    :: else fi }                  /* copy, if unchanged */
        if
        :: d_step { moverDead = true; inFlight = t + 1 } goto dead
        :: skip                                   /* no crash           */
        fi;
        if
        :: pend[t] == content[t] -> guardedDelete(k, t); state[t] = PENDING
        :: else -> state[t] = NONE
        fi
     :: else
     fi;
     mFence = false;
     k++
  :: else -> break
  od;
  moverDead = true;
dead:
#ifdef NO_KEEP_FENCE
  mFence = false;
#endif
  skip
}

proctype recovery() {                             /* another process    */
  byte t;
#ifdef NO_RUN_LOCK
  if
  :: state[0] == MOVING -> state[0] = NONE; mFence = false
  :: true -> skip
  fi
#else
  if
  :: inFlight > 0 && moverDead ->
     t = inFlight - 1;
     if
     :: pend[t] == content[t] -> guardedDelete(ofKey[t], t); state[t] = PENDING
     :: else -> state[t] = NONE
     fi;
     mFence = false
  :: moverDead && inFlight == 0 -> skip
  fi
#endif
}

proctype purger() {
  byte t = 0; bool mine;
  do
  :: t < TOMBS ->
     d_step {
       mine = (state[t] == PENDING || state[t] == RESTORED);
       if :: state[t] == PENDING -> state[t] = PURGING :: else fi
     }
     if
     :: mine ->
#ifndef NO_PURGER_FENCE
        fenceUp(pFence, pBatch);
        if
        :: lease != 0 ->
           d_step { if :: state[t] == PURGING -> state[t] = PENDING :: else fi }
        :: else ->
#else
        if
        :: true ->
#endif
           d_step { pend[t] = ABSENT; state[t] = PURGED }
        fi;
        pFence = false
     :: else
     fi;
     t++
  :: else -> break
  od
}

proctype writer() {                               /* writes key 1 again */
  d_step {
    if :: listed[1] && live[1] == want[1] -> replaced[1] = true :: else fi;
    gen[1]++; live[1] = gen[1]
  }
}

proctype admin() {                                /* restores tombstone 0 */
  bool mine;
  d_step { mine = (state[0] == PENDING);
           if :: mine -> state[0] = RESTORING :: else fi }
  if
  :: mine ->
     d_step { if :: live[ofKey[0]] == ABSENT -> live[ofKey[0]] = pend[0]
                 :: else fi }                     /* put if absent      */
     d_step { if :: live[ofKey[0]] == content[0] -> state[0] = RESTORED
                 :: else -> state[0] = PENDING fi }
  :: else
  fi
}

/* Each is one request; a file that is open is read to its end.         */
#ifdef NO_BY_REVISION
#define isIt(g, k) (g != ABSENT)
#else
#define isIt(g, k) (g == want[k])
#endif

inline readLive(k) {
  d_step { if :: got == ABSENT && isIt(live[k], k) -> got = live[k] :: else fi }
}

inline readPending(k, t) {
  d_step {
    if
    :: got == ABSENT && ofKey[t] == k && isIt(pend[t], k) -> got = pend[t]
    :: else
    fi
  }
}

proctype session() {
  bool seenM; bool seenP; byte bM; byte bP; byte k; byte got; byte t;
  bool wasLive[KEYS];

#ifdef NO_LEASE_FIRST
  d_step { seenM = mFence; bM = mBatch; seenP = pFence; bP = pBatch }
#endif
#ifdef NO_OPENING
  lease = 1;
#else
  lease = 2;
#endif
#ifndef NO_LEASE_FIRST
  d_step { seenM = mFence; bM = mBatch; seenP = pFence; bP = pBatch }
#endif
#ifndef NO_WAIT
  (!seenM || !mFence || mBatch != bM);
  (!seenP || !pFence || pBatch != bP);
#endif
  /* open: from here on */
  d_step { wasLive[0] = (live[0] != ABSENT); wasLive[1] = (live[1] != ABSENT) }

  d_step { want[0] = live[0]; listed[0] = true }  /* page one           */
  d_step { want[1] = live[1]; listed[1] = true }  /* page two           */
  if
  :: (wasLive[0] && want[0] == ABSENT) || (wasLive[1] && want[1] == ABSENT) ->
     hole = true
  :: else
  fi;
  lease = 1;                                      /* renewed            */

  k = 0;
  do
  :: k < KEYS ->
     if
     :: want[k] != ABSENT ->
        got = ABSENT;
#ifndef NO_LIVE_FIRST
        readLive(k);
#endif
        t = 0;
        do
        :: t < TOMBS -> readPending(k, t); t++
        :: else -> break
        od;
#ifdef NO_LIVE_FIRST
        readLive(k);
#endif
        if
        :: got == ABSENT && !replaced[k] -> missed = true
        :: got != ABSENT && got != want[k] -> wrong = true
        :: else
        fi
     :: else
     fi;
     k++
  :: else -> break
  od;
  lease = 0
}

init {
  atomic {
    live[0] = 1; live[1] = 1; gen[0] = 1; gen[1] = 1;
    run mover(); run recovery(); run purger(); run writer(); run admin();
    run session()
  }
}

active proctype monitor() {
end:
  if
  :: hole -> assert(!hole)
  :: missed -> assert(!missed)
  :: wrong -> assert(!wrong)
  fi
}
