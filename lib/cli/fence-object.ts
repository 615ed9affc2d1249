import type { FenceStanding } from '../app/standing-claims.ts';
import { idOfFile } from '../domain/ids.ts';

/** A fence as `--json` has it. */
export function fenceObject({ fence, run, life, age }: FenceStanding) {
  const { name, owner, kind, prefixes, startedAt, problem } = fence;
  return {
    id: idOfFile(name),
    run,
    kind,
    catalog: owner?.catalog ?? null,
    host: owner?.host ?? null,
    pid: owner?.pid ?? null,
    prefixes,
    startedAt: startedAt === '' ? null : startedAt,
    ageSeconds: age === null ? null : Math.floor(age / 1000),
    life,
    problem,
  } as const;
}
