import { I18nProvider } from "react-aria-components/I18nProvider";
import { useTranslation } from "react-i18next";
import { HashRouter } from "react-router";
import { Pages } from "./Pages";
import { Shell } from "./Shell";

/** Addresses follow a #: any server of files will do, and it never sees which page is read. */
export function App() {
  const { i18n } = useTranslation();
  return (
    <I18nProvider locale={i18n.language}>
      <HashRouter>
        <Shell>
          <Pages />
        </Shell>
      </HashRouter>
    </I18nProvider>
  );
}
