//! The receipts that the tests of the verifier page open, in `portal/receipts`. They are made here
//! from fixed keys, so that the page's tests have real signatures and real paths; the test fails if
//! they differ from what is tracked. `MEDSYNC_BLESS` writes them anew.

use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{Grant, Registry};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    AddressBytes, Anchorer, ChainId, ContextId, ContractAddress, MemberId, Nonce, Sha256Digest,
    UnixSeconds,
};
use medsync_protocol::receipt::{Block, BlockHash, BlockNumber, Receipt, Stage, StageTime};
use medsync_protocol::secrets::{Counter, DeviceNumber, Seed};
use medsync_protocol::signature::SecretKey;
use medsync_protocol::terms::{Provision, ProvisionKind, Terms};
use medsync_protocol::tree::{Leaf, Tree};

const FOLDER: &str = concat!(env!("MEDSYNC_ROOT"), "/portal/receipts");

const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const RESOURCE: &str = "http://hl7.org/fhir/resource-types";

/// The first seconds of these years.
const YEAR_2024: UnixSeconds = UnixSeconds(1_704_067_200);
const YEAR_2025: UnixSeconds = UnixSeconds(1_735_689_600);
const YEAR_2050: UnixSeconds = UnixSeconds(2_524_608_000);
const YEAR_2060: UnixSeconds = UnixSeconds(2_840_140_800);
const OPEN_ENDED: UnixSeconds = UnixSeconds(0);

const REGISTRY: u64 = 0x7e57_0001;
const CUSTODIAN: u64 = 0xc057_0001;

struct Wanted {
    name: &'static str,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
    registry: u64,
    custodian: u64,
}

fn wanted() -> Vec<Wanted> {
    let valid = |name| Wanted {
        name,
        not_before: YEAR_2025,
        not_after: OPEN_ENDED,
        registry: REGISTRY,
        custodian: CUSTODIAN,
    };
    vec![
        valid("valid"),
        Wanted {
            not_after: YEAR_2050,
            ..valid("until-2050")
        },
        Wanted {
            not_before: YEAR_2024,
            not_after: YEAR_2025,
            ..valid("expired")
        },
        Wanted {
            not_before: YEAR_2050,
            not_after: YEAR_2060,
            ..valid("not-yet")
        },
        Wanted {
            registry: REGISTRY + 1,
            ..valid("other-registry")
        },
        Wanted {
            custodian: CUSTODIAN + 1,
            ..valid("other-custodian")
        },
    ]
}

fn felt(value: u64) -> Felt {
    Felt::from(value)
}

fn set(system: &str, codes: &[&str]) -> CodeSet {
    let codes = codes.iter().map(|code| Code::new(system, *code));
    CodeSet::collect(codes).expect("a small set")
}

fn terms(custodian: Anchorer) -> Terms {
    let mut provision = Provision::everything(ProvisionKind::Permit);
    provision.purposes = set(ACT_REASON, &["HRESCH", "CLINTRCH"]);
    provision.classes = set(RESOURCE, &["Observation", "Condition"]);
    provision.data_period = Some((1_262_304_000, YEAR_2025.0));
    provision.obligations = set(ACT_CODE, &["NORELINK"]);
    let mut exception = Provision::everything(ProvisionKind::Deny);
    exception.labels = set(CONFIDENTIALITY, &["R", "V"]);
    Terms {
        version: 1,
        nonce: Nonce([1; 32]),
        context: ContextId([2; 32]),
        custodian_member: MemberId([3; 32]),
        custodian_address: AddressBytes::of(custodian),
        policy_uri: "https://example.org/policy/1".into(),
        policy_sha256: Sha256Digest::of(b"a policy"),
        provision,
        exceptions: vec![exception],
    }
}

fn make(wanted: &Wanted, counter: u64) -> Receipt {
    let scalar = |byte| SecretKey::from_scalar(&[byte; 32]).expect("a scalar below the order");
    let registry = Registry {
        chain_id: ChainId::named("SN_SEPOLIA").expect("a short string"),
        registry: ContractAddress::from_felt(felt(wanted.registry)),
    };
    let anchorer = Anchorer::from_felt(felt(wanted.custodian));
    let terms = terms(anchorer);
    let grant = Grant {
        terms: terms.digest().expect("sound terms"),
        anchorer,
        grantee: scalar(4).public_key(),
        not_before: wanted.not_before,
        not_after: wanted.not_after,
    };
    let seed = Seed::from_bytes(&[5; 32]).expect("a felt");
    let signed = grant
        .sign(
            registry,
            &scalar(3),
            &seed,
            DeviceNumber(0),
            Counter(counter),
        )
        .expect("a sound opening");
    let others = (1..16).map(|n| Leaf::from_felt(felt(1_000 * counter + n)));
    let leaves: Vec<Leaf> = others
        .chain([signed.commitment.leaf(&signed.signature)])
        .collect();
    let tree = Tree::build(&leaves).expect("sixteen leaves");
    let reached = |stage, at| StageTime { stage, at };
    Receipt {
        registry,
        anchorer,
        terms,
        opening: signed.opening,
        signature: signed.signature,
        proof: tree.proof(15).expect("the last leaf"),
        root: tree.root(),
        block: Block {
            number: BlockNumber(7),
            hash: BlockHash::from_felt(felt(70)),
        },
        stages: vec![
            reached(Stage::Recorded, YEAR_2024),
            reached(Stage::Anchored, UnixSeconds(YEAR_2024.0 + 600)),
        ],
    }
}

#[test]
fn the_receipts_of_the_pages_tests_are_as_they_are_made_here() {
    for (counter, wanted) in (0..).zip(wanted()) {
        let json = make(&wanted, counter).to_json().expect("a sound receipt") + "\n";
        let path = format!("{FOLDER}/{}.json", wanted.name);
        if std::env::var_os("MEDSYNC_BLESS").is_some() {
            std::fs::write(&path, &json).expect("it can be written");
        }
        let tracked = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            tracked == json,
            "{path} differs; MEDSYNC_BLESS writes it anew"
        );
    }
}
