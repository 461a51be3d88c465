use super::*;
use crate::consent::tests::{grant, registry};
use crate::felt::Felt;
use crate::terms::tests::sample;
use crate::tree::{Sibling, Tree};
use alloc::string::ToString;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(crate) fn receipt() -> Receipt {
    let anchorer = Anchorer::from_felt(Felt::from(4711));
    let mut terms = sample();
    terms.custodian_address = AddressBytes::of(anchorer);
    let granted = grant(terms.digest().expect("sound terms"), anchorer);
    let mine = granted.commitment.leaf(&granted.signature);
    let leaves: Vec<Leaf> = (0u64..3)
        .map(|n| Leaf::from_felt(Felt::from(n + 1)))
        .chain([mine])
        .collect();
    let tree = Tree::build(&leaves).expect("four leaves");
    Receipt {
        registry: registry(),
        anchorer,
        terms,
        opening: granted.opening,
        signature: granted.signature,
        proof: tree.proof(3).expect("the fourth leaf"),
        root: tree.root(),
        block: Block {
            number: BlockNumber(7),
            hash: BlockHash::from_felt(Felt::from(70)),
        },
        stages: alloc::vec![
            StageTime {
                stage: Stage::Recorded,
                at: UnixSeconds(800)
            },
            StageTime {
                stage: Stage::Anchored,
                at: UnixSeconds(900)
            },
        ],
    }
}

fn chain() -> ChainFacts {
    ChainFacts {
        anchored_at: Some(UnixSeconds(900)),
        revoked_at: None,
        block_time: UnixSeconds(3_000),
    }
}

fn json_of(receipt: &Receipt) -> Value {
    serde_json::from_str(&receipt.to_json().expect("a sound receipt")).expect("JSON")
}

fn parse(value: &Value) -> Result<Receipt, ReceiptError> {
    Receipt::parse(value.to_string().as_bytes())
}

#[test]
fn a_receipt_reads_back_as_written_and_judges_valid() {
    let json = receipt().to_json().expect("a sound receipt");
    let read = Receipt::parse(json.as_bytes()).expect("what was written");
    assert_eq!(read, receipt());
    assert_eq!(read.judge(&chain(), UnixSeconds(1_000)), Ok(Verdict::Valid));
}

#[test]
fn a_receipt_that_could_not_be_read_is_not_written() {
    let mut receipt = receipt();
    receipt.stages = alloc::vec![receipt.stages[0]; RECEIPT_BYTES_MAX / 32];
    assert!(matches!(receipt.to_json(), Err(ReceiptError::TooLong(_))));
}

#[test]
fn a_time_beyond_the_block_has_no_verdict() {
    let error = JudgeError::BeyondBlock {
        at: UnixSeconds(3_001),
        block_time: UnixSeconds(3_000),
    };
    assert_eq!(receipt().judge(&chain(), UnixSeconds(3_001)), Err(error));
    assert_eq!(
        receipt().judge(&chain(), UnixSeconds(3_000)),
        Ok(Verdict::Expired)
    );
}

#[test]
fn each_malformed_receipt_has_its_own_error() {
    let sound = json_of(&receipt());
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut value = sound.clone();
        change(&mut value);
        parse(&value).expect_err("a broken receipt").to_string()
    };
    let text = sound.to_string();
    let truncated = Receipt::parse(&text.as_bytes()[..text.len() / 2]).expect_err("half a file");
    assert!(matches!(truncated, ReceiptError::Malformed(_)));
    let huge = alloc::vec![b' '; RECEIPT_BYTES_MAX + 1];
    assert_eq!(
        Receipt::parse(&huge),
        Err(ReceiptError::TooLong(RECEIPT_BYTES_MAX + 1))
    );

    let prime = "0x800000000000011000000000000000000000000000000000000000000000001";
    for (says, change) in [
        (
            "format is",
            &(|v: &mut Value| v["format"] = json!("x")) as &dyn Fn(&mut Value),
        ),
        ("unknown field", &|v| v["extra"] = json!(1)),
        ("missing field", &|v| {
            drop(v.as_object_mut().map(|o| o.remove("root")))
        }),
        ("not base64", &|v| v["terms"] = json!("*")),
        ("not terms", &|v| v["terms"] = json!("AQ==")),
        ("version", &|v| v["terms"] = json!("Ag==")),
        ("differ", &|v| {
            v["terms_readable"]["policy_uri"] = json!("https://other.example")
        }),
        ("not the custodian", &|v| v["anchorer"] = json!("0x1")),
        ("outside of a tree", &|v| v["proof"]["index"] = json!(4)),
        ("below the Stark prime", &|v| v["root"] = json!(prime)),
        ("never 0", &|v| v["opening"]["grantee"] = json!("0x0")),
        ("later than not_before", &|v| {
            v["opening"]["not_after"] = json!(1)
        }),
        ("leading zeros", &|v| v["opening"]["salt"] = json!("0x01")),
    ] {
        let error = broken(change);
        assert!(error.contains(says), "{says}: {error}");
    }
    let deep = broken(&|v| v["proof"]["siblings"] = json!(alloc::vec!["0x1"; 33]));
    assert!(deep.contains("at most 32"), "{deep}");
}

#[test]
fn what_was_changed_is_refused_by_the_verdict_that_names_it() {
    let at = UnixSeconds(1_500);
    let judge = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = receipt();
        change(&mut receipt);
        receipt.judge(&chain(), at)
    };
    assert_eq!(judge(&|_| ()), Ok(Verdict::Valid));
    let other_grantee = judge(&|r| r.opening.grantee = r.opening.patient_key);
    assert_eq!(other_grantee, Ok(Verdict::BadSignature));
    assert_eq!(
        judge(&|r| r.opening.not_after = UnixSeconds(9_999)),
        Ok(Verdict::BadSignature)
    );
    assert_eq!(
        judge(&|r| r.terms.policy_uri.push('x')),
        Ok(Verdict::BadSignature)
    );
    assert_eq!(
        judge(&|r| r.registry.chain_id = ChainId::from_felt(Felt::ONE)),
        Ok(Verdict::BadSignature)
    );
    assert_eq!(judge(&|r| r.proof.index = 2), Ok(Verdict::NotIncluded));
    assert_eq!(
        judge(&|r| r.proof.siblings.push(Sibling::from_felt(Felt::ZERO))),
        Ok(Verdict::NotIncluded)
    );
    // Signed again after the fact: as good a signature, but not the one that was anchored.
    let twin = judge(&|r| {
        let s = crate::signature::ORDER - r.signature.s.felt();
        r.signature.s = crate::signature::SignatureHalf::from_felt(s);
    });
    assert_eq!(twin, Ok(Verdict::NotIncluded));
}

#[test]
fn the_published_schema_describes_what_is_written_and_refuses_what_is_not() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/receipt-v1.schema.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let sound = json_of(&receipt());
    let errors: Vec<String> = validator
        .iter_errors(&sound)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    for field in [
        "format",
        "chain_id",
        "terms",
        "opening",
        "signature",
        "proof",
        "root",
        "block",
    ] {
        let mut broken = sound.clone();
        broken[field] = json!(1);
        assert!(!validator.is_valid(&broken), "{field}");
        broken.as_object_mut().expect("an object").remove(field);
        assert!(!validator.is_valid(&broken), "{field} removed");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        prop_assert!(Receipt::parse(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_is_refused_or_harmless(at: usize, byte: u8) {
        let mut json = receipt().to_json().expect("a sound receipt").into_bytes();
        let at = at % json.len();
        json[at] = byte;
        if let Ok(read) = Receipt::parse(&json) {
            let same = Receipt { block: receipt().block, stages: receipt().stages, ..read.clone() };
            if same != receipt() {
                let verdict = read.judge(&chain(), UnixSeconds(1_500));
                prop_assert_ne!(verdict, Ok(Verdict::Valid));
            }
        }
    }
}
