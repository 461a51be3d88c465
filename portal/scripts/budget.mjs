// What a reader loads first, and the WebAssembly, against their budgets: run after the build.
import { readdir, readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

const BUILT = new URL('../../target/portal/', import.meta.url);
// With some headroom over what was measured when they were set.
const FIRST_LOAD_GZIP_MAX = 330_000;
const WASM_MAX = 450_000;

const names = (await readdir(BUILT, { recursive: true })).filter((name) => /\.(html|js|css|wasm)$/.test(name));
const files = await Promise.all(
  names.map(async (name) => {
    const bytes = await readFile(new URL(name, BUILT));
    return { name, bytes: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length };
  }),
);
// A reader has one language, and begins with one page.
const first = files.filter(({ name }) => !/(^|\/)((codes\.)?de|PatientPage)-/.test(name));
const sum = first.reduce((total, { gzip }) => total + gzip, 0);
const wasm = files.filter(({ name }) => name.endsWith('.wasm')).reduce((total, { bytes }) => total + bytes, 0);
for (const { name, bytes, gzip } of files.sort((a, b) => b.gzip - a.gzip)) {
  console.log(`${String(bytes).padStart(8)} ${String(gzip).padStart(8)} gzip  ${name}`);
}
console.log(`first load: ${sum} bytes by gzip, at most ${FIRST_LOAD_GZIP_MAX}`);
console.log(`WebAssembly: ${wasm} bytes, at most ${WASM_MAX}`);
if (sum > FIRST_LOAD_GZIP_MAX || wasm > WASM_MAX || wasm === 0) {
  console.error('over budget');
  process.exit(1);
}
