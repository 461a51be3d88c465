import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";
import { answered, type Schemas } from "../../api/client";
import { Details } from "../../components/Details";
import { Facts } from "../../components/Facts";
import { Hash, short } from "../../components/Hash";
import { Loading } from "../../components/Loading";
import { Moment } from "../../components/Moment";
import { printable } from "../../components/printable";
import { Failure } from "./Failure";
import type { Session } from "./session";

/** What can be asked for alone; the first is everything. */
const KINDS = [
  "",
  "REQUESTED",
  "PERMITTED",
  "DENIED",
  "RELEASED",
  "BREAKGLASS",
  "GRANTED",
  "REVOKED",
  "ERASE_ORDERED",
  "ERASED",
] as const;
const LOOK_EVERY = 5_000;

/** What was done with the data, and by whom: every entry of the circle's signed logs. */
export function AccessLog({ session }: { session: Session }) {
  const { t } = useTranslation();
  const [kind, setKind] = useState<string>("");
  const { data, error, hasNextPage, isFetchingNextPage, fetchNextPage } = useInfiniteQuery({
    queryKey: ["log", kind],
    queryFn: ({ pageParam }) => {
      const query = {
        ...(pageParam !== null && { after: pageParam }),
        ...(kind !== "" && { kind }),
      };
      return session.ask((api, context) =>
        answered(
          api.GET("/v1/circles/{context}/log", { params: { path: { context }, query } }),
        ),
      );
    },
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
    refetchInterval: LOOK_EVERY,
  });
  const lines = data?.pages.flatMap((page) => page.entries);
  return (
    <section className="part" aria-labelledby="log">
      <h2 id="log">{t("patient.log.title")}</h2>
      <label className="field">
        <span>{t("patient.log.show")}</span>
        <select
          value={kind}
          onChange={(event) => {
            setKind(event.target.value);
          }}
        >
          {KINDS.map((one) => (
            <option key={one} value={one}>
              {t(one === "" ? "patient.log.all" : `patient.log.kind.${one}`)}
            </option>
          ))}
        </select>
      </label>
      <Failure error={error} />
      {lines === undefined && error === null && <Loading text={t("patient.log.loading")} />}
      {lines?.length === 0 && <p className="card">{t("patient.log.nothing")}</p>}
      {lines !== undefined && lines.length > 0 && (
        <ol className="log card">
          {lines.map((line) => (
            <Line key={line.digest} line={line} />
          ))}
        </ol>
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

/** What an entry says, as JSON: its kind, and what belongs to it. */
type Says = Record<string, Record<string, unknown>>;

function Line({ line }: { line: Schemas["LogLine"] }) {
  const { t, i18n } = useTranslation();
  const by = `patient.log.by.${line.by}`;
  const said = Object.values(line.says as unknown as Says)[0] ?? {};
  const basis = Array.isArray(said.based_on) ? (said.based_on as string[]) : [];
  return (
    <li>
      <p>
        <Moment seconds={line.at} isExact />{" "}
        <span className="muted">
          {i18n.exists(by) ? t(by) : t("patient.log.by.unknown")}
        </span>
      </p>
      <p>
        <strong>{t(`patient.log.kind.${line.kind}`)}</strong>
        {basis.length > 0 && (
          <> {t("patient.log.basedOn", { consents: basis.map(short).join(", ") })}</>
        )}
      </p>
      <Details label={t("patient.log.more")}>
        <Facts
          rows={[
            ...Object.entries(said).map(([name, value]): [string, string] => [
              name,
              printable(typeof value === "string" ? value : JSON.stringify(value)),
            ]),
            [t("patient.log.digest"), <Hash key="digest" value={line.digest} />],
          ]}
        />
      </Details>
    </li>
  );
}
