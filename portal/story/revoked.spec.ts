/** A receipt that the patient took back. */
import { expect, test, verdictOf } from "./page";

test("the receipt is revoked, by the chain itself", async ({ page }) => {
  await expect(await verdictOf(page)).toHaveText(/^Revoked since /);
});
