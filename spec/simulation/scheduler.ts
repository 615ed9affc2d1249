import type { Clock } from '../../lib/domain/clock.ts';
import type { RandomSource } from '../../lib/domain/ids.ts';

/** What a killed process would have thrown, had it lived. */
export class Killed extends Error {
  constructor() {
    super('killed');
    this.name = 'Killed';
  }
}

/** A promise of the simulation is broken. */
export class Violation extends Error {
  /** Which promise. */
  readonly promise: string;

  constructor(promise: string, message: string) {
    super(`${promise}: ${message}`);
    this.name = 'Violation';
    this.promise = promise;
  }
}

/** A machine: its processes share a boot, a wall clock and caches. */
export interface Host {
  readonly name: string;
  readonly boot: string;
  /** How far its wall clock is off the true time, ms. */
  offset: number;
  /** How far its monotonic clock has run ahead, ms: that never happens, unless clocks are wrong. */
  ahead: number;
}

/** How wild a seed is: chances per decision or request. */
export interface Temper {
  /** How often the process that ran last goes on. */
  readonly stick: number;
  /** A request or answer that takes seconds. */
  readonly slow: number;
  /** The next sleeper wakes although others could run. */
  readonly wake: number;
  readonly freeze: number;
  readonly jump: number;
  /** A monotonic clock that runs ahead: no promise but that of loud errors holds then. */
  readonly race: number;
  /** A request whose sender gives up before it lands. */
  readonly late: number;
  /** A writer that comes between two system calls; only of real files. */
  readonly between: number;
  /** An answer that is under way while others run. */
  readonly answer: number;
}

/** When wall clocks begin. */
const EPOCH = Date.parse('2026-11-22T10:00:00.000Z');
const DAY = 86_400_000;
/** Turns of the event loop in which what was resumed comes to its next request. */
const TURNS = 4;
/** How often nothing can go on before that is so for good: some take more turns than those to come to a request. */
const MOST_IDLE = 20;
/** What no seed takes, unless it never ends. */
const MOST_STEPS = 60_000;

interface Entry {
  readonly process: Process;
  readonly name: string;
  /** Not before, ms of the true time. */
  readonly at: number;
  readonly go: () => void;
  readonly fail: (error: Error) => void;
}

/** Runs processes one request at a time, in an order, and by clocks, that a seed gives. */
export class Scheduler {
  /** The true time, ms. */
  now = 0;
  steps = 0;
  failure: Error | undefined;
  /** Each step as a line; only where a trace is wanted. */
  readonly trace: string[] = [];
  readonly random: RandomSource;
  temper: Temper;
  /** How long a process may be frozen at the most, ms. */
  readonly longestFreeze: number;
  readonly #isTraced: boolean;
  readonly #hosts: Host[] = [];
  readonly #processes: Process[] = [];
  #entries: Entry[] = [];
  #last: Process | undefined;
  #idle = 0;
  #frozen = 0;
  #jumps = 0;

  constructor(options: { random: RandomSource; temper: Temper; longestFreeze: number; isTraced: boolean }) {
    this.random = options.random;
    this.temper = options.temper;
    this.longestFreeze = options.longestFreeze;
    this.#isTraced = options.isTraced;
  }

  chance(probability: number): boolean {
    return this.random(1_000_000) < probability * 1_000_000;
  }

  host(name: string): Host {
    const host = { name, boot: `boot-${name}`, offset: 0, ahead: 0 };
    this.#hosts.push(host);
    return host;
  }

  /** Whether monotonic clocks are what they should be. */
  get areClocksRight(): boolean {
    return this.#hosts.every(({ ahead }) => ahead === 0);
  }

  add(process: Process): void {
    this.#processes.push(process);
  }

  note(process: { readonly name: string }, text: string): void {
    if (this.#isTraced)
      this.trace.push(`${(this.now / 1000).toFixed(3).padStart(10)} ${process.name}: ${text}`);
  }

  /** Stops everything: a promise is broken. */
  fail(error: Error): void {
    this.failure ??= error;
  }

  /** Waits for its turn. Rejects when its process dies first. */
  async park(process: Process, name: string, after = 0): Promise<void> {
    return new Promise((go, fail) => {
      this.#entries.push({ process, name, at: this.now + after, go, fail });
    });
  }

  /** Takes out what a process has under way; each is to fail. */
  drop(process: Process): void {
    const dropped = this.#entries.filter((entry) => entry.process === process);
    this.#entries = this.#entries.filter((entry) => entry.process !== process);
    for (const { fail } of dropped) fail(new Killed());
  }

  /** Lets a sleeper go on at once. */
  wake(go: () => void): void {
    this.#entries = this.#entries.map((entry) => (entry.go === go ? { ...entry, at: this.now } : entry));
  }

  /** Parks with a handle, so that it can be woken. */
  sleep(process: Process, name: string, after: number): { slept: Promise<void>; go: () => void } {
    let go = (): void => undefined;
    const slept = new Promise<void>((resolve, fail) => {
      go = resolve;
      this.#entries.push({ process, name, at: this.now + after, go: resolve, fail });
    });
    return { slept, go };
  }

  /** Runs until all of it has ended. Throws what broke. */
  async run(work: Promise<unknown>): Promise<void> {
    let isDone = false;
    const end = async (): Promise<void> => {
      try {
        await work;
      } catch (error) {
        this.fail(error instanceof Error ? error : new Error(String(error)));
      }
      isDone = true;
    };
    void end();
    for (;;) {
      await turns();
      if (isDone || this.failure !== undefined) break;
      this.#decide();
    }
    if (this.failure === undefined) return;
    for (const process of this.#processes) process.die();
    await turns();
    throw this.failure;
  }

  #decide(): void {
    this.steps += 1;
    if (this.steps > MOST_STEPS) {
      this.fail(new Violation('ends', `no end after ${MOST_STEPS} steps`));
      return;
    }
    this.#events();
    const { temper } = this;
    let ready = this.#ready();
    if (ready.length === 0 || this.chance(temper.wake)) {
      const next = Math.min(
        ...this.#entries
          .map(({ at, process }) => Math.max(at, process.frozenUntil))
          .filter((at) => at > this.now),
      );
      if (Number.isFinite(next)) {
        this.now = next;
        ready = this.#ready();
      }
    }
    if (ready.length === 0) {
      this.#idle += 1;
      if (this.#idle <= MOST_IDLE) return;
      this.fail(new Violation('ends', 'nothing can go on, and not all is done'));
      return;
    }
    this.#idle = 0;
    const own = ready.filter(({ process }) => process === this.#last);
    const among = own.length > 0 && this.chance(temper.stick) ? own : ready;
    const entry = among[this.random(among.length)];
    if (entry === undefined) return;
    this.#last = entry.process;
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    this.now += this.chance(temper.slow) ? this.random(15_000) : this.random(3);
    this.note(entry.process, entry.name);
    entry.go();
  }

  #ready(): Entry[] {
    return this.#entries.filter(({ at, process }) => Math.max(at, process.frozenUntil) <= this.now);
  }

  /** What befalls processes and hosts. */
  #events(): void {
    const { temper } = this;
    if (this.#frozen < 3 && this.chance(temper.freeze)) {
      const living = this.#processes.filter(({ isDead, isFreezable }) => !isDead && isFreezable);
      const process = living[this.random(living.length)];
      if (process !== undefined) {
        this.#frozen += 1;
        process.frozenUntil = this.now + this.random(this.longestFreeze);
        this.note(process, `frozen for ${process.frozenUntil - this.now} ms`);
      }
    }
    if (this.chance(temper.race)) {
      const host = this.#hosts[this.random(this.#hosts.length)];
      if (host !== undefined) {
        host.ahead += this.random(100_000);
        this.note(host, 'its monotonic clock runs ahead');
      }
    }
    if (this.#jumps < 3 && this.chance(temper.jump)) {
      const host = this.#hosts[this.random(this.#hosts.length)];
      if (host !== undefined) {
        this.#jumps += 1;
        host.offset += (this.random(2) === 0 ? 1 : -1) * this.random(30 * DAY);
        this.note(host, `its clock jumps to ${new Date(wallOf(host, this.now)).toISOString()}`);
      }
    }
  }
}

async function turns(): Promise<void> {
  for (let i = 0; i < TURNS; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}

function wallOf(host: Host, now: number): number {
  return EPOCH + now + host.offset;
}

/** One simulated process: all it does goes through here, and so it can die, or stand still, between any two calls. */
export class Process {
  readonly name: string;
  readonly host: Host;
  readonly scheduler: Scheduler;
  readonly random: RandomSource;
  readonly clock: Clock;
  readonly isFreezable: boolean;
  /** The catalog it acts with, by the name of its file. */
  catalog = '';
  frozenUntil = 0;
  isDead = false;
  /** At which of its calls it dies, and whether that still has its effect. */
  #doom: { readonly at: number; readonly when: 'before' | 'after' } | undefined;
  #calls = 0;

  constructor(
    scheduler: Scheduler,
    options: {
      name: string;
      host: Host;
      random: RandomSource;
      isFreezable?: boolean;
      doom?: { at: number; when: 'before' | 'after' } | undefined;
    },
  ) {
    this.scheduler = scheduler;
    this.name = options.name;
    this.host = options.host;
    this.random = options.random;
    this.isFreezable = options.isFreezable ?? true;
    this.#doom = options.doom;
    this.clock = {
      now: () => wallOf(this.host, scheduler.now),
      monotonic: () => scheduler.now,
      uptime: () => scheduler.now + this.host.ahead,
      sinceBoot: () => ({ boot: this.host.boot, ms: scheduler.now }),
      isSynced: async () => false,
      sleep: async (ms, signal) => this.#sleep(ms, signal),
    };
    scheduler.add(this);
  }

  async #sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.isDead) throw new Killed();
    if (signal?.aborted === true) return;
    const { slept, go } = this.scheduler.sleep(this, `has slept ${ms} ms`, ms);
    const wake = (): void => this.scheduler.wake(go);
    signal?.addEventListener('abort', wake);
    try {
      await slept;
    } finally {
      signal?.removeEventListener('abort', wake);
    }
  }

  /** A request to the store: waits for its turn, has its effect at once, and the answer may be under way for a while. */
  async request<T>(name: string, effect: () => T): Promise<T> {
    await this.turn(name);
    const result = this.#step(name, effect);
    if (this.scheduler.chance(this.scheduler.temper.answer)) await this.turn(`${name}: answered`);
    return result;
  }

  /** Waits for its turn, which does not come before so many ms. */
  async turn(name: string, after = 0): Promise<void> {
    if (this.isDead) throw new Killed();
    await this.scheduler.park(this, name, after);
  }

  /** A call that has its effect at once: of the catalog. */
  call<T>(name: string, effect: () => T): T {
    if (this.isDead) throw new Killed();
    this.scheduler.note(this, name);
    return this.#step(name, effect);
  }

  #step<T>(name: string, effect: () => T): T {
    this.#calls += 1;
    const doom = this.#doom?.at === this.#calls ? this.#doom : undefined;
    if (doom?.when === 'before') this.#kill(name, 'before');
    const result = effect();
    if (doom?.when === 'after') this.#kill(name, 'after');
    return result;
  }

  #kill(name: string, when: string): never {
    this.scheduler.note(this, `killed ${when} ${name}`);
    this.die();
    throw new Killed();
  }

  /** From now on nothing it does takes effect. */
  die(): void {
    this.isDead = true;
    this.scheduler.drop(this);
  }
}
