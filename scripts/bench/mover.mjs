// A sweep as the library does it, with the time that its moving alone takes: `node mover.mjs CONFIG`, for the benchmark.
// Of the built program, since threads begin with compiled files.
import path from 'node:path';

const dist = path.resolve(import.meta.dirname, '../../dist');
const { guardsOf, openCatalog, openPlace, policiesOf } = await import(path.join(dist, 'app/open.js'));
const { realSurroundings } = await import(path.join(dist, 'app/surroundings.js'));
const { loadConfig } = await import(path.join(dist, 'config/load.js'));
const { sweep } = await import(path.join(dist, 'sweep/sweep.js'));

const [, , file = ''] = process.argv;
const config = loadConfig(file);
const [settings] = config.stores;
const catalog = openCatalog(config);
/** @param {string} _ @param {string} message */
const report = (_, message) => console.error(message);
const place = await openPlace(catalog, settings, realSurroundings(report));
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
