/** The patient's page: what it shows, what it sends, and when it logs in again. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import type { ReactNode } from "react";
import { afterEach, expect, test, vi } from "vitest";
import { AccessLog } from "../src/pages/patient/AccessLog";
import { Consents } from "../src/pages/patient/Consents";
import { begin, type Session } from "../src/pages/patient/session";
import type { Patient } from "../src/protocol/patient";

const CIRCLE = `0x${"7".repeat(64)}`;
const RESEARCH = { system: "http://terminology.hl7.org/CodeSystem/v3-ActReason", code: "HRESCH" };

const PATIENT: Patient = {
  key: "0x5",
  logIn: (origin, challenge) => ({
    ok: true,
    value: { ...challenge, origin, signature: { r: "0x1", s: "0x2" } },
  }),
  revocation: ({ handle, salt }) =>
    salt === "0xa"
      ? { ok: true, value: { secret: `secret of ${handle}`, claim_key: "0x6" } }
      : { ok: false, error: { kind: "patient", detail: { kind: "not_theirs" } } },
};

const consent = (changes: object = {}) => ({
  consent: "0xc1",
  handle: "0xb",
  salt: "0xa",
  state: "in_force",
  stage: "anchored",
  to: "0xd",
  not_before: 1_700_000_000,
  not_after: 0,
  provision: { kind: "permit", purposes: [RESEARCH] },
  exceptions: [],
  stages: [{ stage: "recorded", at: 1_700_000_000 }],
  ...changes,
});

type Asked = { method: string; path: string; token: string | null; body: unknown };

/** An API that answers each path by a function. */
function api(answers: Record<string, (asked: Asked) => [status: number, body: unknown]>) {
  const asked: Asked[] = [];
  vi.stubGlobal("fetch", async (request: Request) => {
    const url = new URL(request.url);
    const text = await request.text();
    const one = {
      method: request.method,
      path: url.pathname + url.search,
      token: request.headers.get("authorization"),
      body: text === "" ? null : (JSON.parse(text) as unknown),
    };
    asked.push(one);
    const found = answers[`${request.method} ${url.pathname}`];
    const [status, body] = found?.(one) ?? [404, { status: 404, detail: "nothing is there" }];
    return new Response(JSON.stringify(body), { status });
  });
  return asked;
}

let sessions = 0;
const logins = {
  "POST /v1/challenges": (): [number, unknown] => [201, { nonce: "0x11", expires: 1_800_000_000 }],
  "POST /v1/sessions": (): [number, unknown] => [201, { token: `token ${++sessions}` }],
};

function show(page: ReactNode) {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(<QueryClientProvider client={queries}>{page}</QueryClientProvider>);
}

const loggedIn = (): Promise<Session> => begin(PATIENT, CIRCLE);

afterEach(() => {
  vi.unstubAllGlobals();
});

test("a consent is said in a sentence, and one press takes it back", async () => {
  let isBack = false;
  const asked = api({
    ...logins,
    [`GET /v1/circles/${CIRCLE}/consents`]: () => [
      200,
      {
        consents: [
          isBack ? consent({ state: "revoked", denied_since: 1_750_000_000 }) : consent(),
        ],
        next: null,
      },
    ],
    [`POST /v1/circles/${CIRCLE}/revocations`]: () => {
      isBack = true;
      return [202, { handle: "0xb" }];
    },
  });
  show(<Consents session={await loggedIn()} />);
  expect(await screen.findByText(/health research, until the patient/)).toBeVisible();
  expect(screen.getByText(/cannot be undone/)).toBeVisible();
  await userEvent.click(screen.getByRole("button", { name: "Take back" }));
  expect(await screen.findByText(/1 consent that is over/)).toBeVisible();
  await userEvent.click(screen.getByText(/1 consent that is over/));
  expect(screen.getByText(/Denied since/)).toBeVisible();
  const sent = asked.find(({ method, path }) => method === "POST" && path.endsWith("revocations"));
  expect(sent?.body).toEqual({ secret: "secret of 0xb", claim_key: "0x6" });
  expect(JSON.stringify(asked.map(({ path }) => path))).not.toContain("secret");
});

test("keys of another patient take nothing back, and it is said", async () => {
  const asked = api({
    ...logins,
    [`GET /v1/circles/${CIRCLE}/consents`]: () => [
      200,
      { consents: [consent({ salt: "0xe" })], next: null },
    ],
  });
  show(<Consents session={await loggedIn()} />);
  await userEvent.click(await screen.findByRole("button", { name: "Take back" }));
  expect(await screen.findByText(/These keys did not make this consent/)).toBeVisible();
  expect(asked.some(({ path }) => path.endsWith("revocations"))).toBe(false);
});

test("a session that is over is opened again, once", async () => {
  let isOver = false;
  const asked = api({
    ...logins,
    [`GET /v1/circles/${CIRCLE}/consents`]: ({ token }) => {
      if (!isOver) {
        isOver = true;
        return [401, { status: 401, detail: "log in" }];
      }
      expect(token).toBe(`Bearer token ${sessions}`);
      return [200, { consents: [], next: null }];
    },
  });
  show(<Consents session={await loggedIn()} />);
  expect(await screen.findByText(/Nobody may use your data/)).toBeVisible();
  expect(asked.filter(({ path }) => path === "/v1/sessions")).toHaveLength(2);
});

test("what the API refuses is said in its words", async () => {
  api({
    ...logins,
    [`GET /v1/circles/${CIRCLE}/consents`]: () => [503, { status: 503, detail: "the node rests" }],
  });
  show(<Consents session={await loggedIn()} />);
  expect(await screen.findByText(/says: the node rests/)).toBeVisible();
});

test("the log names what was done by which consent, and shows one kind alone", async () => {
  const line = (kind: string, says: object) => ({
    at: 1_750_000_000,
    by: "custodian",
    kind,
    says: { [kind]: says },
    digest: `0x${kind}`,
  });
  const asked = api({
    ...logins,
    [`GET /v1/circles/${CIRCLE}/log`]: ({ path }) => [
      200,
      {
        entries: path.includes("kind=DENIED")
          ? [line("DENIED", { reason: "NotCovered" })]
          : [line("RELEASED", { based_on: [`0x${"c".repeat(60)}`] }), line("ENROLLED", {})],
        next: null,
      },
    ],
  });
  show(<AccessLog session={await loggedIn()} />);
  expect(await screen.findByText(/by your consent 0xcccccc…cccccc/)).toBeVisible();
  await userEvent.selectOptions(screen.getByRole("combobox"), "DENIED");
  expect(await screen.findByText("A request was denied", { selector: "strong" })).toBeVisible();
  expect(asked.at(-1)?.path).toContain("kind=DENIED");
});
