import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { parse } from 'yaml';
import { Metrics } from '../../lib/metrics/metrics.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const ALERTS = path.join(ROOT, 'config/prometheus-alerts.yml');
const DASHBOARD = path.join(ROOT, 'config/grafana-dashboard.json');
const DOCS = path.join(ROOT, 'docs/metrics.md');

interface Rule {
  readonly alert: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

function rules(): Rule[] {
  const file = parse(readFileSync(ALERTS, 'utf8')) as { groups: { rules: Rule[] }[] };
  return file.groups.flatMap((group) => group.rules);
}

/** Every metric there is, with what a histogram is scraped as. */
async function metrics(): Promise<Map<string, string>> {
  const catalog = { isReadable: true, bytes: 0, room: null, readAt: 0 };
  const text = await new Metrics('1').text(catalog, new Map(), 0);
  return new Map(
    [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  );
}

/** The metrics that a text names. */
function named(text: string): string[] {
  return [...new Set(text.match(/\btombstoned_\w+/g) ?? [])];
}

describe('what is shipped for Prometheus and Grafana', () => {
  for (const file of [ALERTS, DASHBOARD, DOCS]) {
    it(`asks in ${path.basename(file)} only for metrics that there are`, async () => {
      const known = await metrics();
      const found = named(readFileSync(file, 'utf8'));
      expect(found.length).to.be.above(10);
      for (const name of found) {
        const base = name.replace(/_(bucket|sum|count)$/, '');
        expect(known.has(name) || known.get(base) === 'histogram', name).to.equal(true);
      }
    });
  }

  it('has every metric and every alert in the docs', async () => {
    const docs = readFileSync(DOCS, 'utf8');
    for (const name of (await metrics()).keys()) expect(docs).to.include(`\`${name}\``);
    for (const { alert } of rules()) expect(docs).to.include(`\`${alert}\``);
  });

  it('shows every metric on the dashboard but those that are about the figures themselves', async () => {
    const shown = new Set(named(readFileSync(DASHBOARD, 'utf8')).map((name) => name.replace(/_bucket$/, '')));
    const missing = [...(await metrics()).keys()].filter((name) => !shown.has(name));
    expect(missing).to.deep.equal([
      'tombstoned_store_wrong',
      'tombstoned_store_size_bytes',
      'tombstoned_catalog_readable',
      'tombstoned_figures_timestamp_seconds',
    ]);
  });

  it('says with each alert what it means, and the command to type', () => {
    for (const { alert, labels, annotations } of rules()) {
      expect(labels.severity, alert).to.match(/^(page|ticket)$/);
      expect(annotations.summary, alert).to.have.length.below(110);
      expect(annotations.description, alert).to.match(/[Tt]ype: (tombstonectl|systemctl) /);
    }
    expect(new Set(rules().map(({ alert }) => alert)).size).to.equal(rules().length);
  });

  it('has rules that promtool (of Debian’s package prometheus) takes, and that fire when they should and not before', function () {
    this.timeout(60_000);
    // The report of skipped specs has the title, which says what is missing.
    if (spawnSync('promtool', ['--version']).error !== undefined) this.skip();
    const directory = mkdtempSync(path.join(tmpdir(), 'tombstoned-alerts-'));
    try {
      for (const file of [ALERTS, path.join(import.meta.dirname, 'alerts.test.yml')])
        copyFileSync(file, path.join(directory, path.basename(file)));
      for (const args of [
        ['check', 'rules', 'prometheus-alerts.yml'],
        ['test', 'rules', 'alerts.test.yml'],
      ]) {
        const { status, stdout, stderr } = spawnSync('promtool', args, { cwd: directory, encoding: 'utf8' });
        expect(status, stdout + stderr).to.equal(0);
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
