import { useTranslation } from "react-i18next";
import { Facts } from "../../components/Facts";
import { Hash } from "../../components/Hash";
import { Moment } from "../../components/Moment";
import { Problem } from "../../components/Problem";
import type { Heard, Outcome, Seen } from "../../protocol/binding";
import { shown } from "../../protocol/config";
import type { Answers } from "./verification";

type Props = { answers: Answers | null; rpc: string[] };

/** The two values of the chain, by each endpoint that was asked. */
export function Reads({ answers, rpc }: Props) {
  const { t } = useTranslation();
  return (
    <section className="card">
      <h2>{t("reads.title")}</h2>
      <p className="muted">{t("reads.lead", { count: rpc.length })}</p>
      {rpc.map((address, place) => (
        <div className="read" key={`${place} ${address}`}>
          <h3>
            <code>{shown(address)}</code>
          </h3>
          <Said answer={answers?.[place] ?? null} />
        </div>
      ))}
      <p className="muted small">{t("reads.learns")}</p>
    </section>
  );
}

function Said({ answer }: { answer: Outcome<Heard> | null }) {
  const { t } = useTranslation();
  if (answer === null) return <p className="muted">{t("reads.asking")}</p>;
  if (answer.ok) return <Values seen={answer.value.seen} />;
  return <Problem error={answer.error} />;
}

function Values({ seen }: { seen: Seen }) {
  const { t } = useTranslation();
  const time = (seconds: number | null) =>
    seconds === null ? t("reads.no") : <Moment seconds={seconds} isExact />;
  return (
    <Facts
      rows={[
        [t("reads.anchored"), time(seen.anchored_at)],
        [t("reads.revoked"), time(seen.revoked_at)],
        [
          t("reads.block"),
          <>
            {t("reads.number", { number: seen.block.number })}{" "}
            <Moment seconds={seen.block.time} isExact />
          </>,
        ],
        [t("reads.hash"), <Hash key="hash" value={seen.block.hash} />],
      ]}
    />
  );
}
