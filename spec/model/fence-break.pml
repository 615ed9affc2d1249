/*
 * `fence break`, and the run that comes back. For the SPIN model checker; see
 * scripts/check-model.
 *
 * A run stands still (a frozen machine, a process on another host), and an
 * operator, who takes it for dead, breaks its fence: claimers no longer wait for
 * it. If it comes back it finds its fence gone, and does nothing more. It looks
 * for it after its look at the leases, and again whenever it has been at the
 * batch for over 10 s since it last did. With each request it sends, it looks at
 * its clock at once before; that and the sending are one step here. What it has
 * sent may still land for a time (R5: 16 min on S3; none locally), also if the
 * run is dead.
 *
 * Time is ticks. 10 s are one, the life of a request is two. The operator
 * vouches that the run has stood still for as long as a request lives, and that it
 * does so still when its fence goes.
 *
 * Processes
 *   run       one batch: a mover or purger that acts on two keys
 *   operator  breaks its fence
 *   claimer   a session, hold or pause; in force, it must not see an act
 *   network   lands requests
 *   clock
 *
 * Rules, each with the switch that leaves it out
 *   OWN_FENCE_LOOK  R5: a run looks for its own fence after its look
 *                   at the leases                         -DNO_OWN_FENCE_LOOK
 *   LOOK_AGAIN      R5: and again after 10 s               -DNO_LOOK_AGAIN
 *   CLOCK_BEFORE    ... since it began to look: that may take long
 *                                                          -DNO_CLOCK_BEFORE
 *   LAST_REQUEST    section 5: `fence break` waits until the last
 *                   request can't land any more            -DNO_LAST_REQUEST
 *   VOUCHED         section 5: and nobody breaks the fence of a run
 *                   that is at work (the lock is held; --force is
 *                   the operator's word)                   -DNO_VOUCHED
 *   CLAIM_FIRST     R5: the claim, then the look at the fences
 *                                                          -DNO_CLAIM_FIRST
 */

#define LOOKS 1         /* ticks after which it looks again                  */
#define LIFE  2         /* ticks for which what it sent may land             */
#define OLD   3

#if defined(NO_VOUCHED)
#define mayBreak true
#elif defined(NO_LAST_REQUEST)
#define mayBreak (still > LOOKS)
#else
#define mayBreak (still > LIFE)
#endif

bool fence;
bool claim; bool inForce;

byte still;             /* ticks since the run has done anything             */
byte looked;            /* run's clock: since it last looked for its fence   */
byte air;               /* what it has sent and is not answered              */
byte airAge = OLD;      /* ticks since the last of it was sent               */

bool acted;             /* under a claim in force                            */

inline lookForOwn() {
#ifndef NO_CLOCK_BEFORE
  d_step { looked = 0; still = 0 }                /* its clock, then:        */
#endif
  d_step { may = may && fence; still = 0 }
#ifdef NO_CLOCK_BEFORE
  d_step { looked = 0; still = 0 }
#endif
}

proctype run_() {
  byte k; bool may;
  d_step { fence = true; still = 0 }
  d_step { may = !claim; still = 0 }              /* looks at the leases     */
#ifdef NO_OWN_FENCE_LOOK
  d_step { looked = 0; still = 0 }                /* begins to act           */
#else
  lookForOwn();
#endif
  do
  :: may && k < 2 ->
     if
#ifdef NO_LOOK_AGAIN
     :: d_step {
#else
     :: looked > LOOKS -> lookForOwn()
     :: d_step { looked <= LOOKS ->               /* its clock; sends        */
#endif
          k++; air++; airAge = 0; still = 0
        }
        (air == 0)                                /* its answer, or too late */
     fi
  :: else -> break
  od;
  fence = false
}

proctype network() {
end:
  do
  :: d_step { air > 0 -> air--; acted = acted || inForce }
  od
}

proctype operator() {
  if
  :: d_step { fence && mayBreak -> fence = false }
  :: !fence
  fi
}

proctype claimer() {
  bool seen;
#ifdef NO_CLAIM_FIRST
  seen = fence;
  (!seen || !fence);
  claim = true;
#else
  claim = true;
  seen = fence;
  (!seen || !fence);
#endif
  inForce = true
}

proctype clock() {
end:
  do
  :: d_step {
       still < OLD || looked < OLD || airAge < OLD ->
       still = (still < OLD -> still + 1 : OLD);
       looked = (looked < OLD -> looked + 1 : OLD);
       airAge = (airAge < OLD -> airAge + 1 : OLD);
       air = (airAge > LIFE -> 0 : air)
     }
  od
}

init {
  atomic {
    run run_(); run network(); run operator(); run claimer(); run clock()
  }
}

active proctype monitor() {
end:
  if
  :: acted -> assert(!acted)
  fi
}
