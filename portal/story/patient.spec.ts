/** The patient of the story, who sees who may use their data, and takes it back. */
import { accessible, CIRCLE, expect, PASSPHRASE, PORTAL, RECOVERY, test } from "./page";

test("the patient sees the consent, takes it back, and reads the log", async ({ page }) => {
  const sent: string[] = [];
  page.on("request", (request) => {
    const { origin } = new URL(request.url());
    sent.push(`${origin} ${request.url()} ${request.postData() ?? ""}`);
  });
  await page.goto(`${PORTAL}#/patient`);
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Choose the file" }).click();
  await (await chooser).setFiles(RECOVERY);
  await page.getByLabel(/^Your circle/).fill(CIRCLE);
  await page.getByLabel("Passphrase").fill("not the right passphrase");
  await page.getByRole("button", { name: "Open", exact: true }).click();
  await expect(page.getByText("This passphrase does not open the file")).toBeVisible();
  await accessible(page);
  await page.getByLabel("Passphrase").fill(PASSPHRASE);
  await page.getByRole("button", { name: "Open", exact: true }).click();

  const consent = page.getByRole("article", { name: "A consent" });
  await expect(consent.getByText("In force.")).toBeVisible();
  await expect(consent.getByText(/^The recipient may use measurements/)).toBeVisible();
  await expect(page.locator("strong", { hasText: "Consent given" })).toBeVisible();
  await accessible(page);

  await consent.getByRole("button", { name: "Take back" }).click();
  await expect(page.getByText("Nobody may use your data")).toBeVisible();
  await page.getByRole("button", { name: /is over or was taken back/ }).click();
  await expect(consent.getByText("Denied since")).toBeVisible();
  await accessible(page);

  // The page speaks to its own server alone, and neither passphrase nor file goes anywhere.
  const own = new URL(PORTAL).origin;
  expect(sent.filter((one) => !one.startsWith(`${own} `))).toEqual([]);
  expect(sent.filter((one) => one.includes(PASSPHRASE) || one.includes("argon2id"))).toEqual([]);
  const kept = await page.evaluate(() => JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage)]));
  expect(kept).not.toContain(CIRCLE);
});
