// Loaded by the program before anything else: counts the SQL statements and transactions that it runs, and writes
// both to the file that $COUNTS_FILE names when it ends.
'use strict';
const { writeFileSync } = require('node:fs');
const Database = require('better-sqlite3');

const counted = { statement: 0, transaction: 0 };

/**
 * Puts `make` in the place of a method; it gets the method, bound, and gives what is called instead.
 * @param {object} object @param {string} name @param {(real: Function) => Function} make
 */
function replace(object, name, make) {
  const real = Reflect.get(object, name);
  Reflect.set(
    object,
    name,
    /** @this {unknown} @param {unknown[]} given */ function (...given) {
      return make(real.bind(this))(...given);
    },
  );
}

/** @param {keyof typeof counted} what @returns {(real: Function) => Function} */
function counting(what) {
  return (real) =>
    (/** @type {unknown[]} */ ...given) => {
      counted[what]++;
      return real(...given);
    };
}

replace(Database.prototype, 'exec', counting('statement'));
replace(Database.prototype, 'prepare', (prepare) => (/** @type {string} */ sql) => {
  const statement = prepare(sql);
  for (const name of ['run', 'get', 'all', 'iterate']) replace(statement, name, counting('statement'));
  return statement;
});
replace(Database.prototype, 'transaction', (transaction) => (/** @type {Function} */ work) => {
  return transaction(counting('transaction')(work));
});

process.once('exit', () => writeFileSync(process.env['COUNTS_FILE'] ?? '', JSON.stringify(counted)));
