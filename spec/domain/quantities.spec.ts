import { expect } from 'chai';
import fc from 'fast-check';
import {
  formatDuration,
  formatSize,
  parseDuration,
  parseSize,
  parseTime,
} from '../../lib/domain/quantities.ts';

describe('a duration', () => {
  const good: [text: string, ms: number][] = [
    ['90s', 90_000],
    ['15m', 900_000],
    ['36h', 129_600_000],
    ['7d', 604_800_000],
    ['2w', 1_209_600_000],
    ['250ms', 250],
    ['0s', 0],
    ['0d', 0],
    ['007s', 7000],
    ['1.5h', 5_400_000],
    ['0.0004s', 0],
    ['0.0005s', 1],
  ];
  for (const [text, ms] of good) it(`${text} is ${ms} ms`, () => expect(parseDuration(text)).to.equal(ms));

  for (const text of [
    '',
    '7',
    '7 d',
    ' 7d',
    '7d ',
    '7d\n',
    '-7d',
    '+7d',
    '7D',
    '1d12h',
    '.5h',
    '5.h',
    '1e3s',
    '7y',
    '٧d',
    's',
    'Infinityd',
    `${'9'.repeat(15)}w`,
    `${'9'.repeat(16)}s`,
  ]) {
    it(`${JSON.stringify(text)} is none`, () => expect(parseDuration(text)).to.equal(undefined));
  }

  it('is its number times its unit', () => {
    const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
    fc.assert(
      fc.property(fc.nat(10_000_000), fc.constantFrom(...Object.entries(units)), (n, [unit, ms]) => {
        expect(parseDuration(`${n}${unit}`)).to.equal(n * ms);
      }),
    );
  });

  const shown: [ms: number, text: string][] = [
    [0, '0s'],
    [-5, '0s'],
    [250, '250ms'],
    [999, '999ms'],
    [1000, '1s'],
    [59_600, '1m'],
    [723_000, '12m 3s'],
    [3_600_000, '1h'],
    [100_800_000, '1d 4h'],
    [86_460_000, '1d'],
    [604_800_000, '7d'],
    [34_560_000_000, '400d'],
  ];
  for (const [ms, text] of shown) {
    it(`of ${ms} ms is shown as ${text}`, () => expect(formatDuration(ms)).to.equal(text));
  }

  it('is shown with an error of less than its second unit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1000, max: 1e12 }), (ms) => {
        const parts = formatDuration(ms).split(' ');
        const back = parts.reduce((sum, part) => sum + (parseDuration(part) ?? Number.NaN), 0);
        expect(parts.length).to.be.within(1, 2);
        expect(Math.abs(ms - back)).to.be.below(ms / 20 + 501);
      }),
    );
  });
});

describe('a size', () => {
  const good: [text: string, bytes: number][] = [
    ['10MiB', 10 * 1024 ** 2],
    ['10 MiB', 10 * 1024 ** 2],
    ['0B', 0],
    ['17B', 17],
    ['1KB', 1000],
    ['1KiB', 1024],
    ['2MB', 2e6],
    ['1.5GB', 1.5e9],
    ['1.5GiB', 1.5 * 1024 ** 3],
    ['1TB', 1e12],
    ['3TiB', 3 * 1024 ** 4],
  ];
  for (const [text, bytes] of good)
    it(`${text} is ${bytes} bytes`, () => expect(parseSize(text)).to.equal(bytes));

  for (const text of [
    '',
    '10',
    '10M',
    '10mib',
    '-1B',
    'MiB',
    '10  MiB',
    '1e3B',
    '10MiB\n',
    '1,5GB',
    `${'9'.repeat(15)}TiB`,
  ]) {
    it(`${JSON.stringify(text)} is none`, () => expect(parseSize(text)).to.equal(undefined));
  }

  const shown: [bytes: number, text: string][] = [
    [0, '0 B'],
    [17, '17 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1536, '1.5 KiB'],
    [10 * 1024, '10 KiB'],
    [3.2 * 1024 ** 3, '3.2 GiB'],
    [700 * 1024 ** 4, '700 TiB'],
    [5000 * 1024 ** 5, '5000 PiB'],
  ];
  for (const [bytes, text] of shown) {
    it(`of ${bytes} bytes is shown as ${text}`, () => expect(formatSize(bytes)).to.equal(text));
  }
});

describe('a time on the command line', () => {
  const NOW = Date.UTC(2026, 10, 22, 10, 15);
  const read = (text: string) => parseTime(text, NOW, 'ago');

  it('is now, or a duration before or after it', () => {
    expect(parseTime('now', NOW, 'ago')).to.equal(NOW);
    expect(parseTime('now', NOW, 'ahead')).to.equal(NOW);
    expect(parseTime('2h', NOW, 'ago')).to.equal(NOW - 7_200_000);
    expect(parseTime('2h', NOW, 'ahead')).to.equal(NOW + 7_200_000);
  });

  const good: [text: string, iso: string][] = [
    ['2026-11-22', '2026-11-22T00:00:00.000Z'],
    ['2026-11-22T10:15', '2026-11-22T10:15:00.000Z'],
    ['2026-11-22T10:15Z', '2026-11-22T10:15:00.000Z'],
    ['2026-11-22T10:15:01', '2026-11-22T10:15:01.000Z'],
    ['2026-11-22T10:15:01.5', '2026-11-22T10:15:01.500Z'],
    ['2026-11-22T10:15:01.123Z', '2026-11-22T10:15:01.123Z'],
    ['2026-11-22T10:15+02:00', '2026-11-22T08:15:00.000Z'],
    ['2026-11-22T10:15:00-0530', '2026-11-22T15:45:00.000Z'],
    ['2028-02-29', '2028-02-29T00:00:00.000Z'],
    ['2026-12-31T23:30-01:00', '2027-01-01T00:30:00.000Z'],
  ];
  for (const [text, iso] of good) {
    it(`${text} is ${iso}, in UTC unless it says otherwise`, () =>
      expect(read(text)).to.equal(Date.parse(iso)));
  }

  for (const text of [
    '',
    'yesterday',
    '2026',
    '2026-11',
    '20261122',
    '2026-11-22 10:15',
    '2026-11-22T10',
    '2026-11-22Z',
    '2026-11-22T10:15 Z',
    '2026-11-22T10:15:01.1234',
    '11/22/2026',
    '1795342501',
    'Now',
    '-2h',
    '2026-13-01',
    '2026-00-01',
    '2026-02-29',
    '2026-02-30T10:00Z',
    '2026-11-31',
    '2026-11-22T25:00',
    '2026-11-22T10:60',
    '2026-11-22T10:15+99:00',
  ]) {
    it(`${JSON.stringify(text)} is none`, () => expect(read(text)).to.equal(undefined));
  }

  it('is none beyond what a date can hold', () => {
    expect(parseTime('14500000w', NOW, 'ago')).to.equal(undefined);
    expect(parseTime('14500000w', NOW, 'ahead')).to.equal(undefined);
    expect(parseTime('14000000w', NOW, 'ago')).to.equal(NOW - 14_000_000 * 604_800_000);
  });

  it('is what any ISO time says', () => {
    const years = { min: new Date('0001-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59.999Z') };
    fc.assert(
      fc.property(fc.date({ ...years, noInvalidDate: true }), (date) => {
        expect(read(date.toISOString())).to.equal(date.getTime());
      }),
    );
  });
});
