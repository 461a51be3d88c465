//! The HTTP API of a party's `medsync`, from outside: what goes over it ([`wire`]), and a small
//! client of it.
//!
//! ```no_run
//! # async fn example() -> Result<(), medsync_client::ClientError> {
//! use medsync_client::{Client, wire::LoginAs};
//! use medsync_protocol::signature::SecretKey;
//!
//! # let (address, circle): (url::Url, medsync_protocol::ids::ContextId) = todo!();
//! # let login_key: SecretKey = todo!();
//! let mut client = Client::new(address)?;
//! client.log_in(LoginAs::party_of(circle), &login_key).await?;
//! for consent in client.consents(circle, None).await?.consents {
//!     println!("{}: {:?}", consent.consent, consent.state);
//! }
//! # Ok(())
//! # }
//! ```

mod client;
pub mod wire;

pub use client::{Client, ClientError};
