import "@testing-library/jest-dom/vitest";
import { cleanup } from "@testing-library/react";
import { afterEach, beforeAll } from "vitest";
import { start } from "../src/i18n";

beforeAll(() => start("en"));
afterEach(cleanup);
