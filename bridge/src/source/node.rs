//! A party's own node: installing the app, opening and joining circles.
//!
//! Nothing here is idempotent on the node's side except installing and joining: an `open` that is
//! cut off leaves an empty group or context behind, which costs a few kilobytes and harms nobody.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use medsync_protocol::ids::{ContextId, MemberId, UnixSeconds};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use url::Url;

use super::abi;
use super::calls::NodeCircle;
use super::convert;
use super::error::SourceError;
use super::http::{Http, Limits};
use super::model::{CircleState, CustodianPins, Pin};
use super::names::{ApplicationId, Base58, BlobId, GroupId, NamespaceId, to_base58};
use super::silence::Silence;
use super::{Circle, SourceResult, package};
use crate::files;
use crate::seams::{Clock, SystemClock};

/// The largest group invitation, in bytes of JSON; a real one has about one kilobyte.
const INVITATION_BYTES_MAX: usize = 64 * 1024;
/// The largest app that is installed, in bytes.
const WASM_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long the first answer of another node may take, which may be restarting just now.
const JOINS_WITHIN: Duration = Duration::from_secs(30);
/// How long a circle that was joined may take to arrive, and how often it is looked for.
const ARRIVES_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One party's Calimero node. Clones share one connection and one token.
#[derive(Clone)]
pub struct CalimeroNode {
    http: Arc<Http>,
    silence: Arc<Silence>,
}

/// The app on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its name, which is the same for every version of it.
    pub application: ApplicationId,
    /// This version, by content.
    pub bytecode: BlobId,
}

/// A circle that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedCircle {
    /// Its context.
    pub context: ContextId,
    /// Its group.
    pub group: GroupId,
    /// The custodian's member key in it.
    pub member: MemberId,
    /// The app.
    pub application: ApplicationId,
    /// Its version, by content.
    pub bytecode: BlobId,
}

/// What the admin of a party's groups does; a node, or a test's stand-in for one.
#[async_trait]
pub trait Groups: Send + Sync {
    /// See [`CalimeroNode::create_namespace`].
    async fn create_namespace(&self, wasm: &Path) -> SourceResult<NamespaceId>;

    /// See [`CalimeroNode::create_circle`].
    async fn create_circle(
        &self,
        namespace: NamespaceId,
        wasm: &Path,
        pins: &CustodianPins,
    ) -> SourceResult<OpenedCircle>;

    /// See [`CalimeroNode::invite`].
    async fn invite(&self, group: GroupId, expires_at: UnixSeconds) -> SourceResult<Value>;

    /// See [`CalimeroNode::remove_member`].
    async fn remove_member(&self, group: GroupId, member: MemberId) -> SourceResult<()>;
}

/// Most answers wrap what they say.
#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

impl CalimeroNode {
    /// The node at `api`, with the credential in a file that only its owner may read. Asks the
    /// node nothing yet.
    ///
    /// # Errors
    /// An address that a password may not be sent to, or a file that holds no credential.
    pub fn new(api: &Url, credential: &Path) -> SourceResult<Self> {
        Self::with_limits(api, credential, Limits::default())
    }

    pub(super) fn with_limits(api: &Url, credential: &Path, limits: Limits) -> SourceResult<Self> {
        Ok(Self {
            http: Arc::new(Http::new(api, credential, limits)?),
            silence: Arc::default(),
        })
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// How long it does not answer about a circle.
    #[must_use]
    pub fn silence(&self) -> &Silence {
        &self.silence
    }

    /// One circle on this node, whether it is there or not.
    #[must_use]
    pub fn circle(&self, context: ContextId) -> NodeCircle {
        NodeCircle::new(self.clone(), context)
    }

    /// Installs the app from a file; again is the same, and on every node the same.
    ///
    /// # Errors
    /// Also if the node keeps other bytes than those that it was given.
    pub async fn install_app(&self, wasm: &Path) -> SourceResult<Installed> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            application_id: ApplicationId,
        }
        const CALL: &str = "/admin-api/install-dev-application";
        let package = package::pack(&files::read_bounded(wasm, WASM_BYTES_MAX)?);
        // The node reads the file before it answers; then nobody needs it any more.
        let file = package::put(&package)?;
        let body = json!({ "path": file.path(), "metadata": [] });
        let Data { data } = self.http.post::<Data<Answer>>(CALL, &body).await?;
        let application = data.application_id;
        let bytecode = self.bytecode(application).await?;
        if bytecode != BlobId::of(&package) {
            return Err(SourceError::malformed(
                CALL,
                "the node installed other bytes",
            ));
        }
        Ok(Installed {
            application,
            bytecode,
        })
    }

    /// Makes a custodian's namespace, which will hold a group a patient. The file as in
    /// [`CalimeroNode::install_app`].
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn create_namespace(&self, wasm: &Path) -> SourceResult<NamespaceId> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            namespace_id: NamespaceId,
        }
        let Installed { application, .. } = self.install_app(wasm).await?;
        // Other policies push new code to members at once; this one waits for the next call,
        // before which the guard compares what it would run.
        let body = json!({ "applicationId": application, "upgradePolicy": "LazyOnAccess" });
        let Data { data } = self
            .http
            .post::<Data<Answer>>("/admin-api/namespaces", &body)
            .await?;
        Ok(data.namespace_id)
    }

    /// Opens a circle in a Restricted subgroup of its own.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn create_circle(
        &self,
        namespace: NamespaceId,
        wasm: &Path,
        pins: &CustodianPins,
    ) -> SourceResult<OpenedCircle> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Group {
            group_id: GroupId,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Context {
            context_id: Base58,
            member_public_key: Base58,
        }
        let Installed {
            application,
            bytecode,
        } = self.install_app(wasm).await?;
        let groups = format!("/admin-api/namespaces/{namespace}/groups");
        let Data {
            data: Group { group_id },
        } = self.http.post(&groups, &json!({})).await?;
        let init = abi::init(&convert::pins_to_abi(pins)).to_string();
        let body = json!({
            "applicationId": application,
            "groupId": group_id,
            "initializationParams": init.as_bytes(),
        });
        let Data { data } = self
            .http
            .post::<Data<Context>>("/admin-api/contexts", &body)
            .await?;
        Ok(OpenedCircle {
            context: ContextId(data.context_id.0),
            group: group_id,
            member: MemberId(data.member_public_key.0),
            application,
            bytecode,
        })
    }

    /// An invitation into a group: a bearer token, good for whoever holds it until it expires.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn invite(&self, group: GroupId, expires_at: UnixSeconds) -> SourceResult<Value> {
        #[derive(Deserialize)]
        struct Answer {
            invitation: Value,
        }
        let path = format!("/admin-api/groups/{group}/invite");
        // The field is called a timestamp and is a number of seconds from now.
        let seconds = expires_at.0.saturating_sub(SystemClock.now().0);
        let body = json!({ "expirationTimestamp": seconds });
        let Data { data } = self.http.post::<Data<Answer>>(&path, &body).await?;
        bounded(&data.invitation)?;
        Ok(data.invitation)
    }

    /// Joins a circle's group and its context; again is the same. Answers with this node's member
    /// key. Another node has to be reachable, and the app installed.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::NotMember`] for a context of another group.
    pub async fn join(&self, invitation: &Value, context: ContextId) -> SourceResult<MemberId> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            member_public_key: Base58,
        }
        bounded(invitation)?;
        let body = json!({ "invitation": invitation });
        let until = Instant::now() + JOINS_WITHIN;
        loop {
            self.reach_peers().await?;
            match self
                .http
                .post::<Value>("/admin-api/groups/join", &body)
                .await
            {
                Ok(_) => break,
                Err(error) if error.is_retry() && Instant::now() < until => {}
                Err(error) => return Err(error),
            }
            sleep(LOOK_EVERY).await;
        }
        let path = format!("/admin-api/contexts/{}/join", to_base58(&context.0));
        let Data { data } = self.http.post::<Data<Answer>>(&path, &Value::Null).await?;
        Ok(MemberId(data.member_public_key.0))
    }

    /// Under which member key this node will join a group, made now if there is none yet.
    ///
    /// Calimero makes a node's key for a group when it is first asked to do anything there: here to
    /// open a subgroup of it, which a node that does not know the group refuses.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn member_of(&self, group: GroupId, installed: &Installed) -> SourceResult<MemberId> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            public_key: Base58,
        }
        let path = format!("/admin-api/namespaces/{group}/identity");
        let known = match self.http.get::<Answer>(&path).await {
            Err(SourceError::Node { status: 404, .. }) => {
                let body = json!({
                    "applicationId": installed.application,
                    "parentGroupId": group,
                    "upgradePolicy": "LazyOnAccess",
                });
                match self
                    .http
                    .post::<IgnoredAny>("/admin-api/groups", &body)
                    .await
                {
                    Ok(_) | Err(SourceError::Node { .. }) => self.http.get(&path).await?,
                    Err(error) => return Err(error),
                }
            }
            known => known?,
        };
        Ok(MemberId(known.public_key.0))
    }

    /// Adds a member to a group, as its admin; again is the same.
    ///
    /// # Errors
    /// [`SourceError`], also of a node that is not the admin's.
    pub async fn add_member(&self, group: GroupId, member: MemberId) -> SourceResult<()> {
        let path = format!("/admin-api/groups/{group}/members");
        let identity = to_base58(&member.0);
        let body = json!({ "members": [{ "identity": identity, "role": "Member" }] });
        self.http.post::<IgnoredAny>(&path, &body).await.map(|_| ())
    }

    /// Removes a member from a group, as its admin; again is the same.
    ///
    /// # Errors
    /// [`SourceError`], also of a node that is not the admin's.
    pub async fn remove_member(&self, group: GroupId, member: MemberId) -> SourceResult<()> {
        let path = format!("/admin-api/groups/{group}/members/remove");
        let body = json!({ "members": [to_base58(&member.0)] });
        self.http.post::<IgnoredAny>(&path, &body).await.map(|_| ())
    }

    /// Leaves a group for good. A node that was invited into a group knows it as a namespace of its
    /// own.
    ///
    /// # Errors
    /// [`SourceError`], also of a node that is no member.
    pub async fn leave(&self, group: GroupId) -> SourceResult<()> {
        let path = format!("/admin-api/namespaces/{group}/leave");
        self.http
            .post::<IgnoredAny>(&path, &json!({}))
            .await
            .map(|_| ())
    }

    /// Waits for the state of a circle that was joined and runs the code that was `installed`; no
    /// other code is called.
    ///
    /// # Errors
    /// [`SourceError::NotReady`] if it does not arrive in two minutes.
    pub async fn wait_until_synced(
        &self,
        circle: &NodeCircle,
        installed: &Installed,
    ) -> SourceResult<(Option<CircleState>, Pin)> {
        let until = Instant::now() + ARRIVES_WITHIN;
        loop {
            match synced(circle, installed).await {
                Ok(state) => return Ok(state),
                Err(error) if error.is_retry() && Instant::now() < until => {}
                Err(error) => return Err(error),
            }
            // A sync that fails now is tried again with the next look.
            match self.sync(circle.context()).await {
                Err(error) if !error.is_retry() => return Err(error),
                _ => {}
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Lets a node that is connected with nobody dial the peers that it knows.
    ///
    /// Calimero dials its first peers when it starts, and then never if they went away meanwhile.
    /// A look-up in its Kademlia does: this one is for a blob that nobody has.
    ///
    /// # Errors
    /// [`SourceError`]. Having found nobody is none.
    pub async fn reach_peers(&self) -> SourceResult<()> {
        self.http.check_still_guarded().await?;
        if self.peers().await? > 0 {
            return Ok(());
        }
        let nothing = to_base58(&[0; 32]);
        let look_up = format!("/admin-api/blobs/{nothing}?context_id={nothing}");
        match self.http.get::<IgnoredAny>(&look_up).await {
            Ok(_) | Err(SourceError::Node { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks the node to compare a context with its peers now.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn sync(&self, context: ContextId) -> SourceResult<()> {
        let path = format!("/admin-api/contexts/sync/{}", to_base58(&context.0));
        let _: Value = self.http.post(&path, &Value::Null).await?;
        Ok(())
    }
}

#[async_trait]
impl Groups for CalimeroNode {
    async fn create_namespace(&self, wasm: &Path) -> SourceResult<NamespaceId> {
        Self::create_namespace(self, wasm).await
    }

    async fn create_circle(
        &self,
        namespace: NamespaceId,
        wasm: &Path,
        pins: &CustodianPins,
    ) -> SourceResult<OpenedCircle> {
        Self::create_circle(self, namespace, wasm, pins).await
    }

    async fn invite(&self, group: GroupId, expires_at: UnixSeconds) -> SourceResult<Value> {
        Self::invite(self, group, expires_at).await
    }

    async fn remove_member(&self, group: GroupId, member: MemberId) -> SourceResult<()> {
        Self::remove_member(self, group, member).await
    }
}

/// What a circle runs, and what it says if that is what was installed.
async fn synced(
    circle: &NodeCircle,
    installed: &Installed,
) -> SourceResult<(Option<CircleState>, Pin)> {
    let pin = circle.pin().await?;
    let is_ours = (pin.application, pin.bytecode) == (installed.application, installed.bytecode);
    let state = if is_ours {
        Some(circle.circle().await?)
    } else {
        None
    };
    Ok((state, pin))
}

/// Refuses an invitation that cannot be one by its size; what is in it is the nodes' matter.
fn bounded(invitation: &Value) -> SourceResult<()> {
    if invitation.to_string().len() > INVITATION_BYTES_MAX {
        return Err(SourceError::InputTooLarge {
            what: "a group invitation",
            bytes_max: INVITATION_BYTES_MAX,
        });
    }
    Ok(())
}
