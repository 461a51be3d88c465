import { useState } from "react";
import { Button } from "react-aria-components/Button";
import { RadioButton, RadioField, RadioGroup } from "react-aria-components/RadioGroup";
import { Label } from "react-aria-components/Label";
import { useTranslation } from "react-i18next";
import { now, ofField, toField } from "../../i18n/moment";

type Props = {
  at: number | null;
  /** The last second that the chain says anything about, once it was asked. */
  latest: number | null;
  onTime: (at: number | null) => void;
};

/** About which time the verdict is. */
export function AtTime({ at, latest, onTime }: Props) {
  const { t } = useTranslation();
  const [isThen, setThen] = useState(at !== null);
  const [written, setField] = useState<string | null>(at === null ? null : toField(at));
  const field = written ?? toField(Math.min(latest ?? now(), now()));
  const [isBad, setBad] = useState(false);
  const show = () => {
    const time = ofField(field);
    setBad(time === null);
    if (time !== null) onTime(time);
  };
  return (
    <section className="card">
      <h2>{t("time.title")}</h2>
      <RadioGroup
        className="choice"
        value={isThen ? "then" : "now"}
        onChange={(value) => {
          setThen(value === "then");
          if (value === "now") onTime(null);
        }}
      >
        <Label className="only-read">{t("time.title")}</Label>
        {(["now", "then"] as const).map((value) => (
          <RadioField key={value} value={value}>
            <RadioButton>{t(`time.${value}`)}</RadioButton>
          </RadioField>
        ))}
      </RadioGroup>
      {isThen && (
        <form
          className="row"
          onSubmit={(event) => {
            event.preventDefault();
            show();
          }}
        >
          <label className="field">
            <span>{t("time.field")}</span>
            <input
              type="datetime-local"
              step="1"
              value={field}
              aria-invalid={isBad}
              aria-describedby={isBad ? "time-bad" : undefined}
              onChange={(event) => {
                setField(event.target.value);
              }}
            />
          </label>
          <Button className="button" type="submit">
            {t("time.show")}
          </Button>
          {isBad && (
            <p className="error" id="time-bad" role="alert">
              {t("time.bad")}
            </p>
          )}
        </form>
      )}
    </section>
  );
}
