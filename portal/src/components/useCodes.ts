import { useTranslation } from "react-i18next";
import type { Code } from "../protocol/binding";
import { printable } from "./printable";

/** Codes in words where there are some, else as they are written. */
export function useCodes() {
  const { t, i18n } = useTranslation();
  const name = ({ system, code }: Code): string => {
    const texts = i18n.getResourceBundle(i18n.language, "codes") as
      | Record<string, Record<string, string> | undefined>
      | undefined;
    const words = texts?.[system]?.[code];
    return words ?? t("terms.code", { code: printable(code) });
  };
  const list = (texts: string[], type: Intl.ListFormatType): string =>
    new Intl.ListFormat(i18n.language, { type }).format(texts);
  return {
    name,
    all: (codes: Code[]) => list(codes.map(name), "conjunction"),
    each: (codes: Code[]) => list(codes.map(name), "unit"),
    any: (codes: Code[]) => list(codes.map(name), "disjunction"),
  };
}

/** A code as the command line writes it. */
export const written = ({ system, code }: Code): string => `${system}|${code}`;

/** Reads a code as the command line does. */
export function ofWritten(text: string): Code | null {
  const bar = text.indexOf("|");
  const [system, code] = [text.slice(0, bar).trim(), text.slice(bar + 1).trim()];
  return bar < 0 || system === "" || code === "" ? null : { system, code };
}
