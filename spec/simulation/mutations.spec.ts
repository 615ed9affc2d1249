import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { caught } from './caught.ts';
import { MUTATIONS } from './mutations.ts';
import { runSeed } from './seed.ts';
import { edited, run, TestBuild } from './test-build.ts';

/** How far to look on where the code asks for other things than when the seed was found. */
const WITHIN = 300;

describe('Without a rule, the simulation', function () {
  this.timeout(120_000);

  it('has a seed for each mutation, and none besides', () => {
    expect(Object.keys(caught())).to.have.members(MUTATIONS.map(({ name }) => name));
  });

  it('is built from the code as it is: each change is of a text that occurs once', () => {
    const root = path.resolve(import.meta.dirname, '../..');
    for (const { edits } of MUTATIONS)
      for (const edit of edits)
        expect(edited(readFileSync(path.join(root, edit.file), 'utf8'), edit)).to.include(edit.replace);
  });

  for (const mutation of MUTATIONS) {
    const { name, rule, without } = mutation;
    const seed = caught()[name]?.seed ?? 0;
    it(`breaks by seed ${seed}, which holds with it: ${without} (${rule})`, async () => {
      expect((await runSeed(seed)).failure).to.equal(undefined);
      const build = new TestBuild(mutation);
      try {
        const ran = await run([
          ...build.command,
          '--from',
          `${seed}`,
          '--count',
          `${WITHIN}`,
          '--until-failure',
        ]);
        expect(ran.code, ran.said).to.equal(1);
        expect(ran.said).to.match(/^seed \d+: /);
      } finally {
        build.remove();
      }
    });
  }
});
