import { expect, test } from "vitest";
import { countable, FILES_MAX, isAnyJson, read } from "../src/pages/verify/files";
import { ofWritten } from "../src/components/useCodes";
import { printable } from "../src/components/printable";
import { ofField, toField } from "../src/i18n/moment";

test("no file is read that is larger than a receipt", async () => {
  const file = new File(["123456789"], "r.json");
  file.arrayBuffer = () => Promise.reject(new Error("it was read"));
  expect((await read(file, 8)).bytes).toMatchObject({
    ok: false,
    error: { kind: "file", detail: { kind: "too_large", detail: { bytes: 9, max: 8 } } },
  });
  expect((await read(file, 9)).bytes).toMatchObject({
    ok: false,
    error: { detail: { kind: "unreadable" } },
  });
});

test("some files are opened, and not too many", () => {
  const files = Array.from({ length: FILES_MAX + 1 }, () => new File([], "r.json"));
  expect(countable(files)).toMatchObject({ detail: { kind: "too_many" } });
  expect(countable(files.slice(1))).toBeNull();
  expect(countable([])).toMatchObject({ detail: { kind: "none" } });
});

test("what is JSON, and what is not", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  expect(isAnyJson(bytes("{}"))).toBe(true);
  expect(isAnyJson(bytes('{"a":'))).toBe(false);
  expect(isAnyJson(new Uint8Array([0xff, 0xfe]))).toBe(false);
});

test("a code is written as on the command line", () => {
  expect(ofWritten("s|c")).toEqual({ system: "s", code: "c" });
  for (const none of ["", "s", "|c", "s|", " | "]) expect(ofWritten(none)).toBeNull();
});

test("a stranger's text turns nothing around it", () => {
  expect(printable("a\u202eb\u0000c")).toBe("a\u{fffd}b\u{fffd}c");
});

test("a field's time is the reader's own", () => {
  expect(ofField(toField(1_750_000_000))).toBe(1_750_000_000);
  expect(ofField("")).toBeNull();
});
