import { Button } from "react-aria-components/Button";
import { useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import { short } from "../../components/Hash";
import { Moment } from "../../components/Moment";
import { Loading } from "../../components/Loading";
import { textOf, ToneIcon, toneOf } from "./VerdictPanel";
import type { Conclusion, Item } from "./verification";

type Row = { item: Item; conclusion: Conclusion };
type Props = {
  rows: Row[];
  isAsking: boolean;
  onShow: (id: number) => void;
  onRetry: () => Promise<void>;
};

/** What a narrow screen has no room for. */
const WIDE = new Set(["recipient", "until"]);

/** Many receipts: how many came to what, and each with its verdict. */
export function Table({ rows, isAsking, onShow, onRetry }: Props) {
  const { t } = useTranslation();
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    heading.current?.focus();
  }, []);
  const isUnknown = rows.some(({ conclusion }) => conclusion.kind === "none");
  return (
    <section className="card">
      <h2 ref={heading} tabIndex={-1}>
        {t("table.title", { count: rows.length })}
      </h2>
      {isAsking ? (
        <Loading text={t("drop.checking", { count: rows.length })} />
      ) : (
        <Summary rows={rows} />
      )}
      {!isAsking && isUnknown && (
        <Button className="button" onPress={() => void onRetry()}>
          {t("verdict.retry")}
        </Button>
      )}
      <div className="scroll">
        <table>
          <thead>
            <tr>
              {["verdict", "file", "recipient", "until"].map((column) => (
                <th key={column} scope="col" className={WIDE.has(column) ? "on-wide" : undefined}>
                  {t(`table.${column}`)}
                </th>
              ))}
              <th scope="col">
                <span className="only-read">{t("table.show")}</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <Line key={row.item.id} row={row} onShow={onShow} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Summary({ rows }: { rows: Row[] }) {
  const { t } = useTranslation();
  const counts = new Map<string, Row[]>();
  for (const row of rows) {
    const key = textOf(row.conclusion);
    counts.set(key, [...(counts.get(key) ?? []), row]);
  }
  return (
    <div role="status">
      <ul className="summary">
      {[...counts].map(([key, same]) => (
        <li key={key} className={same[0] && toneOf(same[0].conclusion)}>
          <strong>{same.length}</strong> {t(`${key}.name`)}
        </li>
      ))}
      </ul>
    </div>
  );
}

function Line({ row: { item, conclusion }, onShow }: { row: Row; onShow: (id: number) => void }) {
  const { t } = useTranslation();
  const opening = item.kind === "accepted" ? item.accepted.view.opening : null;
  return (
    <tr>
      <td>
        <span className={`pill ${toneOf(conclusion)}`}>
          <ToneIcon conclusion={conclusion} />
          {t(`${textOf(conclusion)}.name`)}
        </span>
      </td>
      <th scope="row">
        <bdi>{item.name}</bdi>
      </th>
      <td className="on-wide">{opening !== null && <code>{short(opening.grantee)}</code>}</td>
      <td className="on-wide">
        {opening !== null &&
          (opening.not_after === 0 ? t("table.open") : <Moment seconds={opening.not_after} />)}
      </td>
      <td>
        <Button
          className="quiet"
          aria-label={t("table.showOf", { name: item.name })}
          onPress={() => {
            onShow(item.id);
          }}
        >
          {t("table.show")}
        </Button>
      </td>
    </tr>
  );
}
