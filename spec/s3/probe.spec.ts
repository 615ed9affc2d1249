import { assert } from 'chai';
import { TombstonedError } from '../../lib/domain/errors.ts';
import { type Capabilities, Unanswered } from '../../lib/store/s3/api.ts';
import { copyGuardOf, deleteGuardOf } from '../../lib/store/s3/guards.ts';
import {
  describe as lines,
  probe,
  probePutIfAbsent,
  probePutIfMatch,
  statusOf,
} from '../../lib/store/s3/probe.ts';
import { DrivenClock } from '../support/place.ts';
import { type Honour, MemoryS3, type PRESETS, serverError } from './memory-api.ts';

const FOUND = {
  amazon: {
    putIfAbsent: true,
    putIfMatch: 'quoted',
    copyIfMatch: 'standard',
    copyUnmodifiedSince: true,
    copyIfAbsent: true,
    deleteIfMatch: true,
    deleteUnmodifiedSince: false,
    versioning: 'off',
  },
  rgw: {
    putIfAbsent: true,
    putIfMatch: 'unquoted',
    copyIfMatch: 'rgw',
    copyUnmodifiedSince: false,
    copyIfAbsent: false,
    deleteIfMatch: false,
    deleteUnmodifiedSince: true,
    versioning: 'off',
  },
  swift: {
    putIfAbsent: false,
    putIfMatch: 'no',
    copyIfMatch: 'standard',
    copyUnmodifiedSince: true,
    copyIfAbsent: false,
    deleteIfMatch: true,
    deleteUnmodifiedSince: false,
    versioning: 'off',
  },
} as const satisfies Record<keyof typeof PRESETS, Capabilities>;

const NOTHING: Capabilities = {
  putIfAbsent: false,
  putIfMatch: 'no',
  copyIfMatch: 'no',
  copyUnmodifiedSince: false,
  copyIfAbsent: false,
  deleteIfMatch: false,
  deleteUnmodifiedSince: false,
  versioning: 'off',
};

describe('what a bucket honours, as probed', () => {
  const clock = new DrivenClock();

  for (const preset of ['amazon', 'rgw', 'swift'] as const) {
    it(`is what ${preset} does, and nothing of the probing is left`, async () => {
      const s3 = new MemoryS3({ preset });
      s3.seed('logs/a', 'a');
      assert.deepEqual(await probe(s3, clock), FOUND[preset]);
      assert.deepEqual(s3.allNames(), ['logs/a']);
    });
  }

  for (const preset of ['amazon', 'rgw', 'swift'] as const) {
    it(`is told of one condition alone as ${preset} does, by a fraction of the requests`, async () => {
      const s3 = new MemoryS3({ preset });
      let requests = 0;
      s3.before = () => {
        requests += 1;
        return undefined;
      };
      assert.equal(await probePutIfAbsent(s3, clock), FOUND[preset].putIfAbsent);
      assert.isAtMost(requests, 12);
      assert.equal(await probePutIfMatch(s3, clock), FOUND[preset].putIfMatch);
      assert.isAtMost(requests, 40);
      assert.deepEqual(s3.allNames(), []);
    });
  }

  // RGW looks for what a PUT is to replace among the versions, where that replaces none.
  const VERSIONED = [
    ['amazon', 'enabled', {}],
    ['amazon', 'suspended', {}],
    ['rgw', 'enabled', { putIfAbsent: false, putIfMatch: 'no', deleteUnmodifiedSince: false }],
    ['rgw', 'suspended', { putIfAbsent: false, deleteUnmodifiedSince: false, copiesFollow: true }],
  ] as const;
  for (const [preset, versioning, found] of VERSIONED) {
    it(`is told where ${preset} has versions ${versioning}; neither versions nor markers are left`, async () => {
      const s3 = new MemoryS3({ preset, versioning });
      assert.deepEqual(await probe(s3, clock), { ...FOUND[preset], ...found, versioning });
      assert.deepEqual(s3.allNames(), []);
    });
  }

  for (const honour of ['ignored', 501, 400] as const satisfies Honour[]) {
    it(`is nothing where each condition is answered with ${honour}`, async () => {
      const s3 = new MemoryS3({
        putIfAbsent: honour,
        putIfMatch: { quoted: honour, unquoted: honour },
        copyIfMatch: { standard: honour, rgw: honour },
        copyUnmodifiedSince: honour,
        copyIfAbsent: honour,
        deleteIfMatch: honour,
        deleteUnmodifiedSince: honour,
      });
      assert.deepEqual(await probe(s3, clock), NOTHING);
      assert.deepEqual(s3.allNames(), []);
    });
  }

  it('is no condition that is refused also when it holds', async () => {
    const s3 = new MemoryS3({
      putIfMatch: { quoted: 'never-matches', unquoted: 'never-matches' },
    });
    assert.equal((await probe(s3, clock)).putIfMatch, 'no');
  });

  it('is no condition that is refused after the damage is done', async () => {
    const s3 = new MemoryS3({ deleteIfMatch: 'ignored' });
    s3.after = (request) => {
      if (request.kind === 'put' && request.options.ifAbsent === true) s3.seed(request.name, 'damaged');
    };
    const found = await probe(s3, clock);
    assert.isFalse(found.putIfAbsent);
    assert.isFalse(found.deleteIfMatch);
  });

  it('is asked again on other names where an answer is lost', async () => {
    for (const fate of ['lost', 'answer-lost', 'late'] as const) {
      for (let at = 1; at <= 40; at++) {
        const s3 = new MemoryS3({ preset: 'rgw' });
        let n = 0;
        s3.before = (request) => {
          if (request.kind === 'head') return undefined;
          return (n += 1) === at && request.kind !== 'versioning' ? fate : undefined;
        };
        assert.deepEqual(await probe(s3, clock), FOUND.rgw, `${fate} at ${at}`);
        assert.deepEqual(s3.allNames(), [], `${fate} at ${at}`);
      }
    }
  });

  it('is never guessed: what goes wrong is thrown, and the scratch objects are removed', async () => {
    for (let at = 1; at <= 30; at++) {
      const s3 = new MemoryS3();
      let n = 0;
      s3.before = ({ kind }) => {
        if (kind === 'delete') return undefined;
        if ((n += 1) === at) throw serverError(403, 'AccessDenied', 'probe');
        return undefined;
      };
      const error = await failure(probe(s3, clock));
      assert.match(error.message, /AccessDenied/, `at ${at}`);
      assert.deepEqual(s3.allNames(), [], `at ${at}`);
    }
  });

  it('is not told where no request is answered', async () => {
    const s3 = new MemoryS3();
    s3.before = ({ kind }) => (kind === 'put' ? 'lost' : undefined);
    assert.instanceOf(await failure(probe(s3, clock)), Unanswered);
  });

  it('is not told where the scratch objects can not be removed', async () => {
    const s3 = new MemoryS3();
    s3.before = (request) => {
      if (request.kind === 'delete' && request.options.ifMatch === undefined)
        throw serverError(403, 'AccessDenied', request.name);
      return undefined;
    };
    assert.match((await failure(probe(s3, clock))).message, /AccessDenied/);
  });

  it('is a 400 only when it comes again', async () => {
    const s3 = new MemoryS3();
    const seen = new Set<string>();
    s3.before = (request) => {
      if (request.kind !== 'put' || request.options.ifAbsent !== true || seen.has(request.name))
        return undefined;
      seen.add(request.name);
      throw serverError(400, 'RequestTimeout', request.name);
    };
    assert.deepEqual(await probe(s3, clock), FOUND.amazon);
  });
});

describe('the status of an error', () => {
  it('is that of the answer it comes from, and of none where there was none', () => {
    assert.equal(statusOf(serverError(501, 'NotImplemented', 'a')), 501);
    const cause = new Error('CopyObject: HTTP 501 NotImplemented: not there');
    assert.equal(statusOf(new TombstonedError('failed', 'a', { cause })), 501);
    assert.equal(statusOf(new Error('a', { cause: new Error('HTTP 503: SlowDown') })), 503);
    assert.isUndefined(statusOf(new Error('socket hang up')));
    assert.isUndefined(statusOf('HTTP 503'));
  });
});

describe('the guards of a bucket', () => {
  it('are the version where versions are kept, and a marker', () => {
    for (const found of [...Object.values(FOUND), NOTHING]) {
      assert.equal(copyGuardOf({ ...found, versioning: 'enabled' }), 'version');
      assert.equal(deleteGuardOf({ ...found, versioning: 'enabled' }), 'marker');
    }
  });

  it('are the strongest conditions that are honoured where they are not', () => {
    assert.equal(copyGuardOf(FOUND.amazon), 'unmodified-since');
    assert.equal(copyGuardOf(FOUND.rgw), 'rgw-if-match');
    assert.equal(copyGuardOf(FOUND.swift), 'unmodified-since');
    assert.equal(copyGuardOf({ ...FOUND.swift, copyUnmodifiedSince: false }), 'if-match');
    assert.equal(copyGuardOf(NOTHING), 'none');
    assert.equal(deleteGuardOf(FOUND.amazon), 'if-match');
    assert.equal(deleteGuardOf({ ...FOUND.amazon, versioning: 'suspended' }), 'if-match');
    assert.equal(deleteGuardOf(FOUND.rgw), 'unmodified-since');
    assert.equal(deleteGuardOf({ ...FOUND.amazon, deleteUnmodifiedSince: true }), 'if-match');
    assert.equal(deleteGuardOf(NOTHING), 'head-before');
  });

  it('are told to people, with what they leave open', () => {
    const amazon = lines(FOUND.amazon).join('\n');
    assert.match(amazon, /PUT If-None-Match, PUT If-Match, COPY if unmodified since, COPY if match/);
    assert.notMatch(amazon, /WARNING/);
    const rgw = lines(FOUND.rgw).join('\n');
    assert.match(rgw, /PUT If-Match \(without quotes\), COPY if match \(RGW's header\)/);
    assert.match(rgw, /the deletion: WARNING: only if the object was not written in a later second/);
    assert.match(lines(NOTHING).join('\n'), /the deletion: WARNING: after a look/);
    assert.match(rgw, /restoring: by reading and writing/);
    assert.match(lines(FOUND.swift).join('\n'), /restoring: WARNING/);
    assert.match(lines(NOTHING).join('\n'), /conditions honoured: none/);
    const kept = lines({ ...FOUND.rgw, versioning: 'enabled' }).join('\n');
    assert.match(kept, /the deletion: puts a marker/);
    assert.match(kept, /versions: keep/);
  });
});

async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    assert.instanceOf(error, Error);
    return error;
  }
  assert.fail('it did not fail');
}
