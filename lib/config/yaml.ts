import { type ErrorCode, LineCounter, parseDocument, type YAMLError } from 'yaml';
import { messageOf } from '../domain/errors.ts';
import { printable } from '../domain/key.ts';

/** More aliases than anybody writes by hand, fewer than a bomb needs. */
const MAX_ALIASES = 100;

/** What one YAML document holds (null when it is empty), or what is wrong with it and where, on one line. */
export function parseYaml(text: string): { readonly value: unknown } | { readonly problem: string } {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, {
    version: '1.2',
    stringKeys: true,
    prettyErrors: false,
    lineCounter,
  });
  // A warning is about a tag or directive that would be ignored.
  const [error] = [...document.errors, ...document.warnings];
  if (error !== undefined) {
    const { line, col } = lineCounter.linePos(error.pos[0]);
    return { problem: `line ${line}, column ${col}: not valid YAML: ${problemOf(error)}` };
  }
  try {
    return { value: document.toJS({ maxAliasCount: MAX_ALIASES }) };
  } catch (cause) {
    return { problem: `not valid YAML: ${printable(messageOf(cause))}` };
  }
}

function problemOf(error: Pick<YAMLError, 'code' | 'message'>): string {
  return PROBLEMS[error.code] ?? printable(messageOf(error));
}

/** Where the parser's own words are about the parser. */
const PROBLEMS: Readonly<Partial<Record<ErrorCode, string>>> = {
  DUPLICATE_KEY: 'this member is there already',
  MULTIPLE_DOCS: 'a second document begins here',
  NON_STRING_KEY: 'the name of a member is a text',
  RESOURCE_EXHAUSTION: 'nested too deeply',
};
