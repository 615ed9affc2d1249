/*
 * Claims other than sessions: `hold` and `pause`, a restore's exemption, another
 * owner (take-over). For the SPIN model checker; see scripts/check-model.
 *
 * A claimer writes its claim, looks at the fences once, and waits until each
 * batch it saw is over; then the claim is in force and reported as done. A run
 * puts up a fence for its batch, then looks at owner and holds, writes its
 * intents in a transaction that checks what it has just read, acts, and takes
 * the fence down. A run that dies leaves its fence; recovery finishes the batch
 * under it, without looking: whoever could mind waits for that fence. Where an
 * operator has broken it, recovery puts up its own, and looks.
 *
 * One key. It is live, or it is pending as tombstone 0; the mover has it in its
 * plan, from when it was live, in two batches.
 *
 * Processes
 *   mover     two batches, of a policy; may die in either
 *   purger    one batch
 *   recovery  of the mover
 *   operator  breaks the fence of a dead mover
 *   claimer   one of: hold or pause, restore of tombstone 0, take-over
 *
 * In force, nothing is moved or purged against a hold, what was restored stays,
 * and the catalog that was the owner does nothing more.
 *
 * Rules, each with the switch that leaves it out
 *   CLAIM_FIRST     R5: the claim, then the look at the fences  -DNO_CLAIM_FIRST
 *   HOLD_WAIT       R5: hold and pause wait for what they saw   -DNO_HOLD_WAIT
 *   RESTORE_WAIT    R5: so does a restore before it puts back   -DNO_RESTORE_WAIT
 *   OWNER_WAIT      R5: and a new owner before it acts          -DNO_OWNER_WAIT
 *   HOLDS_AFTER     R5: a run reads the holds after its fence   -DNO_HOLDS_AFTER
 *   OWNER_AFTER     R5: and the owner                           -DNO_OWNER_AFTER
 *   PURGER_LOOKS    R5: purgers, too                            -DNO_PURGER_LOOKS
 *   RECOVERY_LOOKS  section 5: a recovery without the dead
 *                   run's fence looks                           -DNO_RECOVERY_LOOKS
 *   OWN_FENCE       section 5: ... and announces before         -DNO_OWN_FENCE
 *   BREAK_LOCK      section 5: a fence is not broken while the
 *                   run's lock is held, by it or its recovery   -DNO_BREAK_LOCK
 */

#define ABSENT  0
#define BATCHES 2

/* claims */
#define HOLD    1
#define RESTORE 2
#define OWNER   3

byte kind;              /* which claim it is                                 */
bool claim;             /* it is in the store                                */
bool inForce;

bool live; bool pend[3]; /* the key; its copies, by tombstone                */
bool mFence; byte mBatch;
bool pFence;
bool rFence;            /* a recovery's own                                  */
bool dead;              /* the mover has died: its lock is free              */
bool done;              /* it has ended well                                 */
bool locked;            /* recovery has taken that                           */

bool held;              /* something was done against a hold in force        */
bool takenAway;         /* a restored object went                            */
bool notOwner;          /* something was done by who is not the owner        */

inline note(moves) {
  held = held || (inForce && kind == HOLD);
  notOwner = notOwner || (inForce && kind == OWNER);
  takenAway = takenAway || (moves && inForce && kind == RESTORE)
}

/* A move, as the intent says; what is not live any more is abandoned. */
inline move(t) {
  d_step {
    if
    :: live -> live = false; pend[t] = true; note(true)
    :: else
    fi
  }
}

/* What a run's look finds: the owner is another, a hold or exemption is there. */
#define isOwner  (!(claim && kind == OWNER))
#define mayMove   (!(claim && kind != OWNER))
#define mayPurge  (!(claim && kind == HOLD))    /* exemptions keep no copies */

proctype mover() {
  bool mine; bool free; byte batch = 1;
  do
  :: batch <= BATCHES ->
#ifdef NO_OWNER_AFTER
     mine = isOwner;
#endif
#ifdef NO_HOLDS_AFTER
     free = mayMove;
#endif
     d_step { mFence = true; mBatch = batch }
#ifndef NO_OWNER_AFTER
     mine = isOwner;
#endif
#ifndef NO_HOLDS_AFTER
     free = mayMove;
#endif
     if
     :: mine && free ->                           /* the intents             */
        if
        :: move(batch)
        :: dead = true; goto over
        fi
     :: else
     fi;
     mFence = false;
     batch++
  :: else -> break
  od;
  done = true;
over:
  skip
}

proctype recovery() {
  bool mine = true; bool free = true; bool own;
  if
  :: dead ->
     d_step { !locked -> locked = true }
     if
     :: !mFence ->                                /* it was broken           */
#ifndef NO_OWN_FENCE
        rFence = true;
#endif
#ifndef NO_RECOVERY_LOOKS
        mine = isOwner;
        free = mayMove;
#endif
        skip
     :: mFence
     fi;
     if
     :: mine && free -> move(mBatch)
     :: else                                      /* for later               */
     fi;
     mFence = false;
     rFence = false;
     locked = false
  :: done
  fi
}

proctype operator() {
  if
#ifdef NO_BREAK_LOCK
  :: d_step { dead -> mFence = false }
#else
  :: d_step { dead && !locked -> mFence = false }
#endif
  :: true
  fi
}

proctype purger() {
  bool mine = true; bool free = true; byte t;
  if :: t = 0 :: t = 1 fi;
  pFence = true;
#ifndef NO_PURGER_LOOKS
  mine = isOwner;
  free = mayPurge;
#endif
  if
  :: mine && free ->
     d_step {
       if :: pend[t] -> pend[t] = false; note(false) :: else fi
     }
  :: else
  fi;
  pFence = false
}

proctype claimer() {
  bool seenM; byte batch; bool seenP; bool seenR; bool wait = true;
#ifndef NO_CLAIM_FIRST
  claim = true;
#endif
  d_step { seenM = mFence; batch = mBatch; seenP = pFence; seenR = rFence }
#ifdef NO_CLAIM_FIRST
  claim = true;
#endif
#ifdef NO_HOLD_WAIT
  wait = wait && kind != HOLD;
#endif
#ifdef NO_RESTORE_WAIT
  wait = wait && kind != RESTORE;
#endif
#ifdef NO_OWNER_WAIT
  wait = wait && kind != OWNER;
#endif
  if
  :: wait ->
     (!seenM || !mFence || mBatch != batch);
     (!seenP || !pFence);
     (!seenR || !rFence)
  :: else
  fi;
  d_step {
    if                                            /* a restore puts back     */
    :: kind == RESTORE && !live && pend[0] -> live = true
    :: else
    fi;
    inForce = (kind != RESTORE || live)
  }
}

init {
  atomic {
    if :: kind = HOLD :: kind = RESTORE :: kind = OWNER fi;
    if :: live = true :: pend[0] = true fi;
    run mover(); run recovery(); run operator(); run purger(); run claimer()
  }
}

active proctype monitor() {
end:
  if
  :: held -> assert(!held)
  :: takenAway -> assert(!takenAway)
  :: notOwner -> assert(!notOwner)
  fi
}
