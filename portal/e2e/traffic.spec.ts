/** What leaves the browser: the page's own files and the questions to the endpoints. */
import type { Request } from "@playwright/test";
import * as chains from "./chain";
import { anchor, chooseReceipt, configOf, expect, receipt, test, verdict } from "./page";

test("nothing of a receipt leaves but root, anchorer and handle", async ({
  page,
  site,
  chain,
  complaints,
}) => {
  await anchor(chain.world, "valid");
  const other = await chains.start(chains.world());
  await anchor(other.world, "valid");
  site.config = configOf(chain.url, other.url);
  const requests: Request[] = [];
  page.on("request", (request) => requests.push(request));
  await page.goto(site.url);
  await chooseReceipt(page, "valid");
  await expect(verdict(page)).toHaveText("Valid");
  await page.getByRole("button", { name: "Identifiers in full" }).click();
  await page.getByText("At a time").click();
  await page.getByRole("button", { name: "Check for this time" }).click();
  await page.getByLabel("Language").selectOption("de");
  await expect(page.getByRole("heading", { name: "Gültig", exact: true })).toBeVisible();

  const endpoints = [chain.url, other.url];
  for (const request of requests) {
    const url = request.url();
    const isOwn = url.startsWith(site.url) && request.method() === "GET";
    expect(isOwn || endpoints.includes(url), url).toBe(true);
    if (isOwn) expect(request.postData(), url).toBeNull();
  }
  const methods = [
    "starknet_chainId",
    "starknet_getBlockWithTxHashes",
    "starknet_getClassHashAt",
    "starknet_call",
  ];
  const { root, opening } = await receipt("valid");
  for (const { calls } of [chain, other]) {
    expect(calls.map(({ method }) => method)).toEqual(methods);
    const [body] = calls.slice(-1).map((call) => JSON.parse(call.body) as { params: unknown });
    expect(body?.params).toEqual({
      block_id: { block_hash: "0x5a" },
      request: {
        calldata: [chains.CUSTODIAN, root, opening.handle],
        contract_address: chains.REGISTRY,
        entry_point_selector: expect.stringMatching(/^0x/) as unknown,
      },
    });
  }
  // Nothing private in the address or in what is stored, and no word of the policy broken.
  expect(page.url()).toBe(`${site.url}#/verify`);
  const stored = await page.evaluate(() => [localStorage, sessionStorage].map(Object.entries));
  expect(stored).toEqual([[["medsync.language", "de"]], []]);
  expect(await page.context().cookies()).toEqual([]);
  expect(complaints).toEqual([]);
  await other.stop();
});

test("the page reaches nobody else, whatever runs in it", async ({ page, site, chain }) => {
  await page.goto(site.url);
  await expect(page.getByRole("button", { name: "Choose files" })).toBeVisible();
  const elsewhere = await chains.start(chains.world());
  const reach = (url: string) =>
    page.evaluate((to) => fetch(to, { method: "POST", body: "{}" }).then(() => true, () => false), url);
  expect(await reach(elsewhere.url)).toBe(false);
  expect(await reach("https://example.org/")).toBe(false);
  expect(elsewhere.calls).toEqual([]);
  expect(await reach(chain.url)).toBe(true);
  const isRun = await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.head.append(script);
    return "ran" in window;
  });
  expect(isRun).toBe(false);
  await elsewhere.stop();
});

test("offline it checks what needs no chain, and says what is missing", async ({ page, site, chain }) => {
  await anchor(chain.world, "valid");
  await page.goto(site.url);
  await expect(page.getByRole("button", { name: "Choose files" })).toBeVisible();
  await page.context().setOffline(true);
  await chooseReceipt(page, "valid");
  await expect(verdict(page)).toHaveText("No verdict");
  await expect(page.getByText("You may be offline").first()).toBeVisible();
  await expect(page.getByText("only the chain can say")).toBeVisible();
  await expect(page.getByRole("img", { name: "Yes", exact: true })).toHaveCount(3);
  await expect(page.getByRole("img", { name: "Not known yet" })).toHaveCount(2);
  await expect(page.getByText("The recipient may use")).toBeVisible();
  await page.context().setOffline(false);
  await page.getByRole("button", { name: "Ask Starknet again" }).click();
  await expect(verdict(page)).toHaveText("Valid");
});
