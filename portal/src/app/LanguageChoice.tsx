import { useTranslation } from "react-i18next";
import { choose, LANGUAGES } from "../i18n";

export function LanguageChoice() {
  const { t, i18n } = useTranslation();
  return (
    <label className="language">
      <span className="only-read">{t("shell.language")}</span>
      <select
        value={i18n.language}
        onChange={(event) => {
          const chosen = LANGUAGES.find((language) => language === event.target.value);
          if (chosen !== undefined) void choose(chosen);
        }}
      >
        {LANGUAGES.map((language) => (
          <option key={language} value={language} lang={language}>
            {t(`shell.languages.${language}`)}
          </option>
        ))}
      </select>
    </label>
  );
}
