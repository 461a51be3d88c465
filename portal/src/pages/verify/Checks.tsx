import { useTranslation } from "react-i18next";
import { Details } from "../../components/Details";
import { No, Question, Yes } from "../../components/icons";
import { isOnCalendar, exact, now } from "../../i18n/moment";
import {
  offlineChecks,
  type CheckName,
  type ReceiptView,
  type Report,
} from "../../protocol/binding";
import type { AcceptedItem, Conclusion } from "./verification";

const ORDER: CheckName[] = ["signed", "anchored", "included", "not_revoked", "current"];

type Props = { item: AcceptedItem; conclusion: Conclusion; at: number | null };

/** Every check as a line, with what was found behind it. */
export function Checks({ item, conclusion, at }: Props) {
  const { t } = useTranslation();
  const report = conclusion.kind === "verdict" ? conclusion.judged.report : null;
  const done = report?.checks ?? offlineChecks(item.accepted.receipt, at ?? now());
  return (
    <section className="card">
      <h2>{t("checks.title")}</h2>
      <ul className="checks">
        {ORDER.map((name) => {
          const holds = done.find((check) => check.name === name)?.holds ?? null;
          return (
            <CheckLine
              key={name}
              name={name}
              holds={holds}
              view={item.accepted.view}
              report={report}
            />
          );
        })}
      </ul>
    </section>
  );
}

type LineProps = {
  name: CheckName;
  /** Nothing if only the chain can say. */
  holds: boolean | null;
  view: ReceiptView;
  report: Report | null;
};

function CheckLine({ name, holds, view, report }: LineProps) {
  const { t } = useTranslation();
  const found = useFound(name, view, report);
  const [state, answer, icon] =
    holds === null
      ? (["open", t("checks.open"), <Question key="?" />] as const)
      : holds
        ? (["yes", t("checks.holds"), <Yes key="y" />] as const)
        : (["no", t("checks.fails"), <No key="n" />] as const);
  return (
    <li className={`check ${state}`}>
      <span className="check-icon" role="img" aria-label={answer}>
        {icon}
      </span>
      <Details label={t(`checks.${name}.${state}`)}>
        <p>{found}</p>
      </Details>
    </li>
  );
}

function useFound(name: CheckName, view: ReceiptView, report: Report | null): string {
  const { t, i18n } = useTranslation();
  const { opening } = view;
  const time = (seconds: number) =>
    isOnCalendar(seconds) ? exact(seconds, i18n.language) : t("terms.beyond", { seconds });
  const said = (check: string, seconds: number | null) => {
    if (report === null) return t(`checks.${check}.unasked`);
    return seconds === null
      ? t(`checks.${check}.never`)
      : t(`checks.${check}.at`, { time: time(seconds) });
  };
  return t(`checks.${name}.about`, {
    key: opening.patient_key,
    root: view.root,
    commitment: view.commitment,
    handle: opening.handle,
    anchored: said("anchored", report?.anchored_at ?? null),
    revoked: said("not_revoked", report?.revoked_at ?? null),
    from: time(opening.not_before),
    until: opening.not_after === 0 ? t("terms.openEnded") : time(opening.not_after),
  });
}
