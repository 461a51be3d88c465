import type { ReactNode } from "react";
import { Button } from "react-aria-components/Button";
import { Disclosure, DisclosurePanel } from "react-aria-components/Disclosure";
import { Chevron } from "./icons";

type Props = { label: ReactNode; children: ReactNode; className?: string };

/** More for whoever wants to know; closed at first. */
export function Details({ label, children, className = "" }: Props) {
  return (
    <Disclosure className={`details ${className}`}>
      <Button slot="trigger" className="details-trigger">
        <Chevron />
        <span>{label}</span>
      </Button>
      <DisclosurePanel className="details-panel">
        <div className="details-inside">{children}</div>
      </DisclosurePanel>
    </Disclosure>
  );
}
