import type { ServiceManager } from '../config/environment.ts';
import type { Clock } from '../domain/clock.ts';
import { printable } from '../domain/key.ts';
import type { Log } from './log.ts';
import { Notifier } from './notifier.ts';
import { Watchdog } from './watchdog.ts';

/** The least time between two messages that only say how it stands. ms. */
const STATUS_EVERY_MS = 2000;
/** How long the service manager waits where it has no watchdog: longer than a start may be silent. ms. */
const PATIENCE_MS = 600_000;
const RECOVERING = 'recovering';

/** What the loop of one store says. */
export interface StoreWatch {
  /** For all that the loop does: looks at it are signs of life. */
  readonly clock: Clock;
  /** How it stands, for `systemctl status`. A sign of life too. */
  says(status: string): void;
  /** What dead processes have left was seen to, or can't be for now. */
  isRecovered(): void;
  /** The loop has ended. */
  end(): void;
}

/**
 * The daemon as a service of `Type=notify`: ready when every store was recovered once,
 * then watched. Without a service manager that wants to know, it does nothing.
 */
export class Service {
  readonly #clock: Clock;
  readonly #notifier: Notifier | undefined;
  readonly #watchdog: Watchdog | undefined;
  readonly #stores = new Map<string, string>();
  readonly #unrecovered = new Set<string>();
  #isReady = false;
  #isStopping = false;
  #toldAt = Number.NEGATIVE_INFINITY;
  #told = '';

  constructor({ manager, clock, log }: { manager: ServiceManager | undefined; clock: Clock; log: Log }) {
    this.#clock = clock;
    if (manager === undefined) return;
    this.#notifier = new Notifier(manager, log);
    const { watchdog = PATIENCE_MS } = manager;
    const extension = { EXTEND_TIMEOUT_USEC: String(Math.round(watchdog * 1000)) };
    const feed = (): void => {
      if (!this.#isReady) this.#notifier?.send(extension);
      else if (manager.watchdog !== undefined) this.#notifier?.send({ WATCHDOG: '1' });
    };
    this.#watchdog = new Watchdog(clock, watchdog, { feed, onBeat: () => this.#tellStatus() });
  }

  /** Watches the loop of a store. */
  watch(store: string): StoreWatch {
    const heart = this.#watchdog?.join();
    if (heart === undefined) return unwatched(this.#clock);
    this.#unrecovered.add(store);
    this.#stores.set(store, RECOVERING);
    return {
      clock: heart,
      says: (status) => {
        this.#stores.set(store, status);
        heart.beat();
      },
      isRecovered: () => this.#recovered(store),
      end: () => {
        this.#watchdog?.leave(heart);
        this.#stores.delete(store);
        this.#unrecovered.delete(store);
      },
    };
  }

  /** The config is about to be read again; `reloaded` follows, whatever comes of it. */
  reloading(): void {
    if (!this.#isReady) return;
    const since = `${Math.floor(this.#clock.uptime())}000`;
    this.#notifier?.send({ RELOADING: '1', MONOTONIC_USEC: since, STATUS: 'reading the config' });
  }

  reloaded(): void {
    if (!this.#isReady) return;
    this.#notifier?.send({ READY: '1', STATUS: this.#status() });
  }

  stopping(): void {
    this.#isStopping = true;
    this.#notifier?.send({ STOPPING: '1', STATUS: 'stopping after the batch that is under way' });
  }

  #tellStatus(): void {
    const isSoon = this.#clock.monotonic() - this.#toldAt < STATUS_EVERY_MS;
    if (!this.#isStopping && !isSoon && this.#told !== this.#status()) this.#tell({});
  }

  #recovered(store: string): void {
    this.#unrecovered.delete(store);
    if (this.#stores.get(store) === RECOVERING) this.#stores.set(store, 'recovered');
    if (this.#unrecovered.size > 0 || this.#isReady || this.#isStopping) return;
    this.#isReady = true;
    this.#tell({ READY: '1' });
  }

  #tell(notice: Readonly<Record<string, string>>): void {
    this.#told = this.#status();
    this.#toldAt = this.#clock.monotonic();
    this.#notifier?.send({ ...notice, STATUS: this.#told });
  }

  #status(): string {
    return [...this.#stores].map(([store, status]) => `${store}: ${printable(status)}`).join('; ');
  }
}

function unwatched(clock: Clock): StoreWatch {
  return { clock, says: () => undefined, isRecovered: () => undefined, end: () => undefined };
}
