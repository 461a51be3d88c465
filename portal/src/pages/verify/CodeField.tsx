import { useId } from "react";
import { useTranslation } from "react-i18next";
import { ofWritten, useCodes, written } from "../../components/useCodes";
import type { Code } from "../../protocol/binding";

/** A code of the list, or one of the reader's own. */
export type Chosen = { listed: string; own: string };

type Props = {
  label: string;
  inTerms: Code[];
  systems: string[];
  chosen: Chosen;
  onChoose: (chosen: Chosen) => void;
};

/** Chooses a code: those of the consent first, then known ones, then any other. */
export function CodeField({ label, inTerms, systems, chosen, onChoose }: Props) {
  const { t, i18n } = useTranslation();
  const codes = useCodes();
  const hint = useId();
  const named = new Set(inTerms.map(written));
  const others = systems
    .flatMap((system) => {
      const texts = i18n.getResourceBundle(i18n.language, "codes") as Record<string, object>;
      return Object.keys(texts[system] ?? {}).map((code) => ({ system, code }));
    })
    .filter((code) => !named.has(written(code)));
  const option = (code: Code) => (
    <option key={written(code)} value={written(code)}>
      {codes.name(code)}
    </option>
  );
  const isBad = chosen.own !== "" && ofWritten(chosen.own) === null;
  return (
    <>
      <label className="field">
        <span>{label}</span>
        <select
          value={chosen.listed}
          onChange={(event) => {
            onChoose({ ...chosen, listed: event.target.value });
          }}
        >
          <option value="">{t("question.choose")}</option>
          {inTerms.length > 0 && (
            <optgroup label={t("question.inTerms")}>{inTerms.map(option)}</optgroup>
          )}
          <optgroup label={t("question.others")}>
            {others.map(option)}
            <option value="own">{t("question.own")}</option>
          </optgroup>
        </select>
      </label>
      {chosen.listed === "own" && (
        <label className="field">
          <span>{t("question.ownField")}</span>
          <input
            type="text"
            spellCheck={false}
            value={chosen.own}
            aria-invalid={isBad}
            aria-describedby={hint}
            onChange={(event) => {
              onChoose({ ...chosen, own: event.target.value });
            }}
          />
          <small id={hint} className={isBad ? "error" : "muted"}>
            {t("question.ownBad")}
          </small>
        </label>
      )}
    </>
  );
}
