import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { parse } from 'yaml';
import { builtProgram } from '../support/built-cli.ts';

interface Adapter {
  readonly env_vars: readonly { readonly key: string; readonly value: string }[];
  readonly commands: Readonly<Record<CommandName, string>>;
}

type CommandName =
  | 'create_backup'
  | 'create_for_write'
  | 'open_for_read'
  | 'save_metadata_line'
  | 'list_metadata_files'
  | 'backup_metadata_file';

type Variables = Readonly<Record<string, string>>;

/** The command adapter as it is shipped. */
const ADAPTER = path.resolve(import.meta.dirname, '../../config/aptos-command-adapter.yaml');

/** How a command ended for the tool. */
export interface Done {
  readonly code: number | null;
  /** What it wrote to stdout; of a handle, without the line's end. */
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** A backup tool, as far as its storage goes: it runs the commands of the adapter as the original does. */
export class AdapterTool {
  readonly #adapter: Adapter;
  readonly #bin: string;
  readonly #env: Variables;

  /** `set` stands for what an operator edits in the file; `env` is the tool's own environment. */
  constructor({ set, env = {} }: { readonly set: Variables; readonly env?: Variables }) {
    const adapter = parse(readFileSync(ADAPTER, 'utf8')) as Adapter;
    const unknown = Object.keys(set).filter((name) => !adapter.env_vars.some(({ key }) => key === name));
    if (unknown.length > 0) throw new Error(`the adapter has no ${unknown.join(', ')}`);
    this.#adapter = {
      ...adapter,
      env_vars: adapter.env_vars.map(({ key, value }) => ({ key, value: set[key] ?? value })),
    };
    this.#bin = mkdtempSync(path.join(tmpdir(), 'tombstoned-bin-'));
    const shim = path.join(this.#bin, 'tombstonectl');
    writeFileSync(shim, `#!/bin/sh\nexec '${process.execPath}' '${builtProgram('cli')}' "$@"\n`);
    chmodSync(shim, 0o755);
    // Node's stdin is a socket, at which bash reads what HOME has for it.
    const own = { PATH: `${this.#bin}:${process.env['PATH'] ?? ''}`, HOME: this.#bin, LC_ALL: 'C.UTF-8' };
    this.#env = { ...own, ...env };
  }

  async createBackup(name: string): Promise<Done> {
    return this.#run('create_backup', { BACKUP_NAME: name });
  }

  /** Sends the data once the handle is known, which is when stdout has ended. */
  async write(backup: string, name: string, data: string | Buffer): Promise<Done> {
    return this.#run('create_for_write', { BACKUP_HANDLE: backup, FILE_NAME: name }, data);
  }

  async read(handle: string): Promise<Done> {
    return this.#run('open_for_read', { FILE_HANDLE: handle });
  }

  async saveMetadata(name: string, lines: string): Promise<Done> {
    return this.#run('save_metadata_line', { FILE_NAME: name }, lines);
  }

  async listMetadata(): Promise<Done & { readonly handles: string[] }> {
    const done = await this.#run('list_metadata_files', {});
    return { ...done, handles: done.stdout.toString().split('\n').slice(0, -1) };
  }

  async backupMetadata(name: string): Promise<Done> {
    return this.#run('backup_metadata_file', { FILE_NAME: name });
  }

  remove(): void {
    rmSync(this.#bin, { recursive: true, force: true });
  }

  /** A command that takes data gets it after its stdout has ended; another one's stdin is open until then. */
  async #run(command: CommandName, parameters: Variables, data: string | Buffer = ''): Promise<Done> {
    const { env_vars, commands } = this.#adapter;
    const own = Object.fromEntries(env_vars.map(({ key, value }) => [key, value]));
    const strict = `set -o nounset -o errexit -o pipefail; ${commands[command]}`;
    const child = spawn('bash', ['-c', strict], { env: { ...this.#env, ...own, ...parameters } });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    const said = buffer(child.stderr);
    child.stdin.on('error', () => undefined); // it may end without reading
    const stdout = await buffer(child.stdout);
    child.stdin.end(data);
    return { code: await ended, stdout, stderr: (await said).toString() };
  }
}
