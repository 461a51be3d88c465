import { useState } from "react";
import { Button } from "react-aria-components/Button";
import { DropZone } from "react-aria-components/DropZone";
import { FileTrigger } from "react-aria-components/FileTrigger";
import { Text } from "react-aria-components/Text";
import { useTranslation } from "react-i18next";
import { Sheet } from "../../components/icons";
import { Problem } from "../../components/Problem";
import type { Kinded } from "../../protocol/binding";
import { dropped, isJson } from "./files";

type Props = { onFiles: (files: File[]) => Promise<void>; problem: Kinded | null };

/** Where receipts come in. They are read here and sent nowhere. */
export function Drop({ onFiles, problem }: Props) {
  const { t } = useTranslation();
  const [isReading, setReading] = useState(false);
  const take = (files: Promise<File[]>) => {
    setReading(true);
    void files.then(onFiles).finally(() => {
      setReading(false);
    });
  };
  const chosen = (list: FileList | null) => [...(list ?? [])];
  return (
    <>
      <DropZone
        className="drop"
        onDrop={({ items }) => {
          take(dropped(items));
        }}
      >
        <span className="drop-icon">
          <Sheet />
        </span>
        <Text slot="label" className="drop-title">
          {t("drop.title")}
        </Text>
        <p className="muted">{t("drop.hint")}</p>
        <div className="drop-buttons">
          <FileTrigger
            allowsMultiple
            acceptedFileTypes={["application/json", ".json"]}
            onSelect={(list) => {
              take(Promise.resolve(chosen(list)));
            }}
          >
            <Button className="button primary" isDisabled={isReading}>
              {t("drop.file")}
            </Button>
          </FileTrigger>
          <FileTrigger
            acceptDirectory
            onSelect={(list) => {
              take(Promise.resolve(chosen(list).filter(isJson)));
            }}
          >
            <Button className="button">{t("drop.folder")}</Button>
          </FileTrigger>
        </div>
      </DropZone>
      {problem !== null && (
        <div className="card notice" role="alert">
          <Problem error={problem} />
        </div>
      )}
    </>
  );
}
