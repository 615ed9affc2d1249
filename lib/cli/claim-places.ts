import { type ClaimPlace, claimPlaceOf, openClaimPlace } from '../app/claim-place.ts';
import { realSurroundings } from '../app/surroundings.ts';
import { selectStores } from '../config/load.ts';
import type { Call } from './command.ts';
import { configOf } from './config-of.ts';
import { Failures, type Problem } from './failures.ts';
import { inEachPlace, withCatalog } from './opened.ts';
import { urlOf } from './reading.ts';
import { untilSignalled } from './signals.ts';
import { oneStore } from './store-choice.ts';

type Work = (place: ClaimPlace, signal: AbortSignal) => Promise<readonly Problem[]>;

/** Works on the one store that a call is about: by `--url` alone, or with its config and catalog. */
export async function inClaimPlace(call: Call, work: Work): Promise<number> {
  return inPlaces(call, 'write', work);
}

/** Looks at each store that a call is about. */
export async function inEachClaimPlace(call: Call, work: Work): Promise<number> {
  return inPlaces(call, 'read', work);
}

async function inPlaces(call: Call, access: 'read' | 'write', work: Work): Promise<number> {
  const { out, options: given } = call;
  const url = urlOf(call);
  if (url !== undefined)
    return untilSignalled(out, async (signal) =>
      byUrl(call, url, access, async (place) => work(place, signal)),
    );
  const config = configOf(call);
  const stores = access === 'read' ? selectStores(config, given.store) : [oneStore(config, given)];
  return withCatalog(config, async (catalog) =>
    untilSignalled(out, async (signal) =>
      inEachPlace({ catalog, stores, out, signal }, async (place) => work(claimPlaceOf(place), signal)),
    ),
  );
}

async function byUrl(
  { out }: Call,
  url: string,
  access: 'read' | 'write',
  work: (place: ClaimPlace) => Promise<readonly Problem[]>,
): Promise<number> {
  const place = await openClaimPlace(url, realSurroundings(out.report), access);
  const failures = new Failures(out);
  try {
    for (const { error, isTold } of await work(place)) failures.add(error, isTold);
  } catch (error) {
    failures.add(error); // a signal that ended it has an exit code of its own
  } finally {
    place.store.close();
  }
  return failures.end();
}

/** Does something for each of several, past the failure of one; gives what went wrong. */
export async function pastFailures<T>(
  each: AsyncIterable<T>,
  work: (one: T) => Promise<void>,
): Promise<Problem[]> {
  const problems: Problem[] = [];
  for await (const one of each) {
    try {
      await work(one);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      problems.push({ error, isTold: false });
    }
  }
  return problems;
}
