import fc from 'fast-check';
import { asKey, type Key } from '../../lib/domain/key.ts';

/** Any well-formed Unicode, with characters that sort differently in UTF-16 and UTF-8. */
export const anyText = fc.string({
  unit: fc.oneof(fc.constantFrom('a', '/', '~', '.', '\uff5e', '\u{1f600}'), code()),
});

export const anyKey: fc.Arbitrary<Key> = fc
  .array(
    fc.string({ unit: fc.oneof(fc.constantFrom('a', '~', '.', '-'), code()), minLength: 1, maxLength: 8 }),
    {
      minLength: 1,
      maxLength: 4,
    },
  )
  .map((segments) => asKey(segments.join('/')))
  .filter((key) => key !== undefined);

/** A moment that ids can say. */
export const anyMoment = fc.integer({ min: Date.UTC(1970, 0), max: Date.UTC(9999, 11, 31, 23, 59, 59, 999) });

function code(): fc.Arbitrary<string> {
  return fc.string({ unit: 'binary', minLength: 1, maxLength: 1 });
}
