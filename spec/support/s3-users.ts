import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import path from 'node:path';
import { SignatureV4 } from '@smithy/signature-v4';
import { percentEncoded, Sha256 } from './s3-request.ts';
import type { S3Server } from './s3-server.ts';

/** A policy as Amazon writes them. */
export interface Policy {
  readonly Version: string;
  readonly Statement: readonly Statement[];
}

export interface Statement {
  readonly Sid: string;
  readonly Effect: string;
  readonly Action: readonly string[];
  readonly Resource: readonly string[];
  readonly Condition?: unknown;
}

const SCRIPT = path.resolve(import.meta.dirname, '../../scripts/s3-server');

/** A user of the server who may do what a policy says, and nothing else; and one who sets that policy. */
export class RestrictedUser implements AsyncDisposable {
  /** The server, as this user knows it. */
  readonly server: S3Server;
  readonly name: string;
  readonly #setter: S3Server;

  constructor(server: S3Server) {
    const name = `spec-${randomBytes(8).toString('hex')}`;
    this.name = name;
    this.server = { ...server, ...made(name) };
    this.#setter = { ...server, ...made(`${name}-setter`, '--caps=user-policy=*') };
  }

  /** What a program needs to act as this user. */
  get env(): { AWS_ACCESS_KEY_ID: string; AWS_SECRET_ACCESS_KEY: string } {
    const { accessKeyId, secretAccessKey } = this.server;
    return { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
  }

  /** Puts a policy in the place of the one before. */
  async may(policy: Policy): Promise<void> {
    const form = {
      Action: 'PutUserPolicy',
      Version: '2010-05-08',
      UserName: this.name,
      PolicyName: 'role',
      PolicyDocument: JSON.stringify(policy),
    };
    const body = Object.entries(form)
      .map((pair) => pair.map(percentEncoded).join('='))
      .join('&');
    const { endpoint, region, accessKeyId, secretAccessKey } = this.#setter;
    const { host, hostname } = new URL(endpoint);
    const signer = new SignatureV4({
      credentials: { accessKeyId, secretAccessKey },
      region,
      service: 'iam',
      sha256: Sha256,
    });
    const { headers } = await signer.sign({
      method: 'POST',
      protocol: 'http:',
      hostname,
      path: '/',
      query: {},
      headers: {
        host,
        'content-type': 'application/x-www-form-urlencoded',
        'x-amz-content-sha256': createHash('sha256').update(body).digest('hex'),
      },
      body,
    });
    const answer = await fetch(endpoint, { method: 'POST', headers, body });
    if (!answer.ok) throw new Error(`the policy is refused: HTTP ${answer.status} ${await answer.text()}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [this.name, `${this.name}-setter`]) admin('user', 'rm', `--uid=${name}`);
  }
}

function made(name: string, ...more: string[]): { accessKeyId: string; secretAccessKey: string } {
  const keys = { accessKeyId: name.replaceAll('-', ''), secretAccessKey: randomBytes(16).toString('hex') };
  const { accessKeyId, secretAccessKey } = keys;
  const given = [`--access-key=${accessKeyId}`, `--secret-key=${secretAccessKey}`];
  admin('user', 'create', `--uid=${name}`, `--display-name=${name}`, ...given, ...more);
  return keys;
}

function admin(...args: readonly string[]): void {
  const { status, stderr } = spawnSync(SCRIPT, ['admin', ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`radosgw-admin ${args.slice(0, 2).join(' ')}: ${stderr}`);
}
