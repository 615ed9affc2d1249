import { expect } from 'chai';
import type { OpenBatch } from '../../lib/catalog/tombstones.ts';
import type { Ledger, Take, Taken } from '../../lib/sweep/ledger.ts';
import { PairedLedger } from '../../lib/sweep/paired-ledger.ts';

/** A ledger that notes what it is asked, and takes batches of ten. */
class NotingLedger implements Pick<Ledger, 'intend' | 'take' | 'record' | 'recordAndTake'> {
  readonly asked: string[] = [];
  /** What fails when it is asked next. */
  failing: string | undefined;
  #batch = 0;

  #ask(what: string): void {
    this.asked.push(what);
    if (this.failing === what) throw new Error(`no ${what}`);
  }

  async take({ after }: Take): Promise<Taken> {
    this.#ask(`take after ${after}`);
    const open = this.#open();
    return { last: `${open.batchAt}`, count: 10, held: [], open };
  }

  async record({ batchAt }: OpenBatch): Promise<void> {
    this.#ask(`record ${batchAt}`);
  }

  async recordAndTake({ batchAt }: OpenBatch, _: unknown, { after }: Take): Promise<Taken> {
    this.#ask(`record ${batchAt}, take after ${after}`);
    const open = this.#open();
    return { last: `${open.batchAt}`, count: 10, held: [], open };
  }

  async intend(): Promise<OpenBatch> {
    this.#ask('intend');
    return this.#open();
  }

  #open(): OpenBatch {
    this.#batch += 1;
    return { batchAt: this.#batch, sweep: 1, moves: [] };
  }
}

const NONE = new Map();

function takeAfter(after: string): Take {
  return { sweep: 1, after, most: 10, mostBytes: null, asker: 'policy', leases: [], mayWait: false };
}

function openOf({ open }: Taken): OpenBatch {
  if (open === undefined) throw new Error('nothing was taken');
  return open;
}

describe('what a sweep records of one batch, and takes for a later one', () => {
  let ledger: NotingLedger;
  let paired: PairedLedger;

  beforeEach(() => {
    ledger = new NotingLedger();
    paired = new PairedLedger(ledger, 2);
  });

  it('is one commit, once there are batches enough', async () => {
    const first = await paired.take(takeAfter(''));
    await paired.take(takeAfter('1'));
    const third = paired.take(takeAfter('2'));
    expect(ledger.asked).to.deep.equal(['take after ', 'take after 1']);
    await paired.record(openOf(first), NONE);
    expect(openOf(await third).batchAt).to.equal(3);
    expect(ledger.asked.slice(2)).to.deep.equal(['record 1, take after 2']);
  });

  it('is two where what ended comes first: nothing that ended waits', async () => {
    const first = await paired.take(takeAfter(''));
    await paired.record(openOf(first), NONE);
    await paired.take(takeAfter('1'));
    expect(ledger.asked).to.deep.equal(['take after ', 'record 1', 'take after 1']);
  });

  it('is recorded also where the next can not be taken, which is told to whoever takes it', async () => {
    ledger.failing = 'record 1, take after 2';
    const first = await paired.take(takeAfter(''));
    await paired.take(takeAfter('1'));
    const third = paired.take(takeAfter('2')).catch(String);
    await paired.record(openOf(first), NONE);
    expect(await third).to.equal('Error: no record 1, take after 2');
    expect(ledger.asked.at(-1)).to.equal('record 1');
  });

  it('waits for no batch that the plan does not have: what was swept along is recorded alone', async () => {
    await paired.take(takeAfter(''));
    const second = await paired.take(takeAfter('1'));
    const third = paired.take(takeAfter('2'));
    const strays = await paired.intend(1, []);
    await paired.record(strays, NONE);
    expect(ledger.asked.slice(2)).to.deep.equal(['intend', 'record 3']);
    await paired.record(openOf(second), NONE);
    expect(openOf(await third).batchAt).to.equal(4);
  });

  it('ends with nothing for who waits, and for who comes, when it is stopped', async () => {
    const first = await paired.take(takeAfter(''));
    await paired.take(takeAfter('1'));
    const third = paired.take(takeAfter('2'));
    paired.stop();
    const nothing = { last: null, count: 0, held: [], open: undefined };
    expect(await third).to.deep.equal(nothing);
    await paired.record(openOf(first), NONE);
    expect(await paired.take(takeAfter('2'))).to.deep.equal(nothing);
    expect(ledger.asked).to.deep.equal(['take after ', 'take after 1', 'record 1']);
  });
});
