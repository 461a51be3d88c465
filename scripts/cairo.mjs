#!/usr/bin/env node
// Compiles and tests the contracts with nothing but Node: `cairo.mjs test [filter]`, `compile`.
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
import { compileContract, runTests } from './cairo/compiler.mjs';
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
const SHARED = ['tests', 'tests::setup', 'tests::signer', 'tests::vector_checks'];

async function compile() {
  mkdirSync(OUT, { recursive: true });
  const raw = join(OUT, 'consent_registry.sierra.raw.json');
  if (scarbCompiles()) {
    const env = { ...process.env, SCARB_TARGET_DIR: join(OUT, 'scarb') };
    execFileSync('scarb', ['build'], { cwd: CONTRACTS, env, stdio: 'inherit' });
    const built = 'medsync_contracts_ConsentRegistry.contract_class.json';
    writeFileSync(raw, readFileSync(join(OUT, 'scarb', 'dev', built)));
  } else {
    const source = bundle(LIB, (path) => !path.startsWith('tests'));
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
      const { passed, failed } = await runOne(run);
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

/** Runs a few modules; names the tests that failed, which the runner itself does not tell. */
async function runOne(modules) {
  const paths = new Set(modules.map(({ path }) => path));
  const keep = (path) =>
    SHARED.includes(path) || paths.has(path) || !path.startsWith('tests::');
  const generated = modules.map(({ source }) => source ?? '').join('');
  const source = `${bundle(LIB, keep)}\n#[cfg(test)]\nmod vectors {\n${generated}}\n`;

  const whole = await runTests(source, '').catch((error) => ({ error }));
  if (whole.error === undefined && whole.failed === 0) {
    return { passed: reportPassed(modules, whole), failed: [] };
  }
  const failed = [];
  for (const path of pathsOf(modules)) {
    const alone = await runTests(source, path).catch((error) => ({ error }));
    if (alone.error !== undefined) console.error(`${path}: ${alone.error.message}`);
    if (alone.error !== undefined || alone.failed > 0) failed.push(path);
  }
  // A run that dies, though each of its tests passes alone, is a failure and not a pass.
  if (failed.length === 0) failed.push(`${[...paths].join(' + ')} (together)`);
  return { passed: Math.max(0, countTests(modules) - failed.length), failed };
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

const [command, filter = ''] = process.argv.slice(2);
if (command === 'compile') await compile();
else if (command === 'test') await test(filter);
else {
  console.error('usage: cairo.mjs compile | test [filter]');
  process.exitCode = 2;
}
