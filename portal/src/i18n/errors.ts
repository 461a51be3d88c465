/** Which texts an error has: what is wrong, and what would be right. */
import type { Kinded } from "../protocol/binding";

export type Saying = { key: string; values: Record<string, unknown>; raw: string };

const isKinded = (value: unknown): value is Kinded =>
  typeof value === "object" && value !== null && "kind" in value;

/** An error's key is the path of its kinds; what they carry are the values of its texts. */
export function saying(error: Kinded): Saying {
  const path = [error.kind];
  let detail = error.detail;
  while (isKinded(detail)) {
    path.push(detail.kind);
    detail = detail.detail;
  }
  return { key: `errors.${path.join(".")}`, values: values(detail), raw: JSON.stringify(error) };
}

function values(detail: unknown): Record<string, unknown> {
  if (Array.isArray(detail)) return { first: detail[0], second: detail[1] };
  if (typeof detail === "object" && detail !== null) return { ...detail };
  return { detail };
}
