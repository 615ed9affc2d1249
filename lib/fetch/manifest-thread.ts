import { type FetchedFile, type FetchManifest, filesText } from '../catalog/fetch-manifest.ts';
import { Thread } from '../run/thread.ts';

/** It has little to remember. */
const HEAP = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 };

type Asked = 'isEmpty' | 'find' | 'forget' | 'keysBetween' | 'advance' | 'close';

/** What a fetch asks of its manifest, which may answer later. */
export type Manifest = {
  readonly [Ask in Asked]: (
    ...of: Parameters<FetchManifest[Ask]>
  ) => ReturnType<FetchManifest[Ask]> | Promise<ReturnType<FetchManifest[Ask]>>;
};

/** What the thread is told at its start. */
export interface ManifestSettings {
  readonly file: string;
}

/** What it is asked. Files cross as JSON text, which costs the least. */
export type ManifestRequest =
  | { readonly ask: 'isEmpty' }
  | { readonly ask: 'find' | 'forget'; readonly keys: readonly string[] }
  | {
      readonly ask: 'keysBetween';
      readonly after: string;
      readonly upTo: string | undefined;
      readonly most: number;
    }
  | { readonly ask: 'advance'; readonly settled: string; readonly next: string };

/** Null where there is nothing to say. */
export type ManifestAnswer = boolean | Map<string, FetchedFile> | string[] | null;

/** The manifest of a large fetch, in a thread of its own: a commit waits for the disk, which has much to write then. */
export class ThreadManifest implements Manifest {
  readonly #thread: Thread<ManifestRequest, ManifestAnswer>;

  private constructor(thread: Thread<ManifestRequest, ManifestAnswer>) {
    this.#thread = thread;
  }

  /** Opens the manifest, which no connection may have open. Throws as `FetchManifest.open` does. */
  static async open(file: string): Promise<ThreadManifest> {
    const settings: ManifestSettings = { file };
    const manifest = new ThreadManifest(
      new Thread({
        file: new URL('./manifest-worker', import.meta.url),
        name: "the thread of a fetch's manifest",
        settings,
        limits: HEAP,
      }),
    );
    try {
      await manifest.isEmpty();
      return manifest;
    } catch (error) {
      await manifest.close();
      throw error;
    }
  }

  async isEmpty(): Promise<boolean> {
    const answer = await this.#thread.ask({ ask: 'isEmpty' });
    if (typeof answer !== 'boolean') throw unexpected();
    return answer;
  }

  async find(keys: readonly string[]): Promise<Map<string, FetchedFile>> {
    const answer = await this.#thread.ask({ ask: 'find', keys });
    if (!(answer instanceof Map)) throw unexpected();
    return answer;
  }

  async forget(keys: readonly string[]): Promise<void> {
    await this.#thread.ask({ ask: 'forget', keys });
  }

  async keysBetween(after: string, upTo: string | undefined, most: number): Promise<string[]> {
    const answer = await this.#thread.ask({ ask: 'keysBetween', after, upTo, most });
    if (!Array.isArray(answer)) throw unexpected();
    return answer;
  }

  async advance(settled: readonly FetchedFile[], next: readonly FetchedFile[]): Promise<void> {
    await this.#thread.ask({ ask: 'advance', settled: filesText(settled), next: filesText(next) });
  }

  async close(): Promise<void> {
    await this.#thread.close();
  }
}

function unexpected(): TypeError {
  return new TypeError("the thread of a fetch's manifest answers something else");
}
