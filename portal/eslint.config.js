import hooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

/** Texts for people are in src/i18n, in every language. */
const noTexts = [
  {
    selector: "JSXText[value=/[A-Za-z]/]",
    message: "A text for people belongs into src/i18n.",
  },
  {
    selector: "JSXAttribute[name.name=/^(aria-label|title|placeholder|alt)$/] > Literal",
    message: "A text for people belongs into src/i18n.",
  },
];

export default tseslint.config(
  { ignores: ["binding*", "src/api/schema.d.ts", "node_modules", "test-results", "screenshots"] },
  tseslint.configs.strictTypeChecked,
  hooks.configs.flat.recommended,
  {
    files: ["**/*.{ts,tsx}"],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      "max-lines": ["error", 300],
      "no-restricted-syntax": ["error", ...noTexts],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/consistent-type-definitions": ["error", "type"],
    },
  },
  {
    files: ["**/*.{js,mjs}"],
    extends: [tseslint.configs.disableTypeChecked],
  },
);
