/** Reading what the reader chose or dropped, within bounds. */
import type { DropItem } from "react-aria-components";
import type { Kinded, Outcome } from "../../protocol/binding";

/** The most files at once. */
export const FILES_MAX = 500;

export type Opened = { name: string; bytes: Outcome<Uint8Array> };

const failed = (kind: string, detail: unknown): { ok: false; error: Kinded } => ({
  ok: false,
  error: { kind: "file", detail: { kind, detail } },
});

/** Reads one file, but none that is larger than a receipt can be. */
export async function read(file: File, max: number): Promise<Opened> {
  const name = file.name;
  if (file.size > max) {
    return { name, bytes: failed("too_large", { bytes: file.size, max }) };
  }
  try {
    return { name, bytes: { ok: true, value: new Uint8Array(await file.arrayBuffer()) } };
  } catch {
    return { name, bytes: failed("unreadable", null) };
  }
}

/** Whether these are some, and not too many. */
export function countable(files: File[]): Kinded | null {
  if (files.length === 0) return failed("none", null).error;
  if (files.length <= FILES_MAX) return null;
  return failed("too_many", { count: files.length, max: FILES_MAX }).error;
}

/** Of a folder only what can be a receipt: other things lie in folders too. */
export const isJson = (file: File): boolean => file.name.toLowerCase().endsWith(".json");

/** What was dropped: files, and the files of folders. It stops past the most that are taken. */
export async function dropped(items: DropItem[]): Promise<File[]> {
  const files: File[] = [];
  for (const item of items) {
    if (item.kind === "file") files.push(await item.getFile());
    if (item.kind === "directory") await collect(item.getEntries(), files);
  }
  return files;
}

async function collect(entries: AsyncIterable<DropItem>, files: File[]): Promise<void> {
  for await (const entry of entries) {
    if (files.length > FILES_MAX) return;
    if (entry.kind === "directory") await collect(entry.getEntries(), files);
    if (entry.kind !== "file") continue;
    const file = await entry.getFile();
    if (isJson(file)) files.push(file);
  }
}

/** Whether bytes are JSON at all, for a clearer word to a reader than a parser's. */
export function isAnyJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return true;
  } catch {
    return false;
  }
}
