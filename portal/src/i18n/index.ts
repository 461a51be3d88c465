/** Every text for people, by language. Texts are in JSON files and nowhere else. */
import i18next from "i18next";
import { initReactI18next } from "react-i18next";

export const LANGUAGES = ["en", "de"] as const;
export type Language = (typeof LANGUAGES)[number];

/** What a choice of language is kept under; nothing else is stored. */
const CHOICE = "medsync.language";

const isLanguage = (text: unknown): text is Language =>
  LANGUAGES.some((language) => language === text);

const texts: Record<Language, () => Promise<{ default: object }[]>> = {
  en: () => Promise.all([import("./en.json"), import("./codes.en.json")]),
  de: () => Promise.all([import("./de.json"), import("./codes.de.json")]),
};

/** What the reader chose before, or the first language of the browser that there is. */
function preferred(): Language {
  const chosen = localStorage.getItem(CHOICE);
  if (isLanguage(chosen)) return chosen;
  const spoken = navigator.languages.map((tag) => tag.split("-")[0]);
  return spoken.find(isLanguage) ?? "en";
}

async function add(language: Language): Promise<void> {
  if (i18next.hasResourceBundle(language, "texts")) return;
  const [page, codes] = await texts[language]();
  i18next.addResourceBundle(language, "texts", page?.default);
  i18next.addResourceBundle(language, "codes", codes?.default);
}

export async function speak(language: Language): Promise<void> {
  await add(language);
  await i18next.changeLanguage(language);
  document.documentElement.lang = language;
}

export async function choose(language: Language): Promise<void> {
  localStorage.setItem(CHOICE, language);
  await speak(language);
}

export async function start(language: Language = preferred()): Promise<void> {
  await i18next.use(initReactI18next).init({
    resources: {},
    ns: ["texts", "codes"],
    defaultNS: "texts",
    // The names of code systems have dots and colons.
    nsSeparator: false,
    fallbackLng: false,
    interpolation: { escapeValue: false },
    returnNull: false,
  });
  await speak(language);
}
