import { useInfiniteQuery } from "@tanstack/react-query";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";
import { answered } from "../../api/client";
import { Details } from "../../components/Details";
import { Loading } from "../../components/Loading";
import { ConsentCard, type Consent } from "./ConsentCard";
import { Failure } from "./Failure";
import type { Session } from "./session";

/** How often it is looked whether something changed, in milliseconds. */
const LOOK_EVERY = 5_000;

/** Who may use the data today, and below what was taken back or is over. */
export function Consents({ session }: { session: Session }) {
  const { t } = useTranslation();
  const { data, error, hasNextPage, isFetchingNextPage, fetchNextPage } = useInfiniteQuery({
    queryKey: ["consents"],
    queryFn: ({ pageParam }) =>
      session.ask((api, context) =>
        answered(
          api.GET("/v1/circles/{context}/consents", {
            params: { path: { context }, query: pageParam === null ? {} : { after: pageParam } },
          }),
        ),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
    refetchInterval: LOOK_EVERY,
  });
  const all = data?.pages.flatMap((page) => page.consents as unknown as Consent[]);
  const isOpen = ({ state }: Consent) => state === "in_force" || state === "not_yet";
  const standing = all?.filter(isOpen);
  const past = all?.filter((consent) => !isOpen(consent)) ?? [];
  const card = (consent: Consent) => (
    <ConsentCard key={consent.consent} consent={consent} session={session} />
  );
  return (
    <section className="part" aria-labelledby="consents">
      <h2 id="consents">{t("patient.consents.title")}</h2>
      <Failure error={error} />
      {standing === undefined && error === null && <Loading text={t("patient.consents.loading")} />}
      {standing?.length === 0 && <p className="card">{t("patient.consents.nobody")}</p>}
      {standing?.map(card)}
      {past.length > 0 && (
        <Details label={t("patient.consents.past", { count: past.length })}>{past.map(card)}</Details>
      )}
      {hasNextPage && (
        <Button
          className="button"
          isDisabled={isFetchingNextPage}
          onPress={() => {
            void fetchNextPage();
          }}
        >
          {t("patient.more")}
        </Button>
      )}
    </section>
  );
}
