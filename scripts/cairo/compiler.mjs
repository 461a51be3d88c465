// The Cairo compiler and test runner that npm's `wasm-cairo` carries (Cairo 2.8.2, corelib inside).
//
// Each call runs in a thread of its own: an instance that has died stays dead, one that has
// compiled keeps its memory, of which it has 4 GiB at most, and it prints to the console.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

/** The crate name that the compiler gives to any source, and the one that Scarb.toml gives. */
const COMPILERS_CRATE = 'astro::';
const CRATE = 'medsync_contracts::';

/** The source does not compile. The compiler keeps the reasons to itself. */
export class CompilationError extends Error {
  constructor() {
    super('the source does not compile (this build of the compiler gives no reasons)');
  }
}

/** Compiles the one contract of `source` to a Sierra contract class, as JSON text. */
export async function compileContract(source) {
  const text = await inThread({ call: 'compile', source });
  if (!text.startsWith('{')) throw new CompilationError();
  // The names in the ABI are those that Scarb writes, whichever of the two compiled.
  const contract = JSON.parse(text, (_, value) =>
    typeof value === 'string' ? value.replaceAll(COMPILERS_CRATE, CRATE) : value,
  );
  return JSON.stringify(contract, null, 1);
}

/**
 * Runs the tests of `source` whose path contains `filter`.
 *
 * The runner tells details only where every test passed, so `tests` is empty if `failed` is not 0.
 */
export async function runTests(source, filter) {
  return parseReport(await inThread({ call: 'test', source, filter }));
}

function parseReport(text) {
  if (text.includes('Compilation failed')) throw new CompilationError();
  const summary = /(\d+) passed; (\d+) failed; (\d+) ignored/.exec(text);
  if (summary === null) throw new Error(`the test runner said: ${text.trim()}`);
  const [passed, failed, ignored] = summary.slice(1).map(Number);
  const line = /^test (\S+) \.\.\. ok \(gas usage est\.: (\d+)\)\s+steps: (\d+)/gm;
  const tests = [...text.matchAll(line)].map(([, path, gas, steps]) => ({
    path: path.slice(COMPILERS_CRATE.length),
    gas: Number(gas),
    steps: Number(steps),
  }));
  return { passed, failed, ignored, tests };
}

function inThread(request) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: request, stdout: true });
    worker.once('message', resolve);
    worker.once('error', (error) => reject(new Error(`the test runner died: ${error}`)));
  });
}

async function answer({ call, source, filter }) {
  const main = createRequire(import.meta.url).resolve('wasm-cairo');
  const cairo = await import(main);
  cairo.initSync({ module: readFileSync(main.replace(/\.js$/, '_bg.wasm')) });
  if (call === 'compile') return cairo.compileStarknetContract(source, false, false);
  const [allowWarnings, includeIgnored, onlyIgnored] = [true, false, false];
  const [starknet, profiler, gasDisabled, printResources] = [true, 'None', false, true];
  return cairo.runTests(
    source,
    allowWarnings,
    filter,
    includeIgnored,
    onlyIgnored,
    starknet,
    profiler,
    gasDisabled,
    printResources,
  );
}

if (!isMainThread) parentPort.postMessage(await answer(workerData));
