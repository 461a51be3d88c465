/** What every test of the page begins with: the built files, a chain or two, and receipts. */
import { test as base, expect, type Locator, type Page } from "@playwright/test";
import axe from "axe-core";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import * as chain from "./chain";

const BUILT = fileURLToPath(new URL("../../target/portal", import.meta.url));
const RECEIPTS = fileURLToPath(new URL("../receipts", import.meta.url));

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".json": "application/json",
};

/** The page's server: files alone, and the configuration that a test gives it. */
export type Site = { url: string; config: object | null; stop: () => Promise<void> };

async function serve(): Promise<Site> {
  const site: Site = { url: "", config: null, stop: () => Promise.resolve() };
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? "/", "http://here").pathname);
    const name = path === "/" ? "/index.html" : path;
    const file =
      name === "/verifier.json"
        ? site.config === null
          ? Promise.reject(new Error("none"))
          : Promise.resolve(JSON.stringify(site.config))
        : readFile(join(BUILT, name));
    file.then(
      (bytes) => {
        response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "text/plain" });
        response.end(bytes);
      },
      () => {
        response.writeHead(404).end();
      },
    );
  });
  const port = await chain.listen(server);
  site.url = `http://127.0.0.1:${port}/`;
  site.stop = () => chain.close(server);
  return site;
}

export const configOf = (...rpc: string[]) => ({
  rpc,
  chain_id: chain.CHAIN_ID,
  registry: chain.REGISTRY,
  class_hash: chain.CLASS_HASH,
  custodians: [chain.CUSTODIAN],
  block_age_s_max: 3600,
});

export const receiptText = (name: string): Promise<string> =>
  readFile(join(RECEIPTS, `${name}.json`), "utf8");

export type Signed = {
  root: string;
  opening: { handle: string; not_after: number; grantee: string; salt: string };
  terms: string;
  terms_readable: { policy_uri: string };
};
export const receipt = async (name: string): Promise<Signed> =>
  JSON.parse(await receiptText(name)) as Signed;

/** A file as somebody chooses it. */
export const file = (name: string, text: string) => ({
  name,
  mimeType: "application/json",
  buffer: Buffer.from(text),
});

/** Puts receipts on a chain, anchored a month ago. */
export async function anchor(world: chain.World, ...names: string[]): Promise<void> {
  for (const name of names) {
    const { root } = await receipt(name);
    world.anchored.set(root, 1_704_068_000);
  }
}

/** Chooses files by the page's own button. */
export async function choose(page: Page, ...files: ReturnType<typeof file>[]): Promise<void> {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Choose files" }).click();
  await (await chooser).setFiles(files);
}

export async function chooseReceipt(page: Page, name: string): Promise<void> {
  await choose(page, file(`${name}.json`, await receiptText(name)));
}

export const verdict = (page: Page): Locator =>
  page.getByRole("region", { name: "Verdict" }).getByRole("heading", { level: 2 });

/** Opens whatever is behind a disclosure. */
export async function openAll(page: Page): Promise<void> {
  const closed = page.locator("button[aria-expanded=false]");
  while ((await closed.count()) > 0) await closed.first().click();
}

/** Nothing that axe knows of is wrong. */
export async function accessible(page: Page): Promise<void> {
  await page.evaluate(axe.source);
  const results = await page.evaluate(async () => {
    const tool = (window as unknown as { axe: typeof axe }).axe;
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    return tool.run(document, { runOnly: tags });
  });
  const found = results.violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]);
  expect(found).toEqual([]);
}

type Given = { site: Site; chain: chain.Chain; complaints: string[] };

export const test = base.extend<Given>({
  site: async ({}, provide) => {
    const site = await serve();
    await provide(site);
    await site.stop();
  },
  chain: async ({ site }, provide) => {
    const one = await chain.start(chain.world());
    site.config = configOf(one.url);
    await provide(one);
    await one.stop();
  },
  // What the browser complains about: a policy that was broken, an error that nobody caught.
  complaints: [
    async ({ page }, provide) => {
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (message.type() === "error") complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(error.message));
      await provide(complaints);
    },
    { auto: true },
  ],
});

export { expect };
