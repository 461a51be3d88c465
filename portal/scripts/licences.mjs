// Under which licences everything is that is served with the pages: the production dependencies.
import { readFile } from 'node:fs/promises';

const ALLOWED = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT', 'Unicode-3.0', 'Zlib'];
const folder = new URL('../', import.meta.url);
const lock = JSON.parse(await readFile(new URL('package-lock.json', folder), 'utf8'));
const served = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && !dev);
const wrong = [];
for (const [path, { version, license }] of served) {
  if (!ALLOWED.includes(license)) wrong.push(`${path} ${version}: ${license ?? 'no licence is named'}`);
}
if (wrong.length > 0) {
  console.error(wrong.join('\n'));
  process.exit(1);
}
console.log(`${served.length} npm packages are served, under licences that we allow`);
