//! What a hospital's people do.

use medsync_protocol::ids::{ContextId, MemberId};
use medsync_protocol::ticket::PoolId;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::{Client, ClientError, done, paged, read};
use crate::wire::{
    AddedPool, Erased, ExpectedRecipient, Import, Invited, NewCircle, NewErasure, NewInvitation,
    NewPool,
};

impl Client {
    /// Opens a circle or an exchange.
    ///
    /// # Errors
    /// [`ClientError`]; it may be open all the same: [`Client::circles`] says so.
    pub async fn open(&self, new: &NewCircle) -> Result<Invited, ClientError> {
        read(self.ask(Method::POST, "v1/circles").json(new)).await
    }

    /// The invitation of a circle or exchange again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invite(
        &self,
        context: ContextId,
        asked: NewInvitation,
    ) -> Result<Invited, ClientError> {
        read(self.to(context, "invitations").json(&asked)).await
    }

    /// Says for which key an exchange is from now on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn expect_recipient(
        &self,
        exchange: ContextId,
        expected: ExpectedRecipient,
    ) -> Result<(), ClientError> {
        let path = format!("v1/circles/{exchange}/recipient");
        done(self.ask(Method::PUT, &path).json(&expected)).await
    }

    /// Lets a circle or exchange go on that an alarm stopped.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resume(&self, context: ContextId) -> Result<(), ClientError> {
        done(self.to(context, "resume")).await
    }

    /// Takes somebody out of a circle's or an exchange's group; whoever enrolled only if they
    /// `left`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove(
        &self,
        context: ContextId,
        member: MemberId,
        left: bool,
    ) -> Result<(), ClientError> {
        let path = format!("v1/circles/{context}/members/{member}");
        done(self.ask(Method::DELETE, &path).query(&[("left", left)])).await
    }

    /// Destroys the custodian's keys to a record, or to all of a circle. There is no way back.
    ///
    /// # Errors
    /// [`ClientError`]; done again it comes to its end.
    pub async fn erase(
        &self,
        circle: ContextId,
        erasure: &NewErasure,
    ) -> Result<Erased, ClientError> {
        read(self.to(circle, "erasures").json(erasure)).await
    }

    /// Begins to import a FHIR bundle; with `not_erased` also what a restored home does not know.
    ///
    /// # Errors
    /// [`ClientError`]; the same bundle again writes nothing twice.
    pub async fn import(
        &self,
        circle: ContextId,
        bundle: Vec<u8>,
        not_erased: bool,
    ) -> Result<Import, ClientError> {
        let asked = self.to(circle, "imports").body(bundle);
        let asked = asked.header(CONTENT_TYPE, "application/fhir+json");
        read(asked.query(&[("not_erased", not_erased)])).await
    }

    /// How far an import is, with what became of the resources after those of the page before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn import_report(
        &self,
        circle: ContextId,
        import: &str,
        after: Option<&str>,
    ) -> Result<Import, ClientError> {
        read(paged(self.of(circle, &format!("/imports/{import}")), after)).await
    }

    /// Issues tickets from a pool that is on the chain.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_pool(&self, new: &NewPool) -> Result<AddedPool, ClientError> {
        read(self.ask(Method::POST, "v1/pools").json(new)).await
    }

    /// Issues no more tickets from a pool.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn close_pool(&self, pool: PoolId) -> Result<(), ClientError> {
        done(self.ask(Method::POST, &format!("v1/pools/{pool}/close"))).await
    }
}
