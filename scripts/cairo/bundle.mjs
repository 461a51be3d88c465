// Makes one source text of a Cairo crate: the compiler takes a string, and no files.
//
// `mod x;` becomes `mod x { … }`. Nothing else is changed, so that what is compiled is what Scarb
// compiles from the same files.

import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

const MODULE = /^(\s*(?:pub(?:\(crate\))? )?mod (\w+));$/;

/**
 * The crate whose root file is `root`, as one text.
 *
 * `keep` is asked for each module's path below the crate's root, such as `tests::anchoring`. A
 * module that is not kept is left out: the compiler's time and memory grow with every test.
 */
export function bundle(root, keep = () => true) {
  return expand({ file: root, folder: dirname(root), path: [] }, keep);
}

function expand(module, keep) {
  const lines = readFileSync(module.file, 'utf8').split('\n');
  return lines.map((line) => expandLine(line, module, keep)).join('\n');
}

function expandLine(line, module, keep) {
  const child = childOf(line, module);
  if (child === null) return line;
  if (!keep(child.path.join('::'))) return '';
  return `${child.declaration} {\n${expand(child, keep)}\n}`;
}

/** The module that `line` of `parent` declares, or null if it declares none in another file. */
function childOf(line, parent) {
  const found = MODULE.exec(line);
  if (found === null) return null;
  const [, declaration, name] = found;
  const file = join(parent.folder, `${name}.cairo`);
  if (!existsSync(file)) throw new Error(`${parent.file}: no file ${file} for mod ${name}`);
  const folder = join(parent.folder, basename(file, '.cairo'));
  return { declaration, file, folder, path: [...parent.path, name] };
}

/** Every module of the crate that holds tests, with its path and the names of its tests. */
export function testModules(root) {
  const visit = (module) => {
    const source = readFileSync(module.file, 'utf8');
    const path = module.path.join('::');
    const children = source.split('\n').map((line) => childOf(line, module));
    const below = children.filter((child) => child !== null).flatMap(visit);
    return [{ path, tests: namesOfTests(source) }, ...below];
  };
  const modules = visit({ file: root, folder: dirname(root), path: [] });
  return modules.filter(({ tests }) => tests.length > 0);
}

/** The names of the functions that carry `#[test]`, whatever attributes stand between. */
export function namesOfTests(source) {
  const pattern = /^#\[test\]\n(?:#\[[^\n]*\]\n)*fn (\w+)\(/gm;
  const names = [...source.matchAll(pattern)].map((found) => found[1]);
  if (names.length !== source.split('#[test]').length - 1) {
    throw new Error('a test is written in a way that the bundler does not read');
  }
  return names;
}
