import * as v from 'valibot';
import { isNearWord } from '../domain/near-word.ts';
import { expected } from './wording.ts';

/** A member's own words for what is wrong, where "expected …, got …" says too little. */
export class Refusal {
  readonly message: string;

  constructor(message: string) {
    this.message = message;
  }
}

/** A scalar member. `read` gives undefined for what is not one; `what` says what was expected. */
export function member<T>(what: string, read: (value: unknown) => T | Refusal | undefined) {
  return v.pipe(
    v.unknown(),
    v.description(what),
    v.rawTransform<unknown, T>(({ dataset, addIssue, NEVER }) => {
      const value = read(dataset.value);
      if (value instanceof Refusal) addIssue({ message: value.message });
      else if (value === undefined) addIssue({ message: expected(what, dataset.value) });
      else return value;
      return NEVER;
    }),
  );
}

export function orNull<T>(what: string, read: (value: unknown) => T | Refusal | undefined) {
  return member<T | null>(`${what}, or null`, (value) => (value === null ? null : read(value)));
}

export function oneOf<const T extends string>(...texts: T[]) {
  const what = texts.join(', ').replace(/, ([^,]*)$/, ' or $1');
  return member(what, (value) => texts.find((text) => text === value));
}

/** A list; one whose items are all commented out reads as null, and is empty. */
export function list<T>(what: string, item: v.GenericSchema<unknown, T>, least = 0) {
  return v.pipe(
    member<readonly unknown[]>(what, (value) => {
      const items = value ?? [];
      return Array.isArray(items) && items.length >= least ? items : undefined;
    }),
    v.transform((items) => [...items]),
    v.array(item),
  );
}

/** A mapping with these members and no others; one whose members are all commented out is empty. */
export function mapping<const E extends v.ObjectEntries>(entries: E) {
  const schema = v.strictObject(entries, (issue) => memberProblem(entries, issue));
  return v.pipe(
    v.unknown(),
    v.description('a mapping'),
    v.rawTransform<unknown, v.InferOutput<typeof schema>>(({ dataset, addIssue, NEVER }) => {
      const value = dataset.value ?? {};
      if (typeof value !== 'object' || Array.isArray(value)) {
        addIssue({ message: expected('a mapping', value) });
        return NEVER;
      }
      const result = v.safeParse(schema, value);
      if (result.success) return result.output;
      const issue = first(result.issues);
      addIssue({ message: issue.message, ...(issue.path === undefined ? {} : { path: issue.path }) });
      return NEVER;
    }),
  );
}

/** A mapping, or null, which is not the mapping without members. */
export function nullOr<T>(schema: v.GenericSchema<unknown, T>) {
  const none = v.pipe(
    v.unknown(),
    v.transform(() => null),
  );
  return v.pipe(v.unknown(), v.description('a mapping, or null'), v.lazy(chosen));
  function chosen(value: unknown): v.GenericSchema<unknown, T | null> {
    return value === null ? none : schema;
  }
}

/** A misspelt member is unknown, and may be missing too: the misspelling is the one to tell. */
function first<T>(issues: readonly [v.BaseIssue<T>, ...v.BaseIssue<T>[]]): v.BaseIssue<T> {
  const isOwn = (issue: v.BaseIssue<T>): boolean => issue.type === 'strict_object';
  if (!isOwn(issues[0])) return issues[0];
  return issues.find((issue) => isOwn(issue) && isUnknown(issue)) ?? issues[0];
}

function isUnknown(issue: v.BaseIssue<unknown>): boolean {
  return issue.expected === 'never';
}

function memberProblem(entries: v.ObjectEntries, issue: v.StrictObjectIssue): string {
  const name = String(issue.path?.[0]?.key);
  if (!isUnknown(issue)) {
    const entry = entries[name];
    return expected((entry && v.getDescription(entry)) ?? 'a value', undefined);
  }
  const known = Object.keys(entries);
  const meant = known.find((one) => isNearWord(one, name));
  return meant === undefined
    ? `no such member; there are ${known.join(', ')}`
    : `no such member; did you mean ${meant}?`;
}
