//! Real examples of what each parser reads, the same in every run.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use medsync::chain::{BlockAt, Deployment};
use medsync::config::{CONFIG_FILE, Config, StoreConfig, VerifierConfig};
use medsync::invitation::{Invitation, Parts};
use medsync::source::GroupId;
use medsync_protocol::audit::{Body, DenialReason, EntryDigest, Pseudonym, RecordRef, Requested};
use medsync_protocol::claim::{Claim, SignedClaim};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{Grant, Registry, SignedGrant};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    AddressBytes, Anchorer, ChainId, ClassHash, ContextId, ContextKind, ContractAddress, MemberId,
    RecordId, Salt, SealKey, Sha256Digest, UnixSeconds, to_base64,
};
use medsync_protocol::receipt::{Block, BlockHash, BlockNumber, Receipt, Stage, StageTime};
use medsync_protocol::secrets::{Counter, DeviceNumber, Seed};
use medsync_protocol::signature::{PublicKey, SecretKey};
use medsync_protocol::terms::Terms;
use medsync_protocol::ticket::{PoolId, Ticket};
use medsync_protocol::tree::{Leaf, Tree};
use serde::Serialize;
use serde_json::{Value, json};

/// A target, a file of its folder, and the bytes in it.
pub type Example = (&'static str, String, Vec<u8>);

const ROOT: &str = env!("MEDSYNC_ROOT");
const PASSPHRASE: &str = "a long enough passphrase";

/// All but the answers of a node, whose values stand beside the code that reads them.
pub fn all() -> Vec<Example> {
    let mut all = consents();
    all.extend(seals());
    all.extend(files());
    all.extend(keys());
    all.push(bundle());
    all.extend(super::rpc::all());
    all
}

fn example(target: &'static str, name: &str, bytes: impl Into<Vec<u8>>) -> Example {
    (target, name.to_owned(), bytes.into())
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("JSON")
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(format!("{ROOT}/{path}")).expect("a file of the tree")
}

fn vectors(name: &str) -> Value {
    serde_json::from_slice(&read(&format!("tests/vectors/{name}-v1.json"))).expect("JSON")
}

fn felt(value: u64) -> Felt {
    Felt::from(value)
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_scalar(&[byte; 32]).expect("a scalar")
}

fn registry() -> Registry {
    Registry {
        chain_id: ChainId::named("SN_SEPOLIA").expect("a short name"),
        registry: ContractAddress::from_felt(felt(6)),
    }
}

fn anchorer() -> Anchorer {
    Anchorer::from_felt(felt(7))
}

fn terms_of_vectors() -> Vec<Terms> {
    let vectors = vectors("protocol");
    let all = vectors["terms"].as_array().expect("a list");
    let terms =
        |vector: &Value| Terms::decode(&unhex(&vector["borsh"])).expect("terms of the vectors");
    all.iter().map(terms).collect()
}

fn unhex(text: &Value) -> Vec<u8> {
    hex::decode(text.as_str().expect("a text").trim_start_matches("0x")).expect("hex")
}

fn granted(terms: &Terms) -> SignedGrant {
    let grant = Grant {
        terms: terms.digest().expect("sound terms"),
        anchorer: anchorer(),
        grantee: PublicKey::from_felt(felt(2)),
        not_before: UnixSeconds(1),
        not_after: UnixSeconds(2_000),
    };
    let seed = Seed::from_bytes(&[1; 32]).expect("a felt");
    let (device, counter) = (DeviceNumber(0), Counter(0));
    grant
        .sign(registry(), &secret(3), &seed, device, counter)
        .expect("a sound opening")
}

fn consents() -> Vec<Example> {
    let mut all = Vec::new();
    for (number, terms) in terms_of_vectors().iter().enumerate() {
        let bytes = terms.encode().expect("sound terms");
        all.push(example("terms", &format!("of-the-vectors-{number}"), bytes));
    }
    let exceptional = terms_of_vectors().swap_remove(1);
    let concept = |set: &CodeSet| json!([[set.as_slice()[0]]]);
    all.push(example(
        "decide",
        "labelled.json",
        pretty(&json!({
            "terms": exceptional,
            "purposes": concept(&exceptional.provision.purposes),
            "understood": exceptional.provision.obligations,
            "resource": {
                "classes": concept(&exceptional.provision.classes),
                "codes": [[{ "system": "http://loinc.org", "code": "8302-2" }]],
                "labels": concept(&exceptional.exceptions[0].labels),
                "authors": [],
                "record": RecordId([1; 32]),
                "data_date": 1_300_000_000,
            },
        })),
    ));
    let mut terms = exceptional;
    terms.custodian_address = AddressBytes::of(anchorer());
    let granted = granted(&terms);
    let others = (1..4).map(|n| Leaf::from_felt(felt(n)));
    let leaves: Vec<Leaf> = others
        .chain([granted.commitment.leaf(&granted.signature)])
        .collect();
    let tree = Tree::build(&leaves).expect("four leaves");
    let reached = |stage, at| StageTime {
        stage,
        at: UnixSeconds(at),
    };
    let receipt = Receipt {
        registry: registry(),
        anchorer: anchorer(),
        terms,
        opening: granted.opening,
        signature: granted.signature,
        proof: tree.proof(3).expect("the fourth leaf"),
        root: tree.root(),
        block: Block {
            number: BlockNumber(7),
            hash: BlockHash::from_felt(felt(70)),
        },
        stages: vec![reached(Stage::Recorded, 800), reached(Stage::Anchored, 900)],
    };
    all.push(example(
        "receipt",
        "genuine.json",
        receipt.to_json().expect("sound"),
    ));
    all.extend(bodies());
    all
}

fn bodies() -> Vec<Example> {
    let codes = |code| CodeSet::collect([Code::new("s", code)]).expect("one short code");
    let request = EntryDigest::from_felt(felt(1));
    let records = || {
        vec![RecordRef {
            record: RecordId([1; 32]),
            version: 1,
        }]
    };
    let based_on = || vec![granted(&terms_of_vectors()[0]).commitment];
    let named = [
        (
            "requested",
            Body::Requested(Requested {
                asked_by: Some(request),
                recipient: PublicKey::from_felt(felt(2)),
                patient: Pseudonym([3; 32]),
                purposes: codes("HRESCH"),
                classes: codes("Observation"),
                understood: codes("NORELINK"),
                reason: "a study".into(),
                break_glass: true,
                reply_key: SealKey([4; 32]),
            }),
        ),
        (
            "permitted",
            Body::Permitted {
                request,
                records: records(),
                based_on: based_on(),
                obligations: codes("NORELINK"),
            },
        ),
        (
            "denied",
            Body::Denied {
                request,
                reason: DenialReason::Denied,
                based_on: based_on(),
            },
        ),
        (
            "released",
            Body::Released {
                request,
                logged_as: Some(request),
                records: records(),
                based_on: based_on(),
            },
        ),
    ];
    let bytes = |body: &Body| body.encode().expect("a sound body");
    named
        .iter()
        .map(|(name, body)| example("entry-body", name, bytes(body)))
        .collect()
}

fn seals() -> Vec<Example> {
    let made = &vectors("seal")["made"];
    let part = ([2u8; 32], [3u8; 32]);
    let list = borsh::to_vec(&(40_000u64, [1u8; 32], vec![part, part])).expect("in memory");
    vec![
        example("sealed-key", "key", unhex(&made["sealed_key"])),
        example("sealed-key", "released-key", unhex(&made["released_key"])),
        example("sealed-key", "payload", unhex(&made["payload"])),
        example(
            "parts",
            "two",
            [b"MEDSYNC_PARTS_V1".as_slice(), &list].concat(),
        ),
        example("parts", "whole", b"{}"),
    ]
}

fn files() -> Vec<Example> {
    let says = Parts {
        kind: ContextKind::Circle,
        group_invitation: json!({ "inviter": [1, 2, 3], "secret": "0x4", "expiry": null }),
        group: GroupId([1; 32]),
        context: ContextId([2; 32]),
        peer: "/ip4/127.0.0.1/tcp/2428".into(),
        wasm_sha256: Sha256Digest([3; 32]),
        invitation_key: secret(5).public_key(),
        custodian_member: MemberId([4; 32]),
        custodian_address: anchorer(),
        author_key: PublicKey::from_felt(felt(2)),
        seal_key: SealKey([5; 32]),
        registry: registry(),
        class_hash: ClassHash::from_felt(felt(3)),
        expires_at: UnixSeconds(1_000),
    };
    let deployment = Deployment {
        chain_id: registry().chain_id,
        registry: registry().registry,
        class_hash: ClassHash::from_felt(felt(3)),
        block: BlockAt {
            number: BlockNumber(7),
            hash: BlockHash::from_felt(felt(70)),
            time: UnixSeconds(900),
        },
        reward_pool: ContractAddress::from_felt(felt(8)),
        reward_pool_class: ClassHash::from_felt(felt(9)),
        is_new: false,
    };
    let manifest = json!({
        "version": 1,
        "made_at": 1_700_000_000,
        "files": { CONFIG_FILE: Sha256Digest([1; 32]), "medsync.db": Sha256Digest([2; 32]) },
    });
    let (config, verifier) = (
        read("bridge/examples/medsync.toml"),
        read("bridge/examples/verifier.toml"),
    );
    // As the program writes them, without anybody's remarks.
    let path = std::path::Path::new(CONFIG_FILE);
    let bare = Config::parse(path, &config).expect("the annotated example");
    let mut shared = bare.clone();
    shared.node.run = None;
    shared.store = Some(StoreConfig {
        postgres: "/etc/medsync/postgres.url".into(),
    });
    let shared = toml::to_string_pretty(&shared).expect("TOML");
    let bare = toml::to_string_pretty(&bare).expect("TOML");
    let short = VerifierConfig::parse(path, &verifier).expect("the annotated example");
    let short = toml::to_string_pretty(&short).expect("TOML");
    vec![
        example(
            "invitation",
            "with-key.json",
            pretty(&Invitation::new(says.clone(), &secret(5))),
        ),
        example(
            "invitation",
            "without-key.json",
            pretty(&Invitation::without_key(says)),
        ),
        example("deployment", "whole.json", pretty(&deployment)),
        example("manifest", "two-files.json", pretty(&manifest)),
        example("config", "annotated.toml", config),
        example("config", "written.toml", bare),
        example("config", "replicas.toml", shared),
        example("verifier", "annotated.toml", verifier),
        example("verifier", "written.toml", short),
        example("claim", "genuine.json", pretty(&claim())),
    ]
}

fn claim() -> SignedClaim {
    let granted = granted(&terms_of_vectors()[0]);
    let ticket = Ticket {
        pool_id: PoolId::from_felt(felt(40)),
        anchorer: anchorer(),
        handle: granted.opening.handle,
        claim_until: UnixSeconds(2_000),
        salt: Salt::from_felt(felt(41)),
    };
    let tree = Tree::build(&[ticket.leaf(), Leaf::from_felt(felt(1))]).expect("two leaves");
    let proof = tree.proof(0).expect("the first leaf");
    let place = (registry().chain_id, ContractAddress::from_felt(felt(8)));
    let pay_to = ContractAddress::from_felt(felt(42));
    let claim = Claim::sign(place, (&ticket, &proof), &granted.secrets, pay_to);
    SignedClaim::new(place.0, place.1, claim.expect("signable"))
}

fn keys() -> Vec<Example> {
    let keys: Vec<String> = (1..=4).map(|byte| secret(byte).reveal_text()).collect();
    let seal = Sha256Digest([6; 32]);
    let seed = Seed::from_bytes(&[1; 32]).expect("a felt");
    let plain = json!({ "seed": seed.reveal_text(), "keys": keys, "seal": seal });
    // As sealed files are, with a derivation that a fuzzer can afford.
    let (salt, memory_kib, passes) = ([7u8; 32], 8, 1);
    let params = Params::new(memory_kib, passes, 1, Some(32)).expect("sound parameters");
    let mut key = [0u8; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(PASSPHRASE.as_bytes(), &salt, &mut key)
        .expect("derived");
    let format = "medsync/patient-keys/v1";
    let plain = serde_json::to_vec(&plain).expect("JSON");
    let message = Payload {
        msg: &plain,
        aad: format.as_bytes(),
    };
    let cipher = ChaCha20Poly1305::new(&key.into());
    let sealed = cipher.encrypt(&Nonce::default(), message).expect("sealed");
    let file = json!({
        "format": format,
        "kdf": "argon2id",
        "memory_kib": memory_kib,
        "passes": passes,
        "salt": to_base64(&salt),
        "sealed": to_base64(&sealed),
    });
    let (one, all) = (
        json!({ "keys": [keys[0]], "seal": seal }),
        json!({ "keys": keys, "seal": seal }),
    );
    vec![
        example("key-file", "custodian.json", pretty(&one)),
        example("key-file", "researcher.json", pretty(&all)),
        example("sealed-key-file", "quick.json", pretty(&file)),
    ]
}

/// A cut of a synthetic patient: one of each of some types.
fn bundle() -> Example {
    let types = [
        "Encounter",
        "Condition",
        "Observation",
        "Immunization",
        "DiagnosticReport",
    ];
    let mut whole: Value =
        serde_json::from_slice(&read("tests/data/fhir/clemente-kreiger.json")).expect("JSON");
    let entries = whole["entry"].as_array().expect("entries").clone();
    let first = |wanted: &str| {
        let mut entries = entries.iter();
        entries
            .find(|entry| entry["resource"]["resourceType"] == wanted)
            .cloned()
    };
    whole["entry"] = types
        .iter()
        .map(|wanted| first(wanted).expect("one of each"))
        .collect();
    example(
        "bundle",
        "some-of-each.json",
        serde_json::to_vec(&whole).expect("JSON"),
    )
}
