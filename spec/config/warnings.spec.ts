import { expect } from 'chai';
import type { AgePolicyConfig, Config, StoreConfig } from '../../lib/config/config.ts';
import {
  CONFIG_DEFAULTS,
  LIMITS_DEFAULTS,
  POLICY_DEFAULTS,
  THROTTLE_DEFAULTS,
} from '../../lib/config/defaults.ts';
import { storeConfigFromUrl } from '../../lib/config/store-url.ts';
import { warnings } from '../../lib/config/warnings.ts';

const HOUR = 3_600_000;

function policy(members: Partial<AgePolicyConfig> = {}): AgePolicyConfig {
  const required = { name: 'old', type: 'age', olderThan: 30 * HOUR, limits: LIMITS_DEFAULTS } as const;
  return { ...POLICY_DEFAULTS, ...required, ...members };
}

function config(members: Partial<Config>, ...stores: Partial<StoreConfig>[]): Config {
  const named = stores.map((store) => ({ ...storeConfigFromUrl('file:///srv/mainnet'), ...store }));
  return { ...CONFIG_DEFAULTS, file: '/tombstoned.yaml', stores: named, ...members };
}

describe('warnings about a config', () => {
  it('has none for the defaults', () => {
    expect(warnings(config({}, { policies: [policy()] }))).to.deep.equal([]);
  });

  it('tells a safety window under an hour', () => {
    expect(
      warnings(config({}, { safetyWindow: HOUR }, { safetyWindow: HOUR - 1000 }, { safetyWindow: 0 })),
    ).to.deep.equal([
      'stores[1].safetyWindow: 59m 59s is under an hour: what a restore still reads may be gone',
      'stores[2].safetyWindow: 0s is under an hour: what a restore still reads may be gone',
    ]);
  });

  it('tells a policy that asks for younger objects than the store gives', () => {
    const policies = [policy({ olderThan: 2 * HOUR }), policy({ olderThan: HOUR })];
    expect(warnings(config({}, { minimumAge: 2 * HOUR, policies }))).to.deep.equal([
      'stores[0].policies[1].olderThan: 1h is under minimumAge, so objects stay until they are 2h old',
    ]);
  });

  it('tells of metrics that others than this host may see', () => {
    const at = (host: string): string[] =>
      warnings(config({ metrics: { listen: { host, port: 9644 } } }, {}));
    for (const host of ['127.0.0.1', '127.1.2.3', '::1', '0:0:0:0:0:0:0:1', 'localhost', 'LOCALHOST'])
      expect(at(host), host).to.deep.equal([]);
    expect(warnings(config({ metrics: { listen: null } }, {}))).to.deep.equal([]);
    for (const host of ['0.0.0.0', '::', '10.0.0.1', '128.0.0.1', 'localhost.example', '::ffff:10.0.0.1'])
      expect(at(host), host).to.deep.equal([
        `metrics.listen: ${host} is no loopback address: whoever reaches port 9644 sees the figures of every store, without a password`,
      ]);
  });

  it('tells what has no effect on a local store', () => {
    const throttle = { ...THROTTLE_DEFAULTS, concurrency: 1 };
    expect(warnings(config({}, { settle: 1000, throttle }))).to.deep.equal([
      'stores[0].throttle.concurrency: has no effect on a local store, which has one batch at a time',
    ]);
  });

  it('tells of nothing in S3 that has its effect there', () => {
    const throttle = { ...THROTTLE_DEFAULTS, concurrency: 1, bytesPerSecond: 1000 };
    const location = { kind: 's3', bucket: 'b', prefix: '' } as const;
    const s3 = { endpoint: null, region: null, forcePathStyle: false, versions: 'purge' } as const;
    expect(warnings(config({}, { location, s3, throttle }))).to.deep.equal([]);
  });
});
