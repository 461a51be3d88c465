/** The page's own configuration: `verifier.json`, beside it. */
import { verifier, type Kinded, type Outcome, type Verifier } from "./binding";
import { narrow } from "./policy";

export const CONFIG_FILE = "verifier.json";

/** An endpoint as it may be shown: its address can contain an access key. */
export const shown = (rpc: string): string => new URL(rpc).origin;

/** Reads the configuration and lets the page reach nothing but itself and the endpoints. */
export async function configure(): Promise<Outcome<Verifier>> {
  const bytes = await fetched();
  if (!bytes.ok) return bytes;
  const read = verifier(bytes.value);
  if (!read.ok) return { ok: false, error: { kind: "config", detail: read.error } };
  const bad = read.value.config.rpc.find((rpc) => !isReachable(rpc));
  if (bad !== undefined) return refused({ kind: "endpoint", detail: bad });
  narrow(read.value.config.rpc.map(shown));
  return read;
}

const refused = (error: Kinded): { ok: false; error: Kinded } => ({
  ok: false,
  error: { kind: "config", detail: error },
});

async function fetched(): Promise<Outcome<Uint8Array>> {
  try {
    const response = await fetch(CONFIG_FILE, { cache: "no-cache", credentials: "omit" });
    if (!response.ok) return refused({ kind: "missing", detail: response.status });
    return { ok: true, value: new Uint8Array(await response.arrayBuffer()) };
  } catch {
    return refused({ kind: "unreachable" });
  }
}

/** What nobody on the way can change: HTTPS, or this very machine. */
function isReachable(rpc: string): boolean {
  if (!URL.canParse(rpc)) return false;
  const { protocol, hostname } = new URL(rpc);
  const isHere = hostname === "127.0.0.1" || hostname === "localhost";
  return protocol === "https:" || (protocol === "http:" && isHere);
}
