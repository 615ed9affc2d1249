import { expect } from 'chai';
import { ALLOWED_MOVES, COPY_STATES, mayMove, STATES, type State } from '../../lib/domain/state.ts';

describe('the states of a tombstone', () => {
  const allowed: readonly [from: State, to: State, when: string][] = [
    ['moving', 'pending', 'it was moved'],
    ['moving', 'restored', 'the wrong revision was moved and linked back'],
    ['moving', 'abandoned', 'it changed or was gone before it was copied'],
    ['pending', 'purging', 'it is due'],
    ['purging', 'pending', 'the purge did not happen, and it came from there'],
    ['purging', 'restored', 'the purge did not happen, and it came from there'],
    ['purging', 'purged', 'its copy is gone'],
    ['pending', 'restoring', 'an operator wants it back'],
    ['pending', 'restored', 'a rebuild finds that it is back'],
    ['restoring', 'restored', 'the live copy is back and durable'],
    ['restoring', 'pending', 'it could not be put back'],
    ['restored', 'purging', 'its copy is due'],
    ['restored', 'restoring', 'it is wanted back again, and its copy exists'],
    ['restored', 'pending', 'the live key no longer has that revision'],
  ];
  for (const [from, to, when] of allowed) {
    it(`go from ${from} to ${to} when ${when}`, () => expect(mayMove(from, to)).to.equal(true));
  }

  it('go no other way', () => {
    const moves = STATES.flatMap((from) =>
      STATES.filter((to) => mayMove(from, to)).map((to) => `${from} ${to}`),
    );
    expect(moves.toSorted()).to.deep.equal(allowed.map(([from, to]) => `${from} ${to}`).toSorted());
  });

  it('end in purged or abandoned, and are all reached from moving', () => {
    expect(STATES.filter((state) => ALLOWED_MOVES[state].length === 0)).to.deep.equal([
      'purged',
      'abandoned',
    ]);
    const reached = new Set<State>(['moving']);
    // A set's loop sees what is added meanwhile.
    for (const state of reached) for (const next of ALLOWED_MOVES[state]) reached.add(next);
    expect([...reached].toSorted()).to.deep.equal([...STATES].toSorted());
  });

  it('reach purged only through purging, and purging only with a copy', () => {
    expect(STATES.filter((state) => mayMove(state, 'purged'))).to.deep.equal(['purging']);
    expect(STATES.filter((state) => mayMove(state, 'purging'))).to.deep.equal(['pending', 'restored']);
    expect(COPY_STATES).to.deep.equal(['pending', 'purging', 'restoring', 'restored']);
  });
});
