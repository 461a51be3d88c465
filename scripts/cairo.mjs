#!/usr/bin/env node
// Compiles and tests the contracts with nothing but Node: `cairo.mjs compile`, and `cairo.mjs test
// [filter]`, which runs the test modules that hold a test with `filter` in its path.
//
// `compile` writes target/contracts/consent_registry.sierra.raw.json, which `cargo xtask
// contracts` repairs, checks and turns into what is declared. Where Scarb is installed it
// compiles, unless MEDSYNC_CAIRO_COMPILER=wasm asks for the compiler of the lock file. The tests
// always run on that one, so that their gas figures can be compared between machines.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { bundle, namesOfTests, testModules } from './cairo/bundle.mjs';
import { CompilationError, compileContract, runTests } from './cairo/compiler.mjs';
import { vectorModules } from './cairo/vectors.mjs';

const TOP = fileURLToPath(new URL('..', import.meta.url));
const CONTRACTS = join(TOP, 'contracts');
const LIB = join(CONTRACTS, 'src', 'lib.cairo');
const OUT = join(TOP, 'target', 'contracts');
const VECTORS = process.env.MEDSYNC_VECTORS ?? join(TOP, 'tests', 'vectors', 'protocol-v1.json');

/** Tests in one run of the compiler, which keeps the memory of each until the run ends. */
const TESTS_A_RUN_MAX = 16;
/** Runs side by side: each takes up to 2 GiB. */
const RUNS_AT_ONCE_MAX = 2;
/** Modules of contracts/src/tests that hold no tests and that tests use. */
const SHARED = ['tests::setup', 'tests::signer', 'tests::vector_checks'];

async function compile() {
  mkdirSync(OUT, { recursive: true });
  const raw = join(OUT, 'consent_registry.sierra.raw.json');
  if (scarbCompiles()) {
    const env = { ...process.env, SCARB_TARGET_DIR: join(OUT, 'scarb') };
    execFileSync('scarb', ['build'], { cwd: CONTRACTS, env, stdio: 'inherit' });
    const built = 'medsync_contracts_ConsentRegistry.contract_class.json';
    writeFileSync(raw, readFileSync(join(OUT, 'scarb', 'dev', built)));
  } else {
    const source = bundle(LIB, (path) => !path.startsWith('tests::'));
    writeFileSync(raw, await compileContract(source));
  }
  console.log('wrote target/contracts/consent_registry.sierra.raw.json');
}

function scarbCompiles() {
  if (process.env.MEDSYNC_CAIRO_COMPILER === 'wasm') return false;
  return spawnSync('scarb', ['--version'], { stdio: 'ignore' }).status === 0;
}

async function test(filter) {
  const runs = plan(filter);
  if (runs.length === 0) throw new Error(`no test matches ${filter}`);
  const totals = { passed: 0, failed: [] };
  const worker = async () => {
    for (let run = runs.shift(); run !== undefined; run = runs.shift()) {
      const { passed, failed } = await named(run, runOne);
      totals.passed += passed;
      totals.failed.push(...failed);
    }
  };
  const workers = Math.min(RUNS_AT_ONCE_MAX, availableParallelism());
  await Promise.all(Array.from({ length: workers }, worker));
  console.log(`cairo: ${totals.passed} passed, ${totals.failed.length} failed`);
  for (const path of totals.failed) console.log(`  failed: ${path}`);
  if (totals.failed.length > 0) process.exitCode = 1;
}

/** The test modules of the crate and of the vectors, packed into runs. */
function plan(filter) {
  const written = testModules(LIB).map((module) => ({ ...module, source: null }));
  const vectors = vectorModules(JSON.parse(readFileSync(VECTORS, 'utf8')));
  const generated = vectors.map(({ kind, source }) => ({
    path: `vectors::${kind}`,
    tests: namesOfTests(source),
    source: `mod ${kind} {\n${source}\n}\n`,
  }));
  const runs = [];
  for (const module of [...written, ...generated]) {
    if (!module.tests.some((name) => `${module.path}::${name}`.includes(filter))) continue;
    const last = runs.at(-1);
    if (last !== undefined && countTests(last) + module.tests.length <= TESTS_A_RUN_MAX) {
      last.push(module);
    } else {
      runs.push([module]);
    }
  }
  return runs;
}

const countTests = (modules) => modules.reduce((sum, { tests }) => sum + tests.length, 0);

const pathsOf = (modules) =>
  modules.flatMap(({ path, tests }) => tests.map((name) => `${path}::${name}`));

/** Says which modules an error is about: the compiler and the runner give no place. */
async function named(modules, run) {
  try {
    return await run(modules);
  } catch (error) {
    const paths = modules.map(({ path }) => path).join(', ');
    throw new Error(`in ${paths}: ${error.message}`, { cause: error });
  }
}

/**
 * Runs a few modules; names the tests that failed, which the runner itself does not tell. Its
 * filter takes parts of names: if tree_10 fails, tree_1 is named too.
 */
async function runOne(modules) {
  const paths = new Set(modules.map(({ path }) => path));
  const keep = (path) =>
    SHARED.includes(path) || paths.has(path) || !path.startsWith('tests::');
  const generated = modules.map(({ source }) => source ?? '').join('');
  const source = `${bundle(LIB, keep)}\n#[cfg(test)]\nmod vectors {\n${generated}}\n`;

  const whole = await outcome(source, '');
  if (whole.failed === 0) return { passed: reportPassed(modules, whole), failed: [] };
  const failed = [];
  for (const path of pathsOf(modules)) {
    if ((await outcome(source, path)).failed > 0) failed.push(path);
  }
  // A run that dies of its size, say, has shown nothing.
  if (failed.length === 0) throw new Error('each test passes alone, but not all of them together');
  return { passed: countTests(modules) - failed.length, failed };
}

/** Some failing tests take the runner down with them: that counts as one failure. */
async function outcome(source, filter) {
  try {
    return await runTests(source, filter);
  } catch (error) {
    if (error instanceof CompilationError) throw error;
    return { passed: 0, failed: 1 };
  }
}

/** Prints what each test took, and refuses a run that left one out. */
function reportPassed(modules, { passed, ignored, tests }) {
  const ran = new Set(tests.map(({ path }) => path));
  const missing = pathsOf(modules).filter((path) => !ran.has(path));
  if (missing.length > 0 || ignored > 0 || passed !== countTests(modules)) {
    throw new Error(`${ignored} tests are ignored, these did not run: ${missing.join(', ')}`);
  }
  for (const { path, gas, steps } of tests) {
    console.log(`ok ${path} (gas ${gas}, steps ${steps})`);
  }
  return passed;
}

async function main([command, filter = '']) {
  if (command === 'compile') return compile();
  if (command === 'test') return test(filter);
  throw new Error('usage: cairo.mjs compile | test [filter]');
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`cairo: ${error.message}`);
  process.exit(1);
});
