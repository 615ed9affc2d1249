/*
 * Stores whose listings may be stale: network file systems. For the SPIN model
 * checker; see scripts/check-model.
 *
 * What a look shows may be up to `settle` old: a name that was just made may be
 * missing, one that has just gone may still be there. (An object that can be
 * opened is there: only names are cached.) So both sides wait `settle` between
 * announcing and looking, a claimer once more after the batches it waited for,
 * and a miss is looked for again after `settle`.
 *
 * Time is ticks, `settle` is one: a look shows what is, or, while the last
 * change is no older than a tick, what was before. A wait ends when more than a
 * tick has passed.
 *
 * Processes
 *   run       two: a mover and a purger, a batch each, of the same key; either
 *             may take the lease as dead (clocks may be wrong: lease-broken.pml)
 *   session   a lease that blocks sweeps, then purges; lists, reads
 *   clock
 *
 * Promises as in session.pml and lease-broken.pml: a key that was live when the
 * session opened is in its view, and it never says "missing" of a listed one,
 * unless it says that the lease is lost.
 *
 * Rules ("Stale listings"), each with the switch that leaves it out
 *   SETTLE_MOVER    a mover waits between fence and look        -DNO_SETTLE_MOVER
 *   SETTLE_PURGER   and so does a purger                        -DNO_SETTLE_PURGER
 *   SETTLE_CLAIMER  a claimer does between claim and look       -DNO_SETTLE_CLAIMER
 *   SETTLE_AFTER    and after the batches it waited for: its
 *                   listing may show what they have moved, and
 *                   somebody has purged                         -DNO_SETTLE_AFTER
 *   SETTLE_MISS     a miss is looked for again after it         -DNO_SETTLE_MISS
 *   SETTLE_BROKEN   who left `.broken` waits before it acts (`lease
 *                   break`: before it removes the lease), so that
 *                   whoever sees what was done sees that        -DNO_SETTLE_BROKEN
 */

#define SETTLE 1
#define OLD    2        /* ticks after which a change is seen by all         */

/* where the key's object is */
#define LIVE   0
#define MOVED  1
#define PURGED 2

byte at;      byte atAge = OLD;       /* ticks since it went there           */
byte blocks;                          /* what the lease blocks: 2, 1, or 0   */
bool lease;   byte leaseAge = OLD;
bool fence[2]; byte fenceAge[2] = OLD;
bool broken;  byte brokenAge = OLD;
byte waited = OLD;                    /* the session's other waits           */

bool hole;
bool saidMissing;

/* A look at something that is or is not there. */
inline look(is, age, seen) {
  atomic {
    if
    :: seen = is
    :: age <= SETTLE -> seen = !is
    fi
  }
}

inline change(what, age, to) { d_step { what = to; age = 0 } }

#if defined(NO_SETTLE_MOVER)
#define waits purges
#elif defined(NO_SETTLE_PURGER)
#define waits (!purges)
#else
#define waits true
#endif

proctype run_(bool purges) {
  bool seen;
  change(fence[purges], fenceAge[purges], true);
  (!waits || fenceAge[purges] > SETTLE);
  look(lease, leaseAge, seen);
  if
  :: !seen || (!purges && blocks < 2)
  :: seen ->                          /* dead, it thinks                     */
     d_step { if :: !broken -> broken = true; brokenAge = 0 :: else fi }
#ifndef NO_SETTLE_BROKEN
     (brokenAge > SETTLE);
#endif
  :: seen -> goto over
  fi;
  if
  :: d_step { !purges && at == LIVE -> at = MOVED; atAge = 0 }
  :: d_step { purges && at == MOVED -> at = PURGED; atAge = 0 }
  :: true                             /* not in its plan                     */
  fi;
over:
  change(fence[purges], fenceAge[purges], false)
}

/* Live, then pending, where a new name may not be seen yet. */
inline read(got) {
  atomic {
    if
    :: got = (at != PURGED)
    :: at == MOVED && atAge <= SETTLE -> got = false
    fi
  }
}

proctype session() {
  bool seen; bool other; bool lost; bool wasLive; bool found;
  d_step { lease = true; blocks = 2; leaseAge = 0 }
#ifndef NO_SETTLE_CLAIMER
  (leaseAge > SETTLE);
#endif
  look(fence[0], fenceAge[0], seen);
  look(fence[1], fenceAge[1], other);
  do                                  /* waits for those it saw              */
  :: seen -> look(fence[0], fenceAge[0], seen)
  :: other -> look(fence[1], fenceAge[1], other)
  :: !seen && !other -> break
  od;
#ifndef NO_SETTLE_AFTER
  waited = 0;
  (waited > SETTLE);
#endif
  wasLive = (at == LIVE);             /* in force: open                      */
  atomic {                            /* LIST: what is, or what was          */
    if
    :: found = (at == LIVE)
    :: at != LIVE && atAge <= SETTLE -> found = true
    fi
  }
  look(broken, brokenAge, lost);
  if
  :: lost
  :: !lost && wasLive && !found -> hole = true
  :: !lost && !found && !wasLive
  :: !lost && found ->
     blocks = 1;                      /* renewed                             */
     read(seen);
     if
     :: !seen ->
#ifndef NO_SETTLE_MISS
        waited = 0;
        (waited > SETTLE);
        read(seen);
#endif
        look(broken, brokenAge, lost);
        saidMissing = (!seen && !lost)
     :: else
     fi
  fi;
  d_step { lease = false; blocks = 0; leaseAge = 0 }
}

#define older(age) age = (age < OLD -> age + 1 : OLD)

proctype clock() {
end:
  do
  :: d_step {
       atAge < OLD || leaseAge < OLD || fenceAge[0] < OLD || fenceAge[1] < OLD ||
       brokenAge < OLD || waited < OLD ->
       older(atAge); older(leaseAge); older(fenceAge[0]); older(fenceAge[1]);
       older(brokenAge); older(waited)
     }
  od
}

init {
  atomic { run run_(false); run run_(true); run session(); run clock() }
}

active proctype monitor() {
end:
  if
  :: hole -> assert(!hole)
  :: saidMissing -> assert(!saidMissing)
  fi
}
