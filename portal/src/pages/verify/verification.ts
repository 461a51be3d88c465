/** From files to verdicts. What anything means, the protocol says; here is only who asks whom. */
import {
  ask,
  ready,
  type Accepted,
  type Heard,
  type Judged,
  type Kinded,
  type Outcome,
  type Verdict,
  type Verifier,
} from "../../protocol/binding";
import { carry } from "../../protocol/carry";
import { isAnyJson, type Opened } from "./files";

/** What each endpoint said of one receipt, in the order of the configuration. */
export type Answers = Outcome<Heard>[];

export type Item = { id: number; name: string } & (
  | { kind: "refused"; error: Kinded }
  | { kind: "accepted"; accepted: Accepted; answers: Answers | null }
);
export type AcceptedItem = Extract<Item, { kind: "accepted" }>;

export type Conclusion =
  | { kind: "refused"; error: Kinded }
  | { kind: "pending" }
  /** No answer could make it another. */
  | { kind: "certain"; verdict: Verdict }
  | { kind: "verdict"; judged: Judged }
  | { kind: "none"; error: Kinded };

/** Accepts or refuses each file. */
export function accepted(verifier: Verifier, opened: Opened[]): Item[] {
  return opened.map(({ name, bytes }, id) => {
    if (!bytes.ok) return { id, name, kind: "refused", error: bytes.error };
    const outcome = verifier.accept(bytes.value);
    if (outcome.ok) return { id, name, kind: "accepted", accepted: outcome.value, answers: null };
    const error = outcome.error;
    const isMalformed = error.kind === "receipt" && kindOf(error.detail) === "malformed";
    const isOther = isMalformed && !isAnyJson(bytes.value);
    const said = isOther ? { kind: "receipt", detail: { ...inner(error), kind: "not_json" } } : error;
    return { id, name, kind: "refused", error: said };
  });
}

const inner = (error: Kinded): Kinded => error.detail as Kinded;
const kindOf = (value: unknown): unknown =>
  typeof value === "object" && value !== null && "kind" in value ? value.kind : undefined;

/** How many receipts are asked about at once; more would look like an attack to an endpoint. */
const AT_ONCE = 8;

/** Asks every endpoint of every receipt. Each endpoint stays at the block it began with. */
export async function askAll(
  verifier: Verifier,
  items: AcceptedItem[],
  tell: (answers: Map<number, Answers>) => void,
): Promise<void> {
  const endpoints = await Promise.all(
    verifier.config.rpc.map(async (rpc) => {
      const endpoint = verifier.endpoint();
      const send = (request: string) => carry(rpc, request);
      return { endpoint, send, state: await ready(endpoint, send) };
    }),
  );
  for (let from = 0; from < items.length; from += AT_ONCE) {
    const some = items.slice(from, from + AT_ONCE);
    const answers = await Promise.all(
      some.map((item) =>
        Promise.all(
          endpoints.map(async ({ endpoint, send, state }) =>
            state.ok ? await ask(endpoint, item.accepted.receipt, send) : state,
          ),
        ),
      ),
    );
    tell(new Map(some.map((item, index) => [item.id, answers[index] ?? []])));
  }
}

/** What a receipt comes to. All endpoints have to answer, and to agree. */
export function conclude(
  verifier: Verifier,
  item: Item,
  at: number | null,
  askedAt: number,
): Conclusion {
  if (item.kind === "refused") return item;
  const { receipt, certain } = item.accepted;
  const silent = (other: Conclusion): Conclusion =>
    certain === null ? other : { kind: "certain", verdict: certain };
  if (item.answers === null) return silent({ kind: "pending" });
  const heard: Heard[] = [];
  for (const answer of item.answers) {
    if (!answer.ok) return silent({ kind: "none", error: answer.error });
    heard.push(answer.value);
  }
  const judged = verifier.judge(receipt, heard, at, askedAt);
  return judged.ok
    ? { kind: "verdict", judged: judged.value }
    : silent({ kind: "none", error: judged.error });
}
