/** Every verdict, by a receipt that was made for it. */
import {
  anchor,
  choose,
  chooseReceipt,
  expect,
  file,
  receipt,
  receiptText,
  test,
  verdict,
  type Signed,
} from "./page";

test("a valid receipt: the verdict, its checks, and what it permits", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  await expect(verdict(page)).toHaveText("Valid");
  await expect(verdict(page)).toBeFocused();
  await expect(page.getByRole("img", { name: "Yes", exact: true })).toHaveCount(5);
  await expect(page.getByText("The recipient may use")).toContainText(
    "diagnoses and conditions, measurements and observations for clinical trial research or " +
      "health research, until the patient takes it back.",
  );
  await expect(page.getByText("the person is not identified again").first()).toBeVisible();
  // The reads: which block, and what it said.
  await expect(page.getByText("4711, of")).toBeVisible();
  await page.getByRole("button", { name: "The custodian had anchored" }).click();
  await expect(page.getByText("anchored on 1 January 2024 at 01:13:20 CET")).toBeVisible();
});

test("a revoked receipt, and that it was valid before", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  const { opening } = await receipt("valid");
  // 12 March 2026, 9:30 in Berlin.
  chain.world.revoked.set(opening.handle, 1_773_304_200);
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  await expect(verdict(page)).toHaveText("Revoked since 12 March 2026 at 09:30");
  await page.getByText("At a time").click();
  await page.getByLabel("Date and time").fill("2026-03-12T09:29:59");
  await page.getByRole("button", { name: "Check for this time" }).click();
  await expect(verdict(page)).toHaveText("Valid");
  await page.getByLabel("Date and time").fill("2026-03-12T09:30:00");
  await page.getByRole("button", { name: "Check for this time" }).click();
  await expect(verdict(page)).toHaveText("Revoked since 12 March 2026 at 09:30");
  await page.getByLabel("Date and time").fill("2099-01-01T00:00:00");
  await page.getByRole("button", { name: "Check for this time" }).click();
  await expect(verdict(page)).toHaveText("No verdict");
  await expect(page.getByText("The chain knows nothing of it yet")).toBeVisible();
  await page.getByText("Now", { exact: true }).click();
  await expect(verdict(page)).toHaveText("Revoked since 12 March 2026 at 09:30");
});

test("expired, not yet valid and not anchored", async ({ page, site, chain }) => {
  await anchor(chain.world, "expired", "not-yet");
  await page.goto(site.url);
  for (const [name, headline] of [
    ["expired", "Expired since 1 January 2025 at 01:00"],
    ["not-yet", "Not valid yet"],
    ["valid", "Not anchored"],
  ] as const) {
    await chooseReceipt(page, name);
    await expect(verdict(page)).toHaveText(headline);
    await page.getByRole("button", { name: "Check another receipt" }).click();
  }
});

test("tampered receipts are named for what they are", async ({ page, site, chain }) => {
  await anchor(chain.world, "until-2050");
  const json = await receiptText("until-2050");
  const change = (edit: (signed: Signed) => void) => {
    const changed = JSON.parse(json) as Signed;
    edit(changed);
    return file("changed.json", JSON.stringify(changed));
  };
  await page.goto(site.url);
  await choose(page, change(({ opening }) => (opening.not_after = 0)));
  await expect(verdict(page)).toHaveText("Not signed by the patient");
  await expect(page.getByRole("heading", { name: "What the receipt claims" })).toBeVisible();
  await page.getByRole("button", { name: "Check another receipt" }).click();
  await choose(page, change((all) => (all.terms_readable.policy_uri = "https://example.org/2")));
  await expect(verdict(page)).toHaveText("Not accepted");
  await expect(page.getByText("believe neither")).toBeVisible();
  await page.getByRole("button", { name: "Check another receipt" }).click();
  const { root } = await receipt("valid");
  chain.world.anchored.set(root, 1_704_068_000);
  await choose(page, change((all) => (all.root = root)));
  await expect(verdict(page)).toHaveText("Not in the anchored batch");
});

test("foreign receipts say what would be accepted", async ({ page, site, chain }) => {
  await page.goto(site.url);
  await chooseReceipt(page, "other-registry");
  await expect(page.getByText("another registry than the one")).toBeVisible();
  await expect(page.getByText("0x7e570002", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Check another receipt" }).click();
  await chooseReceipt(page, "other-custodian");
  await expect(page.getByText("a custodian that this page does not accept")).toBeVisible();
  await expect(page.getByText("0xc0570002", { exact: true })).toBeVisible();
  // Nobody was asked about either.
  expect(chain.calls).toEqual([]);
});

test("files that are no receipts say what is wrong", async ({ page, site, chain }) => {
  await page.goto(site.url);
  for (const [text, says] of [
    ["not JSON", "This file is no JSON"],
    ["{}", "This file is JSON, but not a receipt"],
    [(await receiptText("valid")).slice(0, 900), "This file is no JSON"],
    [(await receiptText("valid")).replace("receipt/v1", "receipt/v2"), "medsync/receipt/v2"],
    [" ".repeat(131_073), "The file has 131073 bytes. A receipt has at most 131072."],
  ] as const) {
    await choose(page, file("odd.json", text));
    await expect(page.getByText(says).first()).toBeVisible();
    await page.getByRole("button", { name: "Check another receipt" }).click();
  }
  expect(chain.calls).toEqual([]);
});

test("the terms answer about a use", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  const ask = async (says: string) => {
    await page.getByRole("button", { name: "Ask the terms" }).click();
    await expect(page.getByText(says)).toBeVisible();
  };
  await page.getByLabel("Purpose").selectOption({ label: "health research" });
  await page.getByLabel("Kind of data").selectOption({ label: "measurements and observations" });
  // Nothing is said of marks: what is unknown is not released.
  await ask("A rule of the consent forbids it.");
  await page.getByLabel("Marked as").selectOption({ label: "normally confidential" });
  await ask("No rule of the consent speaks of this use");
  await page.getByLabel("Date of the data").fill("2020-05-01");
  await ask("only on a condition that was not promised: the person is not identified again");
  await page.getByLabel("the person is not identified again").check();
  await ask("A rule of the consent allows it.");
  await page.getByLabel("Marked as").selectOption({ label: "restricted" });
  await ask("A rule of the consent forbids it.");
  await page.getByLabel("Purpose").selectOption({ label: "healthcare marketing" });
  await page.getByLabel("Marked as").selectOption({ label: "normally confidential" });
  await ask("No rule of the consent speaks of this use");
  await page.getByLabel("Purpose").selectOption({ label: "Another code …" });
  await page.getByLabel("Code, as SYSTEM|CODE").fill("nothing");
  await expect(page.getByRole("button", { name: "Ask the terms" })).toBeDisabled();
});

test("an archive of receipts is checked at one block", async ({ page, site, chain }) => {
  test.slow();
  await anchor(chain.world, "valid");
  await page.goto(site.url);
  const text = await receiptText("valid");
  const files = Array.from({ length: 300 }, (_, number) => file(`${number}.json`, text));
  await choose(page, ...files);
  await expect(page.getByRole("status").getByText("300 Valid")).toBeVisible({ timeout: 60_000 });
  expect(chain.calls).toHaveLength(303);
});

test("several receipts come to a table, and each opens", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid", "until-2050", "expired");
  const { opening } = await receipt("until-2050");
  chain.world.revoked.set(opening.handle, 1_773_304_200);
  await page.goto(site.url);
  const names = ["valid", "until-2050", "expired", "other-registry"];
  const files = names.map(async (name) => file(`${name}.json`, await receiptText(name)));
  await choose(page, ...(await Promise.all(files)), file("odd.json", "odd"));
  await expect(page.getByRole("heading", { name: "5 receipts" })).toBeVisible();
  await expect(page.getByRole("row", { name: /Revoked until-2050.json/ })).toBeVisible();
  await expect(page.getByRole("row", { name: /Not accepted odd.json/ })).toBeVisible();
  // The chain's id, block and class were asked for once, and each receipt's two values.
  expect(chain.calls).toHaveLength(6);
  await page.getByRole("button", { name: "Show valid.json" }).click();
  await expect(verdict(page)).toHaveText("Valid");
  await page.getByRole("button", { name: "Back to the list" }).click();
  await expect(page.getByRole("row", { name: /Expired expired.json/ })).toBeVisible();
});
