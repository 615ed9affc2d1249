import { statSync } from 'node:fs';
import path from 'node:path';
import { Catalog } from '../../catalog/catalog.ts';
import type { Config, StoreConfig } from '../../config/config.ts';
import { warnings } from '../../config/warnings.ts';
import { askedOfNtp, type Clock } from '../../domain/clock.ts';
import { shellWord } from '../explanation.ts';
import { accessFindings, whoActs } from './access.ts';
import { clockFinding, examineCatalog } from './catalog.ts';
import { type Finding, ok, warning } from './finding.ts';
import { ntpFinding, versionFinding } from './host.ts';
import { readMounts } from './mounts.ts';
import { examineStore } from './store.ts';
import { examineUnits } from './units.ts';

/** A finding, and the store that it is about; null of what is about this host. */
export interface Placed extends Finding {
  readonly store: string | null;
}

/**
 * Examines this host, the catalog and some stores: all that can be found out without
 * changing anything but scratch names. What goes wrong is a finding, and nothing else
 * is left out for it.
 */
export async function* examine(
  config: Config,
  stores: readonly StoreConfig[],
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): AsyncGenerator<Placed> {
  const mounts = readMounts();
  yield { store: null, ...versionFinding() };
  for (const finding of [...userFindings(config), ...configFindings(config)])
    yield { store: null, ...finding };
  const examination = examineCatalog(config, mounts);
  let catalog: Catalog | undefined;
  for (;;) {
    const { done, value } = await examination.next();
    if (done === true) {
      catalog = value;
      break;
    }
    yield { store: null, ...value };
  }
  try {
    const ntp = await askedOfNtp();
    yield { store: null, ...ntpFinding(ntp) };
    yield {
      store: null,
      ...(catalog === undefined
        ? warning('clock', 'whether it is where it should be is not known without the catalog', null)
        : clockFinding(catalog, clock, ntp)),
    };
    for await (const finding of examineUnits(config)) yield { store: null, ...finding };
    for (const store of stores) {
      if (signal.aborted) return;
      for await (const finding of examineStore(store, { catalog, clock, mounts, signal }))
        yield { store: store.name, ...finding };
    }
  } finally {
    catalog?.close();
  }
}

/** Whom this process acts as, and whether that is who owns the catalog; nothing where that can't be told. */
function userFindings({ catalog }: Config): Finding[] {
  const uid = ownerOf(catalog);
  if (uid === undefined) return [];
  if (uid === process.geteuid?.()) return [ok('user', `acts as ${whoActs()}, who owns the catalog`)];
  return [
    warning(
      'user',
      `acts as ${whoActs()}, and the catalog belongs to uid ${uid}: what follows is about the wrong user`,
      'run it as that user, or as root: sudo tombstonectl doctor',
    ),
  ];
}

function ownerOf(file: string): number | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false })?.uid;
  } catch {
    return undefined; // what keeps it from being looked at is told of the catalog itself
  }
}

/** The config itself: whoever can write it can have anything purged, and its `notify` command run. */
function configFindings(config: Config): Finding[] {
  const { file, log } = config;
  const surprises = warnings(config).map((text) => warning('config', text, `edit ${shellWord(file)}`));
  const access = accessFindings('config', [
    { path: path.dirname(file), to: 'enter', others: 'fail' },
    { path: file, to: 'read', others: 'fail' },
    ...(log.file === null ? [] : [{ path: path.dirname(log.file), to: 'write', others: 'fail' } as const]),
  ]);
  return [...access, ...surprises];
}
