import { TombstonedError } from '../domain/errors.ts';
import { CONTROL_SEGMENT } from '../domain/key.ts';
import { line, parseObject } from './control-json.ts';
import type { ControlSpace, Store } from './store.ts';

const OWNER_NAME = 'owner.json';

export interface Owner {
  /** The owning catalog's uuid. */
  readonly catalog: string;
  readonly host: string;
  readonly since: string;
}

/** Reads `owner.json`: nobody where there is none, `unreadable` when it can't be understood. */
export async function readOwner(control: ControlSpace): Promise<Owner | 'nobody' | 'unreadable'> {
  const body = await control.read(OWNER_NAME);
  if (body === undefined) return 'nobody';
  const { catalog, host, since } = parseObject(body) ?? {};
  if (typeof catalog !== 'string' || typeof host !== 'string' || typeof since !== 'string')
    return 'unreadable';
  return { catalog, host, since };
}

/** Makes `owner.json` where there is none. */
export async function createOwner(control: ControlSpace, owner: Owner): Promise<'created' | 'exists'> {
  return control.create(OWNER_NAME, bodyOf(owner));
}

/** Gives a store another owner, who claims it by that, and then waits for the fences (R5). */
export async function replaceOwner(control: ControlSpace, owner: Owner): Promise<void> {
  await control.replace(OWNER_NAME, bodyOf(owner));
}

function bodyOf({ catalog, host, since }: Owner): string {
  return line({ catalog, host, since });
}

/** Throws `blocked` (owner) unless this catalog owns the store. */
export async function checkOwner(store: Store, catalogUuid: string): Promise<void> {
  const refusal = await ownerRefusal(store, catalogUuid);
  if (refusal !== undefined) throw refusal;
}

/** Why this catalog may do nothing to the store: it does not own it. Undefined where it does. */
export async function ownerRefusal(store: Store, catalogUuid: string): Promise<TombstonedError | undefined> {
  const owner = await readOwner(store.control);
  if (typeof owner === 'object' && owner.catalog === catalogUuid) return undefined;
  const where = `${CONTROL_SEGMENT}/${OWNER_NAME}`;
  const who =
    owner === 'nobody'
      ? 'has no owner'
      : owner === 'unreadable'
        ? `has an unreadable ${where}`
        : `belongs to catalog ${owner.catalog} on ${owner.host} since ${owner.since}`;
  return new TombstonedError(
    'blocked',
    `${store.url} ${who}, not to this catalog: nothing is moved or purged`,
    {
      reason: 'owner',
      key: store.url,
      hint:
        owner === 'nobody'
          ? 'run `tombstonectl init --store NAME`'
          : 'run the commands where that catalog is; if it is lost, or this one is its backup: `tombstonectl rebuild --take-over`',
    },
  );
}
