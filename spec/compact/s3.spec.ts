import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { parseKey } from '../../lib/domain/key.ts';
import { Reader } from '../../lib/reader/reader.ts';
import type { Place } from '../../lib/run/place.ts';
import type { Capabilities } from '../../lib/store/s3/api.ts';
import { ControlObjects } from '../../lib/store/s3/control-objects.ts';
import { probe } from '../../lib/store/s3/probe.ts';
import { S3Store } from '../../lib/store/s3/s3-store.ts';
import { type MemoryOptions, MemoryS3 } from '../s3/memory-api.ts';
import { DAY, HOUR } from '../support/place.ts';
import { AptosPlace, backupOf, compactIn } from './aptos-place.ts';

describe('a compaction of a store in S3', () => {
  let local: AptosPlace;
  let api: MemoryS3;
  beforeEach(async () => {
    local = await AptosPlace.make(new Map());
  });
  afterEach(() => local.temp.remove());

  /** A bucket with a backup, and what the catalog of a local place says of a store. */
  async function bucket(options: MemoryOptions = {}): Promise<void> {
    const { clock } = local.temp;
    api = new MemoryS3({ ...options, clock, prefix: 'some/prefix/' });
    for (const name of ['.tombstoned/store.json', '.tombstoned/owner.json'])
      await api.put(name, readFileSync(path.join(local.temp.root, name)));
    for (const [name, content] of backupOf(10)) await api.put(`metadata/${name}`, content);
    clock.advance(HOUR);
  }

  function open(): Place {
    const { clock } = local.temp;
    let probed: Promise<Capabilities> | undefined;
    const capabilities = async (): Promise<Capabilities> => (probed ??= probe(api, clock));
    const control = new ControlObjects({ api, capabilities, clock });
    const of = { api, control, capabilities, pendingPrefix: 'pending_deletion/', clock, concurrency: 8 };
    return { ...local.open(), store: new S3Store(of) };
  }

  const names = (): string[] => api.names().filter((name) => name.startsWith('metadata/'));
  const content = (name: string): string => api.peek(`metadata/${name}`)?.body.toString() ?? '';

  for (const preset of ['amazon', 'rgw'] as const) {
    it(`as ${preset} writes what is missing, and tombstones what was replaced: a restore that has listed it is complete`, async () => {
      await bucket({ preset });
      const listed = names();
      expect((await compactIn(open())).written).to.equal(8);
      expect(content('transaction_compacted_0-39.meta').split('\n')).to.have.length(5);
      local.temp.clock.advance(DAY + 2000);
      const place = open();
      const { tombstoned, failed } = await compactIn(place);
      expect([tombstoned, failed]).to.deep.equal([25, 0]);
      expect(names()).to.have.length(10);
      const reader = new Reader(place.store);
      for (const key of listed) expect((await reader.open(parseKey(key))).location, key).to.equal('pending');
    });
  }

  it('writes a file again that was cut short', async () => {
    await bucket();
    await compactIn(open());
    const whole = content('transaction_compacted_40-79.meta');
    await api.put('metadata/transaction_compacted_40-79.meta', whole.slice(0, 150));
    const { redone } = await compactIn(open());
    expect(redone).to.equal(1);
    expect(content('transaction_compacted_40-79.meta')).to.equal(whole);
  });

  it('takes a whole file that another puts there meanwhile as it is', async () => {
    await bucket();
    const lines = [...backupOf(4)]
      .filter(([name]) => name.startsWith('transaction_'))
      .map(([, text]) => text);
    await meanwhile('transaction_compacted_0-39.meta', lines.toReversed().join(''));
    expect((await compactIn(open())).written).to.equal(8);
    expect(content('transaction_compacted_0-39.meta')).to.equal(lines.toReversed().join(''));
  });

  it('stops where another puts something else there, and replaces none of it', async () => {
    await bucket();
    const other = backupOf(4).get('transaction_0-9.meta') ?? '';
    await meanwhile('transaction_compacted_0-39.meta', other);
    const error: unknown = await compactIn(open()).catch((e: unknown) => e);
    expect(error).to.be.instanceOf(TombstonedError);
    expect(content('transaction_compacted_0-39.meta')).to.equal(other);
    api.before = undefined;
    expect((await compactIn(open())).redone, 'the next run writes it again').to.equal(1);
  });

  async function meanwhile(name: string, text: string): Promise<void> {
    let isDone = false;
    api.before = async (request) => {
      if (isDone || request.kind !== 'put' || request.name !== `metadata/${name}`) return undefined;
      isDone = true;
      await api.put(`metadata/${name}`, text);
      return undefined;
    };
  }

  it('finds out what became of a write that got no answer', async () => {
    await bucket();
    let lost = 0;
    api.before = (request) => {
      const isOne = request.kind === 'put' && request.name.includes('_compacted_') && lost < 6;
      return isOne ? (lost++ % 2 === 0 ? 'lost' : 'answer-lost') : undefined;
    };
    expect((await compactIn(open())).written).to.equal(8);
    expect(lost).to.equal(6);
    expect(names()).to.have.length(34);
  });

  it('writes nothing where the store can replace what is there', async () => {
    await bucket({ preset: 'swift' });
    const before = names();
    const error: unknown = await compactIn(open()).catch((e: unknown) => e);
    expect(String(error)).to.contain('can replace what comes to the key meanwhile');
    expect(names()).to.deep.equal(before);
  });
});
