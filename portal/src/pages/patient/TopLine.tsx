import { useQuery } from "@tanstack/react-query";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";
import { answered } from "../../api/client";
import { Failure } from "./Failure";
import type { Session } from "./session";

type Props = { session: Session; onLeave: () => void };

/** Whose circle it is, and what a person has to know of it first. */
export function TopLine({ session, onLeave }: Props) {
  const { t } = useTranslation();
  const circle = useQuery({
    queryKey: ["circle"],
    queryFn: () =>
      session.ask((api, context) =>
        answered(api.GET("/v1/circles/{context}", { params: { path: { context } } })),
      ),
    refetchInterval: 30_000,
  });
  return (
    <>
      <div className="top-line">
        <p className="muted">
          {circle.data === undefined
            ? t("patient.circle.loading")
            : t("patient.circle.of", { label: circle.data.label })}
        </p>
        <Button className="quiet" onPress={onLeave}>
          {t("patient.leave")}
        </Button>
      </div>
      <Failure error={circle.error} />
      {circle.data?.stopped != null && (
        <section className="card notice" role="alert">
          <h2>{t("patient.circle.stopped")}</h2>
          <p>{t("patient.circle.stoppedWhy", { why: circle.data.stopped })}</p>
        </section>
      )}
      {circle.data?.evidence != null && (
        <section className="card notice" role="alert">
          <h2>{t("patient.circle.evidence")}</h2>
          <p>{circle.data.evidence}</p>
        </section>
      )}
    </>
  );
}
