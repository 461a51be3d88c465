-- Claims that patients brought, to be sent to their pools, each by the ticket that it spends.
CREATE TABLE claims (
    pool_id TEXT NOT NULL,
    handle TEXT NOT NULL,
    context TEXT NOT NULL,
    claim TEXT NOT NULL,
    -- The ticket's end: it is not sent after it.
    claim_until BIGINT NOT NULL,
    brought_at BIGINT NOT NULL,
    -- When it was last tried in vain, and why it was not taken.
    tried_at BIGINT NOT NULL DEFAULT 0,
    refused TEXT,
    intent TEXT,
    transaction_hash TEXT,
    sent_at BIGINT,
    -- When it was paid, as the chain says.
    claimed_at BIGINT,
    PRIMARY KEY (pool_id, handle)
);
CREATE INDEX claims_open ON claims (tried_at) WHERE claimed_at IS NULL;
CREATE INDEX claims_paid ON claims (claimed_at) WHERE claimed_at IS NOT NULL;

-- Transactions that were sent and whose fee is not known yet; and what was paid so far for what, in
-- 10^9 fri.
CREATE TABLE sent (
    transaction_hash TEXT PRIMARY KEY,
    what TEXT NOT NULL,
    sent_at BIGINT NOT NULL,
    asked_at BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE fees (
    what TEXT PRIMARY KEY,
    transactions BIGINT NOT NULL,
    gfri BIGINT NOT NULL
);

-- How long revocations took, for what is said of the next.
CREATE INDEX revocations_landed ON revocations (revoked_at) WHERE revoked_at IS NOT NULL;
