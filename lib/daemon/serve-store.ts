import { dropInsOf } from '../app/open.ts';
import { printable } from '../domain/key.ts';
import { InboxWatch } from './inbox-watch.ts';
import { storeLoop } from './store-loop.ts';
import { REQUESTS, type StoreTasks, tasksOf } from './store-tasks.ts';
import type { Turns } from './turns.ts';

/** Sweeps and purges one store on its intervals, and serves its drop-in directories, until the signal aborts. */
export async function serveStore(of: StoreTasks, turns: Turns): Promise<void> {
  const { store, log, signal, surroundings } = of;
  const watches = dropInsOf(store).map(({ name, directory }) => {
    let told = '';
    return new InboxWatch(directory, {
      arrival: () => turns.nudge(REQUESTS),
      trouble: (message) => {
        if (message === told) return;
        told = message;
        const text = `policy ${name}: ${printable(directory)} can't be watched, requests wait for the next sweep`;
        log.write('warn', `${text}: ${message}`, { store: store.name, key: directory });
      },
    });
  });
  const watching = tasksOf(of).map((task) => ({
    ...task,
    run: async () => {
      for (const watch of watches) watch.refresh();
      await task.run();
    },
  }));
  try {
    await storeLoop(watching, surroundings.clock, signal, turns);
  } finally {
    for (const watch of watches) await watch.close();
  }
}
