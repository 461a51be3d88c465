import { useTranslation } from "react-i18next";
import { Details } from "../../components/Details";
import { Facts } from "../../components/Facts";
import { Hash } from "../../components/Hash";
import type { Config } from "../../protocol/binding";
import { shown } from "../../protocol/config";

/** The page's own configuration: what it goes by, whatever a receipt says. */
export function Beliefs({ config }: { config: Config }) {
  const { t } = useTranslation();
  const hashes = (values: string[]) => values.map((value) => <Hash key={value} value={value} />);
  return (
    <Details className="card" label={t("beliefs.title")}>
      <p className="muted">{t("beliefs.lead")}</p>
      <Facts
        rows={[
          [t("beliefs.chain"), <Hash key="chain" value={config.chain_id} />],
          [t("beliefs.registry"), <Hash key="registry" value={config.registry} />],
          [t("beliefs.class"), <Hash key="class" value={config.class_hash} />],
          [
            t("beliefs.custodians"),
            config.custodians.length === 0 ? t("beliefs.none") : hashes(config.custodians),
          ],
          [
            t("beliefs.endpoints"),
            config.rpc.map((rpc, place) => (
              <code className="line" key={`${place} ${rpc}`}>
                {shown(rpc)}
              </code>
            )),
          ],
          [t("beliefs.age"), t("beliefs.seconds", { count: config.block_age_s_max })],
        ]}
      />
    </Details>
  );
}
