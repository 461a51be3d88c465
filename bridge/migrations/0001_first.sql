-- The store of one party's medsync. Felts and 32-byte values are texts in the protocol's one
-- spelling, times are unix seconds. SQLite and PostgreSQL read this file alike: there are three
-- types, TEXT, BIGINT and BOOLEAN, and texts compare by their bytes.

-- The circles and exchanges that this party is in, and what it pinned when it entered.
CREATE TABLE circles (
    context TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    group_id TEXT NOT NULL,
    label TEXT NOT NULL,
    member TEXT NOT NULL,
    custodian_member TEXT NOT NULL,
    application TEXT NOT NULL,
    bytecode TEXT NOT NULL,
    invitation TEXT,
    entered_at BIGINT NOT NULL,
    -- Who enrolled: the patient, or an exchange's recipient.
    patient_member TEXT,
    party_key TEXT,
    party_author TEXT,
    party_login TEXT,
    -- For whose key a custodian opened an exchange: nobody else is served in it.
    recipient_key TEXT,
    -- Which of the patient's devices this is; 0 is the first, and no device at all.
    device BIGINT NOT NULL DEFAULT 0,
    state_hash TEXT,
    -- Of which revocations and consents, as the circle says, this store knows that it took all in.
    consents_digest TEXT,
    alarm TEXT,
    -- Since when somebody is in it whom nobody here knows to be admitted: an admission may be on its
    -- way.
    suspected_at BIGINT,
    -- Who is suspected, as JSON.
    suspects TEXT,
    -- Nothing of it is sealed before: it did not take a place in a batch; and how often that was.
    held_until BIGINT NOT NULL DEFAULT 0,
    holds BIGINT NOT NULL DEFAULT 0,
    -- When it last did not have what was to be placed.
    lacked_at BIGINT
);
-- One recipient has one exchange that goes on.
CREATE UNIQUE INDEX circles_by_recipient ON circles (recipient_key)
    WHERE recipient_key IS NOT NULL AND alarm IS NULL;

-- Logs whose head their circle did not have any more when it was to be placed, by their author.
CREATE TABLE held_logs (
    context TEXT NOT NULL,
    author_key TEXT NOT NULL,
    held_until BIGINT NOT NULL DEFAULT 0,
    holds BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (context, author_key)
);

-- Admissions by which a custodian let a member into a circle's group: each does so once, so that
-- whom the custodian removed stays out until the patient admits anew.
CREATE TABLE let_in (
    context TEXT NOT NULL,
    member TEXT NOT NULL,
    device BIGINT NOT NULL,
    admitted_by TEXT NOT NULL,
    let_in_at BIGINT NOT NULL,
    PRIMARY KEY (context, member, device, admitted_by)
);

-- Every entry that was ever seen: what vanishes from a context is noticed and stays in force.
CREATE TABLE seen (
    context TEXT NOT NULL,
    kind TEXT NOT NULL,
    entry_key TEXT NOT NULL,
    digest TEXT NOT NULL,
    first_seen_at BIGINT NOT NULL,
    vanished_at BIGINT,
    replaced_at BIGINT,
    -- What it says, where that is kept: a consent's commitment, a revocation's handle, the digest of
    -- a log entry that this party brings back, a ticket's leaf.
    content TEXT,
    PRIMARY KEY (context, kind, entry_key)
);

-- Changes of an enrolled party's key, seen in a context or made here: kept for ever. Those that are
-- not in their context, or not any more, are unpublished.
CREATE TABLE key_changes (
    context TEXT NOT NULL,
    seq BIGINT NOT NULL,
    old_key TEXT NOT NULL,
    new_key TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    signature TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    published_at BIGINT,
    PRIMARY KEY (context, seq, old_key, new_key, changed_by)
);

-- Consents that count, as this party verified them.
CREATE TABLE consents (
    commitment TEXT PRIMARY KEY,
    context TEXT NOT NULL,
    handle TEXT NOT NULL,
    patient_key TEXT NOT NULL,
    grantee TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    -- Whether any rule of the terms allows anything.
    permits BOOLEAN NOT NULL,
    leaf TEXT NOT NULL,
    terms TEXT NOT NULL,
    opening TEXT NOT NULL,
    signature TEXT NOT NULL,
    recorded_at BIGINT NOT NULL,
    ingested_at BIGINT NOT NULL,
    -- It is not sealed before: its circle did not have it any more; and how often that was.
    held_until BIGINT NOT NULL DEFAULT 0,
    holds BIGINT NOT NULL DEFAULT 0,
    batch BIGINT,
    position BIGINT,
    -- Its path there, where the batch's other leaves are not known: it was taken over from the circle.
    proof TEXT,
    -- Whether it may stand in a batch of which a restored store does not know: not sealed before that
    -- was looked up.
    place_is_unsure BOOLEAN NOT NULL DEFAULT FALSE,
    -- Since when it is found to stand nowhere, and when it is looked up again.
    nowhere_since BIGINT,
    look_up_at BIGINT NOT NULL DEFAULT 0,
    -- When its circle heard that the batch is on chain, or is told next and after how many failures.
    told_at BIGINT,
    tell_after BIGINT NOT NULL DEFAULT 0,
    tell_failures BIGINT NOT NULL DEFAULT 0,
    -- When it was heard that the recovery key replaced the key that had signed it; that stays.
    overruled_at BIGINT
);
CREATE INDEX consents_by_batch ON consents (batch) WHERE batch IS NOT NULL;
-- Looked at in every round of the lane that seals.
CREATE INDEX consents_waiting ON consents (ingested_at, commitment, context, held_until)
    WHERE batch IS NULL AND NOT place_is_unsure;
CREATE INDEX consents_by_handle ON consents (handle);
CREATE INDEX consents_by_context ON consents (context);
CREATE INDEX consents_by_grantee ON consents (grantee);
CREATE INDEX consents_unsure ON consents (context) WHERE place_is_unsure;

-- Batches, in the order in which they move the anchorer's head.
CREATE TABLE batches (
    id BIGINT NOT NULL PRIMARY KEY,
    root TEXT NOT NULL UNIQUE,
    leaf_count BIGINT NOT NULL,
    leaves TEXT NOT NULL,
    state TEXT NOT NULL,
    sealed_at BIGINT NOT NULL,
    submitted_at BIGINT,
    intent TEXT,
    transaction_hash TEXT,
    block_number BIGINT,
    block_hash TEXT,
    block_time BIGINT,
    -- How often it landed at another time than the one known before.
    landings BIGINT NOT NULL DEFAULT 0,
    -- Since when the chain says that it no longer has it, where it cannot be sent again.
    missing_since BIGINT,
    last_error TEXT
);

-- Revocations: seen in a context or made here. One of a consent that nobody here knows is `held`
-- once its circle has had its share of those.
CREATE TABLE revocations (
    handle TEXT PRIMARY KEY,
    context TEXT NOT NULL,
    secret TEXT NOT NULL,
    claim_key TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    intent TEXT,
    transaction_hash TEXT,
    sent_at BIGINT,
    -- When the chain had it, when it was first heard saying so, and whether it said so again.
    revoked_at BIGINT,
    said_at BIGINT,
    is_settled BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX revocations_by_state ON revocations (state, context);

-- Handles that the chain says are open though no revocation of them is known here: when they were
-- opened, when the chain was first heard saying so, and whether it said so again long after.
CREATE TABLE revoked_elsewhere (
    handle TEXT PRIMARY KEY,
    revoked_at BIGINT NOT NULL,
    said_at BIGINT NOT NULL,
    is_settled BOOLEAN NOT NULL DEFAULT FALSE,
    -- When it was last asked what opened it.
    tried_at BIGINT NOT NULL DEFAULT 0
);

-- The patient's own grants: the counter is spent before anything is signed with it.
CREATE TABLE grants (
    counter BIGINT PRIMARY KEY,
    context TEXT NOT NULL,
    request TEXT NOT NULL UNIQUE,
    commitment TEXT,
    terms TEXT,
    opening TEXT,
    signature TEXT,
    made_at BIGINT NOT NULL
);

-- Imported resources, so that a second import of one bundle writes nothing twice.
CREATE TABLE records (
    context TEXT NOT NULL,
    local_key TEXT NOT NULL,
    record TEXT NOT NULL,
    version BIGINT NOT NULL,
    payload_sha256 TEXT NOT NULL,
    written_at BIGINT,
    PRIMARY KEY (context, local_key)
);

-- The private half of the custodian's key for each version of a record: here and nowhere else,
-- and destroyed at erasure.
CREATE TABLE record_keys (
    context TEXT NOT NULL,
    record TEXT NOT NULL,
    version BIGINT NOT NULL,
    custodian_secret TEXT NOT NULL,
    -- The name that its resource has since, where there was no room for another version of this one.
    renamed TEXT,
    PRIMARY KEY (context, record, version)
);

-- Log entries, seen in a context or made here: kept for ever, also two with one number. Those that
-- are not in their context, or not any more, are unpublished.
CREATE TABLE log (
    digest TEXT PRIMARY KEY,
    context TEXT NOT NULL,
    author_key TEXT NOT NULL,
    seq BIGINT NOT NULL,
    prev TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- Of what was released: its name in the circle.
    logged_as TEXT,
    -- Of an answer: what it answers.
    request TEXT,
    body TEXT NOT NULL,
    at BIGINT NOT NULL,
    salt TEXT NOT NULL,
    signature TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    published_at BIGINT,
    -- Since when it may have vanished from its context again.
    missed_at BIGINT,
    -- The batch with the head that covers it.
    head_batch BIGINT
);
CREATE INDEX log_by_number ON log (context, author_key, seq);
CREATE INDEX log_by_time ON log (context, at, digest);
CREATE INDEX log_by_subject ON log (subject);
CREATE INDEX log_by_release ON log (logged_as) WHERE logged_as IS NOT NULL;
CREATE INDEX log_by_request ON log (request) WHERE request IS NOT NULL;
CREATE INDEX log_by_kind ON log (kind, context, digest);
CREATE INDEX log_unpublished ON log (context) WHERE published_at IS NULL;
CREATE INDEX log_without_head ON log (context, author_key, seq) WHERE head_batch IS NULL;
CREATE INDEX log_by_head ON log (head_batch);

-- Up to which entry a log is in a batch of this party.
CREATE TABLE head_leaves (
    context TEXT NOT NULL,
    author_key TEXT NOT NULL,
    seq BIGINT NOT NULL,
    digest TEXT NOT NULL,
    salt TEXT NOT NULL,
    batch BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (batch, position)
);

-- Places of logs in batches, as they were seen in a context: kept for ever.
CREATE TABLE heads (
    leaf TEXT NOT NULL,
    root TEXT NOT NULL,
    context TEXT NOT NULL,
    author_key TEXT NOT NULL,
    seq BIGINT NOT NULL,
    digest TEXT NOT NULL,
    salt TEXT NOT NULL,
    proof TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (leaf, root)
);
CREATE INDEX heads_by_context ON heads (context);

-- Reward pools that a custodian makes known, with its own quota and until when it issues tickets.
CREATE TABLE pools (
    pool_id TEXT PRIMARY KEY,
    contract TEXT NOT NULL,
    funder TEXT NOT NULL,
    nonce TEXT NOT NULL,
    recipient TEXT NOT NULL,
    claim_end BIGINT NOT NULL,
    label TEXT NOT NULL,
    -- The custodian's own; nothing where the pool was seen in a circle.
    quota BIGINT,
    closed_at BIGINT
);

-- Which circles know a pool.
CREATE TABLE pools_told (
    context TEXT NOT NULL,
    pool_id TEXT NOT NULL,
    told_at BIGINT,
    -- It was not taken, and is told again no sooner.
    not_before BIGINT NOT NULL,
    PRIMARY KEY (context, pool_id)
);

-- Tickets that this custodian issued. One that was revoked unclaimed made room for another.
CREATE TABLE tickets (
    pool_id TEXT NOT NULL,
    handle TEXT NOT NULL,
    context TEXT NOT NULL,
    patient_key TEXT NOT NULL,
    claim_until BIGINT NOT NULL,
    salt TEXT NOT NULL,
    issued_at BIGINT NOT NULL,
    batch BIGINT,
    position BIGINT,
    -- Read back from its circle by a store that was restored: of those a circle may have several.
    was_taken_over BOOLEAN NOT NULL DEFAULT FALSE,
    -- When the chain was last asked whether it was claimed before it was revoked, and what it said.
    checked_at BIGINT NOT NULL DEFAULT 0,
    claimed_at BIGINT,
    replaced_at BIGINT,
    PRIMARY KEY (pool_id, handle)
);
CREATE UNIQUE INDEX tickets_of_circle ON tickets (pool_id, context)
    WHERE replaced_at IS NULL AND NOT was_taken_over;
CREATE UNIQUE INDEX tickets_of_key ON tickets (pool_id, patient_key)
    WHERE replaced_at IS NULL AND NOT was_taken_over;
CREATE INDEX tickets_by_batch ON tickets (batch);

-- Tickets with their places, as they were seen in a circle: kept for ever.
CREATE TABLE placed_tickets (
    leaf TEXT NOT NULL,
    root TEXT NOT NULL,
    context TEXT NOT NULL,
    pool_id TEXT NOT NULL,
    anchorer TEXT NOT NULL,
    handle TEXT NOT NULL,
    claim_until BIGINT NOT NULL,
    salt TEXT NOT NULL,
    proof TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    -- When it is written again, where the circle lost it.
    put_again_at BIGINT,
    PRIMARY KEY (leaf, root)
);
CREATE INDEX placed_tickets_by_context ON placed_tickets (context);
CREATE INDEX placed_tickets_lost ON placed_tickets (put_again_at) WHERE put_again_at IS NOT NULL;

-- By which name an exchange knows the patient of a circle.
CREATE TABLE pseudonyms (
    exchange TEXT NOT NULL,
    circle TEXT NOT NULL,
    pseudonym TEXT NOT NULL UNIQUE,
    PRIMARY KEY (exchange, circle)
);

-- Receipts that an exchange was given, and whether it has the revocation too.
CREATE TABLE carried (
    exchange TEXT NOT NULL,
    commitment TEXT NOT NULL,
    revocation_too BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (exchange, commitment)
);

-- What an exchange could not be given, and until when that rests.
CREATE TABLE carry_waits (
    exchange TEXT NOT NULL,
    commitment TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    PRIMARY KEY (exchange, commitment)
);

-- Requests of recipients: how far the answer is, and what hinders it.
CREATE TABLE requests (
    request TEXT PRIMARY KEY,
    exchange TEXT NOT NULL,
    state TEXT NOT NULL,
    hindrance TEXT,
    tried_at BIGINT NOT NULL,
    -- The circle that it is about, and since when it counts there.
    circle TEXT,
    counted_at BIGINT
);
CREATE INDEX requests_by_circle ON requests (exchange, circle, counted_at);
CREATE INDEX requests_by_state ON requests (state, tried_at);

-- Releases, by their entry in the circle's log, which is there before a key leaves.
CREATE TABLE releases (
    logged_as TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    exchange TEXT NOT NULL,
    circle TEXT NOT NULL,
    state TEXT NOT NULL,
    order_in_circle TEXT,
    order_in_exchange TEXT,
    tried_at BIGINT NOT NULL DEFAULT 0,
    -- Until when an order to erase it, or the answer to that, rests: it could not be written.
    rests_until BIGINT NOT NULL DEFAULT 0
);
-- Records of a release whose keys the exchange has, or that are left out for good.
CREATE TABLE handed_over (
    logged_as TEXT NOT NULL,
    record TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (logged_as, record, version)
);
-- How many parts of a large record an exchange has, while the release is under way.
CREATE TABLE carried_parts (
    logged_as TEXT NOT NULL,
    record TEXT NOT NULL,
    version BIGINT NOT NULL,
    parts BIGINT NOT NULL,
    PRIMARY KEY (logged_as, record, version)
);
CREATE INDEX releases_by_request ON releases (request);
CREATE INDEX releases_by_state ON releases (state, logged_as);

-- A recipient's keys, one a request: here and nowhere else, and destroyed at erasure.
CREATE TABLE reply_keys (
    public TEXT PRIMARY KEY,
    secret TEXT NOT NULL
);

-- Records whose keys were destroyed here, and whether the circle's log says so yet.
CREATE TABLE erased (
    context TEXT NOT NULL,
    record TEXT NOT NULL,
    version BIGINT NOT NULL,
    erased_at BIGINT NOT NULL,
    logged_at BIGINT,
    PRIMARY KEY (context, record, version)
);

-- Each version of each record that was ever seen in a circle, and the entry that described it first:
-- one before it does not take its place if it goes, nor another description.
CREATE TABLE seen_versions (
    context TEXT NOT NULL,
    record TEXT NOT NULL,
    version BIGINT NOT NULL,
    entry_key TEXT NOT NULL,
    PRIMARY KEY (context, record, version)
);

-- What the command line asks the daemon to do on chain.
CREATE TABLE outbox (
    id BIGINT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    done_at BIGINT,
    UNIQUE (kind, subject)
);

-- What was last heard of the daemon.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Who does what only one process may do at a time, where several share this store. Whoever holds a
-- lease moves its beat; whoever takes it over adds one to its epoch, by which what the one before
-- still writes is known and refused.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    beat BIGINT NOT NULL
);
INSERT INTO leases (name, holder, epoch, beat) VALUES ('daemon', '', 0, 0), ('records', '', 0, 0);
