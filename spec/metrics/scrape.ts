import { Agent, request } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** Asks over HTTP, on a connection of its own. */
export async function ask(url: string, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const agent = new Agent({ keepAlive: false });
    const sent = request(url, { method, agent }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.once('error', reject).once('end', () => {
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', body });
      });
    });
    sent.once('error', reject).end();
  });
}

/** The samples of a scrape: `name{label="value",…}`, labels sorted, to its value. */
export function samples(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match === null || line.startsWith('#')) continue;
    const [, name = '', labels = '', value = ''] = match;
    const sorted = (labels.match(/\w+="[^"]*"/g) ?? []).toSorted().join(',');
    found[sorted === '' ? name : `${name}{${sorted}}`] = Number(value);
  }
  return found;
}
