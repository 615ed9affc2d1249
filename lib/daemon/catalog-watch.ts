import { catalogIdentity, checkCatalogFile } from '../catalog/catalog.ts';

/** How often a look is taken at the file. ms */
const EVERY_MS = 1000;

/**
 * Sees whether a catalog's file is the one that it was when the watch began: without one
 * that was removed or replaced nothing can be gone on with, and no other is taken for it.
 */
export class CatalogWatch {
  /** Is told, once, that it is another, or gone. */
  onLost: (error: unknown) => void = () => undefined;
  readonly #file: string;
  readonly #identity: string | undefined;
  readonly #timer: NodeJS.Timeout;

  constructor(file: string) {
    this.#file = file;
    this.#identity = catalogIdentity(file);
    this.#timer = setInterval(() => this.#look(), EVERY_MS);
    this.#timer.unref();
  }

  /** Throws `failed` where it is another, or gone. */
  check(): void {
    checkCatalogFile(this.#file, this.#identity);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    try {
      this.check();
    } catch (error) {
      this.close();
      this.onLost(error);
    }
  }
}
