/*
 * Moving in a local store: rename(2) is copy and delete at once. For the SPIN
 * model checker; see scripts/check-model.
 *
 * A rename takes whatever is at the name then: a writer may have replaced the
 * file since it was planned. So the mover looks at what it has moved. If that is
 * not the revision it meant, it links it back, which never replaces anything;
 * the pending name stays, for the purger. Where the name is taken again, what it
 * moved is a tombstone of its own. After a crash recovery does the same steps,
 * and looks at its own pending name first.
 *
 * One key; its content is a generation number, 0 is "absent". Each step is one
 * system call or one transaction.
 *
 * Processes
 *   mover    tombstones what is live, twice; dies anywhere, and is recovered
 *   writer   replaces the file twice, each time by a rename of its own, or
 *            removes it
 *   purger   removes what is pending; what was restored only while it is live
 *
 * Nothing that was written is lost but by its writer, nobody's new content stays
 * away from its live key unless it was meant, and each pending copy has a
 * tombstone.
 *
 * Rules, each with the switch that leaves it out
 *   RENAME         R2: rename, never link and unlink            -DNO_RENAME
 *   CHECK          R2: look at what was moved                   -DNO_CHECK
 *   LINK           R2: put back by link, never over anything    -DNO_LINK
 *   OWN            R2: what can't go back is a tombstone of its
 *                  own                                          -DNO_OWN
 *   PENDING_FIRST  R2: recovery looks at the pending name first -DNO_PENDING_FIRST
 */

#define TOMBS   2
#define ABSENT  0
#define NEWEST  3       /* generations the writer gets to                    */

/* state of a tombstone in the catalog */
#define NONE      0
#define MOVING    1
#define PENDING   2
#define PURGING   3
#define RESTORED  4
#define PURGED    5
#define DROPPED   6     /* purged from RESTORED: not a reason to be gone     */
#define ABANDONED 7

byte live = 1; byte newest = 1;
byte pend[TOMBS]; byte state[TOMBS];
byte meant[TOMBS];      /* what the intent says                              */
byte content[TOMBS];    /* what the tombstone says, once moved               */
bool over[NEWEST + 1];  /* its writer replaced or removed it in place        */
bool idle;              /* the mover is done                                 */

bool lost;              /* what was written is nowhere                       */
bool away;              /* new content, not meant to go, is not live         */
bool stray;             /* a pending copy that no tombstone knows            */

#define there(g)  (live == g || pend[0] == g || pend[1] == g)
#define gone(t, g) ((state[t] == PURGED || state[t] == PURGING) && content[t] == g)
#define kept(g)   (newest < g || over[g] || there(g) || gone(0, g) || gone(1, g))
#define nothingLost (kept(1) && kept(2) && kept(3))

#define isMeant(t) (meant[t] == newest && (state[t] == PENDING || gone(t, newest)))
#define isLive     (live == newest || over[newest] || isMeant(0) || isMeant(1))

#define isKnown(t) (pend[t] == ABSENT || state[t] == MOVING || \
                    (state[t] != NONE && state[t] != ABANDONED && \
                     content[t] == pend[t]))

/* What the pending name holds; kept as moved, linked back, or its own.      */
inline judge(t) {
#ifdef NO_CHECK
  d_step { content[t] = meant[t]; state[t] = PENDING }
#else
  if
  :: pend[t] == meant[t] -> d_step { content[t] = meant[t]; state[t] = PENDING }
  :: else ->
     d_step {                                     /* link(2)                 */
#ifdef NO_LINK
       live = pend[t];                            /* as rename(2) would      */
#else
       if :: live == ABSENT -> live = pend[t] :: else fi;
#endif
       isBack = (live == pend[t])
     }
     if
     :: isBack -> d_step { content[t] = pend[t]; state[t] = RESTORED }
#ifdef NO_OWN
     :: !isBack -> state[t] = ABANDONED
#else
     :: !isBack -> d_step { content[t] = pend[t]; state[t] = PENDING }
#endif
     fi
  fi
#endif
}

proctype mover() {
  byte t; byte plan; bool isBack; bool died;
  do
  :: t < TOMBS ->
     plan = live;                                 /* the plan                */
     if
     :: plan != ABSENT ->
        d_step { state[t] = MOVING; meant[t] = plan; died = false }
        if                                        /* rename(2)               */
#ifdef NO_RENAME
        :: live == meant[t] -> pend[t] = live;    /* link(2)                 */
           live = ABSENT                          /* unlink(2)               */
#else
        :: d_step { live != ABSENT -> pend[t] = live; live = ABSENT }
#endif
        :: live == ABSENT                         /* ENOENT                  */
        :: died = true                            /* dies before it          */
        fi;
        if :: died = true :: true fi;             /* dies after it           */
        /* From here on the same steps serve a first run and recovery. */
        if
#ifdef NO_PENDING_FIRST
        :: died && live != ABSENT -> state[t] = ABANDONED
        :: (!died || live == ABSENT) && pend[t] != ABSENT -> judge(t)
        :: (!died || live == ABSENT) && pend[t] == ABSENT -> state[t] = ABANDONED
#else
        :: pend[t] != ABSENT -> judge(t)
        :: else -> state[t] = ABANDONED
#endif
        fi
     :: else
     fi;
     t++
  :: else -> break
  od;
  idle = true
}

proctype writer() {
  do
  :: d_step { newest < NEWEST -> over[live] = true; newest++; live = newest }
  :: d_step { live != ABSENT -> over[live] = true; live = ABSENT } break
  :: newest == NEWEST -> break
  od
}

proctype purger() {
  byte t; byte from; byte rounds;
  do
  :: rounds < 2 ->
     if :: t = 0 :: t = 1 fi;
     d_step {
       from = state[t];
       if
       :: from == PENDING || from == RESTORED -> state[t] = PURGING
       :: else
       fi
     }
     if
     :: from == PENDING -> d_step { pend[t] = ABSENT; state[t] = PURGED }
     :: from == RESTORED ->
        if
        :: live == content[t] -> d_step { pend[t] = ABSENT; state[t] = DROPPED }
        :: else -> state[t] = PENDING
        fi
     :: else
     fi;
     rounds++
  :: else -> break
  od
}

init {
  atomic { run mover(); run writer(); run purger() }
}

active proctype monitor() {
end:
  if
  :: !nothingLost -> lost = true; assert(!lost)
  :: idle && !isLive -> away = true; assert(!away)
  :: idle && !(isKnown(0) && isKnown(1)) -> stray = true; assert(!stray)
  fi
}
