// The golden vectors inside WebAssembly: hands the vector file to the module and asks whether all
// of them hold.
//
//   node scripts/vectors.mjs MODULE.wasm VECTORS.json
import { readFile } from 'node:fs/promises';

const [module, vectors] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(await readFile(module), {});
const { memory, buffer, check, reason } = instance.exports;
const json = await readFile(vectors);
// Making room may move the memory, so it comes before the memory is looked at.
const start = buffer(json.length);
new Uint8Array(memory.buffer).set(json, start);
const held = check();
if (held <= 0) {
  const bytes = [];
  for (let byte; (byte = reason(bytes.length)) !== 0; ) bytes.push(byte);
  console.error(`vectors in WebAssembly: ${Buffer.from(bytes)}`);
  process.exit(1);
}
console.log(`${held} vectors hold in WebAssembly`);
