/** The built binding itself: the golden vectors, and real receipts. */
import { readFile } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { initSync, receipt_bytes_max } from "../binding/medsync";
import * as vectors from "../binding-vectors/medsync";
import { ask, decide, offlineChecks, ready, verifier, type Outcome } from "../src/protocol/binding";

const bytes = (path: string) => readFile(new URL(path, import.meta.url));
const CONFIG = {
  rpc: ["https://example.org/"],
  chain_id: "0x534e5f5345504f4c4941",
  registry: "0x7e570001",
  class_hash: "0x1a2b3c",
  custodians: ["0xc0570001"],
};
const NOW = 1_790_000_000;

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

function own() {
  const outcome = verifier(json(CONFIG));
  if (!outcome.ok) throw new Error(outcome.error.kind);
  return outcome.value;
}

async function accepted(name = "valid") {
  const outcome = own().accept(await bytes(`../receipts/${name}.json`));
  if (!outcome.ok) throw new Error(outcome.error.kind);
  return outcome.value;
}

/** An endpoint's answers, in order. */
function answering(...results: unknown[]) {
  return (): Promise<Outcome<string>> =>
    Promise.resolve({
      ok: true,
      value: JSON.stringify({ jsonrpc: "2.0", id: 1, result: results.shift() }),
    });
}

beforeAll(async () => {
  initSync({ module: await bytes("../binding/medsync_bg.wasm") });
});

test("every golden vector holds in this build", async () => {
  vectors.initSync({ module: await bytes("../binding-vectors/medsync_bg.wasm") });
  const golden = await bytes("../../tests/vectors/protocol-v1.json");
  expect(vectors.check_vectors(golden)).toBeGreaterThanOrEqual(80);
  const changed = golden.toString().replace('"seed": "0x3', '"seed": "0x4');
  expect(() => vectors.check_vectors(new TextEncoder().encode(changed))).toThrow();
});

describe("a receipt", () => {
  test("is accepted, and says what it says", async () => {
    const { view, certain, receipt } = await accepted();
    expect(certain).toBeNull();
    expect(view.opening.not_after).toBe(0);
    expect(view.terms.provision.kind).toBe("permit");
    expect(offlineChecks(receipt, NOW).map(({ name, holds }) => [name, holds])).toEqual([
      ["signed", true],
      ["included", true],
      ["current", true],
    ]);
  });

  test("is refused by the verifier's beliefs, with a kind", async () => {
    for (const name of ["other-registry", "other-custodian"]) {
      const outcome = own().accept(await bytes(`../receipts/${name}.json`));
      expect(outcome).toMatchObject({ ok: false, error: { kind: name.replace("-", "_") } });
    }
    const long = new Uint8Array(receipt_bytes_max() + 1).fill(32);
    expect(own().accept(long)).toMatchObject({
      ok: false,
      error: { kind: "receipt", detail: { kind: "too_long", detail: long.length } },
    });
  });

  test("is judged by what an endpoint says, and its terms decide", async () => {
    const { receipt, view } = await accepted();
    const endpoint = own().endpoint();
    const block = { block_hash: "0x5a", block_number: 9, timestamp: NOW - 10 };
    const carry = answering(CONFIG.chain_id, block, CONFIG.class_hash, [
      "0x65920080",
      "0x0",
      `0x${(NOW - 10).toString(16)}`,
    ]);
    expect(await ready(endpoint, carry)).toEqual({ ok: true, value: undefined });
    const heard = await ask(endpoint, receipt, carry);
    if (!heard.ok) throw new Error(heard.error.kind);
    expect(heard.value.seen.block).toEqual({ number: 9, hash: "0x5a", time: NOW - 10 });
    const judged = own().judge(receipt, [heard.value], null, NOW);
    if (!judged.ok) throw new Error(judged.error.kind);
    expect(judged.value.report).toMatchObject({ verdict: "Valid", at: NOW - 10 });
    const [purpose] = view.terms.provision.purposes ?? [];
    const [kind] = view.terms.provision.classes ?? [];
    if (purpose === undefined || kind === undefined) throw new Error("the terms have both");
    const question = { purposes: [purpose], classes: [kind] };
    const decision = decide(judged.value.judgement, receipt, question);
    // The exception denies what is not known to be unmarked.
    expect(decision).toMatchObject({ ok: true, value: { outcome: "Deny" } });
    const none = decide(judged.value.judgement, receipt, { purposes: [], classes: [] });
    expect(none).toMatchObject({ ok: false, error: { kind: "request" } });
    expect(own().judge(receipt, [], null, NOW)).toMatchObject({
      ok: false,
      error: { kind: "no_endpoint" },
    });
    expect(own().judge(receipt, [heard.value], NOW, NOW)).toMatchObject({
      ok: false,
      error: { kind: "judge", detail: { kind: "beyond_block" } },
    });
  });
});

test("a configuration has exactly its fields", async () => {
  expect(verifier(await bytes("../verifier.example.json"))).toMatchObject({ ok: true });
  expect(verifier(json({ ...CONFIG, rpc: [] }))).toMatchObject({
    ok: false,
    error: { kind: "no_endpoint" },
  });
  expect(verifier(json({ ...CONFIG, custodian: [] }))).toMatchObject({
    ok: false,
    error: { kind: "malformed" },
  });
});
