import { useState } from "react";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";

const HEAD = 8;
const TAIL = 6;

/** A long number, shortened as people compare it: by its ends. */
export const short = (value: string): string =>
  value.length <= HEAD + TAIL + 3 ? value : `${value.slice(0, HEAD)}…${value.slice(-TAIL)}`;

/** A long number in full, to be read, broken over lines and copied. */
export function Hash({ value }: { value: string }) {
  const { t } = useTranslation();
  const [isCopied, setCopied] = useState(false);
  const copy = () => {
    void navigator.clipboard.writeText(value).then(() => {
      setCopied(true);
    });
  };
  return (
    <span className="hash">
      <code>{value}</code>
      <Button className="quiet" onPress={copy} aria-label={t("copy.of", { value: short(value) })}>
        {t(isCopied ? "copy.done" : "copy.do")}
      </Button>
    </span>
  );
}
