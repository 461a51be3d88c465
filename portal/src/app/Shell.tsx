import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Mark } from "../components/icons";
import { LanguageChoice } from "./LanguageChoice";

const MAIN = "content";

/** What is around every page. */
export function Shell({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const skip = () => {
    document.getElementById(MAIN)?.focus();
  };
  return (
    <div className="shell">
      <button type="button" className="skip" onClick={skip}>
        {t("shell.skip")}
      </button>
      <header className="shell-header">
        <span className="brand">
          <Mark />
          <span translate="no">{t("shell.name")}</span>
        </span>
        <LanguageChoice />
      </header>
      <main id={MAIN} tabIndex={-1}>
        {children}
      </main>
      <footer className="shell-footer">
        <p>{t("shell.footer")}</p>
      </footer>
    </div>
  );
}
