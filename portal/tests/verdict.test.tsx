/** The verdict's panel: each verdict has a word, a reason and a picture. */
import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import type { Judgement, Opening, Report, Verdict } from "../src/protocol/binding";
import { VerdictPanel } from "../src/pages/verify/VerdictPanel";
import type { Conclusion } from "../src/pages/verify/verification";

/** The panel only hands it on. */
const JUDGEMENT = Object.create(null) as Judgement;

const OPENING: Opening = {
  patient_key: "0x1",
  grantee: "0x2",
  not_before: 1_735_689_600,
  not_after: 1_767_225_600,
  handle: "0x3",
  salt: "0x4",
};

const judged = (verdict: Verdict, changes: Partial<Report> = {}): Conclusion => ({
  kind: "verdict",
  judged: {
    judgement: JUDGEMENT,
    report: {
      verdict,
      at: 1_750_000_000,
      commitment: "0x5",
      anchored_at: 1_736_000_000,
      revoked_at: null,
      block: { number: 12, hash: "0x6", time: 1_750_000_000 },
      checks: [],
      ...changes,
    },
  },
});

function show(conclusion: Conclusion, onRetry = () => Promise.resolve()) {
  render(
    <VerdictPanel name="r.json" conclusion={conclusion} opening={OPENING} onRetry={onRetry} />,
  );
  return screen.getByRole("heading", { level: 2 });
}

test.each<[Conclusion, RegExp]>([
  [judged("Valid"), /^Valid$/],
  [judged("Revoked", { revoked_at: 1_745_000_000 }), /^Revoked since 18 April 2025|April 18, 2025/],
  [judged("NotYetValid"), /^Not valid yet$/],
  [judged("Expired"), /^Expired since/],
  [judged("UnknownAnchor"), /^Not anchored$/],
  [judged("NotIncluded"), /^Not in the anchored batch$/],
  [judged("BadSignature"), /^Not signed by the patient$/],
  [{ kind: "certain", verdict: "BadSignature" }, /^Not signed by the patient$/],
  [{ kind: "pending" }, /^Asking Starknet/],
])("%o has its word", (conclusion, headline) => {
  const heading = show(conclusion);
  expect(heading).toHaveTextContent(headline);
  expect(heading).toHaveFocus();
});

test("what was not concluded can be asked again", async () => {
  const retry = vi.fn(() => Promise.resolve());
  const heading = show({ kind: "none", error: { kind: "unreachable" } }, retry);
  expect(heading).toHaveTextContent("No verdict");
  await userEvent.click(screen.getByRole("button", { name: "Ask Starknet again" }));
  expect(retry).toHaveBeenCalledOnce();
});

test("a time beyond every calendar breaks nothing", () => {
  const far = judged("Expired", { at: 2 ** 63, revoked_at: 2 ** 63 });
  expect(show(far)).toHaveTextContent("Expired since");
});

test("a name from a stranger's folder is only a name", () => {
  render(
    <VerdictPanel
      name="<b>x</b>.json"
      conclusion={{ kind: "refused", error: { kind: "receipt", detail: { kind: "terms_differ" } } }}
      opening={null}
      onRetry={() => Promise.resolve()}
    />,
  );
  expect(screen.getByText("<b>x</b>.json")).toBeInTheDocument();
  expect(screen.getByRole("heading")).toHaveTextContent("Not accepted");
});
