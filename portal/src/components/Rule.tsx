import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { No, Yes } from "./icons";
import { Facts } from "./Facts";
import { useCodes } from "./useCodes";
import { day, isOnCalendar } from "../i18n/moment";
import type { Provision } from "../protocol/binding";

type Props = { rule: Provision; isException: boolean };

/** One rule: what it allows or forbids, with each of its limits. */
export function Rule({ rule, isException }: Props) {
  const { t } = useTranslation();
  const rows = useLimits(rule);
  const isPermit = rule.kind === "permit";
  const name = isException ? `except_${rule.kind}` : rule.kind;
  return (
    <div className={`rule ${rule.kind}`}>
      <h3>
        {isPermit ? <Yes /> : <No />}
        {t(`terms.${name}`)}
      </h3>
      {rows.length === 0 ? <p>{t("terms.everything")}</p> : <Facts rows={rows} />}
    </div>
  );
}

function useLimits(rule: Provision): [string, ReactNode][] {
  const { t, i18n } = useTranslation();
  const codes = useCodes();
  const rows: [string, ReactNode][] = [];
  for (const limit of ["purposes", "classes", "codes", "labels"] as const) {
    const values = rule[limit];
    const say = limit === "classes" ? codes.each : codes.any;
    if (values !== undefined) rows.push([t(`terms.${limit}`), say(values)]);
  }
  for (const limit of ["authors", "records"] as const) {
    const count = rule[limit]?.length;
    if (count !== undefined) rows.push([t(`terms.${limit}`), t("terms.named", { count })]);
  }
  if (rule.data_period !== undefined) {
    const [from, to] = rule.data_period.map((seconds) =>
      isOnCalendar(seconds) ? day(seconds, i18n.language) : t("terms.beyond", { seconds }),
    );
    rows.push([t("terms.period"), t("terms.periodOf", { from, to })]);
  }
  if (rule.obligations !== undefined) {
    rows.push([t("terms.obligations"), codes.all(rule.obligations)]);
  }
  return rows;
}
