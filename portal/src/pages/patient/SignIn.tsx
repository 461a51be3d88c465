import { useState, type SubmitEvent } from "react";
import { Button } from "react-aria-components/Button";
import { FileTrigger } from "react-aria-components/FileTrigger";
import { useTranslation } from "react-i18next";
import { Loading } from "../../components/Loading";
import { keyFileBytesMax, openKeys } from "../../protocol/patient";
import { Failure } from "./Failure";
import { ApiError } from "../../api/client";
import { begin, type Session } from "./session";

type Props = { onOpen: (session: Session) => void };

/** Lets the browser show that it is at work before the keys are opened, which keeps it busy. */
const painted = (): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, 50);
  });

async function bytesOf(file: File): Promise<Uint8Array> {
  const max = keyFileBytesMax();
  if (file.size > max) {
    throw new ApiError({ kind: "keys", detail: { kind: "too_large", detail: max } });
  }
  return new Uint8Array(await file.arrayBuffer());
}

/** Opens the patient's keys in this browser, and logs in with them. */
export function SignIn({ onOpen }: Props) {
  const { t } = useTranslation();
  const [file, setFile] = useState<File | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const open = async (circle: string, passphrase: string) => {
    if (file === null) {
      throw new ApiError({ kind: "keys", detail: { kind: "no_file" } });
    }
    const bytes = await bytesOf(file);
    await painted();
    const opened = openKeys(bytes, passphrase);
    if (!opened.ok) throw new ApiError(opened.error);
    return begin(opened.value, circle);
  };
  const submit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const fields = new FormData(form);
    const text = (name: string) => (fields.get(name) as string).trim();
    setBusy(true);
    setError(null);
    open(text("circle"), text("passphrase"))
      .then((session) => {
        form.reset();
        onOpen(session);
      })
      .catch(setError)
      .finally(() => {
        setBusy(false);
      });
  };
  return (
    <section className="card">
      <h2>{t("patient.signIn.title")}</h2>
      <p>{t("patient.signIn.lead")}</p>
      <form className="sign-in" onSubmit={submit}>
        <div className="field">
          <span id="keys-label">{t("patient.signIn.file")}</span>
          <div className="row">
            <FileTrigger
              acceptedFileTypes={["application/json", ".json"]}
              onSelect={(list) => {
                setFile(list?.[0] ?? null);
              }}
            >
              <Button className="button">{t("patient.signIn.choose")}</Button>
            </FileTrigger>
            <bdi className="muted">{file?.name ?? t("patient.signIn.none")}</bdi>
          </div>
        </div>
        <label className="field">
          <span>{t("patient.signIn.circle")}</span>
          <input
            type="text"
            name="circle"
            required
            pattern="0x[0-9a-f]{64}"
            autoComplete="off"
            spellCheck={false}
            title={t("patient.signIn.circleForm")}
          />
          <small className="muted">{t("patient.signIn.circleHint")}</small>
        </label>
        <label className="field">
          <span>{t("patient.signIn.passphrase")}</span>
          <input type="password" name="passphrase" required autoComplete="current-password" />
        </label>
        <Button type="submit" className="button primary" isDisabled={isBusy}>
          {t("patient.signIn.open")}
        </Button>
      </form>
      {isBusy && <Loading text={t("patient.signIn.opening")} />}
      <Failure error={error} />
    </section>
  );
}
