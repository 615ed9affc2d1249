import { BlockList, isIP } from 'node:net';
import { formatDuration } from '../domain/quantities.ts';
import type { Config, StoreConfig } from './config.ts';
import { THROTTLE_DEFAULTS } from './defaults.ts';

const HOUR = 3_600_000;

/** What is allowed in a config and may surprise, as lines that begin with the member's path. */
export function warnings(config: Config): string[] {
  return [...metricsWarnings(config.metrics), ...config.stores.flatMap(storeWarnings)];
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

function metricsWarnings({ listen }: Config['metrics']): string[] {
  if (listen === null || isLoopback(listen.host)) return [];
  return [
    `metrics.listen: ${listen.host} is no loopback address: whoever reaches port ${listen.port} sees the figures of every store, without a password`,
  ];
}

/** A name other than localhost may lead anywhere, so it is none. */
function isLoopback(host: string): boolean {
  if (isIP(host) === 0) return host.toLowerCase() === 'localhost';
  return LOOPBACK.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4');
}

function storeWarnings(store: StoreConfig, index: number): string[] {
  const path = `stores[${index}].`;
  const lines: string[] = [];
  if (store.location.kind === 'local' && store.throttle.concurrency !== THROTTLE_DEFAULTS.concurrency)
    lines.push(`${path}throttle.concurrency: has no effect on a local store, which has one batch at a time`);
  if (store.safetyWindow < HOUR) {
    lines.push(
      `${path}safetyWindow: ${formatDuration(store.safetyWindow)} is under an hour: what a restore still reads may be gone`,
    );
  }
  for (const [i, policy] of store.policies.entries()) {
    const here = `${path}policies[${i}].`;
    if (policy.type === 'age' && policy.olderThan < store.minimumAge) {
      lines.push(
        `${here}olderThan: ${formatDuration(policy.olderThan)} is under minimumAge, so objects stay until they are ${formatDuration(store.minimumAge)} old`,
      );
    }
  }
  return lines;
}
