//! Logs in as whoever enrolled in a circle, and prints its consents page by page:
//! `consents API CIRCLE KEY_FILE`, where the file holds the login key as `0x` and hexadecimal
//! digits.

use std::error::Error;
use std::path::PathBuf;

use medsync_client::Client;
use medsync_client::wire::LoginAs;
use medsync_protocol::ids::ContextId;
use medsync_protocol::signature::SecretKey;
use url::Url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let usage = "usage: consents API CIRCLE KEY_FILE";
    let api: Url = words.next().ok_or(usage)?.parse()?;
    let circle: ContextId = words.next().ok_or(usage)?.parse()?;
    let file = PathBuf::from(words.next().ok_or(usage)?);
    let text = std::fs::read_to_string(file)?;
    let scalar = medsync_protocol::felt::parse(text.trim())?.to_bytes_be();
    let login_key = SecretKey::from_scalar(&scalar)?;

    let mut client = Client::new(api)?;
    client.log_in(LoginAs::party_of(circle), &login_key).await?;
    let mut after = None;
    loop {
        let page = client.consents(circle, after.as_deref()).await?;
        for consent in page.consents {
            println!(
                "{}: {:?}, {:?}",
                consent.consent, consent.state, consent.stage
            );
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    client.log_out().await?;
    Ok(())
}
