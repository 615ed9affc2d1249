import { type EChartsOption, init } from 'echarts';
import type { Grown } from './growth.ts';

const WIDTH = 960;
const HEIGHT = 420;
const KIB_IN_MIB = 1024;
const COLOURS = ['#0969da', '#cf222e', '#1a7f37', '#8250df', '#bf8700', '#57606a'];

/** Time and memory by the number of files, both axes in powers of ten: what is linear is a straight line at 45°. */
export function growthChart(grown: readonly Grown[]): string {
  const commands = [...new Set(grown.map(({ command }) => command))];
  const panel = (at: number, y: (one: Grown) => number) =>
    commands.map((name) => ({
      name,
      type: 'line' as const,
      xAxisIndex: at,
      yAxisIndex: at,
      symbolSize: 7,
      data: grown.filter(({ command }) => command === name).map((one) => [one.files, y(one)]),
    }));
  const option: EChartsOption = {
    animation: false,
    backgroundColor: '#ffffff',
    color: COLOURS,
    legend: { top: 8, data: commands },
    grid: [
      { left: 64, right: WIDTH / 2 + 24, top: 48, bottom: 56 },
      { left: WIDTH / 2 + 64, right: 24, top: 48, bottom: 56 },
    ],
    xAxis: [axis('files', 0), axis('files', 1)],
    yAxis: [axis('seconds', 0), { ...axis('peak memory, MiB', 1), type: 'value', min: 0 }],
    series: [
      ...panel(0, ({ seconds }) => Number(seconds.toFixed(3))),
      ...panel(1, ({ peakKiB }) => Math.round(peakKiB / KIB_IN_MIB)),
    ],
  };
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height: HEIGHT });
  try {
    chart.setOption(option);
    return `${chart.renderToSVGString()}\n`;
  } finally {
    chart.dispose();
  }
}

function axis(name: string, gridIndex: number) {
  return {
    type: 'log' as const,
    name,
    gridIndex,
    nameLocation: 'middle' as const,
    nameGap: 34,
  };
}
