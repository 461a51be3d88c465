/** A picture of each state, light and dark, on a phone and a desktop: `npm run screenshots`. */
import type { Page } from "@playwright/test";
import type { Chain } from "./chain";
import {
  anchor,
  choose,
  chooseReceipt,
  expect,
  file,
  openAll,
  receipt,
  receiptText,
  test,
  verdict,
} from "./page";

type Stage = { page: Page; chain: Chain; open: () => Promise<void> };

const SHAPES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };

const said = (page: Page) => expect(verdict(page)).not.toHaveText("Asking Starknet …");

const STATES: Record<string, (stage: Stage) => Promise<void>> = {
  empty: async ({ open }) => open(),
  valid: async ({ page, open }) => {
    await open();
    await chooseReceipt(page, "valid");
  },
  explained: async ({ page, open }) => {
    await open();
    await chooseReceipt(page, "until-2050");
    await said(page);
    await openAll(page);
    await page.getByText("At a time").click();
    await page.getByLabel("Purpose").selectOption({ label: "health research" });
    await page.getByLabel("Kind of data").selectOption({ label: "diagnoses and conditions" });
    await page.getByLabel("Marked as").selectOption({ label: "normally confidential" });
    await page.getByLabel("Date of the data").fill("2020-05-01");
    await page.getByLabel("the person is not identified again").check();
    await page.getByRole("button", { name: "Ask the terms" }).click();
  },
  revoked: async ({ page, chain, open }) => {
    chain.world.revoked.set((await receipt("valid")).opening.handle, 1_773_304_200);
    await open();
    await chooseReceipt(page, "valid");
  },
  expired: async ({ page, open }) => {
    await open();
    await chooseReceipt(page, "expired");
  },
  "not-anchored": async ({ page, chain, open }) => {
    chain.world.anchored.clear();
    await open();
    await chooseReceipt(page, "valid");
  },
  tampered: async ({ page, open }) => {
    await open();
    const text = (await receiptText("valid")).replace('"not_after": 0', '"not_after": 2524608000');
    await choose(page, file("valid.json", text));
  },
  foreign: async ({ page, open }) => {
    await open();
    await chooseReceipt(page, "other-registry");
  },
  "no-receipt": async ({ page, open }) => {
    await open();
    await choose(page, file("holiday.jpg", "JFIF"));
  },
  offline: async ({ page, chain, open }) => {
    await open();
    await chain.stop();
    await chooseReceipt(page, "valid");
  },
  table: async ({ page, chain, open }) => {
    chain.world.revoked.set((await receipt("until-2050")).opening.handle, 1_773_304_200);
    await open();
    const names = ["valid", "until-2050", "expired", "not-yet", "other-registry"];
    const files = names.map(async (name) => file(`${name}.json`, await receiptText(name)));
    await choose(page, ...(await Promise.all(files)));
    await expect(page.getByRole("row", { name: /Valid valid.json/ })).toBeVisible();
  },
};

for (const scheme of ["light", "dark"] as const) {
  for (const [shape, viewport] of Object.entries(SHAPES)) {
    test.describe(`${scheme}, ${shape}`, () => {
      test.use({ viewport, colorScheme: scheme });
      for (const [state, enter] of Object.entries(STATES)) {
        test(state, async ({ page, site, chain }) => {
          await anchor(chain.world, "valid", "until-2050", "expired", "not-yet");
          const open = async () => {
            await page.goto(site.url);
            await expect(page.getByRole("button", { name: "Choose files" })).toBeVisible();
          };
          await enter({ page, chain, open });
          if (state !== "empty" && state !== "table") await said(page);
          await page.screenshot({
            path: `screenshots/${state}-${shape}-${scheme}.png`,
            fullPage: true,
            animations: "disabled",
          });
        });
      }
      test("no configuration", async ({ page, site }) => {
        site.config = null;
        await page.goto(site.url);
        await expect(page.getByRole("alert")).toBeVisible();
        await page.screenshot({ path: `screenshots/unconfigured-${shape}-${scheme}.png` });
      });
    });
  }
}
