import { useMemo, useState } from "react";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";
import type { Verifier } from "../../protocol/binding";
import { Beliefs } from "./Beliefs";
import { Drop } from "./Drop";
import { Result } from "./Result";
import { Table } from "./Table";
import { useReceipts } from "./useReceipts";
import { conclude } from "./verification";

/** The page once it has its configuration: open, look, ask again. */
export function Checker({ verifier }: { verifier: Verifier }) {
  const { t } = useTranslation();
  const receipts = useReceipts(verifier);
  const [at, setAt] = useState<number | null>(null);
  const [shown, setShown] = useState<number | null>(null);
  const { items, askedAt } = receipts;
  const concluded = useMemo(
    () => items.map((item) => ({ item, conclusion: conclude(verifier, item, at, askedAt) })),
    [verifier, items, at, askedAt],
  );
  const open = async (files: File[]) => {
    setAt(null);
    setShown(null);
    await receipts.open(files);
  };
  const one = concluded.length === 1 ? concluded[0] : concluded.find(({ item }) => item.id === shown);
  const isTable = concluded.length > 1;

  if (concluded.length === 0) {
    return (
      <>
        <p className="lead">{t("verify.lead")}</p>
        <Drop onFiles={open} problem={receipts.problem} />
        <Beliefs config={verifier.config} />
      </>
    );
  }
  return (
    <>
      <div className="bar">
        {isTable && one !== undefined && (
          <Button
            className="button"
            onPress={() => {
              setShown(null);
            }}
          >
            {t("table.back")}
          </Button>
        )}
        <Button className="button" onPress={receipts.close}>
          {t("drop.another")}
        </Button>
      </div>
      {one === undefined ? (
        <Table
          rows={concluded}
          isAsking={receipts.isAsking}
          onShow={setShown}
          onRetry={receipts.askAgain}
        />
      ) : (
        <Result
          key={one.item.id}
          item={one.item}
          conclusion={one.conclusion}
          config={verifier.config}
          at={at}
          onTime={setAt}
          onRetry={receipts.askAgain}
        />
      )}
      <Beliefs config={verifier.config} />
    </>
  );
}
