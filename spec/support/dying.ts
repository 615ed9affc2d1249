import type { Place } from '../../lib/run/place.ts';
import type { Store } from '../../lib/store/store.ts';
import type { TempPlace } from './place.ts';

/** Does work in a process that dies just after, or before, one of its store's batch calls. */
export async function dieAt(
  temp: TempPlace,
  call: 'move' | 'remove' | 'putBack',
  when: 'before' | 'after',
  work: (place: Place) => Promise<unknown>,
  seed = 9,
): Promise<void> {
  const place = temp.open({ seed });
  const { store } = place;
  const real = (store[call] as (...values: unknown[]) => Promise<unknown>).bind(store);
  const dying = async (...values: unknown[]): Promise<never> => {
    if (when === 'after') await real(...values);
    throw new Error('died');
  };
  Object.assign(store, { [call]: dying } satisfies Partial<Record<keyof Store, unknown>>);
  try {
    await work(place);
  } catch (error) {
    if (error instanceof Error && error.message === 'died') return;
    throw error;
  } finally {
    temp.close(place);
  }
  throw new Error(`no ${call} was called`);
}
