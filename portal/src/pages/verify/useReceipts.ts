import { useCallback, useRef, useState } from "react";
import { now } from "../../i18n/moment";
import { receiptBytesMax, type Kinded, type Verifier } from "../../protocol/binding";
import { countable, read } from "./files";
import { accepted, askAll, type AcceptedItem, type Item } from "./verification";

export type Receipts = {
  items: Item[];
  /** When the endpoints were asked, by this device's clock. */
  askedAt: number;
  isAsking: boolean;
  /** Why nothing was opened. */
  problem: Kinded | null;
  open: (files: File[]) => Promise<void>;
  askAgain: () => Promise<void>;
  close: () => void;
};

const NOTHING = { items: [] as Item[], askedAt: 0, isAsking: false, problem: null as Kinded | null };

/** The receipts that the reader opened, and what the endpoints say of them. */
export function useReceipts(verifier: Verifier): Receipts {
  const [state, setState] = useState(NOTHING);
  // What belongs to receipts that were closed meanwhile is dropped.
  const turn = useRef(0);

  const ask = useCallback(
    async (items: Item[]) => {
      const mine = ++turn.current;
      const open: Item[] = items.map((item) =>
        item.kind === "accepted" ? { ...item, answers: null } : item,
      );
      const isAccepted = (item: Item): item is AcceptedItem => item.kind === "accepted";
      const asked = open.filter(isAccepted);
      const isAsking = asked.length > 0;
      setState({ items: open, askedAt: now(), isAsking, problem: null });
      if (!isAsking) return;
      await askAll(verifier, asked, (answers) => {
        if (turn.current !== mine) return;
        setState((before) => ({
          ...before,
          items: before.items.map((item) =>
            item.kind === "accepted"
              ? { ...item, answers: answers.get(item.id) ?? item.answers }
              : item,
          ),
        }));
      });
      if (turn.current === mine) setState((before) => ({ ...before, isAsking: false }));
    },
    [verifier],
  );

  const open = useCallback(
    async (files: File[]) => {
      const problem = countable(files);
      if (problem !== null) {
        setState((before) => ({ ...before, problem }));
        return;
      }
      const max = receiptBytesMax();
      const opened = await Promise.all(files.map((file) => read(file, max)));
      await ask(accepted(verifier, opened));
    },
    [ask, verifier],
  );

  const close = useCallback(() => {
    turn.current += 1;
    setState(NOTHING);
  }, []);

  return { ...state, open, askAgain: () => ask(state.items), close };
}
