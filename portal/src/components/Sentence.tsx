import { useTranslation } from "react-i18next";
import { isOnCalendar, moment } from "../i18n/moment";
import type { Provision } from "../protocol/binding";
import { useCodes } from "./useCodes";

type Props = { provision: Provision; exceptions: Provision[]; until: number };

/** A consent in one sentence, as far as one can say it. */
export function Sentence({ provision, exceptions, until }: Props) {
  const { t, i18n } = useTranslation();
  const codes = useCodes();
  const end =
    until === 0
      ? t("terms.sentence.open")
      : t("terms.sentence.until", {
          time: isOnCalendar(until)
            ? moment(until, i18n.language)
            : t("terms.beyond", { seconds: until }),
        });
  const main = t(`terms.sentence.${provision.kind}`, {
    classes: provision.classes ? codes.each(provision.classes) : t("terms.anyClass"),
    purposes: provision.purposes ? codes.any(provision.purposes) : t("terms.anyPurpose"),
    until: end,
  });
  return (
    <>
      {main}
      {isNarrowed(provision, exceptions) && <> {t("terms.sentence.narrowed")}</>}
    </>
  );
}

/** Whether there is more to it than the sentence says. */
function isNarrowed(provision: Provision, exceptions: Provision[]): boolean {
  const { codes, labels, authors, records, data_period, obligations } = provision;
  const limits = [codes, labels, authors, records, data_period, obligations];
  return exceptions.length > 0 || limits.some((limit) => limit !== undefined);
}
