/** The states of a tombstone (design, section 5). */
export const STATES = [
  'moving',
  'pending',
  'purging',
  'purged',
  'restoring',
  'restored',
  'abandoned',
] as const;

export type State = (typeof STATES)[number];

/** What may follow what. `purging` goes back where it came from; the catalog remembers that. */
export const ALLOWED_MOVES: Readonly<Record<State, readonly State[]>> = {
  moving: ['pending', 'restored', 'abandoned'],
  // Restored at once where a rebuild finds that its object is back.
  pending: ['restoring', 'purging', 'restored'],
  restoring: ['restored', 'pending'],
  restored: ['restoring', 'purging', 'pending'],
  purging: ['purged', 'pending', 'restored'],
  purged: [],
  abandoned: [],
};

/** Whether a tombstone may go from one state to another. */
export function mayMove(from: State, to: State): boolean {
  return ALLOWED_MOVES[from].includes(to);
}

/** States whose pending copy is in the store. */
export const COPY_STATES = ['pending', 'purging', 'restoring', 'restored'] as const satisfies State[];
