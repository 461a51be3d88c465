import { useState } from "react";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";
import { Problem } from "../../components/Problem";
import { ofField } from "../../i18n/moment";
import { ofWritten, useCodes, written } from "../../components/useCodes";
import { decide, type Code, type Decision, type Outcome } from "../../protocol/binding";
import { Answer } from "./Answer";
import { CodeField, type Chosen } from "./CodeField";
import type { AcceptedItem, Conclusion } from "./verification";

/** The systems whose codes are offered. */
const PURPOSES = [
  "http://terminology.hl7.org/CodeSystem/v3-ActReason",
  "http://purl.obolibrary.org/obo/duo.owl",
];
const LABELS = ["http://terminology.hl7.org/CodeSystem/v3-Confidentiality"];
const CLASSES = ["http://hl7.org/fhir/resource-types"];

type Props = { item: AcceptedItem; conclusion: Conclusion };

/** Asks the terms about one purpose and one kind of data: valid is not yet permitted. */
export function Ask({ item, conclusion }: Props) {
  const { t } = useTranslation();
  const codes = useCodes();
  const [purpose, setPurpose] = useState<Chosen>({ listed: "", own: "" });
  const [kind, setKind] = useState<Chosen>({ listed: "", own: "" });
  const [label, setLabel] = useState<Chosen>({ listed: "", own: "" });
  const [date, setDate] = useState("");
  const [kept, setKept] = useState<Code[]>([]);
  const [answer, setAnswer] = useState<Outcome<Decision | null> | null>(null);
  const rules = [item.accepted.view.terms.provision, ...item.accepted.view.terms.exceptions];
  const duties = unique(rules.flatMap((rule) => rule.obligations ?? []));
  const judged = conclusion.kind === "verdict" ? conclusion.judged : null;
  const isValid = judged?.report.verdict === "Valid";
  const asked = { purpose: codeOf(purpose), kind: codeOf(kind) };
  const ask = () => {
    if (judged === null || asked.purpose === null || asked.kind === null) return;
    const mark = codeOf(label);
    const question = {
      purposes: [asked.purpose],
      classes: [asked.kind],
      understood: kept,
      labels: mark === null ? [] : [mark],
      data_date: ofField(date),
    };
    setAnswer(decide(judged.judgement, item.accepted.receipt, question));
  };
  // An answer is to the question that was asked, and to no other.
  const change =
    <T,>(set: (value: T) => void) =>
    (value: T) => {
      set(value);
      setAnswer(null);
    };
  return (
    <section className="card">
      <h2>{t("question.title")}</h2>
      <p className="muted">{t("question.lead")}</p>
      {!isValid && <p>{t("question.onlyValid")}</p>}
      <form
        className="question"
        hidden={!isValid}
        onSubmit={(event) => {
          event.preventDefault();
          ask();
        }}
      >
        <CodeField
          label={t("question.purpose")}
          inTerms={unique(rules.flatMap((rule) => rule.purposes ?? []))}
          systems={PURPOSES}
          chosen={purpose}
          onChoose={change(setPurpose)}
        />
        <CodeField
          label={t("question.class")}
          inTerms={unique(rules.flatMap((rule) => rule.classes ?? []))}
          systems={CLASSES}
          chosen={kind}
          onChoose={change(setKind)}
        />
        {rules.some((rule) => rule.labels !== undefined) && (
          <CodeField
            label={t("question.label")}
            inTerms={unique(rules.flatMap((rule) => rule.labels ?? []))}
            systems={LABELS}
            chosen={label}
            onChoose={change(setLabel)}
          />
        )}
        {rules.some((rule) => rule.data_period !== undefined) && (
          <label className="field">
            <span>{t("question.date")}</span>
            <input
              type="date"
              value={date}
              onChange={(event) => {
                change(setDate)(event.target.value);
              }}
            />
          </label>
        )}
        {duties.length > 0 && (
          <fieldset>
            <legend>{t("question.understood")}</legend>
            {duties.map((duty) => (
              <label className="tick" key={written(duty)}>
                <input
                  type="checkbox"
                  checked={kept.some((one) => written(one) === written(duty))}
                  onChange={(event) => {
                    const others = kept.filter((one) => written(one) !== written(duty));
                    change(setKept)(event.target.checked ? [...others, duty] : others);
                  }}
                />
                {codes.name(duty)}
              </label>
            ))}
          </fieldset>
        )}
        <Button
          className="button"
          type="submit"
          isDisabled={asked.purpose === null || asked.kind === null}
        >
          {t("question.ask")}
        </Button>
        <div role="status">
          {answer?.ok === true && answer.value !== null && <Answer decision={answer.value} />}
          {answer?.ok === false && <Problem error={answer.error} />}
        </div>
      </form>
    </section>
  );
}

const codeOf = ({ listed, own }: Chosen): Code | null => ofWritten(listed === "own" ? own : listed);

const unique = (codes: Code[]): Code[] => [
  ...new Map(codes.map((code) => [written(code), code])).values(),
];
