//! What a hospital's people do: circles, invitations, members, erasures, pools.
//!
//! What was begun goes on to its end, also when nobody waits for the answer any more.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{
    AddedPool, Erased, ExpectedRecipient, Invited, NewCircle, NewErasure, NewInvitation, NewPool,
};
use medsync_protocol::ids::MemberId;
use medsync_protocol::signature::PublicKey;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::caller::who::{OPERATOR, STAFF};
use super::caller::{Asked, ForOperators, ForStaff, Named, Said, Theirs};
use super::imports::Imports;
use super::{Api, Problem};
use crate::custodian::{Custodian, CustodianError};

/// How many requests wait for their turn, and how long.
const WAITING_MAX: usize = 8;
const TURN_WAIT: Duration = Duration::from_secs(10);

/// A hospital, as its people reach it.
pub(super) struct Custody {
    custodian: Custodian,
    /// One of these is done at a time: some take seconds at the node.
    one: Arc<Semaphore>,
    /// Whoever waits for that takes a turn of those who are answered meanwhile: they are few.
    waiting: Semaphore,
    pub imports: Imports,
}

impl Custody {
    pub fn of(custodian: Custodian) -> Self {
        Self {
            custodian,
            one: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(WAITING_MAX),
            imports: Imports::default(),
        }
    }
}

impl Api {
    /// The same for a hospital, whose people open circles, invite, import and erase.
    #[must_use]
    pub fn with_custodian(mut self, custodian: Custodian) -> Self {
        self.custody = Some(Custody::of(custodian));
        self
    }

    /// Waits until what was begun here is done, but no longer than this; afterwards nothing begins.
    pub async fn settled(&self, wait: Duration) {
        let Some(custody) = &self.custody else {
            return;
        };
        let all = async {
            let _ = tokio::join!(custody.one.acquire(), custody.imports.one.acquire());
        };
        if timeout(wait, all).await.is_err() {
            tracing::warn!("what was begun by the API is cut off; whoever asked for it asks again");
        }
        custody.one.close();
        custody.imports.one.close();
    }

    pub(super) fn custody(&self) -> Result<&Custody, Problem> {
        let why = "this is a hospital's to do, and this home is not one's";
        let other = || Problem::of(StatusCode::CONFLICT, why);
        self.custody.as_ref().ok_or_else(other)
    }

    /// Whose log the hospital's own is, where this is one's.
    pub(super) fn custodian_author(&self) -> Option<PublicKey> {
        let custody = self.custody.as_ref()?;
        Some(custody.custodian.keys.author.public_key())
    }

    pub(super) fn custodian(&self) -> Result<Custodian, Problem> {
        Ok(self.custody()?.custodian.clone())
    }

    /// Does it in turn, to its end.
    async fn carry_out<T, W>(
        &self,
        does: impl FnOnce(Custodian) -> W + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, CustodianError>> + Send + 'static,
    {
        let stopping = |_| Problem::of(StatusCode::SERVICE_UNAVAILABLE, "this is about to stop");
        let custody = self.custody()?;
        let busy = || {
            let why = "others' circles are worked on; nothing was begun: ask again";
            Problem::of(StatusCode::SERVICE_UNAVAILABLE, why)
        };
        let waits = custody.waiting.try_acquire().map_err(|_| busy())?;
        let turn = timeout(TURN_WAIT, Arc::clone(&custody.one).acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(stopping)?;
        drop(waits);
        let custodian = custody.custodian.clone();
        let done = tokio::spawn(async move {
            let done = does(custodian).await;
            drop(turn);
            done
        });
        let broken = |_| Problem::of(StatusCode::INTERNAL_SERVER_ERROR, "the log says why");
        Ok(done.await.map_err(broken)??)
    }
}

/// Opens a circle for one patient, or an exchange with one recipient, with its invitation.
#[utoipa::path(
    post,
    path = "/v1/circles",
    tag = STAFF,
    request_body = NewCircle,
    security(("operator" = []), ("session" = [])),
    responses((status = 201, description = "It is open.", body = Invited), Problem)
)]
pub(super) async fn open(
    State(api): State<Arc<Api>>,
    _: ForStaff,
    Said(new): Said<NewCircle>,
) -> Result<(StatusCode, Json<Invited>), Problem> {
    let opened = api.carry_out(move |custodian| async move { custodian.open(new).await });
    Ok((StatusCode::CREATED, Json(opened.await?)))
}

/// The invitation of a circle or exchange again. Once its patient enrolled, a new one without the
/// one-time key, for a member whom the patient admits.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/invitations",
    tag = STAFF,
    params(("context" = String, Path, description = "The circle or exchange.")),
    request_body = NewInvitation,
    security(("operator" = []), ("session" = [])),
    responses((status = 201, description = "The invitation.", body = Invited), Problem)
)]
pub(super) async fn invite(
    State(api): State<Arc<Api>>,
    _: ForStaff,
    Theirs(row): Theirs,
    Said(asked): Said<NewInvitation>,
) -> Result<(StatusCode, Json<Invited>), Problem> {
    let context = row.context;
    let invited =
        api.carry_out(move |custodian| async move { custodian.invite(context, asked.hours).await });
    Ok((StatusCode::CREATED, Json(invited.await?)))
}

/// Says for which key an exchange is from now on, after its recipient said so.
#[utoipa::path(
    put,
    path = "/v1/circles/{context}/recipient",
    tag = OPERATOR,
    params(("context" = String, Path, description = "The exchange.")),
    request_body = ExpectedRecipient,
    security(("operator" = [])),
    responses((status = 204, description = "It is."), Problem)
)]
pub(super) async fn recipient(
    State(api): State<Arc<Api>>,
    _: ForOperators,
    Theirs(row): Theirs,
    Said(expected): Said<ExpectedRecipient>,
) -> Result<StatusCode, Problem> {
    let context = row.context;
    let done = api.carry_out(move |custodian| async move {
        custodian.expect_recipient(context, expected).await
    });
    done.await.map(|()| StatusCode::NO_CONTENT)
}

/// Lets a circle or exchange go on that an alarm stopped, if it is again what it was.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/resume",
    tag = OPERATOR,
    params(("context" = String, Path, description = "The circle or exchange.")),
    security(("operator" = [])),
    responses((status = 204, description = "It goes on."), Problem)
)]
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    _: ForOperators,
    Theirs(row): Theirs,
) -> Result<StatusCode, Problem> {
    let context = row.context;
    let done = api.carry_out(move |custodian| async move { custodian.resume(context).await });
    done.await.map(|()| StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct OneMember {
    member: String,
}

/// How somebody is taken out.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// It is whoever enrolled, and left: nothing comes from them any more.
    #[serde(default)]
    left: bool,
}

/// Takes somebody out of a circle's or an exchange's group whom nobody invited.
#[utoipa::path(
    delete,
    path = "/v1/circles/{context}/members/{member}",
    tag = OPERATOR,
    params(
        ("context" = String, Path, description = "The circle or exchange."),
        ("member" = String, Path, description = "The member's key."),
        Removal,
    ),
    security(("operator" = [])),
    responses((status = 204, description = "They are out."), Problem)
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    _: ForOperators,
    Theirs(row): Theirs,
    Named(OneMember { member }): Named<OneMember>,
    Asked(Removal { left }): Asked<Removal>,
) -> Result<StatusCode, Problem> {
    let member: MemberId = member
        .parse()
        .map_err(|error| Problem::wrong(format!("the member: {error}")))?;
    let context = row.context;
    let done = api
        .carry_out(move |custodian| async move { custodian.remove(context, member, left).await });
    done.await.map(|()| StatusCode::NO_CONTENT)
}

/// Destroys the hospital's keys to a record, or to all of a circle, and says so in its log. There
/// is no way back. The patient's own keys go on.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/erasures",
    tag = OPERATOR,
    params(("context" = String, Path, description = "The circle.")),
    request_body = NewErasure,
    security(("operator" = [])),
    responses((status = 200, description = "It is erased.", body = Erased), Problem)
)]
pub(super) async fn erase(
    State(api): State<Arc<Api>>,
    _: ForOperators,
    Theirs(row): Theirs,
    Said(erasure): Said<NewErasure>,
) -> Result<Json<Erased>, Problem> {
    let context = row.context;
    let erased =
        api.carry_out(move |custodian| async move { custodian.erase(context, erasure).await });
    Ok(Json(erased.await?))
}

/// Issues tickets from a pool that is on the chain.
#[utoipa::path(
    post,
    path = "/v1/pools",
    tag = OPERATOR,
    request_body = NewPool,
    security(("operator" = [])),
    responses((status = 201, description = "It issues.", body = AddedPool), Problem)
)]
pub(super) async fn add_pool(
    State(api): State<Arc<Api>>,
    _: ForOperators,
    Said(new): Said<NewPool>,
) -> Result<(StatusCode, Json<AddedPool>), Problem> {
    let added = api.carry_out(move |custodian| async move { custodian.add_pool(new).await });
    Ok((StatusCode::CREATED, Json(added.await?)))
}

#[derive(Deserialize)]
pub(super) struct OnePool {
    pool: String,
}

/// Issues no more tickets from a pool; those that are out stay good.
#[utoipa::path(
    post,
    path = "/v1/pools/{pool}/close",
    tag = OPERATOR,
    params(("pool" = String, Path, description = "The pool.")),
    security(("operator" = [])),
    responses((status = 204, description = "It issues no more."), Problem)
)]
pub(super) async fn close_pool(
    State(api): State<Arc<Api>>,
    _: ForOperators,
    Named(OnePool { pool }): Named<OnePool>,
) -> Result<StatusCode, Problem> {
    let pool = pool
        .parse()
        .map_err(|error| Problem::wrong(format!("the pool: {error}")))?;
    let done = api.carry_out(move |custodian| async move { custodian.close_pool(pool).await });
    done.await.map(|()| StatusCode::NO_CONTENT)
}
