import { defineConfig } from "@playwright/test";

/** Against a hospital that runs, which tests/tests/portal.rs starts. */
const isStory = process.env.MEDSYNC_STORY !== undefined;
const isPictures = process.env.SCREENSHOTS !== undefined;

export default defineConfig({
  testDir: isStory ? "story" : "e2e",
  testIgnore: isPictures ? [] : ["**/pictures.spec.ts"],
  outputDir: "test-results",
  reporter: "list",
  fullyParallel: true,
  workers: 2,
  timeout: 30_000,
  use: {
    // Debian's; no browser is ever downloaded.
    launchOptions: {
      executablePath: "/usr/bin/chromium",
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
    },
    locale: "en-GB",
    timezoneId: "Europe/Berlin",
    viewport: { width: 1280, height: 900 },
  },
});
