/** The list of checks, by real receipts: what is known without a chain, and what with it. */
import { readFile } from "node:fs/promises";
import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeAll, expect, test } from "vitest";
import { initSync } from "../binding/medsync";
import { Checks } from "../src/pages/verify/Checks";
import { accepted, conclude, type AcceptedItem } from "../src/pages/verify/verification";
import { verifier, type Verifier } from "../src/protocol/binding";

const bytes = (path: string) => readFile(new URL(path, import.meta.url));

let own: Verifier;

beforeAll(async () => {
  initSync({ module: await bytes("../binding/medsync_bg.wasm") });
  const config = {
    rpc: ["https://example.org/"],
    chain_id: "0x534e5f5345504f4c4941",
    registry: "0x7e570001",
    class_hash: "0x1a2b3c",
    custodians: ["0xc0570001"],
  };
  const read = verifier(new TextEncoder().encode(JSON.stringify(config)));
  if (!read.ok) throw new Error(read.error.kind);
  own = read.value;
});

function opened(file: Uint8Array): AcceptedItem {
  const [item] = accepted(own, [{ name: "r.json", bytes: { ok: true, value: file } }]);
  if (item?.kind !== "accepted") throw new Error("it is accepted");
  return item;
}

function show(item: AcceptedItem) {
  const conclusion = conclude(own, item, null, 1_790_000_000);
  render(<Checks item={item} conclusion={conclusion} at={null} />);
  const answers = screen.getAllByRole("img").map((icon) => icon.getAttribute("aria-label"));
  return { conclusion, answers };
}

test("without a chain three are known, and two are not", async () => {
  const item = opened(await bytes("../receipts/valid.json"));
  const { conclusion, answers } = show(item);
  expect(conclusion.kind).toBe("pending");
  expect(answers).toEqual(["Yes", "Not known yet", "Yes", "Not known yet", "Yes"]);
  await userEvent.click(screen.getByRole("button", { name: "Whether the patient has taken it back" }));
  expect(screen.getByText(/not asked yet\. The question names the handle/)).toBeVisible();
});

test("a receipt that was changed is certain to be unsigned", async () => {
  const text = (await bytes("../receipts/valid.json")).toString();
  const changed = text.replace('"not_after": 0', '"not_after": 2524608000');
  const { conclusion, answers } = show(opened(new TextEncoder().encode(changed)));
  expect(conclusion).toEqual({ kind: "certain", verdict: "BadSignature" });
  expect(answers).toEqual(["No", "Not known yet", "No", "Not known yet", "Yes"]);
});

test("what no endpoint answers is concluded from by nobody", async () => {
  const item = opened(await bytes("../receipts/valid.json"));
  const silent = { ...item, answers: [{ ok: false, error: { kind: "slow", detail: 10 } } as const] };
  const { conclusion } = show(silent);
  expect(conclusion).toEqual({ kind: "none", error: { kind: "slow", detail: 10 } });
});

test("a file that is no JSON is told from one that is no receipt", () => {
  const encode = (text: string) => new TextEncoder().encode(text);
  const kinds = ["odd", "{}"].map((text) => {
    const [item] = accepted(own, [{ name: "x", bytes: { ok: true, value: encode(text) } }]);
    return item?.kind === "refused" ? item.error.detail : null;
  });
  expect(kinds).toMatchObject([{ kind: "not_json" }, { kind: "malformed" }]);
});
