/*
 * Leases when clocks are wrong: never silent. For the SPIN model checker; see
 * scripts/check-model. Who judges when, while clocks are right, is in
 * lease-watch.pml.
 *
 * Clocks that stand still or race, a frozen holder, an operator's `lease break`:
 * a run may take a lease as dead at any moment, and its holder goes on, its
 * renewals succeed, for any time. So there is no time in here. Whoever takes a
 * lease as dead first leaves `<id>.broken`, then acts; holders look for that.
 *
 * A holder may go on for too long, but never ends well with a hole. A session
 * has each key that was live when it opened in its view, or it says that the
 * lease is lost; it never says "missing" of a key it listed. with-lease does not
 * exit with 0 when COMMAND, which reads live keys and knows nothing of leases,
 * could not read one.
 *
 * Processes
 *   session    lists two keys under a lease that blocks sweeps (2), renews it
 *              as one that blocks purges (1), reads both
 *   command    reads both live keys under with-lease's (either runs, or session)
 *   run        judges; moves and purges what the lease allows
 *   operator   `lease break`: leaves `.broken`, then removes the lease
 *
 * Rules, each with the switch that leaves it out
 *   BROKEN        the run leaves `.broken`                       -DNO_BROKEN
 *   BROKEN_FIRST  ... before it acts                             -DNO_BROKEN_FIRST
 *   BREAK_MARK    `lease break` leaves it, too                   -DNO_BREAK_MARK
 *   BREAK_FIRST   ... before it removes the lease                -DNO_BREAK_FIRST
 *   LOOK_LISTED   the session looks for it after its listing (the
 *                 look of the renewal after that would do as
 *                 well, and is left out here)                    -DNO_LOOK_LISTED
 *   LOOK_MISSED   and after a miss, before it says missing       -DNO_LOOK_MISSED
 *   LOOK_ENDED    with-lease does after COMMAND has ended        -DNO_LOOK_ENDED
 */

/* where a key's object is */
#define LIVE   0
#define MOVED  1
#define PURGED 2

byte at[2];
byte blocks = 2;        /* what the lease blocks                             */
bool there = true;      /* the lease                                         */
bool broken;            /* <id>.broken                                       */

bool hole;              /* a view without a key that was live                */
bool saidMissing;       /* of a listed key                                   */
bool exitedWell;        /* with-lease, though COMMAND could not read a key   */

proctype session() {
  byte k; bool seen[2]; bool lost;
  seen[0] = (at[0] == LIVE);                      /* LIST, page one          */
  seen[1] = (at[1] == LIVE);                      /* page two                */
#ifndef NO_LOOK_LISTED
  lost = broken;
#endif
  if
  :: !lost ->
     if                                           /* renews                  */
     :: d_step { there -> blocks = 1 }
     :: !there -> lost = true
     fi
  :: else
  fi;
  if
  :: !lost ->
     hole = (!seen[0] || !seen[1]);
     do
     :: k < 2 && !lost ->
        if
        :: seen[k] && at[k] == PURGED ->          /* not live, not pending   */
#ifndef NO_LOOK_MISSED
           lost = broken;
#endif
           saidMissing = !lost
        :: !seen[k] || at[k] != PURGED            /* reads it                */
        fi;
        k++
     :: else -> break
     od
  :: else
  fi;
  there = false                                   /* it ends, well or not    */
}

proctype command() {
  byte k; bool missedOne; bool lost;
  do
  :: k < 2 ->
     if :: at[k] != LIVE -> missedOne = true :: at[k] == LIVE fi;
     k++
  :: else -> break
  od;
#ifndef NO_LOOK_ENDED
  lost = broken;
#endif
  exitedWell = (!lost && missedOne);
  there = false
}

proctype run_() {
  bool judged;
  byte k;
  do
  :: !judged && there ->                          /* takes it as dead        */
#if !defined(NO_BROKEN) && !defined(NO_BROKEN_FIRST)
     broken = true;
#endif
     judged = true
  :: (judged || !there || blocks < 2) && at[k] == LIVE -> at[k] = MOVED
  :: (judged || !there) && at[k] == MOVED -> at[k] = PURGED
  :: k = 1 - k
  :: break
  od;
#ifdef NO_BROKEN_FIRST
  broken = broken || judged
#endif
}

proctype operator() {
#if defined(NO_BREAK_MARK)
  there = false
#elif defined(NO_BREAK_FIRST)
  there = false;
  broken = true
#else
  broken = true;
  there = false
#endif
}

init {
  atomic {
    run run_(); run operator();
    if :: run session() :: run command() fi
  }
}

active proctype monitor() {
end:
  if
  :: hole -> assert(!hole)
  :: saidMissing -> assert(!saidMissing)
  :: exitedWell -> assert(!exitedWell)
  fi
}
