import { useEffect, useRef, type ReactNode } from "react";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";
import { Clock, No, Question, Stop, Yes } from "../../components/icons";
import { Problem } from "../../components/Problem";
import { exact, isOnCalendar, moment } from "../../i18n/moment";
import type { Opening, Verdict } from "../../protocol/binding";
import type { Conclusion } from "./verification";

export type Tone = "good" | "bad" | "wait" | "none";

const TONES: Record<Verdict, Tone> = {
  Valid: "good",
  Revoked: "bad",
  BadSignature: "bad",
  NotIncluded: "bad",
  UnknownAnchor: "wait",
  NotYetValid: "wait",
  Expired: "wait",
};

/** The verdict that a conclusion has, if it has one. */
export function verdictOf(conclusion: Conclusion): Verdict | null {
  if (conclusion.kind === "certain") return conclusion.verdict;
  return conclusion.kind === "verdict" ? conclusion.judged.report.verdict : null;
}

export function toneOf(conclusion: Conclusion): Tone {
  const verdict = verdictOf(conclusion);
  if (verdict !== null) return TONES[verdict];
  return conclusion.kind === "refused" ? "bad" : "none";
}

/** The picture beside the word: never the colour alone. */
export function ToneIcon({ conclusion }: { conclusion: Conclusion }) {
  if (conclusion.kind === "pending") return <span className="spinner" aria-hidden="true" />;
  if (conclusion.kind === "refused") return <Stop />;
  if (conclusion.kind === "none") return <Question />;
  return { good: <Yes />, bad: <No />, wait: <Clock />, none: <Question /> }[toneOf(conclusion)];
}

/** Which texts a conclusion has. */
export const textOf = (conclusion: Conclusion): string =>
  `verdict.${verdictOf(conclusion) ?? conclusion.kind}`;

type Props = {
  name: string;
  conclusion: Conclusion;
  opening: Opening | null;
  onRetry: () => Promise<void>;
  children?: ReactNode;
};

/** The answer, understood in one second. */
export function VerdictPanel({ name, conclusion, opening, onRetry, children }: Props) {
  const { t, i18n } = useTranslation();
  const heading = useRef<HTMLHeadingElement>(null);
  // Whoever opened a receipt is led to its verdict.
  useEffect(() => {
    heading.current?.focus();
  }, []);
  const time = (seconds: number | null | undefined) =>
    typeof seconds === "number" && isOnCalendar(seconds) ? moment(seconds, i18n.language) : "–";
  const report = conclusion.kind === "verdict" ? conclusion.judged.report : null;
  const values = {
    revoked: time(report?.revoked_at),
    notBefore: time(opening?.not_before),
    notAfter: time(opening?.not_after),
  };
  const text = textOf(conclusion);
  return (
    <section className={`verdict ${toneOf(conclusion)}`} aria-label={t("verdict.title")}>
      <span className="verdict-icon">
        <ToneIcon conclusion={conclusion} />
      </span>
      <div className="verdict-text">
        <p className="verdict-file">
          <bdi>{name}</bdi>
        </p>
        <div role="status">
          <h2 ref={heading} tabIndex={-1}>
            {t(`${text}.headline`, values)}
          </h2>
          {"error" in conclusion ? null : <p>{t(`${text}.why`, values)}</p>}
        </div>
        {report !== null && (
          <p className="muted">
            {t("verdict.asOf", {
              at: isOnCalendar(report.at) ? exact(report.at, i18n.language) : "–",
              block: report.block.number,
            })}
          </p>
        )}
        {"error" in conclusion && <Problem error={conclusion.error}>{children}</Problem>}
        {conclusion.kind === "none" && (
          <>
            <p>{t("verdict.offline")}</p>
            <Button className="button" onPress={() => void onRetry()}>
              {t("verdict.retry")}
            </Button>
          </>
        )}
      </div>
    </section>
  );
}
