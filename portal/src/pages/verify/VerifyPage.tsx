import "../../theme/verify.css";
import { useEffect, useState } from "react";
import { Button } from "react-aria-components/Button";
import { useTranslation } from "react-i18next";
import { Loading } from "../../components/Loading";
import { Problem } from "../../components/Problem";
import { load, type Outcome, type Verifier } from "../../protocol/binding";
import { configure } from "../../protocol/config";
import { Checker } from "./Checker";

async function begin(): Promise<Outcome<Verifier>> {
  try {
    await load();
  } catch (error) {
    return { ok: false, error: { kind: "program", detail: String(error) } };
  }
  return configure();
}

/** Checks receipts by the page's own configuration; the door for whoever has no account. */
export default function VerifyPage() {
  const { t } = useTranslation();
  const [started, setStarted] = useState<Outcome<Verifier> | null>(null);
  useEffect(() => {
    let isOpen = true;
    void begin().then((outcome) => {
      if (isOpen) setStarted(outcome);
    });
    return () => {
      isOpen = false;
    };
  }, []);
  const title = t("verify.title");
  useEffect(() => {
    document.title = t("verify.document");
  }, [t]);
  return (
    <>
      <h1>{title}</h1>
      {started === null && <Loading text={t("verify.loading")} />}
      {started?.ok === false && (
        <section className="card notice" role="alert">
          <Problem error={started.error}>
            <Button
              className="button"
              onPress={() => {
                location.reload();
              }}
            >
              {t("verify.again")}
            </Button>
          </Problem>
        </section>
      )}
      {started?.ok === true && <Checker verifier={started.value} />}
    </>
  );
}
