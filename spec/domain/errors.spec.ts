import { statSync } from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  EXIT_CODES,
  errnoOf,
  exitCodeOf,
  messageOf,
  messageWithCode,
  TombstonedError,
  worstExitCode,
} from '../../lib/domain/errors.ts';
import { KEPT_REASONS } from '../../lib/domain/kept-reason.ts';

describe('exit codes', () => {
  it('belong to error codes', () => {
    expect(EXIT_CODES).to.deep.equal({
      failed: 1,
      usage: 2,
      config: 2,
      'not-found': 3,
      conflict: 4,
      blocked: 5,
      incomplete: 6,
      unwell: 7,
    });
    expect(exitCodeOf(new TombstonedError('not-found', 'no such key'))).to.equal(3);
  });

  it('are 1 for whatever else was thrown', () => {
    for (const thrown of [new Error('a'), new RangeError('a'), 'a', null, undefined, { code: 'blocked' }]) {
      expect(exitCodeOf(thrown)).to.equal(1);
    }
  });

  it('of a bulk command are the worst: 1, 6, 5, 4, 3, then 0', () => {
    const worstFirst = [1, 6, 5, 4, 3, 0];
    for (const [i, worse] of worstFirst.entries()) {
      for (const better of worstFirst.slice(i)) {
        expect(worstExitCode(worse, better)).to.equal(worse);
        expect(worstExitCode(better, worse)).to.equal(worse);
      }
    }
  });

  it('do not depend on the order of the failures', () => {
    const code: fc.Arbitrary<number> = fc.constantFrom(0, 1, 3, 4, 5, 6);
    const codes = fc.array(code, { minLength: 1 });
    fc.assert(
      fc.property(codes, (list) => {
        const worst = list.reduce(worstExitCode);
        expect(list.toReversed().reduce(worstExitCode)).to.equal(worst);
        expect(list).to.include(worst);
      }),
    );
  });
});

describe('an error', () => {
  it('carries its code, its key, why, what to do, and what caused it', () => {
    const cause = new Error('EIO');
    const error = new TombstonedError('blocked', 'a is held', {
      key: 'a',
      reason: 'hold',
      hint: 'release it',
      cause,
    });
    expect(error).to.be.instanceOf(Error);
    expect(error).to.include({
      name: 'TombstonedError',
      code: 'blocked',
      message: 'a is held',
      key: 'a',
      reason: 'hold',
      hint: 'release it',
      cause,
    });
  });

  it('has no cause where there is none', () => {
    expect(new TombstonedError('failed', 'a')).not.to.have.property('cause');
    expect(new TombstonedError('failed', 'a')).to.include({
      key: undefined,
      reason: undefined,
      hint: undefined,
    });
  });

  it('is told on one line', () => {
    expect(messageOf(new Error('a\n  b\r\nc\rd'))).to.equal('a b c d');
    expect(messageOf('a \n\n b')).to.equal('a b');
    expect(messageOf(undefined)).to.equal('undefined');
    expect(messageOf(new Error('a  b'))).to.equal('a  b');
  });

  it('of the system is known by its name', () => {
    let thrown: unknown;
    try {
      statSync('/nonexistent/a');
    } catch (error) {
      thrown = error;
    }
    expect(errnoOf(thrown)).to.equal('ENOENT');
    expect(errnoOf({ code: 'SQLITE_BUSY' })).to.equal('SQLITE_BUSY');
    for (const other of [new Error('ENOENT'), { code: 2 }, 'ENOENT', null, undefined]) {
      expect(errnoOf(other)).to.equal(undefined);
    }
  });
});

describe('the reasons to keep something', () => {
  it('are those of the design', () => {
    const words =
      'window lease hold exempt fence clock limit owner protected too-young keep-last no-policy coverage object-lock changed error';
    expect(KEPT_REASONS.join(' ')).to.equal(words);
  });
});

describe('a message with its code', () => {
  it('has that once', () => {
    let thrown: unknown;
    try {
      statSync('/no/such/file');
    } catch (error) {
      thrown = error;
    }
    expect(messageWithCode(thrown)).to.match(/^ENOENT: no such file[^(]*$/);
    const full = Object.assign(new Error('database or disk is full'), { code: 'SQLITE_FULL' });
    expect(messageWithCode(full)).to.equal('database or disk is full (SQLITE_FULL)');
    expect(messageWithCode(new Error('a'))).to.equal('a');
  });
});
