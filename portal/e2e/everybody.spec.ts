/** The page for everybody: by keyboard, on a phone, to a screen reader, in each language. */
import {
  accessible,
  anchor,
  choose,
  chooseReceipt,
  expect,
  file,
  openAll,
  receiptText,
  test,
  verdict,
} from "./page";

for (const scheme of ["light", "dark"] as const) {
  test(`axe finds nothing in any state, ${scheme}`, async ({ page, site, chain }) => {
    await anchor(chain.world, "valid", "expired");
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(site.url);
    await expect(page.getByRole("button", { name: "Choose files" })).toBeVisible();
    await accessible(page);
    for (const name of ["valid", "expired", "not-yet", "other-registry"]) {
      await chooseReceipt(page, name);
      await expect(verdict(page)).not.toHaveText("Asking Starknet …");
      await openAll(page);
      await accessible(page);
      await page.getByRole("button", { name: "Check another receipt" }).click();
    }
    await choose(
      page,
      file("valid.json", await receiptText("valid")),
      file("expired.json", await receiptText("expired")),
      file("odd.json", "odd"),
    );
    await expect(page.getByRole("row", { name: /Valid valid.json/ })).toBeVisible();
    await accessible(page);
    await chain.stop();
    await page.getByRole("button", { name: "Check another receipt" }).click();
    await chooseReceipt(page, "valid");
    await expect(verdict(page)).toHaveText("No verdict");
    await accessible(page);
    site.config = null;
    await page.reload();
    await expect(page.getByRole("alert")).toBeVisible();
    await accessible(page);
  });
}

test("by keyboard alone", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  await page.goto(site.url);
  await expect(page.getByRole("button", { name: "Choose files" })).toBeVisible();
  const until = async (name: string) => {
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press("Tab");
      const focused = page.locator(":focus");
      if ((await focused.count()) === 0) continue;
      const text = `${(await focused.getAttribute("aria-label")) ?? ""} ${await focused.innerText()}`;
      if (text.includes(name)) return;
    }
    throw new Error(`Tab never came to ${name}`);
  };
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: "Skip to the content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("main")).toBeFocused();
  const chooser = page.waitForEvent("filechooser");
  await until("Choose files");
  await page.keyboard.press("Enter");
  const chosen = file("valid.json", await receiptText("valid"));
  await (await chooser).setFiles(chosen);
  await expect(verdict(page)).toBeFocused();
  await expect(verdict(page)).toHaveText("Valid");
  await until("The patient signed exactly these terms");
  await page.keyboard.press("Enter");
  await expect(page.getByText("The signature was checked in this browser")).toBeVisible();
  await page.keyboard.press("Space");
  await expect(page.getByText("The signature was checked in this browser")).toBeHidden();
});

test("on a phone nothing is cut off", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  await page.setViewportSize({ width: 320, height: 640 });
  await page.goto(site.url);
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  await expect(page.getByRole("button", { name: "Choose files" })).toBeVisible();
  expect(await fits()).toBe(true);
  await chooseReceipt(page, "valid");
  await expect(verdict(page)).toHaveText("Valid");
  await openAll(page);
  await page.getByText("At a time").click();
  expect(await fits()).toBe(true);
  // The verdict is seen without scrolling.
  await page.evaluate(() => {
    scrollTo(0, 0);
  });
  await expect(verdict(page)).toBeInViewport();
});

test.describe("in German", () => {
  test.use({ locale: "de-DE" });
  test("by the browser's language, and another is kept once chosen", async ({ page, site, chain }) => {
    await anchor(chain.world, "valid");
    await page.goto(site.url);
    await expect(page.getByRole("heading", { level: 1 })).toHaveText("Einwilligungsbeleg prüfen");
    await expect(page.locator("html")).toHaveAttribute("lang", "de");
    await page.getByLabel("Sprache").selectOption("en");
    await expect(page.getByRole("heading", { level: 1 })).toHaveText("Check a consent receipt");
    await page.reload();
    await expect(page.getByRole("heading", { level: 1 })).toHaveText("Check a consent receipt");
  });
});

test("an address that leads nowhere says so", async ({ page, site, chain }) => {
  await page.goto(`${site.url}#/nowhere`);
  await expect(page.getByRole("heading", { name: "There is no such page" })).toBeVisible();
  await page.getByRole("main").getByRole("link", { name: "Check a receipt" }).click();
  await expect(page.getByRole("button", { name: "Choose files" })).toBeVisible();
  expect(chain.calls).toEqual([]);
});
