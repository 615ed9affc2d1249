import { spawnSync } from 'node:child_process';
import { utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { DAY } from '../support/place.ts';
import { OLD, type TempStore } from '../support/temp-store.ts';
import { type Answer, beforeAllBuild, ctl, ctlWith, tempStores } from './ctl.ts';

/** Says whether libfaketime can be put before a program. */
const FAKED = spawnSync('faketime', ['-f', '+1d', 'true']);

describe('the clock', () => {
  beforeAllBuild();
  const stores = tempStores();

  it('is trusted as long as nothing is wrong with it', async () => {
    const store = await stores.make({ policies: [OLD] });
    store.write('a', 'content', 2 * DAY);
    expect((await ctl(store, 'sweep')).code).to.equal(0);
    const [object] = (await ctl(store, '--json', 'clock')).objects;
    expect(object).to.include({ type: 'clock', trusted: true, problem: null, toleranceSeconds: 300 });
    expect(object?.['offSeconds']).to.be.within(-5, 5);
    const { lines } = await ctl(store, 'clock');
    expect(lines.at(-1)).to.equal('it is trusted: purges go on');
    const accepted = await ctl(store, 'clock', 'accept');
    expect([accepted.code, accepted.lines]).to.deep.equal([
      0,
      ['the clock is right: there is nothing to accept'],
    ]);
  });

  it('has options for accept alone', async () => {
    const store = await stores.make({ policies: [OLD] });
    for (const words of [['set'], ['accept', 'more'], ['--reason', 'why'], ['--dry-run']])
      expect((await ctl(store, 'clock', ...words)).code, words.join(' ')).to.equal(2);
  });

  describe('of real processes that is set', () => {
    let store: TempStore;
    let directory: string;

    before(function () {
      if (FAKED.status !== 0) {
        process.stderr.write('      faketime is not installed: real clocks are not set\n');
        this.skip();
      }
    });

    beforeEach(async () => {
      store = await stores.make({ policies: [OLD], safetyWindow: '1d' });
      directory = store.directory;
      store.write('a', 'content of a', 2 * DAY);
      expect((await ctl(store, 'sweep')).code).to.equal(0);
      expect(store.pending()).to.have.length(1);
    });

    /** As `ctl`, by a wall clock that is off by `by` or says a time; time since boot is as it is. */
    async function at(by: string, ...args: string[]): Promise<Answer> {
      const file = path.join(directory, 'time');
      writeFileSync(file, `${by}\n`);
      const env = {
        LD_PRELOAD: '/usr/$LIB/faketime/libfaketime.so.1',
        FAKETIME_TIMESTAMP_FILE: file,
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        NO_FAKE_STAT: '1',
        TZ: 'Europe/Berlin',
      };
      return ctlWith({ env }, '--config', store.configFile, ...args);
    }

    for (const by of ['+1h', '-1h', '+30d', '-30d', '+10y', '-10y']) {
      it(`by ${by} stops purges with 5, says so, and purges nothing`, async () => {
        const purge = await at(by, '--json', 'purge');
        expect(purge.code).to.equal(5);
        expect(purge.error).to.include({ code: 'blocked', reason: 'clock' });
        expect(store.pending()).to.have.length(1);
        expect((await at(by, 'cat', 'a')).stdout).to.equal('content of a');
        // And it is right again.
        const after = await ctl(store, '--json', 'purge');
        expect([after.code, after.objects.at(-1)?.['due']]).to.deep.equal([0, 0]);
      });
    }

    it('is told by status, show, explain, clock and purge, until it is accepted; then windows are whole', async () => {
      expect((await at('+30d', 'purge')).errorLines.at(-1)).to.match(
        /^tombstonectl: nothing is purged: the clock says \S+Z, and was set 30d forward while this machine ran \(if the clock is right now: tombstonectl clock accept/,
      );
      const [status] = (await at('+30d', '--json', 'status')).objects;
      expect(JSON.stringify(status)).to.include('set 30d forward');
      const [object] = (await at('+30d', '--json', 'ls')).objects;
      expect(object?.['kept']).to.deep.equal(['window', 'clock']);
      const id = String(object?.['id']);
      expect((await at('+30d', 'show', id)).stdout).to.include('clock');
      const [explained] = (await at('+30d', '--json', 'explain', 'a')).objects;
      expect(JSON.stringify(explained)).to.include('"reason":"clock"');
      expect((await at('+30d', '--json', 'clock')).objects[0]).to.include({ trusted: false });
      const dry = await at('+30d', 'clock', 'accept', '--dry-run');
      expect([dry.code, dry.stdout]).to.satisfy(
        ([code, said]: [number, string]) => code === 0 && said.startsWith('would be accepted: '),
      );
      expect((await at('+30d', 'purge')).code).to.equal(5);
      expect((await at('+30d', 'clock', 'accept', '--reason', 'set by hand')).code).to.equal(0);
      const purge = await at('+30d', '--json', 'purge');
      expect([purge.code, purge.objects.at(-1)?.['due']]).to.deep.equal([0, 0]);
      expect(store.pending()).to.have.length(1);
      // What was accepted is right now, and not what was before.
      expect((await ctl(store, 'purge')).code).to.equal(5);
    });

    it('makes nothing due early that is swept while it is behind', async () => {
      store.write('b', 'content of b');
      utimesSync(path.join(store.root, 'b'), 0, 0);
      expect((await at('-30d', 'sweep')).code).to.equal(0);
      expect(store.pending()).to.have.length(2);
      const purge = await ctl(store, '--json', 'purge');
      expect([purge.code, purge.objects.at(-1)?.['due']]).to.deep.equal([0, 0]);
    });

    it('may be in any time zone, in summer or winter', async () => {
      for (const TZ of ['Europe/Berlin', 'Pacific/Kiritimati', 'America/Los_Angeles']) {
        const { code } = await ctlWith({ env: { TZ } }, '--config', store.configFile, 'purge');
        expect(code, TZ).to.equal(0);
      }
    });
  });
});
