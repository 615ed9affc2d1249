import { becomeOwnerOf } from '../../app/become-owner.ts';
import { initStore } from '../../app/init.ts';
import { lookBeforeInit } from '../../app/look-before-init.ts';
import { dropInFor, isServiceInstalled } from '../../app/service-drop-in.ts';
import { realSurroundings } from '../../app/surroundings.ts';
import { messageOf } from '../../domain/errors.ts';
import { PLAIN_LAYOUT } from '../../metadata/layout.ts';
import type { Call, OptionTable, Page } from '../command.ts';
import { usageError } from '../fail.ts';
import { type Chosen, chooseForInit } from '../new-config.ts';

export const manual = {
  synopsis: ['init URL [--store NAME] [--catalog FILE] [--dry-run]', 'init --store NAME [--dry-run]'],
  description: [
    'With a URL and no config yet, writes a commented config with that store, in which',
    'nothing expires. Then gives the store its identity and its owner, and makes the',
    'catalog. What is there stays as it is, so it may run again. An existing config is',
    'never changed: add a store there, then run init --store NAME. Where the store looks like a',
    'backup of an Aptos-family node, a new config says format: aptos.',
  ],
  examples: [
    ['init file:///srv/backups/mainnet', 'the first store'],
    ['init --store archive', 'another one, after it was added to the config'],
  ],
} as const satisfies Page;

export const options = {
  catalog: { takes: 'FILE', says: 'In a new config: the catalog. Otherwise /var/lib/tombstoned/catalog.db.' },
  'dry-run': { says: 'Shows what would be made, and makes nothing.' },
} as const satisfies OptionTable;

export async function run(call: Call<typeof options>): Promise<number> {
  const { operands, options: given, out } = call;
  const [url, more] = operands;
  if (more !== undefined) throw usageError('init takes one URL', 'see tombstonectl init --help', more);
  if (given.url !== undefined)
    throw usageError('init takes no --url', `write: tombstonectl init ${given.url}`);
  const { config: file, store: name, catalog, 'dry-run': dryRun } = given;
  const chosen = chooseForInit({ config: file, url, store: name, catalog }, { dryRun });
  const { config, store, configIs } = chosen;
  const result = dryRun ? await lookBeforeInit(config, store) : await make(call, chosen);
  const { uuid, looksLike, ...made } = result;
  const proposes = looksLike === 'aptos' && chosen.declare !== null;
  if (proposes) chosen.declare?.(looksLike);
  const format = proposes ? looksLike : store.format;
  out.result(
    { type: 'init', store: store.name, url: store.url, uuid, config: configIs, ...made, format, dryRun },
    () =>
      [
        line(configIs, 'the config', config.file),
        line(made.identity, "the store's identity", `${store.url} (${uuid ?? 'new'})`),
        line(made.owner, "the store's owner", store.url),
        line(made.catalog, 'the catalog', config.catalog),
      ].join('\n'),
  );
  if (proposes && !out.isJson)
    out.talk(
      `it looks like a backup of an Aptos-family node: format is aptos in ${config.file} (docs/aptos.md)`,
    );
  if (looksLike === 'aptos' && format === 'plain')
    out.talk(`warning: ${store.name}: ${PLAIN_LAYOUT.text} (${PLAIN_LAYOUT.remedy})`);
  if (!out.isJson) out.talk(nextStep(chosen, dryRun));
  if (!out.isJson && isServiceInstalled()) for (const talk of forService(chosen)) out.talk(talk);
  return 0;

  function line(is: 'created' | 'exists', what: string, where: string): string {
    const verb = is === 'exists' ? 'was there' : dryRun ? 'would make' : 'made';
    return `${verb.padEnd(10)}  ${what}: ${where}`;
  }
}

async function make({ out }: Call, chosen: Chosen) {
  try {
    becomeOwnerOf(chosen.config.catalog);
    return await initStore(chosen.config, chosen.store, realSurroundings(out.report));
  } catch (error) {
    try {
      chosen.undo();
    } catch (second) {
      out.talk(`warning: the new config ${chosen.config.file} is left behind: ${messageOf(second)}`);
    }
    throw error;
  }
}

function nextStep({ config, store }: Chosen, dryRun: boolean): string {
  if (dryRun) return 'nothing was made';
  if (store.policies.length > 0) return 'next: see what would go with tombstonectl sweep --dry-run';
  return `next: say what expires in ${config.file} (policies), then tombstonectl sweep --dry-run`;
}

/** The service may write nowhere but in its state directory until it is told to. */
function forService({ store }: Chosen): string[] {
  const { file, lines } = dropInFor(store);
  return [
    `tombstoned.service can use the store when this is in ${file} (then: systemctl daemon-reload):`,
    ...lines.map((line) => `    ${line}`),
  ];
}
