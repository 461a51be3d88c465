/** A felt: 0x and lower-case hex. */
export type Felt = string;
/** 32 bytes: 0x and 64 digits. */
export type Bytes32 = string;
/** Unix seconds; rounded by JSON beyond 2^53, so only to be shown. */
export type Seconds = number;

/** An error, by what it is about. */
export type Kinded = { kind: string; detail?: unknown };

/** What the API wants to be signed. */
export type Challenge = { nonce: Felt; expires: Seconds };
export type SignedChallenge = Challenge & {
  origin: string;
  signature: { r: Felt; s: Felt };
};
/** What opens a consent's handle: whoever has it can revoke. */
export type Revocation = { secret: Felt; claim_key: Felt };

export type Code = { system: string; code: string };

export type Provision = {
  kind: "deny" | "permit";
  purposes?: Code[];
  classes?: Code[];
  codes?: Code[];
  labels?: Code[];
  authors?: Bytes32[];
  records?: Bytes32[];
  /** [from, to) of the data's own dates. */
  data_period?: [Seconds, Seconds];
  obligations?: Code[];
};

export type Terms = {
  version: number;
  nonce: Bytes32;
  context: Bytes32;
  custodian_member: Bytes32;
  custodian_address: Bytes32;
  policy_uri: string;
  policy_sha256: Bytes32;
  provision: Provision;
  exceptions: Provision[];
};

export type Opening = {
  patient_key: Felt;
  grantee: Felt;
  not_before: Seconds;
  /** 0 is open-ended. */
  not_after: Seconds;
  handle: Felt;
  salt: Felt;
};

export type Registry = { chain_id: Felt; registry: Felt };
export type Block = { number: number; hash: Felt };
export type BlockAt = Block & { time: Seconds };
export type Stage = "recorded" | "sealed" | "submitted" | "anchored" | "revoked";

export type ReceiptView = {
  commitment: Felt;
  registry: Registry;
  anchorer: Felt;
  terms: Terms;
  opening: Opening;
  root: Felt;
  block: Block;
  stages: { stage: Stage; at: Seconds }[];
};

export type Config = {
  rpc: string[];
  chain_id: Felt;
  registry: Felt;
  class_hash: Felt;
  custodians: Felt[];
  block_age_s_max: number;
};

export type CheckName = "signed" | "anchored" | "included" | "not_revoked" | "current";
export type Check = { name: CheckName; what: string; holds: boolean; found: string };

export type Verdict =
  | "BadSignature"
  | "UnknownAnchor"
  | "NotIncluded"
  | "Revoked"
  | "NotYetValid"
  | "Expired"
  | "Valid";

export type Seen = {
  chain_id: Felt;
  class_hash: Felt;
  anchored_at: Seconds | null;
  revoked_at: Seconds | null;
  block: BlockAt;
};

export type Report = {
  verdict: Verdict;
  at: Seconds;
  commitment: Felt;
  anchored_at: Seconds | null;
  revoked_at: Seconds | null;
  block: BlockAt;
  checks: Check[];
};

export type Question = {
  purposes: Code[];
  classes: Code[];
  understood?: Code[];
  labels?: Code[];
  data_date?: Seconds | null;
};

export type Rule = "root" | { exception: number };
export type Reason =
  | { other_recipient: Felt }
  | { revoked: Felt }
  | { not_yet_valid: Felt }
  | { expired: Felt }
  | { not_covered: Felt }
  | { key_changed: Felt }
  | { permitted: [Felt, Rule] }
  | { denied: [Felt, Rule] }
  | { obligation_not_understood: [Felt, Code] };

export type Decision = {
  outcome: "Permit" | "Deny" | "NoConsent";
  based_on: Felt[];
  obligations: Code[];
  reasons: Reason[];
};
