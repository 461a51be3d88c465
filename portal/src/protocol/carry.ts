/**
 * Carries a JSON-RPC text to an endpoint and its answer back, with a time-out and a bound, because
 * an endpoint is somebody else's machine. What the texts mean, it does not know.
 */
import type { Kinded, Outcome } from "./binding";

const TIMEOUT_MS = 10_000;
/** Room for a full block's transaction hashes. */
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;

const failed = (kind: string, detail?: unknown): { ok: false; error: Kinded } => ({
  ok: false,
  error: { kind, detail },
});

export async function carry(url: string, request: string): Promise<Outcome<string>> {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: request,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) return failed("status", response.status);
    const text = await bounded(response);
    return text === null ? failed("answer_too_long") : { ok: true, value: text };
  } catch (error) {
    const isSlow = error instanceof DOMException && error.name === "TimeoutError";
    return isSlow ? failed("slow", TIMEOUT_MS / 1000) : failed("unreachable");
  }
}

async function bounded(response: Response): Promise<string | null> {
  const reader = response.body?.getReader();
  if (reader === undefined) return "";
  const decoder = new TextDecoder();
  let text = "";
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    length += value.byteLength;
    if (length > ANSWER_BYTES_MAX) {
      await reader.cancel();
      return null;
    }
    text += decoder.decode(value, { stream: true });
  }
}
