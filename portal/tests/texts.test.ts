/** Both languages are complete, and every error has its words. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

type Texts = { [key: string]: string | Texts };

const SOURCE = join(import.meta.dirname, "../src");
const texts = (name: string) =>
  JSON.parse(readFileSync(join(SOURCE, "i18n", `${name}.json`), "utf8")) as Texts;

const keys = (of: Texts, path = ""): [string, string][] =>
  Object.entries(of).flatMap(([key, value]) =>
    typeof value === "string" ? [[path + key, value]] : keys(value, `${path}${key}.`),
  );

const places = (text: string) => [...text.matchAll(/{{(\w+)}}/g)].map(([place]) => place).sort();

test.each(["", "codes."])("both languages have the same texts: %s", (kind) => {
  const [en, de] = ["en", "de"].map((language) => new Map(keys(texts(kind + language))));
  expect([...(de?.keys() ?? [])].sort()).toEqual([...(en?.keys() ?? [])].sort());
  for (const [key, text] of en ?? []) {
    const other = de?.get(key) ?? "";
    expect(other, key).not.toBe("");
    expect(places(other), key).toEqual(places(text));
  }
});

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return /\.tsx?$/.test(entry.name) ? [readFileSync(path, "utf8")] : [];
  });
}

test("every text that the code names is there", () => {
  const there = new Set(keys(texts("en")).map(([key]) => key));
  const named = sources(SOURCE).flatMap((source) =>
    [...source.matchAll(/\bt\(\s*"([\w.]+)"/g)].map(([, key]) => key ?? ""),
  );
  const plural = (key: string) => [`${key}_one`, `${key}_other`].every((form) => there.has(form));
  expect(named.filter((key) => !there.has(key) && !plural(key))).toEqual([]);
  expect(named.length).toBeGreaterThan(60);
});
