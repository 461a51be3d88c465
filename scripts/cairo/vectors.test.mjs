import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import { namesOfTests } from './bundle.mjs';
import { vectorModules } from './vectors.mjs';

const FILE = new URL('../../tests/vectors/protocol-v1.json', import.meta.url);
const read = () => JSON.parse(readFileSync(FILE, 'utf8'));

test('every vector of the file becomes one test', () => {
  const vectors = read();
  for (const { kind, source } of vectorModules(vectors)) {
    assert.equal(namesOfTests(source).length, vectors[kind].length, kind);
  }
});

test('a file with something that no test would check is refused', () => {
  const changes = [
    [/unknown kind: sorcery/, (v) => (v.sorcery = [{}])],
    [/no vectors of kind pool/, (v) => delete v.pool],
    [/no vectors of kind pool/, (v) => (v.pool = [])],
    [/pool\[0\]: fields are not read: extra/, (v) => (v.pool[0].extra = 1)],
    [/claim\[0\]: fields are not read: v/, (v) => (v.claim[0].signature.v = 1)],
    [/pool\[0\]: field nonce is missing/, (v) => delete v.pool[0].nonce],
    [/pool\[0\]: field nonce is no felt/, (v) => (v.pool[0].nonce = -1)],
    [/login\[0\]: field origin_sha256 is not 32/, (v) => (v.login[0].origin_sha256 = '0x1')],
    [/audit_entry\[0\]: no short string/, (v) => (v.audit_entry[0].kind = "it's")],
    [/protocol is medsync\/v2/, (v) => (v.protocol = 'medsync/v2')],
  ];
  for (const [expected, change] of changes) {
    const vectors = read();
    change(vectors);
    assert.throws(() => vectorModules(vectors), expected);
  }
});
