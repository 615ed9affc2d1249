import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import { bootIn, isoTime, sinceBootOf, systemClock } from '../../lib/domain/clock.ts';

describe('the system clock', () => {
  it('tells wall time in ms', () => {
    const before = Date.now();
    expect(systemClock.now()).to.be.within(before, Date.now());
  });

  it('tells a time that never goes back', () => {
    const times = Array.from({ length: 1000 }, () => systemClock.monotonic());
    expect(times.toSorted((a, b) => a - b)).to.deep.equal(times);
  });

  it('sleeps no less than asked', async () => {
    const before = systemClock.monotonic();
    await systemClock.sleep(5);
    // A timer may come up to 1 ms early by this clock.
    expect(systemClock.monotonic() - before).to.be.at.least(4);
  });

  it('lets others run even when it sleeps for 0 ms', async () => {
    let ran = false;
    setImmediate(() => {
      ran = true;
    });
    for (let i = 0; i < 3; i++) await systemClock.sleep(0);
    expect(ran).to.equal(true);
  });

  it('wakes without an error when the signal aborts', async () => {
    const controller = new AbortController();
    const sleep = systemClock.sleep(60_000, controller.signal);
    controller.abort(new Error('stop'));
    await sleep;
    await systemClock.sleep(60_000, controller.signal);
  });

  it('tells which boot it counts from, also on a kernel without time namespaces', () => {
    const proc = mkdtempSync(path.join(tmpdir(), 'proc-'));
    try {
      for (const made of ['sys/kernel/random', 'self/ns'])
        mkdirSync(path.join(proc, made), { recursive: true });
      writeFileSync(path.join(proc, 'sys/kernel/random/boot_id'), 'an-id\n');
      expect(bootIn(proc)).to.equal('an-id');
      symlinkSync('time:[1]', path.join(proc, 'self/ns/time'));
      expect(bootIn(proc)).to.equal('an-id time:[1]');
    } finally {
      rmSync(proc, { recursive: true });
    }
    expect(systemClock.sinceBoot().boot.split(' ')[0]).to.match(/^[\da-f-]{36}$/);
  });

  it("does not take a container's time for the machine's: nothing passes between two counts", () => {
    expect(sinceBootOf('b', '28897.88 14187.12\n', 28_898_237)).to.deep.equal({ boot: 'b', ms: 28_897_880 });
    expect(sinceBootOf('b', '99999.00 1.00\n', 28_898_237)).to.deep.equal({ boot: 'b', ms: 99_999_000 });
    expect(sinceBootOf('b', '100.00 1.00\n', 28_898_237)).to.deep.equal({
      boot: 'b monotonic',
      ms: 28_898_237,
    });
  });

  it('sleeps longer than one timer can', async () => {
    // Node ends a timer of 2^31 ms, 25 days, after 1 ms.
    for (const ms of [2 ** 31, 2 ** 40]) {
      const controller = new AbortController();
      const sleep = systemClock.sleep(ms, controller.signal).then(() => 'awake');
      expect(await Promise.race([sleep, delay(20, 'asleep')])).to.equal('asleep');
      controller.abort();
      expect(await sleep).to.equal('awake');
    }
  });
});

describe('a time in ISO 8601', () => {
  it('is in UTC with ms, and null where there is none', () => {
    expect(isoTime(Date.UTC(2026, 10, 22, 10, 15, 0, 123))).to.equal('2026-11-22T10:15:00.123Z');
    expect(isoTime(0)).to.equal('1970-01-01T00:00:00.000Z');
    expect(isoTime(null)).to.equal(null);
  });
});

describe('the time since boot', () => {
  it('is of this boot, goes on, and says whether NTP keeps the clock', async () => {
    const first = systemClock.sinceBoot();
    await systemClock.sleep(30);
    const second = systemClock.sinceBoot();
    expect(second.boot).to.equal(first.boot);
    expect(second.ms - first.ms).to.be.within(10, 10_000);
    expect(await systemClock.isSynced()).to.be.a('boolean');
  });
});
