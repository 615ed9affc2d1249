import type { RunRow } from '../catalog/runs.ts';
import { TombstonedError } from '../domain/errors.ts';
import { isBelowPrefix } from '../domain/key.ts';
import { type Fence, listFences, readFence, takeDownFence } from '../store/fences.ts';
import type { Place } from './place.ts';

/** A run whose process has died, with the fences it left: its lock must be held. */
export class DeadRun {
  readonly id: string;
  readonly n: number;
  readonly #fences: readonly Fence[];

  private constructor({ id, n }: Pick<RunRow, 'id' | 'n'>, fences: readonly Fence[]) {
    this.id = id;
    this.n = n;
    this.#fences = fences;
  }

  /** Looks for its fences. Throws `blocked` when one names another catalog: that one's recovery sees to it. */
  static async find(place: Place, run: Pick<RunRow, 'id' | 'n'>): Promise<DeadRun> {
    const { store, catalog } = place;
    const fences: Fence[] = [];
    for (const name of await listFences(store.control)) {
      if (!name.startsWith(`${run.id}-`)) continue;
      const fence = await readFence(store.control, name);
      if (fence === undefined) continue;
      if (fence.owner !== null && fence.owner.catalog !== catalog.uuid) {
        throw new TombstonedError('blocked', `its fence ${name} is of catalog ${fence.owner.catalog}`, {
          reason: 'owner',
          key: name,
          hint: 'recover it with the catalog that its process used',
        });
      }
      fences.push(fence);
    }
    return new DeadRun(run, fences);
  }

  /**
   * Whether all these keys are under a fence that it left: then whoever could mind
   * waits for that, and nothing else need be looked at (design, section 5).
   */
  isFenced(objects: readonly { readonly key: string }[]): boolean {
    const prefixes = this.#fences.flatMap((fence) => (fence.prefixes.length === 0 ? [''] : fence.prefixes));
    return objects.every(({ key }) => prefixes.some((prefix) => isBelowPrefix(key, prefix)));
  }

  /** Whether it has left any. */
  get isUp(): boolean {
    return this.#fences.length > 0;
  }

  /** Takes its fences down: last of all, when nothing is half-done any more. */
  async takeDownFences({ store }: Place): Promise<void> {
    for (const { name } of this.#fences) await takeDownFence(store.control, name);
  }
}
