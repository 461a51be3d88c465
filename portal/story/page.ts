/** The portal of a hospital that runs, and what its story left: `tests/tests/portal.rs` says where. */
import { accessible } from "../e2e/page";
import { expect, test as base, type Locator, type Page } from "@playwright/test";

function given(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: tests/tests/portal.rs runs this`);
  return value;
}

export const PORTAL = given("MEDSYNC_PORTAL");
export const RECEIPT = given("MEDSYNC_RECEIPT");
export const RECOVERY = given("MEDSYNC_RECOVERY");
export const CIRCLE = given("MEDSYNC_CIRCLE");
export const PASSPHRASE = given("MEDSYNC_PASSPHRASE");

/** Fails if the browser complains: a policy that was broken, an error that nobody caught. */
export const test = base.extend<{ complaints: string[] }>({
  complaints: [
    async ({ page }, provide) => {
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (message.type() === "error") complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(error.message));
      await provide(complaints);
      expect(complaints).toEqual([]);
    },
    { auto: true },
  ],
});

/** Drops the story's receipt; answers the verdict. */
export async function verdictOf(page: Page): Promise<Locator> {
  await page.goto(PORTAL);
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Choose files" }).click();
  await (await chooser).setFiles(RECEIPT);
  return page.getByRole("region", { name: "Verdict" }).getByRole("heading", { level: 2 });
}

export { accessible, expect };
