/**
 * The protocol, in WebAssembly: the same Rust as the daemon's. What it answers is its own JSON,
 * read here once and given its type.
 */
import init, { receipt_bytes_max, Verifier as Binding } from "../../binding/medsync";
import type {
  Endpoint,
  Judgement,
  Receipt,
  Said,
} from "../../binding/medsync";
import type {
  Check,
  Config,
  Decision,
  Kinded,
  Question,
  ReceiptView,
  Report,
  Seen,
  Verdict,
} from "../../binding/medsync";

export type * from "../../binding/medsync";

/** A result that is one of two. */
export type Outcome<T> = { ok: true; value: T } | { ok: false; error: Kinded };

/** The binding's own JSON, of the type that its declaration has beside the Rust. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
export const read = <T>(json: string): T => JSON.parse(json) as T;

/** Runs what may fail; the binding throws its errors as JSON. */
export function attempt<T>(run: () => T): Outcome<T> {
  try {
    return { ok: true, value: run() };
  } catch (thrown) {
    if (typeof thrown !== "string") throw thrown;
    return { ok: false, error: read<Kinded>(thrown) };
  }
}

/** Loads the WebAssembly; once, before anything else here is used. */
export async function load(): Promise<void> {
  await init();
}

/** The largest receipt, in bytes. */
export const receiptBytesMax = (): number => receipt_bytes_max();

/** A receipt that was accepted, and what it says. */
export type Accepted = {
  receipt: Receipt;
  view: ReceiptView;
  /** The verdict that no chain can change, if there is one. */
  certain: Verdict | null;
};

export type Judged = { judgement: Judgement; report: Report };
export type Heard = { said: Said; seen: Seen };

/** A verifier by its own configuration. */
export type Verifier = {
  config: Config;
  accept: (bytes: Uint8Array) => Outcome<Accepted>;
  endpoint: () => Endpoint;
  /** Judges by what every endpoint said, at a time or about now; in unix seconds. */
  judge: (receipt: Receipt, heard: Heard[], at: number | null, now: number) => Outcome<Judged>;
};

/** Reads the bytes of a configuration. */
export function verifier(bytes: Uint8Array): Outcome<Verifier> {
  return attempt(() => {
    const binding = new Binding(bytes);
    return {
      config: read<Config>(binding.config()),
      accept: (file) =>
        attempt(() => {
          const receipt = binding.accept(file);
          const certain = receipt.certain();
          return {
            receipt,
            view: read<ReceiptView>(receipt.view()),
            certain: certain === undefined ? null : read<Verdict>(certain),
          };
        }),
      endpoint: () => binding.endpoint(),
      judge: (receipt, heard, at, now) =>
        attempt(() => {
          const time = at === null ? undefined : BigInt(at);
          const verification = binding.verification(receipt, time, BigInt(now));
          for (const { said } of heard) verification.hear(said);
          const judgement = verification.judge();
          return { judgement, report: read<Report>(judgement.json()) };
        }),
    };
  });
}

/** The checks that need no chain. */
export function offlineChecks(receipt: Receipt, at: number): Check[] {
  return read<Check[]>(receipt.offline(BigInt(at)));
}

/** What the terms say to a question; null if the consent is not valid. */
export function decide(
  judgement: Judgement,
  receipt: Receipt,
  question: Question,
): Outcome<Decision | null> {
  return attempt(() => {
    const decision = judgement.decide(receipt, JSON.stringify(question));
    return decision === undefined ? null : read<Decision>(decision);
  });
}

/** Carries the questions of an endpoint until it is ready. */
export async function ready(
  endpoint: Endpoint,
  carry: (request: string) => Promise<Outcome<string>>,
): Promise<Outcome<void>> {
  for (let request; (request = endpoint.request()) !== undefined; ) {
    const answer = await carry(request);
    if (!answer.ok) return answer;
    const taken = attempt(() => {
      endpoint.answer(answer.value);
    });
    if (!taken.ok) return taken;
  }
  return { ok: true, value: undefined };
}

/** Asks an endpoint that is ready for the two values of a receipt. */
export async function ask(
  endpoint: Endpoint,
  receipt: Receipt,
  carry: (request: string) => Promise<Outcome<string>>,
): Promise<Outcome<Heard>> {
  const answer = await carry(endpoint.ask(receipt));
  if (!answer.ok) return answer;
  return attempt(() => {
    const said = endpoint.times(answer.value);
    return { said, seen: read<Seen>(said.json()) };
  });
}
