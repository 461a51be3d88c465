import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { saying } from "../i18n/errors";
import { exact } from "../i18n/moment";
import type { Kinded, Verdict } from "../protocol/binding";
import { Details } from "./Details";

/** The words for an error: what is wrong, and what would be right. */
export function useSaying(error: Kinded): { what: string; right: string; raw: string } {
  const { t, i18n } = useTranslation();
  const { key, values, raw } = saying(error);
  const known = i18n.exists(`${key}.what`) ? key : "errors.unknown";
  const time = (value: unknown) =>
    typeof value === "number" ? exact(value, i18n.language) : undefined;
  const name = (value: unknown) => t(`verdict.${value as Verdict}.name`);
  const said = {
    ...values,
    blockTime: time(values.block_time ?? values.block),
    atTime: time(values.at),
    ...(error.kind === "disagreement" && {
      firstVerdict: name(values.first),
      secondVerdict: name(values.second),
    }),
  };
  return { what: t(`${known}.what`, said), right: t(`${known}.right`, said), raw };
}

/** An error in words, with what it was behind a disclosure. */
export function Problem({ error, children }: { error: Kinded; children?: ReactNode }) {
  const { t } = useTranslation();
  const { what, right, raw } = useSaying(error);
  return (
    <div className="problem">
      <p>{what}</p>
      <p className="muted">{right}</p>
      {children}
      <Details label={t("verify.technical")}>
        <code className="raw">{raw}</code>
      </Details>
    </div>
  );
}
