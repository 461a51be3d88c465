//! The client: one method a path.

use std::net::SocketAddr;
use std::time::Duration;

use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContextId, RecordId, Sha256Digest};
use medsync_protocol::messages::login_message;
use medsync_protocol::signature::{SecretKey, SignError};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use crate::wire::{
    AskedFor, BatchPage, Brought, BroughtClaim, Caller, Challenge, Circle, CirclePage, ConsentPage,
    LogCheck, LogHeadPage, LogPage, Login, LoginAs, NewAdmission, NewClaim, NewConsent,
    NewEnrolment, NewKeyChange, NewLogEntry, NewRequest, NewRevocation, Pools, PreviewPage,
    PreviewQuestion, Problem, ReceiptPage, RecordPage, Recorded, ReleasePage, RequestPage, Revoked,
    SealedPart, SealedRecord, SealedRelease, Session, Status, Tickets,
};

mod custodian;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long an answer may take; the API's own bound is shorter.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none of an API.
    #[error("{0} is no address of an API: http on this machine, or https")]
    Address(Url),
    /// What is to be trusted is no certificate.
    #[error("the authorities are no certificates in PEM")]
    NoAuthority,
    /// The API said what is wrong.
    #[error("{}", .0.detail)]
    Problem(Problem),
    /// Nobody answers, or not in time.
    #[error("the API cannot be reached: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// The answer is too long.
    #[error("an answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// The answer is not what it should be.
    #[error("an answer makes no sense: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The login key does not sign this challenge.
    #[error("the challenge cannot be signed: {0}; ask for another")]
    Sign(#[from] SignError),
}

/// By which way an API is reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way<'a> {
    /// At which address of this machine, whatever its name leads to.
    pub at: Option<SocketAddr>,
    /// Which authorities' certificates are believed in besides those that browsers know, in PEM.
    pub authorities: &'a [u8],
}

/// A program that asks, as one caller at a time.
pub struct Client {
    http: reqwest::Client,
    address: Url,
    token: Option<Zeroizing<String>>,
}

impl Client {
    /// Of an API at this address; nobody is logged in.
    ///
    /// # Errors
    /// An address over which a token would be seen by others.
    pub fn new(address: Url) -> Result<Self, ClientError> {
        Self::by(address, Way::default())
    }

    /// The same, by a way that has to be said.
    ///
    /// # Errors
    /// As [`Client::new`]; authorities that are none.
    pub fn by(address: Url, way: Way<'_>) -> Result<Self, ClientError> {
        let is_loopback = match address.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        let is_private = match address.scheme() {
            "https" => true,
            "http" => is_loopback,
            _ => false,
        };
        if !is_private {
            return Err(ClientError::Address(address));
        }
        let mut http = reqwest::Client::builder().redirect(Policy::none());
        // Nothing that is meant for this machine leaves it.
        if is_loopback || way.at.is_some() {
            http = http.no_proxy();
        }
        if let (Some(at), Some(name)) = (way.at, address.host_str()) {
            http = http.resolve(name, at);
        }
        let authorities = Certificate::from_pem_bundle(way.authorities)?;
        if authorities.is_empty() && !way.authorities.is_empty() {
            return Err(ClientError::NoAuthority);
        }
        for authority in authorities {
            http = http.add_root_certificate(authority);
        }
        let http = http.build()?;
        Ok(Self {
            http,
            address,
            token: None,
        })
    }

    /// Shows a token from now on: an operator's, or of a session that was opened elsewhere.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Zeroizing::new(token.to_owned()));
        self
    }

    /// Logs in by signing a challenge; the session's token is shown from now on.
    ///
    /// # Errors
    /// [`ClientError`]; also if the key is not the one by which this caller logs in.
    pub async fn log_in(
        &mut self,
        login_as: LoginAs,
        login_key: &SecretKey,
    ) -> Result<Session, ClientError> {
        let Challenge { nonce, expires } = read(self.ask(Method::POST, "v1/challenges")).await?;
        let origin = self.address.origin().ascii_serialization();
        let message = login_message(Sha256Digest::of(origin.as_bytes()), nonce, expires);
        let login = Login {
            login_as,
            origin,
            nonce,
            expires,
            signature: login_key.sign(message)?,
        };
        let session: Session = read(self.ask(Method::POST, "v1/sessions").json(&login)).await?;
        self.token = Some(Zeroizing::new(session.token.clone()));
        Ok(session)
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log_out(&mut self) -> Result<(), ClientError> {
        send(self.ask(Method::DELETE, "v1/session")).await?;
        self.token = None;
        Ok(())
    }

    /// Who asks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn caller(&self) -> Result<Caller, ClientError> {
        read(self.ask(Method::GET, "v1/session")).await
    }

    /// What is under way, and what hinders it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        read(self.ask(Method::GET, "v1/status")).await
    }

    /// Circles and exchanges, those after the last of the page before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn circles(&self, after: Option<&str>) -> Result<CirclePage, ClientError> {
        read(paged(self.ask(Method::GET, "v1/circles"), after)).await
    }

    /// A circle or exchange at a glance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn circle(&self, context: ContextId) -> Result<Circle, ClientError> {
        read(self.of(context, "")).await
    }

    /// The consents of a circle.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn consents(
        &self,
        circle: ContextId,
        after: Option<&str>,
    ) -> Result<ConsentPage, ClientError> {
        read(paged(self.of(circle, "/consents"), after)).await
    }

    /// Brings a consent into its circle that the patient signed.
    ///
    /// # Errors
    /// [`ClientError`]; it may be in the circle all the same, and brought again is the same one.
    pub async fn grant(
        &self,
        circle: ContextId,
        signed: &NewConsent,
    ) -> Result<Recorded, ClientError> {
        read(self.to(circle, "consents").json(signed)).await
    }

    /// Revokes a consent by what opens its handle. There is no way back.
    ///
    /// # Errors
    /// [`ClientError`]; it may be kept all the same, and brought again is the same one.
    pub async fn revoke(
        &self,
        circle: ContextId,
        opens: &NewRevocation,
    ) -> Result<Revoked, ClientError> {
        read(self.to(circle, "revocations").json(opens)).await
    }

    /// The receipt of an anchored consent, as its published schema says.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipt(
        &self,
        circle: ContextId,
        consent: Commitment,
    ) -> Result<serde_json::Value, ClientError> {
        read(self.of(circle, &format!("/consents/{consent}/receipt"))).await
    }

    /// The records of a circle, as they are described.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn records(
        &self,
        circle: ContextId,
        after: Option<&str>,
    ) -> Result<RecordPage, ClientError> {
        read(paged(self.of(circle, "/records"), after)).await
    }

    /// What a recipient would get now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn preview(
        &self,
        circle: ContextId,
        question: &PreviewQuestion,
    ) -> Result<PreviewPage, ClientError> {
        read(self.to(circle, "previews").json(question)).await
    }

    /// A record with its sealed payload, in its latest version or a named one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn record(
        &self,
        circle: ContextId,
        record: RecordId,
        version: Option<u32>,
    ) -> Result<SealedRecord, ClientError> {
        let asked = self.of(circle, &format!("/records/{record}"));
        read(match version {
            Some(version) => asked.query(&[("version", version)]),
            None => asked,
        })
        .await
    }

    /// A sealed part of a large payload.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn part(
        &self,
        context: ContextId,
        part: Sha256Digest,
    ) -> Result<SealedPart, ClientError> {
        read(self.of(context, &format!("/parts/{part}"))).await
    }

    /// A released record with its sealed payload, by its entry.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release(
        &self,
        exchange: ContextId,
        entry: &str,
    ) -> Result<SealedRelease, ClientError> {
        read(self.of(exchange, &format!("/releases/{entry}"))).await
    }

    /// Brings the next entry of its author's log.
    ///
    /// # Errors
    /// [`ClientError`]; brought again it is the same one.
    pub async fn say(
        &self,
        context: ContextId,
        entry: &NewLogEntry,
    ) -> Result<Brought, ClientError> {
        read(self.to(context, "log").json(entry)).await
    }

    /// Brings whom the patient admits.
    ///
    /// # Errors
    /// [`ClientError`]; brought again it is the same one.
    pub async fn admit(
        &self,
        circle: ContextId,
        admission: &NewAdmission,
    ) -> Result<Brought, ClientError> {
        read(self.to(circle, "admissions").json(admission)).await
    }

    /// Brings a change of whoever's key enrolled.
    ///
    /// # Errors
    /// [`ClientError`]; brought again it is the same one.
    pub async fn change_key(
        &self,
        context: ContextId,
        change: &NewKeyChange,
    ) -> Result<Brought, ClientError> {
        read(self.to(context, "key-changes").json(change)).await
    }

    /// Enrols whoever was invited.
    ///
    /// # Errors
    /// [`ClientError`]; brought again it is the same one.
    pub async fn enrol(
        &self,
        context: ContextId,
        enrolment: &NewEnrolment,
    ) -> Result<Brought, ClientError> {
        read(self.to(context, "enrolments").json(enrolment)).await
    }

    /// Log entries of a circle, the latest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log(
        &self,
        context: ContextId,
        after: Option<&str>,
    ) -> Result<LogPage, ClientError> {
        read(paged(self.of(context, "/log"), after)).await
    }

    /// Up to which entries the logs of a circle are in batches.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log_heads(
        &self,
        context: ContextId,
        after: Option<&str>,
    ) -> Result<LogHeadPage, ClientError> {
        read(paged(self.of(context, "/log/heads"), after)).await
    }

    /// What comes of checking every log of a circle.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn check_log(&self, context: ContextId) -> Result<LogCheck, ClientError> {
        read(self.of(context, "/log/check")).await
    }

    /// The requests of an exchange, the latest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn requests(
        &self,
        exchange: ContextId,
        after: Option<&str>,
    ) -> Result<RequestPage, ClientError> {
        read(paged(self.of(exchange, "/requests"), after)).await
    }

    /// Asks for a patient's records, in the name of the recipient whose home it is.
    ///
    /// # Errors
    /// [`ClientError`]; it may be asked all the same: [`Client::requests`] says so.
    pub async fn request(
        &self,
        exchange: ContextId,
        new: &NewRequest,
    ) -> Result<AskedFor, ClientError> {
        read(self.to(exchange, "requests").json(new)).await
    }

    /// What was released into an exchange.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn releases(
        &self,
        exchange: ContextId,
        after: Option<&str>,
    ) -> Result<ReleasePage, ClientError> {
        read(paged(self.of(exchange, "/releases"), after)).await
    }

    /// The receipts of an exchange.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipts(
        &self,
        exchange: ContextId,
        after: Option<&str>,
    ) -> Result<ReceiptPage, ClientError> {
        read(paged(self.of(exchange, "/receipts"), after)).await
    }

    /// The rewards that a circle's patient was promised.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tickets(&self, circle: ContextId) -> Result<Tickets, ClientError> {
        read(self.of(circle, "/tickets")).await
    }

    /// Brings a claim that the patient signed, to be sent to the chain.
    ///
    /// # Errors
    /// [`ClientError`]; it may be kept all the same, and brought again is the same one.
    pub async fn claim(
        &self,
        circle: ContextId,
        signed: &NewClaim,
    ) -> Result<BroughtClaim, ClientError> {
        read(self.to(circle, "claims").json(signed)).await
    }

    /// Batches, those after the last of the page before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn batches(&self, after: Option<&str>) -> Result<BatchPage, ClientError> {
        read(paged(self.ask(Method::GET, "v1/batches"), after)).await
    }

    /// The reward pools that the party knows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pools(&self) -> Result<Pools, ClientError> {
        read(self.ask(Method::GET, "v1/pools")).await
    }

    fn of(&self, context: ContextId, what: &str) -> RequestBuilder {
        self.ask(Method::GET, &format!("v1/circles/{context}{what}"))
    }

    fn to(&self, context: ContextId, what: &str) -> RequestBuilder {
        self.ask(Method::POST, &format!("v1/circles/{context}/{what}"))
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.address.clone();
        url.set_path(path);
        let asked = self.http.request(method, url).timeout(ANSWERS_WITHIN);
        match &self.token {
            Some(token) => asked.bearer_auth(token.as_str()),
            None => asked,
        }
    }
}

fn paged(asked: RequestBuilder, after: Option<&str>) -> RequestBuilder {
    match after {
        Some(after) => asked.query(&[("after", after)]),
        None => asked,
    }
}

/// Sends; what is no success is a problem.
async fn send(asked: RequestBuilder) -> Result<Response, ClientError> {
    let answer = asked.send().await?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(ClientError::Problem(serde_json::from_slice(
        &bytes(answer).await?,
    )?))
}

/// Sends what is answered without a word.
async fn done(asked: RequestBuilder) -> Result<(), ClientError> {
    send(asked).await.map(|_| ())
}

async fn read<T: DeserializeOwned>(asked: RequestBuilder) -> Result<T, ClientError> {
    Ok(serde_json::from_slice(&bytes(send(asked).await?).await?)?)
}

/// An answer's body, within its bound.
async fn bytes(mut answer: Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await? {
        bytes.extend_from_slice(&part);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(ClientError::TooLong);
        }
    }
    Ok(bytes)
}
