/*
 * Requests that land after their sender gave up, as on S3. For the SPIN model
 * checker; see scripts/check-model.
 *
 * A mover sends DELETE for a live key whose copy is complete, a purger DELETE
 * for a pending copy, a restore PUT for a live key where nothing is. Each may
 * time out, and the sender can't tell whether it has landed, will land, or never
 * will. The store refuses a request once its own time is past the signed date by
 * a limit; the sender's clock may be ahead by as much (the store takes that), and
 * then the request lives longer. A fence stays up until no request under it can
 * land any more: until each was answered, or an answer's Date is so far past the
 * signed date of the last one.
 *
 * One key. Generation 1 is live; if it was restored before, tombstone 0 is its
 * copy. The mover tombstones it as 1.
 *
 * Processes
 *   mover, purger   one batch each, which may die and be recovered
 *   claimer         a session that lists, with-lease, hold or pause: what is
 *                   there when its claim is in force stays until it ends
 *   restorer        restores one of the tombstones; what it reports as restored
 *                   stays (an exemption keeps policies away)
 *   writer          writes the key again
 *   network         lands requests late
 *   clock           the store's time
 *
 * Rules, each with the switch that leaves it out
 *   KEEP_FENCE     R5: a sender that can't know keeps its fence up
 *                  until its request can't land any more       -DNO_KEEP_FENCE
 *   EACH_REQUEST   R5: that is so for each request sent, also
 *                  after a repeat of it was answered: the first
 *                  one would remove what was restored since    -DNO_EACH_REQUEST
 *   LONG_ENOUGH    R5: it waits for as long as a request lives  -DNO_LONG_ENOUGH
 *   STORE_DATE     R5: by the store's Date, not its own clock   -DNO_STORE_DATE
 *   DEAD_TOO       section 5: recovery can't know what the dead
 *                  run has sent, and waits as well             -DNO_DEAD_TOO
 *   AHEAD          ... and not what its clock said: it waits as
 *                  if that had been ahead                      -DNO_AHEAD
 *   WAIT           R5: claimers wait for the fences they saw    -DNO_WAIT
 *   RESTORE_WAIT   R5: a restore does so, too                   -DNO_RESTORE_WAIT
 *   GUARD          R3: DELETE of a live key names its ETag      -DNO_GUARD
 *   RESTORING      R8: a restore has no fence; it leaves its
 *                  tombstone in `restoring` until its PUT can't
 *                  land any more, else that may bring back what
 *                  was purged since                            -DNO_RESTORING
 *
 * A purger needs no EACH_REQUEST: a pending name that is gone never comes back
 * (R1), so whatever lands late there does nothing.
 */

#define ABSENT 0

/* state of a tombstone in the catalog */
#define NONE      0
#define MOVING    1
#define PENDING   2
#define PURGING   3
#define RESTORING 4
#define RESTORED  5
#define PURGED    6
#define DROPPED   7     /* purged from RESTORED: not a reason to be gone     */

#define LONGEST   2     /* ticks a request lives if its sender was ahead     */
#define SENDS     2     /* a sender repeats once                             */

byte live = 1; byte pend[2]; byte state[2];
byte life;              /* ticks for which a request may land: 1, or LONGEST */

bool mFence; bool pFence;
bool claim; bool exempt;

byte mAir; byte pAir; byte pT;  /* requests under way; which copy it is      */
bool rAir; byte rT; byte rAge = 3;
byte mAge = 3; byte pAge = 3;   /* ticks since the last unanswered was sent  */
byte mDead = 3; byte pDead = 3; /* ticks since its recovery first saw a Date */

bool overwritten; bool written; /* by the writer                             */
bool due;                       /* the purger is at, or has purged, a PENDING */

bool lost;              /* what was written is nowhere                       */
bool hole;              /* a live key went under a claim in force            */
bool early;             /* a pending copy went under a claim in force        */
bool undone;            /* a restore took a tombstone whose copy was gone    */
bool takenAway;         /* what was reported as restored went                */
bool risen;             /* what was purged is live again                     */
bool newGone;           /* what the writer wrote went                        */
bool back;              /* the restore has been reported                     */

#define nothingLost \
  (overwritten || live == 1 || pend[0] == 1 || pend[1] == 1 || due)

#ifdef NO_GUARD
#define landLive live = ABSENT
#else
#define landLive live = (live == 1 -> ABSENT : live)
#endif

#define landBack live = (live == ABSENT -> 1 : live)

#ifdef NO_LONG_ENOUGH
#define over(age) (age >= life)
#else
#define over(age) (age > life)
#endif

#ifdef NO_STORE_DATE
byte mOwn = 3; byte pOwn = 3;   /* the same by the sender's own clock        */
#define mShown mOwn
#define pShown pOwn
#define stamp(own) own = 0
#else
#define mShown mAge
#define pShown pAge
#define stamp(own)
#endif

/* A recovery has only the Date of its own first answer.                     */
inline waitForDead(dead) {
#ifndef NO_DEAD_TOO
  dead = 0;
#ifdef NO_AHEAD
  (dead > LONGEST - 1);
#else
  (dead > LONGEST);
#endif
#endif
  skip
}

proctype mover() {
  bool may; bool known; bool open; byte sent;
  mFence = true;
  may = (!claim && !exempt);                      /* look                    */
  if
  :: may ->
     d_step { if :: live == 1 -> state[1] = MOVING :: else -> may = false fi }
  :: else
  fi;
  if
  :: may ->
     d_step { if :: live == 1 -> pend[1] = 1 :: else fi }        /* COPY     */
     if
     :: pend[1] == ABSENT -> state[1] = NONE      /* changed: abandoned      */
     :: else ->
again:
        sent++;
        if                                        /* DELETE                  */
        :: d_step { landLive; known = true }
        :: d_step { landLive; mAge = 0; stamp(mOwn); open = true }
        :: d_step { mAir++; mAge = 0; stamp(mOwn); open = true }
        fi;
        if
        :: known ->
#ifndef NO_EACH_REQUEST
           (!open || over(mShown))
#endif
        :: !known && sent < SENDS -> goto again   /* repeats it              */
        :: !known ->
#ifndef NO_KEEP_FENCE
           over(mShown)
#endif
        :: waitForDead(mDead)                     /* dies; its recovery      */
        fi;
        /* HEAD. If it is still there, the copy becomes restored.            */
        d_step { state[1] = (live == 1 -> RESTORED : PENDING) }
     fi
  :: else
  fi;
  mFence = false
}

proctype purger() {
  byte t; byte from; bool known; byte sent; byte seen;
  if :: t = 0 :: t = 1 fi;
  d_step {
    if
    :: state[t] == PENDING || state[t] == RESTORED ->
       from = state[t]; state[t] = PURGING; pT = t; due = (from == PENDING)
    :: else
    fi
  }
  if
  :: from != NONE ->
     pFence = true;
     if
     :: claim -> d_step { state[t] = from; due = false }
     :: else ->
again:
        sent++;
        if                                        /* DELETE                  */
        :: d_step { pend[t] = ABSENT; known = true }
        :: d_step { pend[t] = ABSENT; pAge = 0; stamp(pOwn) }
        :: d_step { pAir++; pAge = 0; stamp(pOwn) }
        fi;
        seen = pend[t];                           /* HEAD                    */
        if
        :: known || seen == ABSENT                /* gone for good           */
        :: !known && seen != ABSENT && sent < SENDS -> goto again
        :: !known && seen != ABSENT ->
#ifndef NO_KEEP_FENCE
           over(pShown);
#endif
           seen = pend[t]
        :: waitForDead(pDead); seen = pend[t]     /* dies; its recovery      */
        fi;
        if
        :: known || seen == ABSENT ->
           state[t] = (from == PENDING -> PURGED : DROPPED)
        :: else -> d_step { state[t] = from; due = false }
        fi
     fi;
     pFence = false
  :: else
  fi
}

proctype claimer() {
  bool seenM; bool seenP; bool hadLive; bool had0; bool had1;
  claim = true;
  d_step { seenM = mFence; seenP = pFence }       /* look once               */
#ifndef NO_WAIT
  (!seenM || !mFence);
  (!seenP || !pFence);
#endif
  d_step {                                        /* in force                */
    hadLive = (live != ABSENT);
    had0 = (pend[0] != ABSENT); had1 = (pend[1] != ABSENT)
  }
  d_step {                                        /* any time later          */
    hole = (hadLive && live == ABSENT);
    early = ((had0 && pend[0] == ABSENT) || (had1 && pend[1] == ABSENT))
  }
  claim = false
}

proctype restorer() {
  bool seenM; bool seenP; byte t; byte from; bool isBack;
  exempt = true;
  d_step { seenM = mFence; seenP = pFence }
#ifndef NO_RESTORE_WAIT
  (!seenM || !mFence);
  (!seenP || !pFence);
#endif
  if :: t = 0 :: t = 1 fi;
  d_step {
    if
    :: state[t] == PENDING || state[t] == RESTORED ->
       from = state[t]; state[t] = RESTORING; rT = t
    :: else
    fi
  }
  if
  :: from != NONE ->
     undone = (pend[t] == ABSENT);                /* GET                     */
     if                                           /* PUT, if nothing is there */
     :: d_step { landBack }
     :: d_step { rAir = true; rAge = 0 }
#ifndef NO_RESTORING
        (rAge > life)
#endif
     fi;
     d_step {                                     /* HEAD                    */
       isBack = (live == 1);
       state[t] = (isBack -> RESTORED : from); back = isBack
     }
  :: else
  fi
}

proctype writer() {
  d_step { overwritten = (live == 1); live = 2; written = true }
}

proctype network() {
end:
  do
  :: d_step { mAir > 0 -> mAir--; landLive }
  :: d_step { pAir > 0 -> pAir--; pend[pT] = ABSENT }
  :: d_step {
       rAir -> rAir = false;
       risen = (live == ABSENT && state[rT] == PURGED);
       landBack
     }
  od
}

proctype clock() {
end:
  do
  :: d_step {
       mAge < 3 || pAge < 3 || rAge < 3 || mDead < 3 || pDead < 3 ->
       mAge = (mAge < 3 -> mAge + 1 : 3);
       pAge = (pAge < 3 -> pAge + 1 : 3);
       rAge = (rAge < 3 -> rAge + 1 : 3);
       mDead = (mDead < 3 -> mDead + 1 : 3);
       pDead = (pDead < 3 -> pDead + 1 : 3);
       mAir = (mAge > life -> 0 : mAir);          /* the store refuses it    */
       pAir = (pAge > life -> 0 : pAir);
       rAir = (rAge > life -> false : rAir)
     }
#ifdef NO_STORE_DATE
  :: d_step { mOwn < 3 -> mOwn++ }                /* runs as it likes        */
  :: d_step { pOwn < 3 -> pOwn++ }
#endif
  od
}

init {
  atomic {
    if :: pend[0] = 1; state[0] = RESTORED :: skip fi;
    if :: life = LONGEST :: life = 1 fi;
    run mover(); run purger(); run writer(); run network(); run clock();
    if :: run claimer() :: run restorer() fi
  }
}

active proctype monitor() {
end:
  if
  :: !nothingLost -> lost = true; assert(!lost)
  :: hole -> assert(!hole)
  :: early -> assert(!early)
  :: undone -> assert(!undone)
  :: back && live == ABSENT -> takenAway = true; assert(!takenAway)
  :: risen -> assert(!risen)
  :: written && live != 2 -> newGone = true; assert(!newGone)
  fi
}
