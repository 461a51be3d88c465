import locales from "@react-aria/optimize-locales-plugin";
import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** While a page is worked on, the tool writes scripts into it, which the policy would forbid. */
const withoutPolicy: Plugin = {
  name: "without-policy",
  apply: "serve",
  transformIndexHtml: (html) => html.replace(/<meta\s+http-equiv[^>]*>/, ""),
};

export default defineConfig({
  // Every address is relative: the files may lie in any folder of a web server.
  base: "./",
  // Of the component library the languages that the pages have, and no other.
  plugins: [{ ...locales.vite({ locales: ["en-US", "de-DE"] }), enforce: "pre" }, react(), withoutPolicy],
  build: {
    outDir: "../target/portal",
    emptyOutDir: true,
    target: "es2022",
    // Nothing is put inside of another file: the policy allows files of its own alone.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  test: {
    environment: "jsdom",
    include: ["tests/**/*.test.{ts,tsx}"],
    setupFiles: ["tests/setup.ts"],
    css: false,
  },
});
