import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Catalog } from '../../lib/catalog/catalog.ts';
import type { Clock } from '../../lib/domain/clock.ts';
import type { RandomSource } from '../../lib/domain/ids.ts';
import { isBelowPrefix } from '../../lib/domain/key.ts';
import type { Place } from '../../lib/run/place.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { S3Client } from '../../lib/store/s3/client.ts';
import { ControlObjects } from '../../lib/store/s3/control-objects.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import { Faults, Killed } from '../support/faults.ts';
import { FAST } from '../support/phases.ts';
import { ACTOR, seeded } from '../support/place.ts';
import { Amazon, xml } from '../support/s3-amazon.ts';
import { type S3Answer, type S3Request, Upstream } from '../support/s3-request.ts';
import type { S3Server } from '../support/s3-server.ts';
import { PENDING } from './bucket-place.ts';
import { type Arrived, SteppedServer } from './stepped-server.ts';

const STORE_UUID = '00000000-0000-4000-8000-000000000001';
const CATALOG_UUID = '00000000-0000-4000-8000-00000000000a';
/** How long after its date a server takes a request. ms. */
const LIFE_MS = 15 * 60_000;
/** Turns of the event loop without any news after which nothing goes on by itself. */
const TURNS = 6;
/** How long it may look as if nothing could go on. ms. */
const IDLE_MS = 5000;
const MOST_STEPS = 20_000;

/** How wild a seed is: chances per request or decision. */
export interface Temper {
  /** A write that has its effect, and whose answer is lost. */
  readonly lost: number;
  /** A request that is answered with 500, without an effect. */
  readonly refused: number;
  /** A write whose sender gives up before it has its effect. */
  readonly late: number;
  /** A process that stands still. */
  readonly freeze: number;
  /** A process that dies. */
  readonly death: number;
  /** Time that goes on although others could act. */
  readonly wake: number;
}

export const CALM: Temper = { lost: 0, refused: 0, late: 0, freeze: 0, death: 0, wake: 0 };

interface Sleeper {
  readonly process: SteppedProcess;
  at: number;
  readonly go: () => void;
  readonly fail: (error: Error) => void;
  /** What is done when its turn comes, where it is no mere sleep. */
  readonly act?: () => Promise<void>;
}

/** Somebody who has a claim in force. */
export interface Watch {
  readonly prefixes: readonly string[];
  readonly blocks: 'sweep' | 'purge';
  /** What it covers was moved or purged. */
  onBroken(what: string): void;
}

/**
 * A store in a real bucket, and processes that act there at once, one request at a
 * time, in an order and by a time that a seed gives. Whatever a request has done is
 * looked at before the next.
 */
export class SteppedWorld {
  now = 0;
  temper: Temper;
  readonly random: RandomSource;
  readonly window: number;
  readonly watches = new Set<Watch>();
  readonly trace: string[] = [];
  readonly contents: Contents;
  readonly #base = Date.now();
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #server: S3Server;
  readonly #upstream: Upstream;
  readonly #send: (request: S3Request) => Promise<S3Answer>;
  readonly #capabilities: Capabilities;
  readonly #directory = mkdtempSync(path.join(FAST, 'tombstoned-s3-'));
  readonly #processes: SteppedProcess[] = [];
  #sleepers: Sleeper[] = [];
  #late: { readonly request: S3Request; readonly until: number; readonly by: string }[] = [];
  #failure: Error | undefined;
  #steps = 0;

  static async make(options: {
    server: S3Server;
    bucket: string;
    prefix: string;
    isAmazon: boolean;
    capabilities: Capabilities;
    random: RandomSource;
    temper: Temper;
    window: number;
  }): Promise<SteppedWorld> {
    const world = new SteppedWorld(options);
    const catalog = Catalog.create(world.#catalogFile, CATALOG_UUID, 0);
    catalog.addStore({ name: 'spec', uuid: STORE_UUID, url: world.#url, pendingPrefix: PENDING });
    catalog.close();
    const createdAt = '2026-11-22T10:00:00.000Z';
    const identity = { uuid: STORE_UUID, layout: 1, minReader: 1, pendingPrefix: PENDING, createdAt };
    const owner = { catalog: CATALOG_UUID, host: 'spec-host', since: createdAt };
    await world.put('.tombstoned/store.json', `${JSON.stringify(identity)}\n`);
    await world.put('.tombstoned/owner.json', `${JSON.stringify(owner)}\n`);
    return world;
  }

  private constructor(options: Parameters<typeof SteppedWorld.make>[0]) {
    this.random = options.random;
    this.temper = options.temper;
    this.window = options.window;
    this.#server = options.server;
    this.#bucket = options.bucket;
    this.#prefix = options.prefix;
    this.#capabilities = options.capabilities;
    this.#upstream = new Upstream(options.server);
    const amazon = new Amazon(this.#upstream, { copiesGetNewEtags: false });
    this.#send = (request) => (options.isAmazon ? amazon.answer(request) : this.#upstream.send(request));
    this.contents = new Contents(this, options.capabilities.versioning === 'enabled');
  }

  get #url(): string {
    return `s3://${this.#bucket}/${this.#prefix}`;
  }

  get #catalogFile(): string {
    return path.join(this.#directory, 'catalog.db');
  }

  chance(probability: number): boolean {
    return this.random(1_000_000) < probability * 1_000_000;
  }

  note(who: string, what: string): void {
    this.trace.push(`${(this.now / 1000).toFixed(3).padStart(10)} ${who}: ${what}`);
  }

  /** Stops everything: a promise is broken. */
  break(promise: string, what: string): void {
    this.note('TRUTH', `${promise} is broken: ${what}`);
    this.#failure ??= new Error(`${promise}: ${what}`);
  }

  /** Writes at the server itself. */
  async put(name: string, body: string): Promise<void> {
    const { status } = await this.#upstream.send({
      method: 'PUT',
      path: `/${this.#bucket}/${this.#prefix}${name}`,
      query: new URLSearchParams(),
      headers: {},
      body: Buffer.from(body),
    });
    if (status !== 200) throw new Error(`PUT ${name} answered ${status}`);
  }

  /** What is live and pending at the server itself, by name, with the MD5 of its bytes. */
  async listed(): Promise<Map<string, string>> {
    const query = new URLSearchParams({ 'list-type': '2', prefix: this.#prefix });
    const answer = await this.#upstream.send({
      method: 'GET',
      path: `/${this.#bucket}`,
      query,
      headers: {},
      body: Buffer.alloc(0),
    });
    if (answer.status !== 200) throw new Error(`a listing answered ${answer.status}`);
    const found = answer.body.toString().matchAll(/<Key>([^<]*)<\/Key>.*?<ETag>([^<]*)<\/ETag>/gs);
    return new Map(
      Array.from(found, (match): [string, string] => [
        (match[1] ?? '').slice(this.#prefix.length),
        (match[2] ?? '').replaceAll('&quot;', ''),
      ]).filter(([name]) => !name.startsWith('.tombstoned/')),
    );
  }

  async process(name: string): Promise<SteppedProcess> {
    const server = await SteppedServer.start();
    const process = new SteppedProcess(this, `${name}-${this.#processes.length}`, server);
    this.#processes.push(process);
    return process;
  }

  /** A process's own store; what it honours is known. */
  async open(process: SteppedProcess): Promise<{ store: S3Store; place: Place }> {
    const { clock } = process;
    const api = await S3Client.open({
      bucket: this.#bucket,
      prefix: this.#prefix,
      url: this.#url,
      config: { endpoint: process.server.endpoint, region: this.#server.region, forcePathStyle: true },
      throttle: { requestsPerSecond: null, concurrency: 16 },
      clock,
      random: () => 0.5,
    });
    const capabilities = async (): Promise<Capabilities> => this.#capabilities;
    const control = new ControlObjects({ api, capabilities, clock });
    const store = new S3Store({ api, control, capabilities, pendingPrefix: PENDING, clock, concurrency: 2 });
    const catalog = Catalog.open(this.#catalogFile);
    process.owns(store, catalog);
    const row = catalog.storeByName('spec');
    if (row === undefined) throw new Error('no store');
    const place: Place = {
      store,
      catalog: process.faults.catalog(catalog),
      row,
      format: 'plain',
      safetyWindow: this.window,
      clock,
      random: process.random,
      actor: ACTOR,
      report: (level, message) => this.note(process.name, `${level}: ${message}`),
    };
    return { store, place };
  }

  wall(): number {
    return this.#base + this.now;
  }

  sleep(sleeper: Omit<Sleeper, 'at'>, ms: number): Sleeper {
    const entry = { ...sleeper, at: this.now + ms };
    this.#sleepers.push(entry);
    return entry;
  }

  /** A process is dead: what it had sent may be late, what it waited for never comes. */
  bury(process: SteppedProcess): void {
    for (const request of process.server.drop()) if (isWrite(request)) this.#leaveLate(process.name, request);
    const its = this.#sleepers.filter((sleeper) => sleeper.process === process);
    this.#sleepers = this.#sleepers.filter((sleeper) => sleeper.process !== process);
    for (const { fail } of its) fail(new Killed());
  }

  #leaveLate(by: string, request: S3Request): void {
    const signed = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(request.headers['x-amz-date'] ?? '');
    if (signed === null) throw new Error('a request without a date');
    const [, year, month, day, hour, minute, second] = signed;
    const at = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
    this.#late.push({ request, until: at + LIFE_MS, by });
  }

  /** Runs until all of it has ended. Throws what broke. */
  async run(work: Promise<unknown>): Promise<void> {
    const real = Date.now;
    Date.now = () => this.wall(); // what requests are signed with
    try {
      let isDone = false;
      const end = async (): Promise<void> => {
        try {
          await work;
        } catch (error) {
          this.#failure ??= error instanceof Error ? error : new Error(String(error));
        }
        isDone = true;
      };
      void end();
      for (let idleSince = performance.now(); ; ) {
        await this.#settled();
        if (isDone || this.#failure !== undefined) break;
        if (await this.#step()) idleSince = performance.now();
        else if (performance.now() - idleSince > IDLE_MS) this.break('ends', 'nothing can go on');
      }
    } finally {
      for (const process of this.#processes) process.die();
      await this.#settled();
      Date.now = real;
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Waits until nothing goes on by itself. */
  async #settled(): Promise<void> {
    for (let quiet = 0; quiet < TURNS; ) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      quiet = this.#processes.some(({ server }) => server.isBusy) ? 0 : quiet + 1;
    }
  }

  async #step(): Promise<boolean> {
    const living = this.#processes.filter(({ isDead }) => !isDead);
    const waking = [
      ...this.#sleepers.map(({ at, process }) => Math.max(at, process.frozenUntil)),
      ...living.filter(({ server }) => server.waiting.length > 0).map(({ frozenUntil }) => frozenUntil),
    ].filter((at) => at > this.now);
    const isFree = (process: SteppedProcess): boolean => !process.isDead && process.frozenUntil <= this.now;
    const ready = (): (() => Promise<void>)[] => [
      ...living
        .filter(isFree)
        .flatMap((process) => process.server.waiting.map((one) => async () => this.#request(process, one))),
      ...this.#sleepers
        .filter(({ at, process }) => at <= this.now && isFree(process))
        .map((sleeper) => async () => this.#wake(sleeper)),
    ];
    let choices = ready();
    if (waking.length > 0 && (choices.length === 0 || this.chance(this.temper.wake))) {
      this.now = Math.min(...waking);
      choices = ready();
    }
    this.#late = this.#late.filter(({ until }) => until > this.wall());
    if (this.#late.length > 0 && this.random(20) === 0) choices.push(async () => this.#land());
    const choice = choices[this.random(choices.length)];
    if (choice === undefined) return false;
    this.#steps += 1;
    if (this.#steps > MOST_STEPS) this.break('ends', `no end after ${MOST_STEPS} steps`);
    this.#freeze();
    this.now += this.random(30);
    await choice();
    return true;
  }

  #freeze(): void {
    if (!this.chance(this.temper.freeze)) return;
    const living = this.#processes.filter(({ isDead }) => !isDead);
    const process = living[this.random(living.length)];
    if (process === undefined) return;
    process.frozenUntil = this.now + this.random(this.random(4) === 0 ? 3_000_000 : 100_000);
    this.note(process.name, `frozen for ${process.frozenUntil - this.now} ms`);
  }

  async #wake(sleeper: Sleeper): Promise<void> {
    this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
    await sleeper.act?.();
    sleeper.go();
  }

  /** What becomes of a request. */
  async #request(process: SteppedProcess, arrived: Arrived): Promise<void> {
    const { temper } = this;
    const { request } = arrived;
    const text = `${request.kind} ${request.key.slice(this.#prefix.length)}`;
    const write = isWrite(request);
    if (this.chance(temper.death)) {
      this.note(process.name, `killed before ${text}`);
      process.die();
      return;
    }
    if (this.chance(temper.refused)) {
      this.note(process.name, `${text}: 500`);
      return arrived.answer(xml(500, '<Error><Code>InternalError</Code></Error>'), this.wall());
    }
    if (write && this.chance(temper.late)) {
      this.note(process.name, `${text}: no answer yet`);
      this.#leaveLate(process.name, request);
      this.now += this.random(60_000);
      return arrived.answer(undefined, this.wall());
    }
    const answer = await this.#effect(process.name, request);
    this.note(process.name, `${text}: ${answer.status}`);
    if (write && this.chance(temper.death)) {
      this.note(process.name, 'killed after that');
      process.die();
      return;
    }
    const isLost = write && this.chance(temper.lost);
    if (isLost) this.note(process.name, 'its answer is lost');
    await arrived.answer(isLost ? undefined : answer, this.wall());
  }

  async #land(): Promise<void> {
    const [late] = this.#late.splice(this.random(this.#late.length), 1);
    if (late === undefined) return;
    const { status } = await this.#effect(late.by, late.request);
    this.note(
      late.by,
      `late: ${late.request.kind} ${late.request.key.slice(this.#prefix.length)}: ${status}`,
    );
  }

  async #effect(by: string, request: S3Request): Promise<S3Answer> {
    const answer = await this.#send(request);
    const isOfObjects = isWrite(request) && !request.key.includes('/.tombstoned/');
    if (isOfObjects) await this.contents.look(by, request.kind);
    return answer;
  }

  async close(): Promise<void> {
    for (const process of this.#processes) await process.server.close();
    this.#upstream.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function isWrite({ method, kind }: S3Request): boolean {
  return kind === 'batch-delete' || method === 'PUT' || method === 'DELETE';
}

/** One simulated process. */
export class SteppedProcess {
  readonly name: string;
  readonly server: SteppedServer;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly faults = new Faults();
  frozenUntil = 0;
  readonly #world: SteppedWorld;
  readonly #owned: (() => void)[] = [];

  constructor(world: SteppedWorld, name: string, server: SteppedServer) {
    this.#world = world;
    this.name = name;
    this.server = server;
    this.random = seeded(world.random(2 ** 31));
    this.clock = {
      now: () => world.wall(),
      monotonic: () => world.now,
      uptime: () => world.now,
      sinceBoot: () => ({ boot: ACTOR.boot, ms: world.now }),
      isSynced: async () => false,
      sleep: async (ms, signal) => this.#sleep(ms, signal),
    };
  }

  get isDead(): boolean {
    return this.faults.isDead;
  }

  owns(...resources: readonly { close(): void }[]): void {
    for (const resource of resources) this.#owned.push(() => resource.close());
  }

  async #sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.isDead) throw new Killed();
    if (signal?.aborted === true) return;
    let sleeper: Sleeper | undefined;
    const wake = (): void => {
      if (sleeper !== undefined) sleeper.at = this.#world.now;
    };
    signal?.addEventListener('abort', wake);
    try {
      await new Promise<void>((go, fail) => {
        sleeper = this.#world.sleep({ process: this, go, fail }, ms);
      });
    } finally {
      signal?.removeEventListener('abort', wake);
    }
  }

  /** Does something that is no request of the store's, when its turn comes. */
  async act(act: () => Promise<void>): Promise<void> {
    if (this.isDead) throw new Killed();
    await new Promise<void>((go, fail) => {
      this.#world.sleep({ process: this, go, fail, act }, 0);
    });
  }

  /** From now on nothing it does takes effect. */
  die(): void {
    if (!this.isDead) this.faults.end();
    this.#world.bury(this);
    for (const close of this.#owned.splice(0)) close();
  }
}

interface Content {
  readonly key: string;
  readonly text: string;
  readonly etag: string;
  isOverwritten: boolean;
  isPurged: boolean;
}

/** What is true of the store: which contents there were, and what became of each. */
export class Contents {
  readonly #world: SteppedWorld;
  readonly #all: Content[] = [];
  /** Where versions are kept, a marker may hide a content until it is taken off again. */
  readonly #isVersioned: boolean;
  #last = new Map<string, string>();
  /** Pending names, and since when their objects are not live any more. */
  readonly #pendingSince = new Map<string, number>();

  constructor(world: SteppedWorld, isVersioned: boolean) {
    this.#world = world;
    this.#isVersioned = isVersioned;
  }

  /** A writer's next content of a key, written. */
  async write(key: string): Promise<void> {
    const text = `${key}#${this.#all.filter((one) => one.key === key).length}`.repeat(
      1 + this.#world.random(3),
    );
    const etag = createHash('md5').update(text).digest('hex');
    this.#all.push({ key, text, etag, isOverwritten: false, isPurged: false });
    await this.#world.put(key, text);
    const old = this.#contentOf(this.#last.get(key));
    if (old !== undefined) old.isOverwritten = true;
    this.#last = await this.#world.listed();
  }

  textOf(etag: string): string | undefined {
    return this.#contentOf(etag)?.text;
  }

  isOverwritten(etag: string): boolean {
    return this.#contentOf(etag)?.isOverwritten === true;
  }

  /** Whether anything of a key was purged or overwritten. */
  isTouched(key: string): boolean {
    return this.#all.some((one) => one.key === key && (one.isPurged || one.isOverwritten));
  }

  liveEtag(key: string): string | undefined {
    return this.#last.get(key);
  }

  #contentOf(etag: string | undefined): Content | undefined {
    return this.#all.find((one) => one.etag === etag);
  }

  /** Looks at what a request has done. */
  async look(by: string, what: string): Promise<void> {
    const world = this.#world;
    const before = this.#last;
    const now = await world.listed();
    this.#last = now;
    const held = new Set(now.values());
    for (const [name, etag] of before) {
      if (now.get(name) === etag) continue;
      const isPending = name.startsWith(PENDING);
      const key = isPending ? name.slice(PENDING.length, name.lastIndexOf('~')) : name;
      const since = this.#pendingSince.get(name);
      const shown = `${name} of ${JSON.stringify(this.textOf(etag))} by a ${what} of ${by}`;
      if (isPending && since !== undefined) {
        const waited = world.now - since;
        if (waited < world.window) world.break('nothing early', `${shown} after ${waited} ms`);
        for (const watch of world.watches) if (covers(watch, key)) watch.onBroken(`${shown} was purged`);
        const content = this.#contentOf(etag);
        if (content !== undefined && !held.has(etag)) content.isPurged = true;
      } else if (!held.has(etag) && !this.isOverwritten(etag) && !this.#isVersioned) {
        world.break('nothing lost', shown);
      }
      if (!isPending && !now.has(name)) {
        for (const watch of world.watches)
          if (watch.blocks === 'sweep' && covers(watch, key)) watch.onBroken(`${shown} was moved`);
      }
    }
    for (const [name, etag] of now) {
      if (!name.startsWith(PENDING) || this.#pendingSince.has(name)) continue;
      const key = name.slice(PENDING.length, name.lastIndexOf('~'));
      if (now.get(key) !== etag) this.#pendingSince.set(name, world.now);
    }
  }

  /** What should be there and is not. */
  async missing(): Promise<string[]> {
    const held = new Set((await this.#world.listed()).values());
    return this.#all
      .filter(({ etag, isOverwritten, isPurged }) => !isOverwritten && !isPurged && !held.has(etag))
      .map(({ text }) => text);
  }
}

function covers({ prefixes }: Watch, key: string): boolean {
  return prefixes.some((prefix) => isBelowPrefix(key, prefix));
}
