/** Endpoints that lie, lag or are silent, and a page without a sound configuration. */
import * as chains from "./chain";
import { anchor, chooseReceipt, configOf, expect, receipt, test, verdict } from "./page";

const REVOKED = 1_773_304_200;

for (const [what, lie, says] of [
  ["another chain", { result: "0x1" }, "serves another chain"],
  ["no JSON", "<html>", "something that is no answer"],
  ["no contract", { error: { code: 20, message: "Contract not found" } }, "no registry at"],
  ["another contract", { error: { code: 21, message: "no entry point" } }, "another contract"],
  ["a refusal", { error: { code: 429, message: "slower" } }, "refused"],
] as const) {
  test(`an endpoint answers with ${what}`, async ({ page, site, chain }) => {
    await anchor(chain.world, "valid");
    chain.world.lie = () => lie;
    await page.goto(site.url);
    await chooseReceipt(page, "valid");
    await expect(verdict(page)).toHaveText("No verdict");
    await expect(page.getByText(says).first()).toBeVisible();
    // What the browser checked stays.
    await expect(page.getByRole("img", { name: "Yes", exact: true })).toHaveCount(3);
    chain.world.lie = () => undefined;
    await page.getByRole("button", { name: "Ask Starknet again" }).click();
    await expect(verdict(page)).toHaveText("Valid");
  });
}

test("another class is believed by nobody", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  chain.world.classHash = "0x2";
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  await expect(page.getByText("not the code that this page trusts").first()).toBeVisible();
});

test("an old block hides no revocation", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  chain.world.block.time -= 2 * 3600;
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  await expect(page.getByText("too old to say anything about now").first()).toBeVisible();
  // Of a time before that block it may speak.
  await page.getByText("At a time").click();
  await page.getByLabel("Date and time").fill("2026-01-01T00:00:00");
  await page.getByRole("button", { name: "Check for this time" }).click();
  await expect(verdict(page)).toHaveText("Valid");
});

test("a block that knows of its future is no block", async ({ page, site, chain }) => {
  const { root } = await receipt("valid");
  chain.world.anchored.set(root, chain.world.block.time + 1);
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  await expect(page.getByText("contradicts itself").first()).toBeVisible();
});

test("endpoints that disagree come to no verdict", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  const other = await chains.start(chains.world());
  await anchor(other.world, "valid");
  const { opening } = await receipt("valid");
  other.world.revoked.set(opening.handle, REVOKED);
  site.config = configOf(chain.url, other.url);
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  await expect(page.getByText("by one the consent is “Valid”, by another “Revoked”")).toBeVisible();
  chain.world.revoked.set(opening.handle, REVOKED);
  await page.getByRole("button", { name: "Ask Starknet again" }).click();
  await expect(verdict(page)).toContainText("Revoked");
  await other.stop();
});

test("one of two endpoints is silent", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  const other = await chains.start(chains.world());
  site.config = configOf(chain.url, other.url);
  await other.stop();
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  await expect(verdict(page)).toHaveText("No verdict");
  await expect(page.getByText("An endpoint cannot be reached").first()).toBeVisible();
});

test("a forged receipt is named even without a chain", async ({ page, site, chain }) => {
  await page.goto(site.url);
  await chain.stop();
  const forged = { ...(await receipt("until-2050")) };
  forged.opening.not_after = 0;
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Choose files" }).click();
  const buffer = Buffer.from(JSON.stringify(forged));
  await (await chooser).setFiles({ name: "f.json", mimeType: "application/json", buffer });
  await expect(verdict(page)).toHaveText("Not signed by the patient");
});

test("a page without a sound configuration says so", async ({ page, site }) => {
  for (const [config, says] of [
    [null, "This page has no configuration"],
    [{ ...configOf(), rpc: [] }, "names no endpoint"],
    [{ ...configOf("https://example.org/"), custodian: [] }, "cannot be read"],
    [configOf("http://example.org/"), "http://example.org/"],
  ] as const) {
    site.config = config;
    await page.goto("about:blank");
    await page.goto(site.url);
    await expect(page.getByRole("alert")).toContainText(says);
  }
});
