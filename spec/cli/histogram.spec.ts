import { expect } from 'chai';
import { histogram } from '../../lib/cli/histogram.ts';

describe('the histogram', () => {
  const bars = [
    { label: 'now', count: 0, bytes: 0 },
    { label: '1h', count: 100, bytes: 2048 },
    { label: '6h', count: 50, bytes: 17 },
    { label: 'later', count: 1, bytes: 1 },
  ];

  it('has bars in proportion, and a mark for what is not nothing', () => {
    expect(histogram(bars, true)).to.deep.equal([
      'now      0',
      `1h     100  2.0 KiB  ${'█'.repeat(40)}`,
      `6h      50     17 B  ${'█'.repeat(20)}`,
      'later    1      1 B  ▍',
    ]);
  });

  it('is of plain characters where there are no others', () => {
    expect(histogram(bars, false)).to.deep.equal([
      'now      0',
      `1h     100  2.0 KiB  ${'#'.repeat(40)}`,
      `6h      50     17 B  ${'#'.repeat(20)}`,
      'later    1      1 B  #',
    ]);
  });

  it('keeps a mark for one among millions', () => {
    const [, last] = histogram(
      [
        { label: 'a', count: 9e6, bytes: 1 },
        { label: 'b', count: 1, bytes: 1 },
      ],
      true,
    );
    expect(last).to.match(/▏$/);
  });
});
