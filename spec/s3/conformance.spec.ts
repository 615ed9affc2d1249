import type { Capabilities } from '../../lib/store/s3/api.ts';
import { ControlObjects } from '../../lib/store/s3/control-objects.ts';
import { probe } from '../../lib/store/s3/probe.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import { conformance, type StoreToTest } from '../conformance/store.ts';
import { DrivenClock } from '../support/place.ts';
import { type MemoryOptions, MemoryS3 } from './memory-api.ts';

async function inMemory(options: MemoryOptions): Promise<StoreToTest> {
  const clock = new DrivenClock();
  const api = new MemoryS3({ ...options, clock, prefix: 'some/prefix/' });
  let probed: Promise<Capabilities> | undefined;
  const capabilities = async (): Promise<Capabilities> => (probed ??= probe(api, clock));
  const store = new S3Store({
    api,
    control: new ControlObjects({ api, capabilities, clock }),
    capabilities,
    pendingPrefix: 'pending_deletion/',
    clock,
    concurrency: 8,
  });
  return {
    store,
    replacesUnasked: !(await capabilities()).putIfAbsent,
    put: async (name, content) => {
      clock.advance(1000); // two contents never share a time, which is in whole seconds
      await api.put(name, content);
    },
    putAll: async (contents) => {
      for (const [name, content] of contents) await api.put(name, content);
    },
    drop: async (name) => {
      await api.delete(name);
    },
    contents: async () =>
      Object.fromEntries(
        api
          .names()
          .filter((name) => !name.startsWith('.tombstoned/'))
          .map((name) => [name, api.peek(name)?.body.toString() ?? '']),
      ),
    remove: async () => store.close(),
  };
}

const KINDS = [
  ['amazon', 'off'],
  ['amazon', 'enabled'],
  ['amazon', 'suspended'],
  ['rgw', 'off'],
  ['rgw', 'enabled'], // suspended, it lets nothing be put back: see restoring.spec.ts
] as const;

for (const [preset, versioning] of KINDS) {
  conformance(`S3 in memory, as ${preset} with versions ${versioning}`, async () =>
    inMemory({ preset, versioning }),
  );
}
