/** A receipt that the chain knows. */
import { expect, test, verdictOf } from "./page";

test("the receipt is valid, by the chain itself", async ({ page }) => {
  await expect(await verdictOf(page)).toHaveText("Valid");
  await expect(page.getByRole("img", { name: "Yes", exact: true })).toHaveCount(5);
});
