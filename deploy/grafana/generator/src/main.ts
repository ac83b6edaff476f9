// Writes the dashboards to a folder: node build/main.js FOLDER
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { engine } from './engine';
import { jobs } from './jobs';
import { build } from './panels';
import { service } from './service';

const folder = process.argv[2];
if (folder === undefined) {
  console.error('usage: main.js FOLDER');
  process.exit(2);
}
const all = [service, engine, jobs];
mkdirSync(folder, { recursive: true });
for (const one of all) {
  writeFileSync(join(folder, `${one.uid}.json`), `${JSON.stringify(build(one, all), null, 2)}\n`);
}
