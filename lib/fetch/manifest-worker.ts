import { workerData } from 'node:worker_threads';
import { FetchManifest } from '../catalog/fetch-manifest.ts';
import { serve } from '../run/thread.ts';
import type { ManifestAnswer, ManifestRequest, ManifestSettings } from './manifest-thread.ts';

// The thread of a `ThreadManifest`.

const { file }: ManifestSettings = workerData;
let manifest: FetchManifest | undefined;

async function answerTo(request: ManifestRequest): Promise<ManifestAnswer> {
  manifest ??= FetchManifest.open(file); // with the first request, whose answer tells what is wrong with it
  switch (request.ask) {
    case 'isEmpty':
      return manifest.isEmpty();
    case 'find':
      return manifest.find(request.keys);
    case 'forget':
      manifest.forget(request.keys);
      return null;
    case 'keysBetween':
      return manifest.keysBetween(request.after, request.upTo, request.most);
    case 'advance':
      manifest.advanceTo(request.settled, request.next);
      return null;
  }
}

serve({ answerTo, onEnd: () => manifest?.close() });
