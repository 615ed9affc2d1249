import { copyFileSync, existsSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { recover } from '../../lib/app/recover.ts';
import type { Catalog } from '../../lib/catalog/catalog.ts';
import { type FileLock, runLockFile, takeDeadLock, takeLock } from '../../lib/catalog/run-lock.ts';
import type { RunRow } from '../../lib/catalog/runs.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import type { Place } from '../../lib/run/place.ts';
import { inRun } from '../../lib/run/run.ts';
import { FAST, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';
import { Child } from './child.ts';
import type { Errand } from './place.child.ts';

const CHILD = path.join(import.meta.dirname, 'place.child.ts');

describe('the lock of a run', function () {
  this.timeout(30_000);
  let temp: TempPlace;
  let place: Place;
  let children: Child[];
  beforeEach(async () => {
    temp = await TempPlace.make(FAST);
    place = temp.open();
    children = [];
  });
  afterEach(async () => {
    for (const child of children) await child.kill();
    temp.remove();
  });

  function start(errand: Omit<Errand, 'directory' | 'now'>): Child {
    const whole: Errand = { directory: temp.directory, now: temp.clock.wall, ...errand };
    const child = new Child(CHILD, [JSON.stringify(whole)]);
    children.push(child);
    return child;
  }

  /** A process with a run, and that run. */
  async function running(): Promise<{ child: Child; run: RunRow }> {
    const child = start({ do: 'run' });
    const id = await child.hear();
    const run = openRuns().find((open) => open.id === id);
    if (run === undefined) throw new Error(`no run ${String(id)}`);
    return { child, run };
  }

  /** What another process finds when it tries to take a run's lock; it has ended then. */
  async function tried(run: string): Promise<unknown> {
    const child = start({ do: 'try-lock', run });
    const found = await child.hear();
    await child.end();
    return found;
  }

  function openRuns(): RunRow[] {
    return place.catalog.runs.open(place.row.n);
  }

  function fileOf(run: { id: string }): string {
    return runLockFile(temp.catalogFile, run.id);
  }

  function lockFiles(): string[] {
    const directory = `${temp.catalogFile}.runs`;
    return existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith('.lock')) : [];
  }

  function taken(run: RunRow): FileLock {
    const lock = takeDeadLock(fileOf(run), run.lock);
    if (typeof lock === 'string') throw new Error(`the lock is ${lock}`);
    return lock;
  }

  it('is held while its process lives, and its run is left alone', async () => {
    const { child, run } = await running();
    expect(takeDeadLock(fileOf(run), run.lock)).to.equal('held');
    await recover(place);
    expect(openRuns()).to.deep.equal([run]);
    expect(temp.talk).to.deep.equal([]);
    child.tell('end');
    expect(await child.hear()).to.equal('ended');
    expect(openRuns()).to.deep.equal([]);
    expect(place.catalog.runs.get(run.n)?.outcome).to.equal('done');
    expect(lockFiles()).to.deep.equal([]);
  });

  it('is free when its process was killed; recovery closes the run and takes the file away', async () => {
    const { child, run } = await running();
    await child.kill();
    expect(existsSync(fileOf(run))).to.equal(true);
    await recover(place);
    expect(openRuns()).to.deep.equal([]);
    expect(place.catalog.runs.get(run.n)?.outcome).to.equal('recovered');
    expect(lockFiles()).to.deep.equal([]);
  });

  it('keeps other processes away, and others in the same process', async () => {
    const { child, run } = await running();
    await child.kill();
    const lock = taken(run);
    expect(takeDeadLock(fileOf(run), run.lock)).to.equal('held');
    expect(takeLock(fileOf(run))).to.equal(undefined);
    expect(await tried(run.id)).to.equal('held');
    await recover(place);
    expect(openRuns()).to.deep.equal([run]);
    lock.release();
    expect(await tried(run.id)).to.equal('taken');
    taken(run).remove();
    expect(takeDeadLock(fileOf(run), run.lock)).to.equal('missing');
    expect(existsSync(fileOf(run)), 'it was made again').to.equal(false);
  });

  it('is seen as held by its own process while it sweeps', async () => {
    await inRun(place, 'sweep', async ({ id, n }) => {
      expect(takeDeadLock(fileOf({ id }), null)).to.equal('held');
      await recover(place);
      expect(openRuns().map((run) => run.n)).to.deep.equal([n]);
    });
    expect(openRuns()).to.deep.equal([]);
  });

  it('proves nothing when its file is missing, or is but a copy: the run is left alone, and that is told', async () => {
    const { child, run } = await running();
    await child.kill();
    const away = `${fileOf(run)}.away`;
    renameSync(fileOf(run), away);
    for (const make of [() => undefined, () => copyFileSync(away, fileOf(run))]) {
      make();
      temp.talk.length = 0;
      await recover(place);
      expect(openRuns()).to.deep.equal([run]);
      expect(temp.talk).to.have.length(1);
      expect(temp.talk[0]).to.match(new RegExp(`^warn: run ${run.id} .*what it left is not touched`));
    }
    expect(takeDeadLock(fileOf(run), run.lock)).to.equal('missing');
    rmSync(fileOf(run));
    renameSync(away, fileOf(run));
    await recover(place);
    expect(openRuns()).to.deep.equal([]);
  });

  it('is there until the row is closed, and goes after', async () => {
    const seen: string[] = [];
    const watched = withRuns(place.catalog, {
      begin: () => seen.push(`begin ${lockFiles().length}`),
      end: () => seen.push(`end ${lockFiles().length}`),
    });
    await inRun({ ...place, catalog: watched }, 'sweep', async () => undefined);
    expect(seen).to.deep.equal(['begin 1', 'end 1']);
    expect(lockFiles()).to.deep.equal([]);
  });

  it('goes also when the run’s work fails, with the failure in its row', async () => {
    const error = await inRun(place, 'purge', async () => {
      throw new TombstonedError('failed', 'of its own accord');
    }).catch((e: unknown) => e);
    expect(error).to.be.instanceOf(TombstonedError);
    expect(openRuns()).to.deep.equal([]);
    expect(lockFiles()).to.deep.equal([]);
    expect(place.catalog.runs.last(place.row.n, 'purge')?.outcome).to.equal('failed: of its own accord');
  });

  for (const when of ['before', 'after'] as const) {
    it(`is let go when the row can’t be written, ${when} the attempt has an effect`, async () => {
      const fails = (): never => {
        throw new TombstonedError('failed', 'the catalog failed');
      };
      const broken = withRuns(place.catalog, when === 'before' ? { begin: fails } : { begun: fails });
      let isDone = false;
      const error = await inRun({ ...place, catalog: broken }, 'sweep', async () => {
        isDone = true;
      }).catch((e: unknown) => e);
      expect(error).to.have.property('message', 'the catalog failed');
      expect(isDone).to.equal(false);
      const [file] = lockFiles();
      expect(await tried(file?.replace('.lock', '') ?? '')).to.equal('taken');
      await recover(place);
      expect(openRuns()).to.deep.equal([]);
      if (when === 'after') expect(lockFiles()).to.deep.equal([]);
    });
  }

  it('is a clear error where its directory can’t be made', async () => {
    rmSync(`${temp.catalogFile}.runs`, { recursive: true, force: true });
    writeFileSync(`${temp.catalogFile}.runs`, '');
    temp.write('a', 'old', 3 * DAY);
    const error = await sweepOld(place).catch((e: unknown) => e);
    if (!(error instanceof TombstonedError)) throw new Error(`no clear error: ${String(error)}`);
    expect(error.message).to.include(`${temp.catalogFile}.runs`);
    expect(error.hint).to.be.a('string');
    expect(temp.live('a')).to.equal('old');
  });
});

/** A catalog whose runs let a spec act before they begin, after they began, and before they end. */
function withRuns(
  catalog: Catalog,
  act: { begin?: () => unknown; begun?: () => unknown; end?: () => unknown },
): Catalog {
  const runs = new Proxy(catalog.runs, {
    get: (target, name) => {
      if (name === 'begin') {
        return (run: Parameters<typeof target.begin>[0]): number => {
          act.begin?.();
          const n = target.begin(run);
          act.begun?.();
          return n;
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...values: unknown[]): unknown => {
        if (name === 'end') act.end?.();
        return Reflect.apply(value, target, values);
      };
    },
  });
  return new Proxy(catalog, {
    get: (target, name) => {
      if (name === 'runs') return runs;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
