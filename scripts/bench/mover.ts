// A sweep as the library does it, with the time that its moving alone takes: `tsx mover.ts CONFIG`, for the benchmark.
import { guardsOf, openCatalog, openPlace, policiesOf } from '../../lib/app/open.ts';
import { realSurroundings } from '../../lib/app/surroundings.ts';
import { loadConfig } from '../../lib/config/load.ts';
import { sweep } from '../../lib/sweep/sweep.ts';

const [, , file = ''] = process.argv;
const config = loadConfig(file);
const [settings] = config.stores;
if (settings === undefined) throw new Error(`${file}: no store`);
const catalog = openCatalog(config);
const place = await openPlace(
  catalog,
  settings,
  realSurroundings((_, message) => console.error(message)),
);
let listedAt = 0;
const { moved } = await sweep(place, {
  policies: policiesOf(settings),
  guards: guardsOf(settings),
  dryRun: false,
  onListed: () => {
    listedAt = performance.now();
  },
});
const seconds = (performance.now() - listedAt) / 1000;
place.store.close();
catalog.close();
console.log(JSON.stringify({ moved, seconds }));
