//! Prints the consents of a circle, and writes the receipt of each that has one:
//! `consents API TOKEN_FILE CIRCLE FOLDER`. The file holds a token: the operator's of a home
//! (`operator.token`), or a session's, as `medsync login` prints it.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use medsync_client::wire::ConsentStage;
use medsync_client::{Client, ClientError};
use medsync_protocol::ids::ContextId;
use url::Url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut word = || {
        let usage = "usage: consents API TOKEN_FILE CIRCLE FOLDER";
        words.next().ok_or(usage)
    };
    let api: Url = word()?.parse()?;
    let token = fs::read_to_string(word()?)?;
    let circle: ContextId = word()?.parse()?;
    let folder = PathBuf::from(word()?);
    fs::create_dir_all(&folder)?;

    let client = Client::new(api)?.with_token(token.trim());
    let mut after = None;
    loop {
        let page = client.consents(circle, after.as_deref()).await?;
        for consent in page.consents {
            let (state, stage) = (consent.state, consent.stage);
            println!("{}: {state:?}, {stage:?}", consent.consent);
            if matches!(stage, ConsentStage::Anchored | ConsentStage::Revoked) {
                match client.receipt(circle, consent.consent).await {
                    Ok(receipt) => {
                        let file = folder.join(format!("{}.json", consent.consent));
                        fs::write(file, receipt.to_string())?;
                    }
                    // What the API cannot do, it says with what would be right.
                    Err(ClientError::Problem(problem)) => println!("  {}", problem.detail),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}
