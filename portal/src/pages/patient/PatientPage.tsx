import "../../theme/patient.css";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { Loading } from "../../components/Loading";
import { Problem } from "../../components/Problem";
import { load, type Kinded } from "../../protocol/binding";
import { configure } from "../../protocol/config";
import { narrow } from "../../protocol/policy";
import { AccessLog } from "./AccessLog";
import { Consents } from "./Consents";
import type { Session } from "./session";
import { SignIn } from "./SignIn";
import { TopLine } from "./TopLine";

/** The keys are opened only where the page reaches nobody but its own server and the endpoints. */
async function prepare(): Promise<Kinded | null> {
  try {
    await load();
  } catch (error) {
    return { kind: "program", detail: String(error) };
  }
  const configured = await configure();
  if (!configured.ok) narrow([]);
  return null;
}

/** What a patient sees and does: who may use their data, and what was done with it. */
export default function PatientPage() {
  const { t } = useTranslation();
  const [state, setState] = useState<"loading" | "ready" | Kinded>("loading");
  const [session, setSession] = useState<Session | null>(null);
  const [queries] = useState(() => new QueryClient());
  useEffect(() => {
    let isOpen = true;
    void prepare().then((problem) => {
      if (isOpen) setState(problem ?? "ready");
    });
    return () => {
      isOpen = false;
    };
  }, []);
  useEffect(() => {
    document.title = t("patient.document");
  }, [t]);
  const leave = () => {
    queries.clear();
    setSession(null);
  };
  return (
    <QueryClientProvider client={queries}>
      <h1>{t("patient.title")}</h1>
      {state === "loading" && <Loading text={t("patient.loading")} />}
      {typeof state === "object" && (
        <section className="card notice" role="alert">
          <Problem error={state} />
        </section>
      )}
      {state === "ready" && session === null && <SignIn onOpen={setSession} />}
      {session !== null && (
        <>
          <TopLine session={session} onLeave={leave} />
          <Consents session={session} />
          <AccessLog session={session} />
        </>
      )}
    </QueryClientProvider>
  );
}
