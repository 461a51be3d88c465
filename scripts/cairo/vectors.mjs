// Turns the golden vectors into Cairo tests: one small function a vector, because a long test
// function is more than the test runner can hold.
//
// Every kind in the file must be known here, and every field of a vector must be read: what a
// generator passes over in silence is not checked.

/** The imports of a generated test module, of which each kind uses a few. */
const PREAMBLE = `
use crate::hashes::{
AuditEntry, PartyKeys, audit_entry, audit_head, claim_message, claim_secret_key,
consent_commitment, consent_salt, consent_secret, device_message, enrol_message, grant_message,
login_message, next_head, pool_id, revocation_handle, rotate_message, secret_hash, signed_leaf,
ticket_leaf,
};
use crate::signature::is_valid_signature;
use crate::tests::signer::public_key;
use crate::tests::vector_checks::{assert_valid_receipt, hash_something, sha256, tree_root};
use crate::tree::root_of;
use crate::types::{Deployment, Opening, Proof, Signature};
`;

/** A vector whose fields are consumed one by one, so that none is forgotten. */
class Fields {
  #left;
  #values;

  constructor(values) {
    this.#values = values;
    this.#left = new Set(Object.keys(values));
  }

  /** The raw value of a field. */
  raw(name) {
    if (!(name in this.#values)) throw new Error(`field ${name} is missing`);
    this.#left.delete(name);
    return this.#values[name];
  }

  /** A Cairo literal of a felt or an integer. */
  felt(name) {
    return literal(this.raw(name), name);
  }

  /** A Cairo literal of a 32-byte value. */
  bytes32(name) {
    const value = this.raw(name);
    if (!/^0x[0-9a-f]{64}$/.test(value)) throw new Error(`field ${name} is not 32 bytes`);
    return value;
  }

  signature(name) {
    return signatureOf(new Fields(this.raw(name)));
  }

  finish() {
    if (this.#left.size > 0) throw new Error(`fields are not read: ${[...this.#left]}`);
  }
}

function literal(value, name) {
  if (Number.isSafeInteger(value) && value >= 0) return String(value);
  if (typeof value === 'string' && /^0x[0-9a-f]{1,64}$/.test(value)) return value;
  throw new Error(`field ${name} is no felt: ${JSON.stringify(value)}`);
}

function signatureOf(fields) {
  const text = `Signature { r: ${fields.felt('r')}, s: ${fields.felt('s')} }`;
  fields.finish();
  return text;
}

function shortString(value) {
  if (!/^[\x20-\x26\x28-\x7e]{1,31}$/.test(value)) throw new Error(`no short string: ${value}`);
  return `'${value}'`;
}

function span(values) {
  return `array![${values.map((value) => literal(value, 'element')).join(', ')}].span()`;
}

/** Statements that build a ByteArray, word by word: Cairo has no literal of arbitrary bytes. */
function byteArray(hex) {
  if (!/^0x([0-9a-f]{2})*$/.test(hex)) throw new Error('borsh is no hex');
  const words = hex.slice(2).match(/.{1,62}/g) ?? [];
  const lines = words.map((word) => `bytes.append_word(0x${word}, ${word.length / 2});`);
  return ['let mut bytes: ByteArray = Default::default();', ...lines].join('\n');
}

const equal = (left, right) => `assert_eq!(${left}, ${right});`;

/** A generator a kind: from the fields of a vector to the statements of a test. */
const KINDS = {
  derive: (v) => `
let seed = ${v.felt('seed')};
let salt = consent_salt(seed, ${v.felt('device')}, ${v.felt('counter')});
${equal('salt', v.felt('salt'))}
${equal('consent_secret(seed, salt)', v.felt('secret'))}
let claim_secret_key = claim_secret_key(seed, salt).unwrap();
${equal('claim_secret_key', v.felt('claim_secret_key'))}
${equal('public_key(claim_secret_key)', v.felt('claim_key'))}`,

  handle: (v) => `
let secret_hashed = secret_hash(${v.felt('secret')});
${equal('secret_hashed', v.felt('secret_hash'))}
let handle = revocation_handle(secret_hashed, ${v.felt('claim_key')});
${equal('handle', v.felt('handle'))}`,

  // The borsh encoding of terms is no concern of the chain, which sees their hash alone.
  terms: (v) => {
    v.raw('terms');
    return `
${byteArray(v.raw('borsh'))}
${equal('sha256(@bytes)', v.bytes32('sha256'))}`;
  },

  consent: (v) => `
let deployment = Deployment {
chain_id: ${v.felt('chain_id')}, registry: ${v.felt('registry')},
};
let opening = Opening {
patient_key: ${v.felt('patient_key')}, grantee: ${v.felt('grantee')},
not_before: ${v.felt('not_before')}, not_after: ${v.felt('not_after')},
handle: ${v.felt('handle')}, salt: ${v.felt('salt')},
};
let anchorer = ${v.felt('anchorer')};
let terms_sha256 = ${v.bytes32('terms_sha256')};
let commitment = consent_commitment(terms_sha256, anchorer, opening);
${equal('commitment', v.felt('commitment'))}
let message = grant_message(deployment, commitment);
${equal('message', v.felt('grant_message'))}
${equal(`public_key(${v.felt('patient_secret_key')})`, 'opening.patient_key')}
let signature = ${v.signature('signature')};
assert!(is_valid_signature(message, opening.patient_key, signature));
let leaf = signed_leaf(commitment, signature);
${equal('leaf', v.felt('leaf'))}
assert_valid_receipt(deployment, anchorer, terms_sha256, opening, signature, leaf);`,

  // The vector's invitation key signs the message but enters no hash.
  enrol: (v) => {
    v.raw('invitation_key');
    return `
let keys = PartyKeys {
party_key: ${v.felt('party_key')}, recovery_key: ${v.felt('recovery_key')},
login_key: ${v.felt('login_key')}, author_key: ${v.felt('author_key')},
seal_key: ${v.bytes32('seal_key')},
};
let message = enrol_message(${v.bytes32('context')}, ${v.bytes32('member')}, keys);
${equal('message', v.felt('message'))}`;
  },

  device: (v) => `
let message = device_message(
${v.bytes32('context')}, ${v.bytes32('member')}, ${v.felt('device')},
);
${equal('message', v.felt('message'))}`,

  rotate: (v) => `
let message = rotate_message(
${v.bytes32('context')}, ${v.felt('old_key')}, ${v.felt('new_key')}, ${v.felt('seq')},
);
${equal('message', v.felt('message'))}`,

  login: (v) => `
let message = login_message(
${v.bytes32('origin_sha256')}, ${v.felt('nonce')}, ${v.felt('expires')},
);
${equal('message', v.felt('message'))}`,

  audit_entry: (v) => `
let author_key = ${v.felt('author_key')};
let entry = AuditEntry {
context: ${v.bytes32('context')}, author_key, seq: ${v.felt('seq')}, prev: ${v.felt('prev')},
kind: ${shortString(v.raw('kind'))}, subject_sha256: ${v.bytes32('subject_sha256')},
at: ${v.felt('at_seconds')}, salt: ${v.felt('salt')},
};
let digest = audit_entry(entry);
${equal('digest', v.felt('digest'))}
assert!(is_valid_signature(digest, author_key, ${v.signature('signature')}));`,

  audit_head: (v) => `
let leaf = audit_head(
${v.bytes32('context')}, ${v.felt('author_key')}, ${v.felt('seq')}, ${v.felt('digest')},
${v.felt('salt')},
);
${equal('leaf', v.felt('leaf'))}`,

  pool: (v) => `
let id = pool_id(
${v.felt('chain_id')}, ${v.felt('pool_contract')}, ${v.felt('funder')}, ${v.felt('nonce')},
);
${equal('id', v.felt('pool_id'))}`,

  ticket: (v) => `
let leaf = ticket_leaf(
${v.felt('pool_id')}, ${v.felt('anchorer')}, ${v.felt('handle')}, ${v.felt('claim_until')},
${v.felt('salt')},
);
${equal('leaf', v.felt('leaf'))}`,

  claim: (v) => `
let claim_key = ${v.felt('claim_key')};
let handle = revocation_handle(${v.felt('secret_hash')}, claim_key);
${equal('handle', v.felt('handle'))}
let message = claim_message(
${v.felt('chain_id')}, ${v.felt('pool_contract')}, ${v.felt('pool_id')}, handle,
${v.felt('pay_to')},
);
${equal('message', v.felt('message'))}
assert!(is_valid_signature(message, claim_key, ${v.signature('signature')}));`,

  next_head: (v) => `
let next = next_head(${v.felt('head')}, ${v.felt('root')}, ${v.felt('leaf_count')});
${equal('next', v.felt('next'))}`,

  tree: (v) => `
let leaves = ${span(v.raw('leaves'))};
let root = ${v.felt('root')};
${equal('tree_root(leaves)', 'root')}
let index = ${v.felt('index')};
let proof = Proof { index, siblings: ${span(v.raw('siblings'))} };
let leaf = *leaves[index.try_into().unwrap()];
${equal('root_of(leaf, proof)', 'Option::Some(root)')}
assert!(root_of(leaf + 1, proof) != Option::Some(root));`,

  bad_signature: (v) => `
// ${v.raw('why')}
hash_something();
let signature = Signature { r: ${v.felt('r')}, s: ${v.felt('s')} };
assert!(!is_valid_signature(${v.felt('message')}, ${v.felt('key')}, signature));`,
};

/** What describes the file and is no kind of vector. */
const HEADER = new Set(['protocol', 'seed']);

/**
 * A module of Cairo tests for each kind: `{ kind, source }`.
 *
 * Refuses a file of another protocol, a kind that is unknown, missing or empty, and a vector with
 * a field that no generator reads.
 */
export function vectorModules(vectors) {
  if (vectors.protocol !== 'medsync/v1') throw new Error(`protocol is ${vectors.protocol}`);
  const kinds = Object.keys(vectors).filter((key) => !HEADER.has(key));
  for (const kind of kinds) {
    if (!Object.hasOwn(KINDS, kind)) throw new Error(`vectors of an unknown kind: ${kind}`);
  }
  return Object.keys(KINDS).map((kind) => {
    const list = vectors[kind];
    if (!Array.isArray(list) || list.length === 0) throw new Error(`no vectors of kind ${kind}`);
    const tests = list.map((vector, number) => testOf(kind, vector, number));
    return { kind, source: `${PREAMBLE}${tests.join('')}` };
  });
}

function testOf(kind, vector, number) {
  try {
    const fields = new Fields(vector);
    const body = KINDS[kind](fields).trim();
    fields.finish();
    return `\n#[test]\nfn ${kind}_${number}() {\n${body}\n}\n`;
  } catch (error) {
    throw new Error(`vector ${kind}[${number}]: ${error.message}`);
  }
}
