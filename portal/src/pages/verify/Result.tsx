import { useTranslation } from "react-i18next";
import { Hash } from "../../components/Hash";
import { Facts } from "../../components/Facts";
import type { Config } from "../../protocol/binding";
import { AtTime } from "./AtTime";
import { Ask } from "./Ask";
import { Checks } from "./Checks";
import { Reads } from "./Reads";
import { TermsCard } from "./TermsCard";
import { VerdictPanel } from "./VerdictPanel";
import type { Conclusion, Item } from "./verification";

type Props = {
  item: Item;
  conclusion: Conclusion;
  config: Config;
  at: number | null;
  onTime: (at: number | null) => void;
  onRetry: () => Promise<void>;
};

/** One receipt: the verdict first, then what it says, then why. */
export function Result({ item, conclusion, config, at, onTime, onRetry }: Props) {
  if (item.kind === "refused") {
    return (
      <VerdictPanel name={item.name} conclusion={conclusion} opening={null} onRetry={onRetry}>
        <Compared item={item} config={config} />
      </VerdictPanel>
    );
  }
  const { view } = item.accepted;
  const report = conclusion.kind === "verdict" ? conclusion.judged.report : null;
  const latest = report?.block.time ?? null;
  return (
    <>
      <VerdictPanel
        name={item.name}
        conclusion={conclusion}
        opening={view.opening}
        onRetry={onRetry}
      />
      <div className="columns">
        <div className="column">
          <TermsCard view={view} isSigned={item.accepted.certain === null} />
        </div>
        <div className="column">
          <Checks item={item} conclusion={conclusion} at={at} />
          <Reads answers={item.answers} rpc={config.rpc} />
        </div>
      </div>
      <div className="columns">
        <AtTime at={at} latest={latest} onTime={onTime} />
        <Ask item={item} conclusion={conclusion} />
      </div>
    </>
  );
}

/** What a foreign receipt names, beside what would be accepted. */
function Compared({ item, config }: { item: Extract<Item, { kind: "refused" }>; config: Config }) {
  const { t } = useTranslation();
  const { error } = item;
  if (error.kind === "other_registry") {
    const { found } = error.detail as { found: { chain_id: string; registry: string } };
    return (
      <Facts
        rows={[
          [t("errors.other_registry.found"), <Hash key="f" value={found.registry} />],
          [t("errors.other_registry.own"), <Hash key="o" value={config.registry} />],
          [t("errors.other_registry.foundChain"), <Hash key="fc" value={found.chain_id} />],
          [t("errors.other_registry.ownChain"), <Hash key="oc" value={config.chain_id} />],
        ]}
      />
    );
  }
  if (error.kind !== "other_custodian") return null;
  return (
    <Facts
      rows={[
        [t("errors.other_custodian.found"), <Hash key="f" value={String(error.detail)} />],
        [
          t("errors.other_custodian.own"),
          config.custodians.map((custodian) => <Hash key={custodian} value={custodian} />),
        ],
      ]}
    />
  );
}
