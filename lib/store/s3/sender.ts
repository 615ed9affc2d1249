import type { Clock } from '../../domain/clock.ts';
import { errnoOf, TombstonedError } from '../../domain/errors.ts';
import { printable } from '../../domain/key.ts';
import { Unanswered } from './api.ts';
import { connect, type ViaSdk, wayOf } from './connection.ts';
import { DirectRequests } from './direct.ts';
import {
  type About,
  exhaustedError,
  isPassing,
  isPutOff,
  isTooFast,
  type Refusal,
  readRefusal,
  refusalError,
  serverError,
  unsentError,
} from './errors.ts';
import { type Answer, Attempt, type AttemptOptions, Connections, MalformedAnswer } from './http.ts';
import { once } from './once.ts';
import { Throttle, type ThrottleOptions } from './throttle.ts';
import { plainWay, type S3Place } from './way.ts';

/** One request, and what its answer means. */
export interface Call<O, T> {
  /** S3's name of it, for figures and permissions. */
  readonly operation: string;
  /** For people: `read`, `copied`, … */
  readonly what: string;
  /** The name below the store's prefix, where it is about one. */
  readonly name?: string | undefined;
  /** The version it names, of that or of what is copied. */
  readonly versionId?: string | null | undefined;
  /** The root element of a good answer's document; null: none; `'stream'`: the body is the caller's. */
  readonly answers: string | null;
  /** How long not a byte may come, where it is not the usual time. ms */
  readonly patience?: number;
  readonly signal?: AbortSignal | undefined;
  /** Makes the request, once: past the SDK, or by it. */
  send(direct: DirectRequests, options: AttemptOptions, sdk: () => Promise<ViaSdk>): Promise<O>;
  /** What a good answer says; it throws a `MalformedAnswer` where that is nothing. */
  read(output: O, answer: Answer): T | Promise<T>;
  /** What a refusal means, where the caller asked about that; undefined: it is an error. */
  refused?(refusal: Refusal): T | undefined;
}

/** What of a request an error tells. */
type Subject = Pick<Call<unknown, unknown>, 'operation' | 'what' | 'name' | 'versionId'>;

export interface SenderOptions {
  readonly bucket: string;
  readonly prefix: string;
  readonly place: S3Place;
  readonly throttle: ThrottleOptions;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  /** How long not a byte may come. ms */
  readonly patience: number;
  /** Is told each request, and how it ended: as an outcome of `Outcome`. */
  readonly onRequest?: (operation: string, outcome: string) => void;
}

/** What became of one attempt. */
type Outcome<T> =
  | { readonly kind: 'answered'; readonly value: T }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  /** Nothing reached the server. */
  | { readonly kind: 'unsent'; readonly error: unknown; readonly isNetwork: boolean }
  /** `isPutOff` where the server has said that it did nothing. */
  | { readonly kind: 'unknown'; readonly error: unknown; readonly isPutOff?: boolean };

/** A request is accepted up to 15 min after its date, by the store's clock (R5). ms */
const EFFECT_MS = 16 * 60_000;
const RETRY_FOR_MS = 60_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;
/** How often a server is tried that has never answered. */
const FIRST_TRIES = 3;

/** Sends requests: one attempt each, or again and again where that does no harm; says what became of them. */
export class Sender {
  readonly bucket: string;
  readonly prefix: string;
  readonly clock: Clock;
  readonly requests = new Map<string, number>();
  #dateText = { text: '', date: Number.NaN };
  lastDate: { readonly date: number; readonly monotonic: number } | undefined;
  unansweredUntil: number | undefined;
  /** Whether any answer showed that the bucket is there. */
  isBucketSeen = false;
  readonly #sdk: () => Promise<ViaSdk>;
  readonly #direct: DirectRequests;
  readonly #connections: Connections;
  readonly #host: string;
  readonly #throttle: Throttle;
  readonly #random: () => number;
  readonly #patience: number;
  readonly #onRequest: (operation: string, outcome: string) => void;

  static async open(options: SenderOptions): Promise<Sender> {
    const answered: { by?: (answer: Answer) => void } = {};
    const connections = new Connections(options.throttle.concurrency, (answer) => answered.by?.(answer));
    const { place, bucket } = options;
    const plain = await plainWay(place, bucket);
    const sdk = once(async () => connect(place, bucket, connections));
    const { host } = plain ?? (await sdk());
    const direct = new DirectRequests(connections, async () => plain ?? wayOf(await sdk(), bucket));
    const sender = new Sender(options, { sdk, direct, connections }, host);
    answered.by = (answer) => sender.#answered(answer);
    return sender;
  }

  private constructor(
    options: SenderOptions,
    {
      sdk,
      direct,
      connections,
    }: { sdk: () => Promise<ViaSdk>; direct: DirectRequests; connections: Connections },
    host: string,
  ) {
    this.bucket = options.bucket;
    this.prefix = options.prefix;
    this.clock = options.clock;
    this.#random = options.random;
    this.#patience = options.patience;
    this.#onRequest = options.onRequest ?? (() => undefined);
    this.#throttle = new Throttle(options.throttle, options.clock);
    this.#sdk = sdk;
    this.#direct = direct;
    this.#connections = connections;
    this.#host = host;
  }

  /** The usual time without a byte. ms */
  get patience(): number {
    return this.#patience;
  }

  /**
   * Exactly one attempt of a request that changes something: its answer; a
   * `TombstonedError`, and nothing was done; or an `Unanswered`.
   */
  async once<O, T>(call: Call<O, T>): Promise<T> {
    const { outcome, attempt } = await this.#attempt(call);
    switch (outcome.kind) {
      case 'answered':
        return outcome.value;
      case 'refused':
        return this.#meant(call, outcome.refusal, attempt.signedAt);
      case 'unsent':
        if (call.signal?.aborted === true) throw outcome.error;
        throw unsentError(outcome.error, this.about(call));
      case 'unknown':
        throw this.unanswered(call, attempt.signedAt, outcome.error, outcome.isPutOff);
    }
  }

  /**
   * A request that may be made again: where the answer is no answer, for up to about a
   * minute. Where it changes something and the end is not a good answer, one of those
   * that got none may still have its effect: an `Unanswered`.
   */
  async repeated<O, T>(call: Call<O, T> & { readonly changes?: true }): Promise<T> {
    let lostAt: number | undefined;
    const give = (error: Error): Error =>
      call.changes === true && lostAt !== undefined ? this.unanswered(call, lostAt, error) : error;
    const startedAt = this.clock.monotonic();
    for (let tries = 1; ; tries++) {
      const { outcome, attempt } = await this.#attempt(call);
      let last: unknown;
      switch (outcome.kind) {
        case 'answered':
          return outcome.value;
        case 'refused':
          if (!isPassing(outcome.refusal)) {
            const meant = call.refused?.(outcome.refusal);
            if (meant !== undefined) return meant;
            throw give(refusalError(outcome.refusal, this.about(call), attempt.signedAt));
          }
          last = serverError(outcome.refusal);
          break;
        case 'unsent':
          call.signal?.throwIfAborted();
          // A server that has answered before is waited for.
          if (!outcome.isNetwork || (this.lastDate === undefined && tries >= FIRST_TRIES)) {
            throw give(unsentError(outcome.error, this.about(call)));
          }
          last = outcome.error;
          break;
        case 'unknown':
          call.signal?.throwIfAborted();
          lostAt = attempt.signedAt ?? this.clock.now();
          last = outcome.error;
          break;
      }
      const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (tries - 1));
      const pause = (most / 2) * (1 + this.#random());
      const passed = this.clock.monotonic() - startedAt;
      if (passed + pause > RETRY_FOR_MS) {
        throw give(exhaustedError(last, this.about(call), Math.round(passed / 1000)));
      }
      await this.clock.sleep(pause, call.signal);
      call.signal?.throwIfAborted();
    }
  }

  /** Waits until so many bytes may be copied. Called before anything is open that must not wait. */
  async mayCopy(bytes: number): Promise<void> {
    await this.#throttle.bytes(bytes);
  }

  /** Notes that it is not known what became of a request. */
  unanswered(call: Subject, signedAt: number | undefined, cause: unknown, hasPutOff = false): Unanswered {
    const date = signedAt ?? this.clock.now();
    if (!hasPutOff) this.unansweredUntil = Math.max(this.unansweredUntil ?? 0, date + EFFECT_MS);
    const { where, what } = this.about(call);
    const text = cause instanceof Error ? cause.message : String(cause);
    const message = hasPutOff ? `${where} was not ${what}` : `it is not known whether ${where} was ${what}`;
    return new Unanswered(`${message}: ${text}`, date, cause, !hasPutOff);
  }

  about({ operation, what, name, versionId }: Subject): About {
    const fullName = name === undefined ? undefined : printable(this.prefix + name);
    return {
      bucket: this.bucket,
      fullName,
      isOfVersion: typeof versionId === 'string',
      where: `s3://${this.bucket}${fullName === undefined ? '' : `/${fullName}`}`,
      what,
      key: name,
      operation,
      host: this.#host,
    };
  }

  close(): void {
    this.#connections.destroy();
  }

  #meant<O, T>(call: Call<O, T>, refusal: Refusal, signedAt: number | undefined): T {
    const meant = call.refused?.(refusal);
    if (meant !== undefined) return meant;
    throw refusalError(refusal, this.about(call), signedAt);
  }

  async #attempt<O, T>(call: Call<O, T>): Promise<{ outcome: Outcome<T>; attempt: Attempt }> {
    const attempt = new Attempt(call.answers, call.patience ?? this.#patience);
    let outcome: Outcome<T> | undefined;
    await this.#throttle.run(async () => {
      this.requests.set(call.operation, (this.requests.get(call.operation) ?? 0) + 1);
      outcome = await this.#outcome(call, attempt);
      return { isTooFast: attempt.answer !== undefined && isTooFast(readRefusalOf(attempt.answer)) };
    }, call.signal);
    if (outcome !== undefined) this.#onRequest(call.operation, outcome.kind);
    if (outcome === undefined) throw new TypeError('a request ended without an outcome');
    return { outcome, attempt };
  }

  async #outcome<O, T>(call: Call<O, T>, attempt: Attempt): Promise<Outcome<T>> {
    const options: AttemptOptions = {
      attempt,
      ...(call.signal === undefined ? {} : { abortSignal: call.signal }),
    };
    try {
      const output = await call.send(this.#direct, options, this.#sdk);
      if (attempt.answer === undefined) throw new MalformedAnswer('the answer was not seen');
      const value = await call.read(output, attempt.answer);
      this.isBucketSeen = true;
      return { kind: 'answered', value };
    } catch (error) {
      const { answer } = attempt;
      if (answer !== undefined && answer.status >= 300) {
        const refusal = readRefusal(answer);
        if (isPutOff(refusal)) return { kind: 'unknown', error: serverError(refusal), isPutOff: true };
        // A server that lacks a function says so with a code of its own; all else above 500 says nothing.
        return answer.status < 500 || refusal.code === 'NotImplemented'
          ? { kind: 'refused', refusal }
          : { kind: 'unknown', error: serverError(refusal) };
      }
      if (attempt.wasSent) return { kind: 'unknown', error };
      // What never came to the connection (no credentials, …) is not the network's.
      const isNetwork = attempt.signedAt !== undefined && errnoOf(error) !== undefined;
      return { kind: 'unsent', error, isNetwork };
    }
  }

  #answered({ headers }: Answer): void {
    const { date: text = '' } = headers;
    // Read once a second: that takes long.
    if (text !== this.#dateText.text) this.#dateText = { text, date: Date.parse(text) };
    const { date } = this.#dateText;
    if (Number.isFinite(date)) this.lastDate = { date, monotonic: this.clock.monotonic() };
  }
}

function readRefusalOf(answer: Answer): { status: number; code: string } {
  return answer.status < 300 ? { status: answer.status, code: '' } : readRefusal(answer);
}

/** For errors of callers that are no refusals of the server. */
export function failed(about: About, reason: string, hint: string): TombstonedError {
  return new TombstonedError('failed', `${about.where} can't be ${about.what}: ${reason}`, {
    key: about.key,
    hint,
  });
}
