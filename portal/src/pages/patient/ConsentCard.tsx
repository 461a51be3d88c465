import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";
import type { Schemas } from "../../api/client";
import { Details } from "../../components/Details";
import { Facts } from "../../components/Facts";
import { Hash } from "../../components/Hash";
import { Moment } from "../../components/Moment";
import { Rule } from "../../components/Rule";
import { Sentence } from "../../components/Sentence";
import type { Provision, Stage } from "../../protocol/binding";
import { Failure } from "./Failure";
import { revoke, type Session } from "./session";

/** A consent of the API's, with the protocol's own types where its description has none. */
export type Consent = Omit<Schemas["Consent"], "provision" | "exceptions" | "stages"> & {
  provision: Provision;
  exceptions: Provision[];
  stages: { stage: Stage; at: number }[];
};

type Props = { consent: Consent; session: Session };

/** One consent: what it says, how it stands, how far it is; and its end, with one press. */
export function ConsentCard({ consent, session }: Props) {
  const { t } = useTranslation();
  const isOpen = consent.state === "in_force" || consent.state === "not_yet";
  const { provision, exceptions } = consent;
  return (
    <article className={`card consent ${consent.state}`} aria-label={t("patient.consent.one")}>
      <p className="standing">
        <strong>{t(`patient.consent.state.${consent.state}`)}</strong>
        {consent.denied_since != null && (
          <>
            {" "}
            {t("patient.consent.deniedSince")} <Moment seconds={consent.denied_since} isExact />
          </>
        )}
      </p>
      <p className="sentence">
        <Sentence provision={provision} exceptions={exceptions} until={consent.not_after} />
      </p>
      {isOpen && <TakeBack consent={consent} session={session} />}
      <Details label={t("patient.consent.more")}>
        <Rule rule={provision} isException={false} />
        {exceptions.map((rule, number) => (
          <Rule key={number} rule={rule} isException />
        ))}
        <h3>{t("patient.consent.stages")}</h3>
        <Facts
          rows={consent.stages.map(({ stage, at }) => [
            t(`patient.consent.stage.${stage}`),
            <Moment key={stage} seconds={at} isExact />,
          ])}
        />
        {consent.next != null && <Next next={consent.next} />}
        {consent.unproven != null && <p className="error">{consent.unproven}</p>}
        <Facts
          rows={[
            [t("terms.keyOfRecipient"), <Hash key="to" value={consent.to} />],
            [t("terms.consent"), <Hash key="consent" value={consent.consent} />],
          ]}
        />
      </Details>
    </article>
  );
}

function Next({ next }: { next: Schemas["Next"] }) {
  const { t } = useTranslation();
  const stage = t(`patient.consent.stage.${next.stage as Stage}`);
  return <p>{t("patient.consent.next", { stage, count: next.usually_s })}</p>;
}

/** Takes a consent back at once. What that cannot undo is said before. */
function TakeBack({ consent, session }: Props) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const taking = useMutation({
    mutationFn: () => revoke(session, consent),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["consents"] }),
  });
  return (
    <div className="take-back">
      <Button
        className="button danger"
        isDisabled={taking.isPending}
        onPress={() => {
          taking.mutate();
        }}
      >
        {t(taking.isPending ? "patient.consent.takingBack" : "patient.consent.takeBack")}
      </Button>
      <p className="muted">{t("patient.consent.noWayBack")}</p>
      <Failure error={taking.error} />
    </div>
  );
}
