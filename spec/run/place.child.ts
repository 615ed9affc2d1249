// Another process at a store: `tombstonectl`, or a daemon, as far as specs of runs need one. It is told what
// to do by its arguments, and stops itself (SIGSTOP) before or after a call to the disk if they say so.
import path from 'node:path';
import { recover } from '../../lib/app/recover.ts';
import { Catalog } from '../../lib/catalog/catalog.ts';
import { runLockFile, takeDeadLock } from '../../lib/catalog/run-lock.ts';
import { TombstonedError } from '../../lib/domain/errors.ts';
import type { Place } from '../../lib/run/place.ts';
import { inRun } from '../../lib/run/run.ts';
import { nodeFs } from '../../lib/store/local/local-fs.ts';
import { LocalStore } from '../../lib/store/local/local-store.ts';
import { allTombstones, bringBack, purgeDue, sweepOld } from '../support/phases.ts';
import { ACTOR, age, DAY, DrivenClock, seeded } from '../support/place.ts';
import { type FsCall, watchedFs } from '../support/watched-fs.ts';
import { say } from './say.ts';

/** What a child does. */
export interface Errand {
  readonly directory: string;
  /** The time it has, ms. */
  readonly now: number;
  readonly do: 'sweep' | 'purge' | 'restore' | 'recover' | 'run' | 'try-lock';
  readonly run?: string;
  /** What a sweep's policy selects; otherwise everything. */
  readonly prefix?: string;
  /** Where it stops itself. */
  readonly stop?: { readonly call: string; readonly nth: number; readonly when: 'before' | 'after' };
}

const errand = JSON.parse(process.argv[2] ?? '') as Errand;
let calls = 0;

function stopAt(when: 'before' | 'after'): (call: FsCall) => void {
  return ({ name }) => {
    const { stop } = errand;
    if (stop === undefined || name !== stop.call || when !== stop.when || ++calls !== stop.nth) return;
    say('stopped');
    process.kill(process.pid, 'SIGSTOP');
  };
}

function open(): Place {
  const clock = new DrivenClock();
  clock.advance(errand.now - clock.wall);
  const catalog = Catalog.open(path.join(errand.directory, 'catalog.db'));
  const row = catalog.storeByName('spec');
  if (row === undefined) throw new Error('not initialised');
  const store = LocalStore.open({
    path: path.join(errand.directory, 'store'),
    pendingPrefix: 'pending_deletion/',
    access: 'write',
    clock,
    fs: watchedFs(stopAt('before'), stopAt('after'), nodeFs),
  });
  const actor = { ...ACTOR, pid: process.pid };
  const report: Place['report'] = (_, message) => say({ message });
  return {
    store,
    catalog,
    row,
    format: 'plain',
    safetyWindow: 7 * DAY,
    clock,
    random: seeded(process.pid),
    actor,
    report,
  };
}

/** What a sweep moved, or that it ended because the store is another catalog's by now. */
async function swept(place: Place, prefix: string): Promise<{ moved: number } | { error: string }> {
  try {
    const { moved } = await sweepOld(place, { policies: [age({ prefix })] });
    return { moved };
  } catch (error) {
    if (error instanceof TombstonedError && error.reason === 'owner') return { error: error.message };
    throw error;
  }
}

async function main(): Promise<void> {
  if (errand.do === 'try-lock') {
    const lock = takeDeadLock(runLockFile(path.join(errand.directory, 'catalog.db'), errand.run ?? ''), null);
    say(typeof lock === 'string' ? lock : 'taken');
    return;
  }
  const place = open();
  switch (errand.do) {
    case 'sweep':
      say(await swept(place, errand.prefix ?? ''));
      break;
    case 'purge':
      say({ purged: (await purgeDue(place)).purged });
      break;
    case 'restore':
      say({ restored: (await bringBack(place, allTombstones(place))).map(({ outcome }) => outcome) });
      break;
    case 'recover':
      await recover(place);
      say('recovered');
      break;
    case 'run':
      await inRun(place, 'sweep', async (run) => {
        say(run.id);
        await new Promise((resolve) => {
          process.once('message', resolve);
        });
      });
      say('ended');
  }
  place.store.close();
  place.catalog.close();
}

await main();
process.disconnect();
