/** The API of the `medsync` from which this page came, with the types of its own description. */
import createClient, { type Client as Typed } from "openapi-fetch";
import type { Kinded } from "../protocol/binding";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];
export type Client = Typed<paths>;

/** Why the API did not do what it was asked for, as a page has words for it. */
export class ApiError extends Error {
  constructor(readonly said: Kinded) {
    super(said.kind);
  }
}

const failed = (kind: string, detail: unknown): ApiError =>
  new ApiError({ kind: "api", detail: { kind, detail } });

/** A client that shows a session's token, or none. */
export const connect = (token: string | null): Client =>
  createClient<paths>({
    baseUrl: location.origin,
    cache: "no-store",
    credentials: "omit",
    ...(token !== null && { headers: { authorization: `Bearer ${token}` } }),
  });

/** What openapi-fetch answers. */
type Answer<T> = { data?: T; error?: unknown; response: Response };

const isProblem = (value: unknown): value is Schemas["Problem"] =>
  typeof value === "object" && value !== null && "detail" in value;

/** Whether a session is over. */
export const isOver = (error: unknown): boolean =>
  error instanceof ApiError && (error.said.detail as Kinded).kind === "over";

/** What was asked for; else it throws an `ApiError`. */
export async function answered<T>(asked: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await asked;
  } catch {
    throw failed("unreachable", null);
  }
  const { data, error, response } = answer;
  if (response.ok && data !== undefined) return data;
  if (response.status === 401) throw failed("over", null);
  if (isProblem(error)) throw failed("refused", error.detail);
  // Whatever answered is no medsync.
  throw failed("other", response.status);
}
