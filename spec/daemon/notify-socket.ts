import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';

/** A message of sd_notify(3). */
export type Message = Readonly<Record<string, string>>;

const LISTEN = `
  use IO::Socket::UNIX;
  my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die "$ARGV[0]: $!";
  $| = 1;
  print "\\n";
  while (defined $socket->recv(my $message, 65536)) { $message =~ s/\\n/\\t/g; print "$message\\n" }
`;

/** The socket of a service manager, and what it was told. Perl listens: Node can't. */
export class NotifySocket {
  readonly path: string;
  readonly messages: Message[] = [];
  readonly #process: ChildProcess;
  readonly #ended: Promise<void>;
  #isListening = false;
  #rest = '';
  #wake: () => void = () => undefined;

  private constructor(directory: string) {
    this.path = path.join(directory, 'notify.socket');
    const child = spawn('perl', ['-e', LISTEN, this.path], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#process = child;
    this.#ended = new Promise((resolve) => child.once('close', () => resolve()));
    child.stdout.setEncoding('utf8').on('data', (text: string) => this.#take(text));
  }

  static async listen(directory: string): Promise<NotifySocket> {
    const socket = new NotifySocket(directory);
    await socket.#until(() => socket.#isListening);
    return socket;
  }

  /** Waits for a message; those before `from` do not count. */
  async until(is: (message: Message) => boolean, from = 0): Promise<Message> {
    const find = (): Message | undefined => this.messages.slice(from).find(is);
    await this.#until(() => find() !== undefined);
    return find() ?? {};
  }

  async close(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (!this.#isListening) this.#isListening = true;
      else this.messages.push(messageOf(line));
    }
    this.#wake();
  }
}

function messageOf(line: string): Message {
  const words = line.split('\t').filter((word) => word !== '');
  return Object.fromEntries(words.map((word) => [word.replace(/=.*/s, ''), word.replace(/^[^=]*=/, '')]));
}

export const isReady = (message: Message): boolean => message['READY'] === '1';
export const isFeed = (message: Message): boolean => message['WATCHDOG'] === '1';
export const isStopping = (message: Message): boolean => message['STOPPING'] === '1';
