import type { Catalog } from '../../lib/catalog/catalog.ts';
import type { Process } from './scheduler.ts';

const PARTS = ['tombstones', 'sweeps', 'runs', 'events', 'holds', 'leaseWatch', 'schedule', 'clock'] as const;

/**
 * A catalog as one process has it: each of its calls, and each transaction as a
 * whole, is one of the calls at which the process may die. Several processes
 * share a connection: none awaits within a transaction, so SQLite would have let
 * one after the other in as well.
 */
export function steppedCatalog(catalog: Catalog, process: Process): Catalog {
  let inTransaction = false;
  const part = <T extends object>(object: T, name: string): T =>
    new Proxy(object, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        return (...values: unknown[]): unknown => {
          const call = (): unknown => Reflect.apply(value, target, values);
          return inTransaction ? call() : process.call(`catalog ${name}.${String(property)}`, call);
        };
      },
    });
  const parts = new Map<string | symbol, unknown>(PARTS.map((name) => [name, part(catalog[name], name)]));
  const transaction = (work: () => unknown): unknown =>
    process.call('catalog transaction', () => {
      inTransaction = true;
      try {
        return catalog.transaction(work);
      } finally {
        inTransaction = false;
      }
    });
  const own = new Map<string | symbol, unknown>([
    ...parts,
    ['transaction', transaction],
    ['keepReserve', () => true], // no disk gets full here, and it would cost as much as the seed
  ]);
  return new Proxy(catalog, {
    get: (target, property) => {
      if (own.has(property)) return own.get(property);
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
