/** The page against a real chain; played by tests/tests/verifier_page.rs, which has one. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { choose, expect, file, test, verdict } from "./page";

const folder = process.env.MEDSYNC_DEVNET_PAGE;
const given = (name: string) => readFile(join(folder ?? "", name), "utf8");

test.skip(folder === undefined, "there is no chain");

for (const [outcome, headline] of [
  ["valid", /^Valid$/],
  ["revoked", /^Revoked since/],
] as const) {
  test(`${outcome} on a real chain`, async ({ page, site, complaints }) => {
    site.config = JSON.parse(await given("verifier.json")) as object;
    await page.goto(site.url);
    await choose(page, file("receipt.json", await given("receipt.json")));
    await expect(verdict(page)).toHaveText(headline);
    expect(complaints).toEqual([]);
  });
}
