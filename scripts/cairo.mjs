#!/usr/bin/env node
// Compiles and tests the contracts with nothing but Node: `cairo.mjs compile`, and `cairo.mjs test
// [filter]`, which runs the test modules that hold a test with `filter` in its path.
//
// `compile` writes target/contracts/NAME.sierra.raw.json of each contract, which `cargo xtask
// contracts` repairs, checks and turns into what is declared. The compiler is the one of the lock
// file, because another makes another class; MEDSYNC_CAIRO_COMPILER=scarb compiles with an installed
// Scarb all the same. The tests always run on that of the lock file, so that their gas figures can
// be compared between machines.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { bundle, namesOfTests, testModules } from './cairo/bundle.mjs';
import { CompilationError, compileContract, runTests } from './cairo/compiler.mjs';
import { vectorModules } from './cairo/vectors.mjs';

const TOP = fileURLToPath(new URL('..', import.meta.url));
const CRATE = join(TOP, 'contracts');
const LIB = join(CRATE, 'src', 'lib.cairo');
const OUT = join(TOP, 'target', 'contracts');
const VECTORS = process.env.MEDSYNC_VECTORS ?? join(TOP, 'tests', 'vectors', 'protocol-v1.json');

/** Runs side by side: each takes up to 2 GiB. */
const RUNS_AT_ONCE_MAX = 2;
/** Tests of nothing in the layouts that a run is tried in, one after the other. */
const PADDINGS = [0, 8, 24, 48, 96];
/**
 * The contracts, by the names of their files, each with the module that it does without: the
 * compiler takes a source of one contract.
 */
const CONTRACTS = [
  { name: 'consent_registry', contract: 'ConsentRegistry', without: 'rewards' },
  { name: 'reward_pool', contract: 'RewardPool', without: 'registry' },
];
/** What tests deploy on a devnet beside them. */
const DOUBLES = ['token_double'];
/** Modules of contracts/src/tests that hold no tests and that tests use. */
const SHARED = ['tests::setup', 'tests::signer', 'tests::vector_checks'];

async function compile() {
  mkdirSync(OUT, { recursive: true });
  const byScarb = scarbCompiles();
  if (byScarb) {
    const env = { ...process.env, SCARB_TARGET_DIR: join(OUT, 'scarb') };
    execFileSync('scarb', ['build'], { cwd: CRATE, env, stdio: 'inherit' });
  }
  for (const { name, contract, without } of CONTRACTS) {
    const keep = (path) => !path.startsWith('tests::') && path !== without;
    const built = join(OUT, 'scarb', 'dev', `medsync_contracts_${contract}.contract_class.json`);
    write(name, byScarb ? readFileSync(built) : await compileContract(bundle(LIB, keep)));
  }
  for (const name of DOUBLES) {
    write(name, await compileContract(bundle(join(CRATE, 'doubles', `${name}.cairo`))));
  }
}

function write(name, sierra) {
  writeFileSync(join(OUT, `${name}.sierra.raw.json`), sierra);
  console.log(`wrote target/contracts/${name}.sierra.raw.json`);
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

/**
 * The test modules of the crate and of the vectors. Each is a run of its own: the runner dies
 * (`Vector capacity exceeded`) on some modules together that pass apart.
 */
function plan(filter) {
  const written = testModules(LIB).map((module) => ({ ...module, source: '' }));
  const vectors = vectorModules(JSON.parse(readFileSync(VECTORS, 'utf8')));
  const generated = vectors.map(({ kind, source }) => ({
    path: `vectors::${kind}`,
    tests: namesOfTests(source),
    source: `mod ${kind} {\n${source}\n}\n`,
  }));
  const matches = ({ path, tests }) => tests.some((name) => `${path}::${name}`.includes(filter));
  return [...written, ...generated].filter(matches);
}

const pathsOf = ({ path, tests }) => tests.map((name) => `${path}::${name}`);

/** Says which module an error is about: the compiler and the runner give no place. */
async function named(module, run) {
  try {
    return await run(module);
  } catch (error) {
    throw new Error(`in ${module.path}: ${error.message}`, { cause: error });
  }
}

/**
 * Runs one module; names the tests that failed, which the runner itself does not tell. Its filter
 * takes parts of names: if tree_10 fails, tree_1 is named too.
 */
async function runOne(module) {
  // The pool's tests are in tests/tests/rewards, on a devnet.
  const keep = (path) =>
    SHARED.includes(path) || path === module.path || !/^(tests::|rewards$)/.test(path);
  const source = `${bundle(LIB, keep)}\n#[cfg(test)]\nmod vectors {\n${module.source}}\n`;

  const whole = await outcome(source, '');
  if (whole.failed === 0) return { passed: reportPassed(module, whole), failed: [] };
  const failed = [];
  for (const path of pathsOf(module)) {
    if ((await outcome(source, path)).failed > 0) failed.push(path);
  }
  // A run that dies of its size, say, has shown nothing.
  if (failed.length === 0) throw new Error('each test passes alone, but not all of them together');
  return { passed: module.tests.length - failed.length, failed };
}

/**
 * The outcome of the tests of `source` that match `filter`. The runner dies on some sources and
 * not on the same ones with a few tests more, so it gets several layouts before its death
 * counts as a failure: some failing tests take the runner down with them, in every layout.
 */
async function outcome(source, filter) {
  for (const padding of PADDINGS) {
    try {
      return await runTests(`${source}${padded(padding)}`, filter);
    } catch (error) {
      if (error instanceof CompilationError) throw error;
      console.log(`the runner died with ${padding} tests of padding: ${error.message}`);
    }
  }
  return { passed: 0, failed: 1, ignored: 0, tests: [] };
}

/** Tests of nothing: they move everything behind them. */
function padded(count) {
  const functions = Array.from({ length: count }, (_, i) => `#[test]\nfn padding_${i}() {}\n`);
  return count === 0 ? '' : `#[cfg(test)]\nmod padding {\n${functions.join('')}}\n`;
}

/** Prints what each test took, and refuses a run that left one out. */
function reportPassed(module, { ignored, tests }) {
  const ran = new Map(tests.map((test) => [test.path, test]));
  const missing = pathsOf(module).filter((path) => !ran.has(path));
  if (missing.length > 0 || ignored > 0) {
    throw new Error(`${ignored} tests are ignored, these did not run: ${missing.join(', ')}`);
  }
  for (const path of pathsOf(module)) {
    const { gas, steps } = ran.get(path);
    console.log(`ok ${path} (gas ${gas}, steps ${steps})`);
  }
  return module.tests.length;
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
