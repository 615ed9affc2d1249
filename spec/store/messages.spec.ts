import { rmSync } from 'node:fs';
import { expect } from 'chai';
import { systemMessage } from '../../lib/store/local/local-fs.ts';

describe('what the system says of a failed call', () => {
  function failed(message: string): Error {
    return Object.assign(new Error(message), { code: 'EACCES' });
  }

  it('is told without the names that only this process knows', () => {
    for (const rest of [
      ", open '/proc/self/fd/17/f1'",
      ", rename '/proc/self/fd/17/f1' -> '/proc/self/fd/18/f1~id'",
      ", rename './f1' -> '/proc/self/fd/18/f1~id'",
      ", rename './it's -> \n' -> '/proc/self/fd/18/f1~id'",
    ]) {
      expect(systemMessage(failed(`EACCES: permission denied${rest}`)), rest).to.equal(
        'EACCES: permission denied',
      );
    }
  });

  it('is told whole otherwise', () => {
    expect(systemMessage(new Error('x /proc/self/fd/1'))).to.equal('x /proc/self/fd/1');
    expect(() => rmSync('/nowhere/at-all'))
      .to.throw()
      .and.satisfy((error: Error) => systemMessage(error).includes('/nowhere/at-all'));
  });
});
