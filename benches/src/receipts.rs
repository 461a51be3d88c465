//! Receipt checks against the bare hashes and the bare signature check that they contain.

use anyhow::{Context, ensure};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{Grant, Registry, SignedGrant};
use medsync_protocol::ids::{
    AddressBytes, Anchorer, ChainId, ContextId, ContractAddress, MemberId, Nonce, Sha256Digest,
    UnixSeconds,
};
use medsync_protocol::receipt::{Block, BlockHash, BlockNumber, ChainFacts, Receipt};
use medsync_protocol::secrets::{Counter, DeviceNumber, Seed};
use medsync_protocol::signature::SecretKey;
use medsync_protocol::terms::{Provision, ProvisionKind, Terms};
use medsync_protocol::tree::Tree;
use medsync_protocol::verdict::Verdict;
use starknet_types_core::felt::Felt;
use starknet_types_core::hash::{Poseidon, StarkHash};

use crate::report::{Figure, Report};
use crate::timing::{Clock, nanoseconds, repeat, shortest};
use crate::trees;

/// Checks in one turn.
const CHECKS: usize = 20;
const AT: UnixSeconds = UnixSeconds(1_500);
const CHAIN: ChainFacts = ChainFacts {
    anchored_at: Some(UnixSeconds(1_000)),
    revoked_at: None,
    block_time: UnixSeconds(2_000),
};
/// The felts that enter a check's three long hashes: commitment, grant message and leaf.
const LONG_HASHES: [usize; 3] = [10, 4, 4];

/// Measures the check of a receipt from a small and from a large batch.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    for depth in [10, 17] {
        measure_at(report, depth)?;
    }
    Ok(())
}

fn measure_at(report: &mut Report, depth: usize) -> anyhow::Result<()> {
    report.measuring(&format!("receipts from batches of 2^{depth}"));
    let receipt = receipt(depth)?;
    let json = receipt.to_json()?;
    let verdict = Receipt::parse(json.as_bytes())?.judge(&CHAIN, AT)?;
    ensure!(verdict == Verdict::Valid, "the receipt is {verdict:?}");

    let felts = [Felt::MAX; 10];
    let message = receipt.commitment()?.grant_message(receipt.registry);
    let (key, signature) = (receipt.opening.patient_key, receipt.signature);
    let bare_hashes = || {
        let mut sum = Felt::ZERO;
        for length in LONG_HASHES {
            sum += Poseidon::hash_array(&felts[..length]);
        }
        for _ in 0..depth {
            sum = Poseidon::hash(&sum, &Felt::TWO);
        }
        sum
    };
    let bare_signature = || {
        let (r, s) = (signature.r.felt(), signature.s.felt());
        starknet_crypto::verify(&key.felt(), &message.felt(), &r, &s).is_ok_and(|is_good| is_good)
    };
    let times = shortest(
        Clock::Thread,
        [
            &mut || repeat(CHECKS, |_| bare_hashes()),
            &mut || repeat(CHECKS, |_| bare_signature()),
            &mut || repeat(CHECKS, |_| receipt.judge(&CHAIN, AT)),
            &mut || repeat(CHECKS, |_| Receipt::parse(json.as_bytes())),
        ],
    );
    let [hashes, signature, judge, parse] = times.map(|time| nanoseconds(time, CHECKS) / 1e3);
    add(report, depth, [hashes, signature, judge, parse]);
    Ok(())
}

fn add(report: &mut Report, depth: usize, times: [f64; 4]) {
    let [hashes, signature, judge, parse] = times;
    let size = 1usize << depth;
    let how = "20 checks of one receipt; shortest of turns with what it contains";
    let name = |what: &str| format!("{what}_{size}");
    let bare = format!(
        "its signature check and {} hashes, bare",
        depth + LONG_HASHES.len()
    );
    let figure = Figure::new(name("receipt_check"), "us", judge, how);
    report.add(figure.against(bare, hashes + signature));
    let how_bare = "the same inputs without the protocol around them; shortest of turns";
    let check = name("receipt_check");
    let figure = Figure::new(name("receipt_bare_hashes"), "us", hashes, how_bare);
    report.add(figure.against(&check, judge));
    let figure = Figure::new(name("receipt_bare_signature"), "us", signature, how_bare);
    report.add(figure.against(&check, judge));
    let how = "from JSON, with terms and proof checked for form; shortest of turns";
    let figure = Figure::new(name("receipt_parse"), "us", parse, how);
    report.add(figure.against(&check, judge));
}

/// A signed consent in the middle of a batch of 2^depth leaves.
fn receipt(depth: usize) -> anyhow::Result<Receipt> {
    let anchorer = Anchorer::from_felt(Felt::from(4711));
    let registry = Registry {
        chain_id: ChainId::named("SN_SEPOLIA").context("a short string")?,
        registry: ContractAddress::from_felt(Felt::from(77)),
    };
    let terms = terms(anchorer)?;
    let granted = granted(registry, anchorer, terms.digest()?)?;
    let mut leaves = trees::leaves(1 << depth);
    let index = leaves.len() / 2;
    leaves[index] = granted.commitment.leaf(&granted.signature);
    let tree = Tree::build(&leaves)?;
    Ok(Receipt {
        registry,
        anchorer,
        terms,
        opening: granted.opening,
        signature: granted.signature,
        proof: tree.proof(index as u64).context("a leaf of the tree")?,
        root: tree.root(),
        block: Block {
            number: BlockNumber(7),
            hash: BlockHash::from_felt(Felt::from(70)),
        },
        stages: Vec::new(),
    })
}

fn granted(
    registry: Registry,
    anchorer: Anchorer,
    terms: Sha256Digest,
) -> anyhow::Result<SignedGrant> {
    let (patient, recipient) = (
        SecretKey::from_scalar(&[3; 32])?,
        SecretKey::from_scalar(&[4; 32])?,
    );
    let grant = Grant {
        terms,
        anchorer,
        grantee: recipient.public_key(),
        not_before: UnixSeconds(1_000),
        not_after: UnixSeconds(0),
    };
    let seed = Seed::from_bytes(&[5; 32])?;
    Ok(grant.sign(registry, &patient, &seed, DeviceNumber(0), Counter(0))?)
}

fn terms(anchorer: Anchorer) -> anyhow::Result<Terms> {
    let code = |system: &str, code: &str| CodeSet::collect([Code::new(system, code)]);
    let purposes = code(
        "http://terminology.hl7.org/CodeSystem/v3-ActReason",
        "HRESCH",
    )?;
    let classes = code("http://hl7.org/fhir/resource-types", "Observation")?;
    Ok(Terms {
        version: 1,
        nonce: Nonce([1; 32]),
        context: ContextId([2; 32]),
        custodian_member: MemberId([3; 32]),
        custodian_address: AddressBytes::of(anchorer),
        policy_uri: "https://hospital.example/policies/research/v1".into(),
        policy_sha256: Sha256Digest([4; 32]),
        provision: Provision {
            purposes,
            classes,
            ..Provision::everything(ProvisionKind::Permit)
        },
        exceptions: Vec::new(),
    })
}
