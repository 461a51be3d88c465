/** Every error of the protocol has words of its own. */
import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";
import { Problem } from "../src/components/Problem";
import { saying } from "../src/i18n/errors";

test("an error's key is the path of its kinds", () => {
  const error = { kind: "receipt", detail: { kind: "terms", detail: { kind: "version", detail: 2 } } };
  expect(saying(error)).toMatchObject({
    key: "errors.receipt.terms.version",
    values: { detail: 2 },
  });
});

test.each([
  [{ kind: "file", detail: { kind: "too_large", detail: { bytes: 9, max: 8 } } }, "9 bytes"],
  [{ kind: "receipt", detail: { kind: "format", detail: "x/2" } }, "“x/2”"],
  [{ kind: "receipt", detail: { kind: "terms_differ" } }, "believe neither"],
  [{ kind: "disagreement", detail: ["Valid", "Revoked"] }, "“Valid”, by another “Revoked”"],
  [{ kind: "old_block", detail: { block: 1_700_000_000, now: 1, age_s_max: 1 } }, "2023"],
  [
    { kind: "judge", detail: { kind: "beyond_block", detail: { at: 1_800_000_000, block_time: 1 } } },
    "2027",
  ],
  [
    { kind: "contradiction", detail: { kind: "ahead", detail: { block: { time: 1 }, at: 2 } } },
    "contradicts itself",
  ],
  [{ kind: "config", detail: { kind: "missing", detail: 404 } }, "no configuration"],
  [{ kind: "from a later version" }, "no words for"],
])("%o is said in words", (error, says) => {
  render(<Problem error={error} />);
  expect(screen.getByText(new RegExp(says))).toBeInTheDocument();
  expect(screen.getByRole("button", { name: "Technical detail" })).toBeInTheDocument();
});
