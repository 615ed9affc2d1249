/*
 * One key through both phases: nothing is lost. For the SPIN model checker;
 * scripts/check-model verifies it, then leaves out each rule in turn and
 * expects a counterexample.
 *
 * Its content is a generation number, 0 is "absent". pend[t] is the pending
 * copy of tombstone t, under a name that is unique to t. Each atomic step is one
 * request to the store (the store is strongly consistent) or one transaction of
 * the catalog.
 *
 * Processes
 *   mover    tombstones the live key: copy to pending, then delete; crashes
 *   writer   writes the key again with new content, at any time
 *   purger   removes pending copies whose window is over (the window is over
 *            from the start here: safety may not rest on timing)
 *   admin    restores a tombstone
 *   reader   takes a lease, lists, reads what it listed
 *   clock    may end the reader's lease at any time
 *
 * Rules, each with the switch that leaves it out
 *   UNIQUE       R1: a pending name is never used twice          -DNO_UNIQUE
 *   COPY_FIRST   R2: the mover deletes only after it saw its own
 *                copy; after a crash it looks at the store, not
 *                at its intent                                   -DNO_COPY_FIRST
 *   GUARD        R3: the live key is deleted only if it still is
 *                what was copied                                 -DNO_GUARD
 *   ABSENT       R3: a restore puts back only where nothing is   -DNO_ABSENT
 *   ONE_REMOVER  R4: only the purger removes a pending copy      -DNO_ONE_REMOVER
 *   FENCE        R5: the purger announces, then looks for leases;
 *                the reader writes its lease, then waits until no
 *                fence is up                                     -DNO_FENCE
 *   LEASE_FIRST  R5: lease before the look at the fences         -DNO_LEASE_FIRST
 *   LIVE_FIRST   R6: a read looks at live, then at pending       -DNO_LIVE_FIRST
 *   CAS          R7: purger and admin take a tombstone by a
 *                compare-and-set                                 -DNO_CAS
 *   RESTORING    R8: a restore makes the copy purgeable only once
 *                the live copy is back, not when it takes the
 *                tombstone                                       -DNO_RESTORING
 */

#define TOMBS  2
#define ABSENT 0

/* state of a tombstone in the catalog */
#define NONE      0
#define MOVING    1
#define PENDING   2
#define PURGING   3
#define RESTORED  4
#define PURGED    5
#define RESTORING 6
#define DROPPED   7     /* purged from RESTORED: not a reason to be gone */

byte live = 1;          /* generation 1 is there at the start        */
byte newest = 1;        /* newest generation the writer has written  */
byte pend[TOMBS];       /* content of the pending copy               */
byte content[TOMBS];    /* what the catalog says tombstone t holds   */
byte state[TOMBS];

bool fence[TOMBS];      /* up: about to be purged                    */
bool lease;             /* the reader's lease object is in the store */
bool leaseOver;         /* and somebody has taken it as dead         */

bool overwritten;       /* the writer replaced generation 1 in place */
bool lost;              /* what was written is nowhere               */
bool missed;            /* a reader missed what it may rely on       */
bool undone;            /* a restore took a tombstone whose pending  */
                        /* copy was already gone                     */
bool early;             /* a pending copy went, under a valid lease  */

/* Nothing is lost: each generation that was written is live, pending, or
   was purged as what it is, or was overwritten by its own writer.         */
#define purged(g) ((state[0] == PURGED && content[0] == g) || \
                   (state[1] == PURGED && content[1] == g))
#define kept(g)   (live == g || pend[0] == g || pend[1] == g || purged(g))
#define nothingLost ((overwritten || kept(1)) && (newest < 2 || kept(2)))

inline copyToPending(tomb, name) {           /* COPY, if the source is it */
  d_step { if :: live == content[tomb] -> pend[name] = content[tomb] :: else fi }
}

inline deleteLive(tomb) {                    /* DELETE, if it is still it */
  d_step {
#ifdef NO_GUARD
    live = ABSENT
#else
    if :: live == content[tomb] -> live = ABSENT :: else fi
#endif
  }
}

#ifdef NO_UNIQUE
#define nameOf(t) 0
#else
#define nameOf(t) t
#endif

proctype mover() {
  byte t = 0; bool copied;
  do
  :: t < TOMBS ->
     d_step {                             /* HEAD, then the intent     */
       if :: live != ABSENT -> state[t] = MOVING; content[t] = live
          :: else fi
     }
     if
     :: state[t] == MOVING ->
        if
        :: copyToPending(t, nameOf(t))    /* ... and crash or go on    */
        :: skip                           /* crash before the copy     */
        fi;
        /* From here on the same steps serve a first run and recovery. */
        copied = (pend[nameOf(t)] == content[t]);
#ifdef NO_COPY_FIRST
        copied = true;
#endif
        if
        :: copied ->
           if :: deleteLive(t) :: skip fi;  /* crash after it, or before */
           deleteLive(t);
           state[t] = PENDING
        :: else ->
           d_step { state[t] = NONE; content[t] = ABSENT }  /* abandoned */
        fi
     :: else
     fi;
     t++
  :: else -> break
  od
}

proctype writer() {                       /* PUT of new content        */
  d_step {
    overwritten = (live == 1);            /* its own doing             */
    newest = 2;
    live = 2
  }
}

proctype purger() {
  byte t; byte rounds = 0; byte from; bool may;
  do
  :: rounds < 2 ->
     t = 0;
     do
     :: t < TOMBS ->
        d_step {
          from = NONE;
          if
          :: state[t] == PENDING || state[t] == RESTORED -> from = state[t];
#ifndef NO_CAS
             state[t] = PURGING
#endif
          :: else
          fi
        }
        if
        :: from != NONE ->
#ifndef NO_FENCE
           fence[t] = true;               /* announce, then look       */
#endif
           may = (!lease || leaseOver);   /* LIST leases               */
           if
           :: !may -> state[t] = from
           :: else ->
              d_step {                    /* DELETE by unique name     */
                pend[nameOf(t)] = ABSENT;
                state[t] = (from == PENDING -> PURGED : DROPPED)
              }
           fi;
           fence[t] = false
        :: else
        fi;
        t++
     :: else -> break
     od;
     rounds++
  :: else -> break
  od
}

proctype admin() {                        /* restores one tombstone    */
  byte t; byte from = NONE; byte g;
  if :: t = 0 :: t = 1 fi;
  d_step {
    if
    :: state[t] == PENDING || state[t] == RESTORED -> from = state[t];
#ifndef NO_CAS
#ifdef NO_RESTORING
       state[t] = RESTORED
#else
       state[t] = RESTORING
#endif
#endif
    :: else
    fi
  }
  if
  :: from != NONE ->
     d_step {                             /* COPY back, if none is there */
       g = pend[nameOf(t)];
       if
#ifdef NO_ABSENT
       :: g != ABSENT -> live = g
#else
       :: g != ABSENT && live == ABSENT -> live = g
#endif
       :: g == ABSENT -> undone = true    /* taken, yet gone           */
       :: else                            /* another is there          */
       fi
     }
#ifdef NO_ONE_REMOVER
     d_step { if :: g != ABSENT && live == g -> pend[nameOf(t)] = ABSENT
                 :: else fi }
#endif
     if                                   /* HEAD                      */
     :: live == g -> state[t] = RESTORED
     :: else -> state[t] = from
     fi
  :: else
  fi
}

proctype reader() {
  bool sawLive; bool sawPend0; bool sawPend1;
  byte got = ABSENT; bool there; bool atOpen;

#ifdef NO_LEASE_FIRST
  (!fence[0] && !fence[1]);
  lease = true;
#else
  lease = true;                           /* PUT lease                 */
  (!fence[0] && !fence[1]);               /* wait until no fence is up */
#endif

  /* In force. Whatever is readable now must be readable for as long as
     the lease is valid.                                                */
  d_step {
    atOpen = (live != ABSENT || pend[0] != ABSENT || pend[1] != ABSENT)
  }

  /* LIST both prefixes, one after the other                            */
#ifdef NO_LIVE_FIRST
  sawPend0 = (pend[0] != ABSENT);
  sawPend1 = (pend[1] != ABSENT);
  sawLive = (live != ABSENT);
#else
  sawLive = (live != ABSENT);
  sawPend0 = (pend[0] != ABSENT);
  sawPend1 = (pend[1] != ABSENT);
#endif
  if
  :: atOpen && !sawLive && !sawPend0 && !sawPend1 && !leaseOver ->
     missed = true
  :: else
  fi;

  /* Read: live, then pending                                           */
  got = live;
  if
  :: got == ABSENT ->
     got = pend[0];
     if :: got == ABSENT -> got = pend[1] :: else fi
  :: else
  fi;
  if
  :: got == ABSENT && atOpen && !leaseOver -> missed = true
  :: else
  fi;

  /* No pending copy that is there goes while the lease holds.          */
  there = (pend[0] != ABSENT);
  if
  :: there ->
     if :: pend[0] == ABSENT && !leaseOver -> early = true :: else fi
  :: else
  fi;
  lease = false
}

proctype clock() {
  if :: lease -> leaseOver = true :: true -> skip fi
}

init {
  atomic {
    run mover(); run writer(); run purger(); run admin(); run reader();
    run clock()
  }
}

active proctype monitor() {
end:
  if
  :: !nothingLost -> lost = true; assert(!lost)
  :: missed -> assert(!missed)
  :: undone -> assert(!undone)
  :: early -> assert(!early)
  fi
}
