import { useTranslation } from "react-i18next";
import { Details } from "../../components/Details";
import { Facts } from "../../components/Facts";
import { Hash, short } from "../../components/Hash";
import { Moment } from "../../components/Moment";
import { printable } from "../../components/printable";
import { Rule } from "../../components/Rule";
import { Sentence } from "../../components/Sentence";
import { isOnCalendar } from "../../i18n/moment";
import type { ReceiptView } from "../../protocol/binding";

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
        <Sentence {...terms} until={opening.not_after} />
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
