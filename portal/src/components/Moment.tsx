import { useTranslation } from "react-i18next";
import { exact, isOnCalendar, moment } from "../i18n/moment";

type Props = { seconds: number; isExact?: boolean };

/** A time in the reader's zone. */
export function Moment({ seconds, isExact = false }: Props) {
  const { t, i18n } = useTranslation();
  if (!isOnCalendar(seconds)) return <>{t("terms.beyond", { seconds })}</>;
  const say = isExact ? exact : moment;
  return (
    <time dateTime={new Date(seconds * 1000).toISOString()} title={exact(seconds, i18n.language)}>
      {say(seconds, i18n.language)}
    </time>
  );
}
