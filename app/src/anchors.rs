//! Recording where a consent stands in a batch, and how far that batch is.
//!
//! A position is written before its batch goes out: with it a receipt can be made whatever
//! happens to the custodian's store. What the chain says follows in entries of its own.

use medsync_protocol::consent::Commitment;
use medsync_protocol::felt::{self, Felt};
use medsync_protocol::ids::ContextKind;
use medsync_protocol::secrets::Handle;
use medsync_protocol::tree::{Proof, Root, Sibling, DEPTH_MAX};

use crate::abi::{AnchorInput, Written};
use crate::circle::Circle;
use crate::consents::shard_of;
use crate::host;
use crate::layout::Kind;
use crate::members::Members;
use crate::positions::{AnchorBody, Block, News, Position};
use crate::refusal::Refusal;
use crate::standing::Standing;
use crate::store;
use crate::text::read;

/// The arguments of `record_anchor`, read.
struct Anchor {
    commitment: Commitment,
    handle: Handle,
    root: Root,
    proof: Proof,
    news: Option<News>,
}

impl Anchor {
    fn read(circle: &Circle, input: &AnchorInput) -> Result<Self, Refusal> {
        if input.siblings.len() > DEPTH_MAX {
            let (max, is) = (DEPTH_MAX, input.siblings.len());
            return Err(Refusal::TooLarge {
                field: "siblings",
                max,
                is,
            });
        }
        let siblings: Result<Vec<Sibling>, Refusal> = input
            .siblings
            .iter()
            .map(|sibling| read("siblings", sibling))
            .collect();
        let proof = Proof {
            index: input.index,
            siblings: siblings?,
        };
        proof.check()?;
        circle.check_anchorer(&input.anchorer)?;
        Ok(Self {
            commitment: read("commitment", &input.commitment)?,
            handle: read("handle", &input.handle)?,
            root: read("root", &input.root)?,
            proof,
            news: read_news(input)?,
        })
    }

    fn is_at(&self, position: &Position) -> bool {
        position.commitment == self.commitment
            && position.root == self.root
            && position.proof == self.proof
    }

    fn position_body(&self, recorded_at: u64) -> AnchorBody {
        AnchorBody::Position {
            commitment: self.commitment.to_bytes(),
            root: self.root.to_bytes(),
            index: self.proof.index,
            siblings: self.proof.siblings.iter().map(Sibling::to_bytes).collect(),
            recorded_at,
        }
    }

    fn news_body(&self, news: News, recorded_at: u64) -> AnchorBody {
        AnchorBody::News {
            commitment: self.commitment.to_bytes(),
            root: self.root.to_bytes(),
            news,
            recorded_at,
        }
    }
}

fn read_news(input: &AnchorInput) -> Result<Option<News>, Refusal> {
    let stage = match input.stage.as_str() {
        "sealed" => return Ok(None),
        "submitted" => "submitted",
        "anchored" => "anchored",
        _ => {
            return Err(Refusal::malformed(
                "stage",
                "one of sealed, submitted, anchored",
            ))
        }
    };
    let Some(transaction) = &input.transaction_hash else {
        return Err(Refusal::StageNeeds {
            stage,
            needs: "transaction_hash",
        });
    };
    let transaction = read_hash("transaction_hash", transaction)?;
    if stage == "submitted" {
        return Ok(Some(News {
            transaction,
            block: None,
        }));
    }
    let (Some(number), Some(hash), Some(time)) =
        (input.block_number, &input.block_hash, input.block_time)
    else {
        let needs = "block_number, block_hash and block_time";
        return Err(Refusal::StageNeeds { stage, needs });
    };
    let block = Block {
        number,
        hash: read_hash("block_hash", hash)?,
        time,
    };
    Ok(Some(News {
        transaction,
        block: Some(block),
    }))
}

fn read_hash(field: &'static str, text: &str) -> Result<[u8; 32], Refusal> {
    felt::parse(text)
        .map(|value: Felt| value.to_bytes_be())
        .map_err(|error| Refusal::malformed(field, error))
}

/// Records where a consent stands in a batch, and how far that batch is.
pub fn record(input: &AnchorInput) -> Result<Written, Refusal> {
    let circle = Circle::load_as(ContextKind::Circle)?;
    let anchor = Anchor::read(&circle, input)?;
    let members = Members::load(&circle);
    if anchor.news.is_some() && !members.is_witness(&circle, host::executor()) {
        return Err(Refusal::NotAWitness);
    }
    let shard = shard_of(Kind::Anchors, anchor.handle);
    let standing = Standing::of_handle(&circle, &members, anchor.handle);
    let mut leaves = standing.leaves(anchor.commitment).peekable();
    if leaves.peek().is_none() {
        return Err(Refusal::UnknownConsent);
    }
    if !leaves.any(|leaf| anchor.proof.includes(leaf, anchor.root)) {
        return Err(Refusal::NotIncluded);
    }
    let now = host::now().0;
    let known = standing
        .positions()
        .iter()
        .find(|position| anchor.is_at(position));
    let key = match known {
        Some(position) => position.key,
        None => store::insert(Kind::Anchors, shard, &anchor.position_body(now))?,
    };
    let news = anchor
        .news
        .filter(|news| !known.is_some_and(|known| known.has_heard(*news)));
    if let Some(news) = news {
        store::insert(Kind::Anchors, shard, &anchor.news_body(news, now))?;
    }
    let existing = known.is_some() && news.is_none();
    Ok(Written {
        key: key.to_string(),
        existing,
    })
}
