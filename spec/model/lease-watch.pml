/*
 * Leases without clocks: who judges, and who counts. For the SPIN model
 * checker; see scripts/check-model. What a session does when clocks are wrong
 * is in lease-broken.pml.
 *
 * A holder renews its lease by writing the next number in place. A run (a mover
 * or purger) takes the lease as dead once it has seen the same number for a
 * whole TTL, and `settle`, by its own monotonic clock. The holder counts a
 * renewal if its answer came within nine tenths of a TTL since the beginning of
 * the last one that counted, by that clock of its own that says more has passed.
 *
 * While clocks are right, the holder never takes itself to hold (and never hands
 * out a byte as leased under) a lease that a run has taken as dead.
 *
 * Time is ticks. TTL is 4, nine tenths of it is 3: while the run's clock counts
 * 4, that of the holder counts at least 3. Of the holder's wall and monotonic
 * clock one is right, and the other may stand still. Any process may stand still
 * for any time (frozen, or waiting for a slow request): that is only another
 * interleaving. What the run sees of a number may be a tick old (`settle`).
 *
 * Processes: holder, network (lands renewals late), run, clock
 *
 * Rules, each with the switch that leaves it out
 *   WATCH_WHOLE_TTL the run watches for a whole TTL; it does not
 *                   judge by the time in the lease         -DNO_WATCH_WHOLE_TTL
 *   TTL_SETTLE      and for `settle` longer                      -DNO_TTL_SETTLE
 *   CLOCK_BEFORE    from the end of its first look to the beginning
 *                   of its last: a look may take long      -DNO_CLOCK_BEFORE
 *   BOOT            after a boot of its host it begins again     -DNO_BOOT
 *   DEADLINE        a renewal answered too late does not count   -DNO_DEADLINE
 *   OWN_CLOCK       without one in time the lease is lost        -DNO_OWN_CLOCK
 *   FROM_BEGINNING  counted from a renewal's beginning, not from
 *                   its answer                                   -DNO_FROM_BEGINNING
 *   BOTH_CLOCKS     wall or monotonic, whichever says more       -DNO_BOTH_CLOCKS
 */

#define TTL      4
#define HELD     3      /* nine tenths of it, as the holder counts           */
#define SETTLE   1
#define RENEWALS 3

#if defined(NO_WATCH_WHOLE_TTL)
#define WATCH 0
#elif defined(NO_TTL_SETTLE)
#define WATCH TTL
#else
#define WATCH (TTL + SETTLE)
#endif

byte number;            /* the renewal number in the store                   */
byte fresh = SETTLE + 1; /* ticks since it was written                       */

bool wall;              /* the holder's wall clock is right, not the other   */
byte since;             /* holder's: since the last that counted began       */
byte begun;             /* holder's: since the renewal under way began       */
byte watched;           /* run's: since it first saw this number             */
byte steady = HELD;     /* ticks since the run's clock last gained one       */

bool air;               /* a renewal is under way that its sender gave up    */
bool judged;            /* the run has taken the lease as dead               */
bool lost;              /* so has the holder                                 */

bool heldDead;          /* the run has, and the holder has not               */

#ifdef NO_BOTH_CLOCKS
#define passed(ticks) (wall -> 0 : ticks)  /* monotonic alone: stood still   */
#else
#define passed(ticks) ticks
#endif

#ifdef NO_OWN_CLOCK
#define holds (!lost)
#else
#define holds (!lost && passed(since) < HELD)
#endif

proctype holder() {
  byte renewals;
  do
  :: !lost && renewals < RENEWALS ->
     d_step { begun = 0; renewals++ }             /* its clock, then:        */
     if
     :: d_step { number++; fresh = 0 }            /* the request lands       */
        if
        :: d_step {                               /* its answer comes        */
#ifdef NO_DEADLINE
             if
#else
             if
             :: passed(since) >= HELD -> lost = true
#endif
             :: else ->
#ifdef NO_FROM_BEGINNING
                since = 0
#else
                since = begun
#endif
             fi
           }
        :: skip                                   /* its answer never does   */
        fi
     :: air = true                                /* the holder gives it up  */
     fi
  :: else -> break
  od
}

proctype network() {
end:
  do
  :: d_step { air -> air = false; number++; fresh = 0 }
  od
}

proctype run_() {
  byte last = 255; byte now; bool whole;
  do
  :: judged -> break
  :: !judged ->
     whole = (watched >= WATCH);                  /* its clock, then:        */
     if                                           /* a look                  */
     :: now = number
     :: fresh <= SETTLE && number > 0 -> now = number - 1      /* stale      */
     fi;
#ifdef NO_CLOCK_BEFORE
     whole = (watched >= WATCH);
#endif
     d_step {
       if
       :: now != last -> last = now; watched = 0
       :: now == last && whole -> judged = true
       :: else
       fi;
       now = 0; whole = false
     }
  :: !judged ->                                   /* its host boots          */
#ifdef NO_BOOT
     watched = WATCH                              /* the clocks don't compare */
#else
     last = 255
#endif
  od
}

#define runTicks \
  watched = (watched < WATCH -> watched + 1 : watched); \
  fresh = (fresh <= SETTLE -> fresh + 1 : fresh)

proctype clock() {
end:
  do
  :: d_step {                                     /* for both                */
       since < HELD || watched < WATCH || fresh <= SETTLE ->
       runTicks;
       since = (since < HELD -> since + 1 : since);
       begun = (begun < HELD -> begun + 1 : begun);
       steady = (steady < HELD -> steady + 1 : steady)
     }
  :: d_step {                                     /* for the run alone       */
       (watched < WATCH || fresh <= SETTLE) && steady == HELD ->
       runTicks;
       steady = 0
     }
  od
}

init {
  atomic {
    if :: wall = true :: wall = false fi;
    run holder(); run network(); run run_(); run clock()
  }
}

active proctype monitor() {
end:
  if
  :: judged && holds -> heldDead = true; assert(!heldDead)
  fi
}
