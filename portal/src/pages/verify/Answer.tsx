import { useTranslation } from "react-i18next";
import { No, Question, Yes } from "../../components/icons";
import { useCodes } from "../../components/useCodes";
import type { Decision, Reason } from "../../protocol/binding";

/** What the terms said, and why. */
export function Answer({ decision }: { decision: Decision }) {
  const { t } = useTranslation();
  const codes = useCodes();
  const { outcome, obligations, reasons } = decision;
  const tone = { Permit: "good", Deny: "bad", NoConsent: "wait" }[outcome];
  const icon = { Permit: <Yes />, Deny: <No />, NoConsent: <Question /> }[outcome];
  return (
    <div className={`answer ${tone}`}>
      <p className="answer-word">
        {icon}
        {t(`question.${outcome}`)}
      </p>
      {reasons.map((reason, number) => (
        <Why key={number} reason={reason} />
      ))}
      {obligations.length > 0 && (
        <p>{t("question.mustKeep", { duties: codes.all(obligations) })}</p>
      )}
    </div>
  );
}

function Why({ reason }: { reason: Reason }) {
  const { t } = useTranslation();
  const codes = useCodes();
  if ("permitted" in reason) return <p>{t("question.reason.permitted")}</p>;
  if ("denied" in reason || "not_covered" in reason) {
    const why = "denied" in reason ? "denied" : "not_covered";
    return (
      <>
        <p>{t(`question.reason.${why}`)}</p>
        <p className="muted small">{t("question.unknown")}</p>
      </>
    );
  }
  if ("obligation_not_understood" in reason) {
    const code = codes.name(reason.obligation_not_understood[1]);
    return <p>{t("question.reason.obligation_not_understood", { code })}</p>;
  }
  return <p>{t("question.reason.other")}</p>;
}
