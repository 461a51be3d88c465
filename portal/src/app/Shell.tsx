import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { NavLink, useLocation } from "react-router";
import { Mark } from "../components/icons";
import { LanguageChoice } from "./LanguageChoice";
import { paths } from "./paths";

const MAIN = "content";

/** What is around every page. */
export function Shell({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const { pathname } = useLocation();
  const page = pathname === paths.patient ? "patient" : "verify";
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
        <nav className="pages" aria-label={t("shell.pages.title")}>
          <NavLink to={paths.patient}>{t("shell.pages.patient")}</NavLink>
          <NavLink to={paths.verify}>{t("shell.pages.verify")}</NavLink>
        </nav>
        <LanguageChoice />
      </header>
      <main id={MAIN} tabIndex={-1}>
        {children}
      </main>
      <footer className="shell-footer">
        <p>{t(`shell.footer.${page}`)}</p>
      </footer>
    </div>
  );
}
