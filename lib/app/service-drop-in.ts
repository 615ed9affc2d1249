import { existsSync } from 'node:fs';
import type { StoreConfig } from '../config/config.ts';

/** Where units are that the operator, `scripts/install` or a package has put in place. */
const UNIT_DIRECTORIES = ['/etc', '/usr/local/lib', '/usr/lib', '/lib'].map((at) => `${at}/systemd/system`);

export function isServiceInstalled(): boolean {
  return UNIT_DIRECTORIES.some((directory) => existsSync(`${directory}/tombstoned.service`));
}

/** What opens a store to `tombstoned.service`, which else writes nothing but its state directory: a file and its lines. */
export function dropInFor({ name, location }: Pick<StoreConfig, 'name' | 'location'>): {
  file: string;
  lines: readonly string[];
} {
  const file = `/etc/systemd/system/tombstoned.service.d/${name}.conf`;
  if (location.kind === 's3') return { file, lines: ['[Service]', 'IPAddressDeny=', 'IPAddressAllow='] };
  const { directory } = location;
  const path = quoted(directory);
  const isHome = /^\/(?:home|root|run\/user)(?:\/|$)/.test(directory);
  return {
    file,
    lines: [
      '[Unit]',
      `RequiresMountsFor=${path}`,
      '[Service]',
      `ReadWritePaths=${path}`,
      ...(isHome ? ['ProtectHome=read-only'] : []),
    ],
  };
}

/** A path as a word of a unit: no specifier of systemd, and one word. */
function quoted(path: string): string {
  const word = path.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%');
  return /[\s"'\\]/.test(path) ? `"${word}"` : word;
}
