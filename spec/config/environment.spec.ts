import { expect } from 'chai';
import { readEnvironment } from '../../lib/config/environment.ts';

describe('the environment', () => {
  const names = ['NO_COLOR', 'TOMBSTONED_CONFIG', 'TOMBSTONED_URL', 'TOMBSTONED_LEASE', 'SUDO_USER'] as const;
  const before = names.map((name) => process.env[name]);

  afterEach(() => {
    for (const [i, name] of names.entries()) {
      if (before[i] === undefined) delete process.env[name];
      else process.env[name] = before[i];
    }
  });

  it('says nothing when nothing is set', () => {
    for (const name of names) delete process.env[name];
    expect(readEnvironment()).to.deep.equal({
      configFile: undefined,
      url: undefined,
      lease: undefined,
      noColor: false,
      sudoUser: undefined,
    });
  });

  it('says nothing when the variables are empty', () => {
    for (const name of names) process.env[name] = '';
    expect(readEnvironment()).to.deep.equal({
      configFile: undefined,
      url: undefined,
      lease: undefined,
      noColor: false,
      sudoUser: undefined,
    });
  });

  it('says what is set, as it is now', () => {
    process.env['NO_COLOR'] = '0';
    process.env['TOMBSTONED_CONFIG'] = 'a.yaml';
    process.env['TOMBSTONED_URL'] = 'file:///a';
    process.env['TOMBSTONED_LEASE'] = 'l-1';
    process.env['SUDO_USER'] = 'operator';
    expect(readEnvironment()).to.deep.equal({
      configFile: 'a.yaml',
      url: 'file:///a',
      lease: 'l-1',
      noColor: true,
      sudoUser: 'operator',
    });
  });
});
