use super::*;
use crate::codes::Code;
use crate::decide::RequestError;
use crate::felt::Felt;
use crate::ids::UnixSeconds;
use crate::receipt::BlockAt;
use crate::receipt::tests::receipt;
use crate::receipt::{BlockHash, BlockNumber};
use crate::verdict::Verdict;
use alloc::string::ToString;
use alloc::vec;

fn beliefs() -> Beliefs {
    Beliefs {
        registry: receipt().registry,
        class_hash: ClassHash::from_felt(Felt::ONE),
        custodians: vec![receipt().anchorer],
        block_age_s_max: 100,
    }
}

/// The receipt's consent is valid from 1,000 to before 2,000 and anchored at 900.
fn seen(time: u64) -> Seen {
    Seen {
        chain_id: receipt().registry.chain_id,
        class_hash: ClassHash::from_felt(Felt::ONE),
        anchored_at: Some(UnixSeconds(900)),
        revoked_at: None,
        block: BlockAt {
            number: BlockNumber(8),
            hash: BlockHash::from_felt(Felt::from(80)),
            time: UnixSeconds(time),
        },
    }
}

fn offline() -> Offline {
    Offline::of(receipt()).expect("sound terms")
}

fn hear(at: Option<u64>, now: u64, seen: &[Seen]) -> Result<Report, NoVerdict> {
    let (beliefs, offline) = (beliefs(), offline());
    let now = UnixSeconds(now);
    let mut hearing = Hearing::open(&beliefs, &offline, at.map(UnixSeconds), now);
    for one in seen {
        hearing.hear(one)?;
    }
    hearing.close()
}

#[test]
fn a_receipt_is_accepted_by_beliefs_alone() {
    let json = receipt().to_json().expect("sound");
    assert_eq!(beliefs().accept(json.as_bytes()), Ok(receipt()));
    let mut other = beliefs();
    other.registry.registry = ContractAddress::from_felt(Felt::THREE);
    assert!(matches!(
        other.accept(json.as_bytes()),
        Err(Refusal::OtherRegistry { own, .. }) if *own == other.registry
    ));
    let mut other = beliefs();
    other.custodians = Vec::new();
    assert_eq!(
        other.accept(json.as_bytes()),
        Err(Refusal::OtherCustodian(receipt().anchorer))
    );
    assert!(matches!(
        beliefs().accept(&json.as_bytes()[1..]),
        Err(Refusal::Receipt(ReceiptError::Malformed(_)))
    ));
}

#[test]
fn a_report_says_what_the_receipt_itself_would_judge() {
    let report = hear(None, 1_550, &[seen(1_500)]).expect("a verdict");
    assert_eq!(
        (report.verdict, report.at),
        (Verdict::Valid, UnixSeconds(1_500))
    );
    assert!(report.checks.iter().all(|check| check.holds));
    let names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    assert_eq!(
        names,
        [
            CheckName::Signed,
            CheckName::Anchored,
            CheckName::Included,
            CheckName::NotRevoked,
            CheckName::Current
        ]
    );
    let mut revoked = seen(1_500);
    revoked.revoked_at = Some(UnixSeconds(1_200));
    for at in [899, 950, 1_199, 1_200, 1_500] {
        let report = hear(Some(at), 1_550, &[revoked]).expect("a verdict");
        let chain = crate::receipt::ChainFacts {
            anchored_at: revoked.anchored_at,
            revoked_at: revoked.revoked_at,
            block_time: revoked.block.time,
        };
        assert_eq!(Ok(report.verdict), receipt().judge(&chain, UnixSeconds(at)));
    }
}

#[test]
fn a_bad_signature_is_certain_without_a_chain() {
    assert_eq!(offline().certain(), None);
    let mut forged = receipt();
    forged.opening.not_after = UnixSeconds(0);
    let forged = Offline::of(forged).expect("sound terms");
    assert_eq!(forged.certain(), Some(Verdict::BadSignature));
    let holds: Vec<_> = forged
        .checks(UnixSeconds(1_500))
        .iter()
        .map(|c| c.holds)
        .collect();
    assert_eq!(holds, [false, false, true]);
}

#[test]
fn nothing_is_concluded_from_a_chain_that_is_not_believed() {
    let mut other = seen(1_500);
    other.chain_id = ChainId::from_felt(Felt::TWO);
    let refused = hear(None, 1_550, &[other]);
    assert!(matches!(refused, Err(NoVerdict::OtherChain { .. })));
    let mut other = seen(1_500);
    other.class_hash = ClassHash::from_felt(Felt::TWO);
    let refused = hear(None, 1_550, &[other]);
    assert!(matches!(refused, Err(NoVerdict::OtherClass { .. })));
    let refused = hear(None, 1_601, &[seen(1_500)]);
    assert!(matches!(refused, Err(NoVerdict::OldBlock { .. })));
    let refused = hear(Some(1_501), 1_550, &[seen(1_500)]);
    assert!(matches!(refused, Err(NoVerdict::Judge(_))));
    assert_eq!(hear(None, 1_550, &[]), Err(NoVerdict::NoEndpoint));
}

#[test]
fn endpoints_have_to_agree_and_the_newest_block_is_told() {
    let report = hear(None, 1_550, &[seen(1_480), seen(1_500), seen(1_490)]);
    assert_eq!(report.expect("agreed").block, seen(1_500).block);
    let mut revoked = seen(1_500);
    revoked.revoked_at = Some(UnixSeconds(1_499));
    assert_eq!(
        hear(None, 1_550, &[seen(1_480), revoked]),
        Err(NoVerdict::Disagreement(Verdict::Valid, Verdict::Revoked))
    );
}

#[test]
fn a_question_is_asked_of_a_valid_consent_alone() {
    let report = hear(None, 1_550, &[seen(1_500)]).expect("a verdict");
    let receipt = receipt();
    let question = Question {
        purposes: vec![Code::new("none", "none")],
        classes: vec![Code::new("none", "none")],
        ..Question::default()
    };
    let decision = question.ask(&receipt, &report).expect("a question");
    assert!(decision.is_some());
    let none = Question::default().ask(&receipt, &report);
    assert_eq!(none, Err(RequestError::NoPurpose.into()));
    let expired = hear(Some(2_000), 2_050, &[seen(2_000)]).expect("a verdict");
    assert_eq!(question.ask(&receipt, &expired), Ok(None));
}

#[test]
fn a_configuration_is_bounded_and_names_somebody_to_ask() {
    let text = r#"{"rpc":["http://127.0.0.1:5050/"],"chain_id":"0x1","registry":"0x2",
        "class_hash":"0x3","custodians":["0x4"]}"#;
    let config = Config::parse(text.as_bytes()).expect("sound");
    assert_eq!(config.block_age_s_max, BLOCK_AGE_S_MAX);
    assert_eq!(config.beliefs().registry.chain_id.to_string(), "0x1");
    let nobody = text.replace(r#""http://127.0.0.1:5050/""#, "");
    assert_eq!(
        Config::parse(nobody.as_bytes()),
        Err(ConfigError::NoEndpoint)
    );
    let misspelt = text.replace("custodians", "custodian");
    assert!(matches!(
        Config::parse(misspelt.as_bytes()),
        Err(ConfigError::Malformed(_))
    ));
    let long = vec![b' '; CONFIG_BYTES_MAX + 1];
    assert_eq!(Config::parse(&long), Err(ConfigError::TooLong(long.len())));
}

#[test]
fn errors_cross_as_json_with_a_kind() {
    let refusal = Refusal::Receipt(ReceiptError::TooLong(9));
    assert_eq!(
        serde_json::to_value(&refusal).expect("JSON"),
        serde_json::json!({"kind": "receipt", "detail": {"kind": "too_long", "detail": 9}})
    );
}
