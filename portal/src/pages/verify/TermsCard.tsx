import { useTranslation } from "react-i18next";
import { Details } from "../../components/Details";
import { Facts } from "../../components/Facts";
import { Hash, short } from "../../components/Hash";
import { Moment } from "../../components/Moment";
import { printable } from "../../components/printable";
import { isOnCalendar, moment } from "../../i18n/moment";
import type { ReceiptView } from "../../protocol/binding";
import { useCodes } from "../../components/useCodes";
import { Rule } from "./Rule";

type Props = { view: ReceiptView; isSigned: boolean };

/** What the consent permits, to whom, until when: by the protocol's own terms, in plain words. */
export function TermsCard({ view, isSigned }: Props) {
  const { t } = useTranslation();
  const { terms, opening } = view;
  const key = (value: string) => <code translate="no">{short(value)}</code>;
  return (
    <section className="card">
      <h2>{t(isSigned ? "terms.title" : "terms.asClaimed")}</h2>
      {!isSigned && <p className="error">{t("terms.notSigned")}</p>}
      <p className="sentence">
        <Sentence view={view} />
      </p>
      <Facts
        rows={[
          [
            t("terms.to"),
            <>
              {t("terms.recipient")} {key(opening.grantee)}
            </>,
          ],
          [
            t("terms.custodian"),
            <>
              {t("terms.custodianKey")} {key(view.anchorer)}
            </>,
          ],
          [t("terms.from"), <Moment key="from" seconds={opening.not_before} />],
          [t("terms.until"), <Until key="until" seconds={opening.not_after} />],
        ]}
      />
      <Rule rule={terms.provision} isException={false} />
      {terms.exceptions.map((rule, number) => (
        <Rule key={number} rule={rule} isException />
      ))}
      <Details label={t("terms.identifiers")}>
        <Facts
          rows={[
            [t("terms.keyOfRecipient"), <Hash key="g" value={opening.grantee} />],
            [t("terms.keyOfPatient"), <Hash key="p" value={opening.patient_key} />],
            [t("terms.addressOfCustodian"), <Hash key="c" value={view.anchorer} />],
            [t("terms.consent"), <Hash key="commitment" value={view.commitment} />],
            [t("terms.policy"), <bdi key="uri">{printable(terms.policy_uri)}</bdi>],
            [t("terms.policyHash"), <Hash key="sha" value={terms.policy_sha256} />],
          ]}
        />
      </Details>
    </section>
  );
}

function Until({ seconds }: { seconds: number }) {
  const { t } = useTranslation();
  if (seconds === 0) return <>{t("terms.openEnded")}</>;
  return (
    <>
      <Moment seconds={seconds} /> {isOnCalendar(seconds) && t("terms.notIncluding")}
    </>
  );
}

/** The whole in one sentence, as far as one can say it. */
function Sentence({ view }: { view: ReceiptView }) {
  const { t, i18n } = useTranslation();
  const codes = useCodes();
  const { provision } = view.terms;
  const end = view.opening.not_after;
  const until =
    end === 0
      ? t("terms.sentence.open")
      : t("terms.sentence.until", {
          time: isOnCalendar(end)
            ? moment(end, i18n.language)
            : t("terms.beyond", { seconds: end }),
        });
  const main = t(`terms.sentence.${provision.kind}`, {
    classes: provision.classes ? codes.each(provision.classes) : t("terms.anyClass"),
    purposes: provision.purposes ? codes.any(provision.purposes) : t("terms.anyPurpose"),
    until,
  });
  return (
    <>
      {main}
      {isNarrowed(view) && <> {t("terms.sentence.narrowed")}</>}
    </>
  );
}

/** Whether there is more to it than the sentence says. */
function isNarrowed({ terms: { provision, exceptions } }: ReceiptView): boolean {
  const { codes, labels, authors, records, data_period, obligations } = provision;
  const limits = [codes, labels, authors, records, data_period, obligations];
  return exceptions.length > 0 || limits.some((limit) => limit !== undefined);
}
