import { readdirSync } from 'node:fs';
import path from 'node:path';
import { finished } from 'node:stream/promises';
import { expect } from 'chai';
import { openSession, parseKey } from '../../lib/index.ts';
import { purgeDue, sweepOld } from '../support/phases.ts';
import { DAY, TempPlace } from '../support/place.ts';

describe('the library', () => {
  it('opens a session by a URL alone, and frees all of it with the session', async () => {
    const temp = await TempPlace.make();
    temp.window = 0;
    const place = temp.open();
    const fds = (): number => readdirSync('/proc/self/fd').length;
    try {
      temp.write('a/1', 'content', 3 * DAY);
      const before = fds();
      const session = await openSession({ url: `file://${temp.root}`, prefixes: ['a/'], ttl: 60_000 });
      await sweepOld(place);
      await purgeDue(place);
      expect([...session.view()].flat().map(({ key }) => key)).to.deep.equal(['a/1']);
      const chunks: Buffer[] = [];
      const stream = await session.read(parseKey('a/1'));
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      await finished(stream);
      expect(Buffer.concat(chunks).toString()).to.equal('content');
      await session.close();
      expect(fds()).to.be.at.most(before); // what others left may be closed meanwhile
      expect(readdirSync(path.join(temp.root, '.tombstoned/leases'))).to.deep.equal([]);
      const error: unknown = await openSession({ url: 'file:///nowhere', prefixes: [''] }).catch(
        (e: unknown) => e,
      );
      expect(error).to.have.property('code', 'failed');
      expect(fds()).to.be.at.most(before); // what others left may be closed meanwhile
    } finally {
      temp.remove();
    }
  });
});
