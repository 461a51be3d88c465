//! A party's own node: installing the app, opening and joining circles, and what is pinned.
//!
//! Nothing here is idempotent on the node's side except installing and joining: an `open` that is
//! cut off leaves an empty group or context behind, which costs a few kilobytes and harms nobody.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use medsync_protocol::ids::{ContextId, MemberId, UnixSeconds};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use url::Url;

use super::abi;
use super::calls::NodeCircle;
use super::convert;
use super::error::SourceError;
use super::http::{Http, Limits};
use super::model::{CircleState, CustodianPins, Pin};
use super::names::{
    ApplicationId, Base58, BlobId, GroupId, NamespaceId, StateHash, to_base58,
};
use super::{Circle, SourceResult};
use crate::seams::{Clock, SystemClock};

/// The largest group invitation, in bytes of JSON; a real one has about one kilobyte.
const INVITATION_BYTES_MAX: usize = 64 * 1024;
/// The most members of a group that are read, and how many at once. A circle has a handful.
const MEMBERS_MAX: usize = 1_000;
const MEMBERS_PAGE_LEN: usize = 100;
/// How long a circle that was joined may take to arrive, and how often it is looked for.
const ARRIVES_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One party's Calimero node. Clones share one connection and one token.
#[derive(Clone)]
pub struct CalimeroNode {
    http: Arc<Http>,
}

/// The app on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Under which name this node knows it; another node may know it under another.
    pub application: ApplicationId,
    /// Its wasm, by content.
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
    /// The app on this node.
    pub application: ApplicationId,
    /// Its wasm.
    pub bytecode: BlobId,
}

/// A context on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeContext {
    /// The context.
    pub context: ContextId,
    /// Its group, if it is in one.
    pub group: Option<GroupId>,
    /// The application that it is bound to.
    pub application: ApplicationId,
    /// The hash of its state on this node.
    pub state: StateHash,
}

/// Most answers wrap what they say.
#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContextAnswer {
    id: Base58,
    application_id: ApplicationId,
    context_state_hash: StateHash,
    #[serde(default)]
    group_id: Option<GroupId>,
}

impl From<ContextAnswer> for NodeContext {
    fn from(answer: ContextAnswer) -> Self {
        Self {
            context: ContextId(answer.id.0),
            group: answer.group_id,
            application: answer.application_id,
            state: answer.context_state_hash,
        }
    }
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
        Ok(Self { http: Arc::new(Http::new(api, credential, limits)?) })
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    /// One circle on this node, whether it is there or not.
    #[must_use]
    pub fn circle(&self, context: ContextId) -> NodeCircle {
        NodeCircle::new(self.clone(), context)
    }

    /// Whether the node answers and takes the credential; with how many peers it is connected.
    ///
    /// # Errors
    /// [`SourceError`], as every method here.
    pub async fn peers(&self) -> SourceResult<usize> {
        #[derive(Deserialize)]
        struct Answer {
            count: usize,
        }
        Ok(self.http.get::<Answer>("/admin-api/peers").await?.count)
    }

    /// Installs the app from a file that the node can read too; again is the same.
    ///
    /// # Errors
    /// Also if the node keeps other bytes than those of the file.
    pub async fn install_app(&self, wasm: &Path) -> SourceResult<Installed> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            application_id: ApplicationId,
        }
        const CALL: &str = "/admin-api/install-dev-application";
        let bytes = crate::files::read_bounded(wasm, WASM_BYTES_MAX)?;
        let body = json!({ "path": wasm, "metadata": [] });
        let Data { data: Answer { application_id } } = self.http.post(CALL, &body).await?;
        let bytecode = self.bytecode(application_id).await?;
        if bytecode != BlobId::of(&bytes) {
            return Err(SourceError::malformed(CALL, "the node installed other bytes"));
        }
        Ok(Installed { application: application_id, bytecode })
    }

    async fn bytecode(&self, application: ApplicationId) -> SourceResult<BlobId> {
        #[derive(Deserialize)]
        struct Answer {
            application: Option<Application>,
        }
        #[derive(Deserialize)]
        struct Application {
            blob: Blob,
        }
        #[derive(Deserialize)]
        struct Blob {
            bytecode: BlobId,
        }
        let path = format!("/admin-api/applications/{application}");
        let Data { data } = self.http.get::<Data<Answer>>(&path).await?;
        match data.application {
            Some(application) => Ok(application.blob.bytecode),
            None => Err(SourceError::malformed(path, "the application is not there")),
        }
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
        let Data { data } = self.http.post::<Data<Answer>>("/admin-api/namespaces", &body).await?;
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
        let Installed { application, bytecode } = self.install_app(wasm).await?;
        let groups = format!("/admin-api/namespaces/{namespace}/groups");
        let Data { data: Group { group_id } } = self.http.post(&groups, &json!({})).await?;
        let init = abi::init(&convert::pins_to_abi(pins)).to_string();
        let body = json!({
            "applicationId": application,
            "groupId": group_id,
            "initializationParams": init.as_bytes(),
        });
        let Data { data } = self.http.post::<Data<Context>>("/admin-api/contexts", &body).await?;
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
        let _: Value = self.http.post("/admin-api/groups/join", &body).await?;
        let path = format!("/admin-api/contexts/{}/join", to_base58(&context.0));
        let Data { data } = self.http.post::<Data<Answer>>(&path, &Value::Null).await?;
        Ok(MemberId(data.member_public_key.0))
    }

    /// Waits for the state of a circle that was joined.
    ///
    /// # Errors
    /// [`SourceError::NotReady`] if it does not arrive in two minutes.
    pub async fn wait_until_synced(
        &self,
        circle: &NodeCircle,
    ) -> SourceResult<(CircleState, Pin)> {
        let until = Instant::now() + ARRIVES_WITHIN;
        loop {
            match circle.circle().await {
                Ok(state) => return Ok((state, circle.pin().await?)),
                Err(error) if error.is_retry() && Instant::now() < until => {}
                Err(error) => return Err(error),
            }
            self.sync(circle.context()).await?;
            sleep(LOOK_EVERY).await;
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

    /// This node's member key in a context.
    ///
    /// # Errors
    /// [`SourceError::NotMember`] if it has none.
    pub async fn member(&self, context: ContextId) -> SourceResult<MemberId> {
        #[derive(Deserialize)]
        struct Answer {
            identities: Vec<Base58>,
        }
        let path = format!("/admin-api/contexts/{}/identities-owned", to_base58(&context.0));
        let Data { data } = self.http.get::<Data<Answer>>(&path).await?;
        match data.identities.first() {
            Some(member) => Ok(MemberId(member.0)),
            None => Err(SourceError::NotMember { call: path, reason: "no member key".into() }),
        }
    }

    /// Every context on this node.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn contexts(&self) -> SourceResult<Vec<NodeContext>> {
        #[derive(Deserialize)]
        struct Answer {
            contexts: Vec<ContextAnswer>,
        }
        let Data { data } = self.http.get::<Data<Answer>>("/admin-api/contexts").await?;
        Ok(data.contexts.into_iter().map(NodeContext::from).collect())
    }

    /// The members of a group that this node is in.
    ///
    /// # Errors
    /// [`SourceError::NotMember`] for another group.
    pub async fn members(&self, group: GroupId) -> SourceResult<BTreeSet<MemberId>> {
        #[derive(Deserialize)]
        struct Answer {
            members: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            identity: Base58,
        }
        let mut members = BTreeSet::new();
        for offset in (0..MEMBERS_MAX).step_by(MEMBERS_PAGE_LEN) {
            let path = format!(
                "/admin-api/groups/{group}/members?offset={offset}&limit={MEMBERS_PAGE_LEN}"
            );
            let page: Answer = self.http.get(&path).await?;
            let is_last = page.members.len() < MEMBERS_PAGE_LEN;
            members.extend(page.members.into_iter().map(|entry| MemberId(entry.identity.0)));
            if is_last {
                return Ok(members);
            }
        }
        let call = format!("/admin-api/groups/{group}/members");
        Err(SourceError::malformed(call, format!("more than {MEMBERS_MAX} members")))
    }

    pub(super) async fn context(&self, context: ContextId) -> SourceResult<NodeContext> {
        let path = format!("/admin-api/contexts/{}", to_base58(&context.0));
        match self.http.get::<Data<ContextAnswer>>(&path).await {
            Ok(Data { data }) if data.id.0 == context.0 => Ok(data.into()),
            Ok(_) => Err(SourceError::malformed(path, "it is about another context")),
            Err(SourceError::Node { status: 404, .. }) => {
                Err(SourceError::UnknownContext(context))
            }
            Err(error) => Err(error),
        }
    }

    /// What stands in [`Pin`].
    pub(super) async fn pin(&self, context: ContextId) -> SourceResult<Pin> {
        let id = to_base58(&context.0);
        let NodeContext { application, .. } = self.context(context).await?;
        let path = format!("/admin-api/contexts/{id}/group");
        let Data { data } = self.http.get::<Data<Option<GroupId>>>(&path).await?;
        let group = data.ok_or_else(|| SourceError::malformed(path, "it is in no group"))?;
        Ok(Pin {
            application,
            bytecode: self.group_bytecode(group, application).await?,
            group,
            members: self.members(group).await?,
        })
    }

    /// The wasm that a call of the group's contexts runs: what the group's admin wants; before
    /// the group's own state has arrived, what the application is.
    async fn group_bytecode(
        &self,
        group: GroupId,
        application: ApplicationId,
    ) -> SourceResult<BlobId> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            app_key: GroupId,
        }
        let path = format!("/admin-api/groups/{group}");
        let Data { data } = self.http.get::<Data<Answer>>(&path).await?;
        match data.app_key.0 {
            [0, ..] if data.app_key.0 == [0; 32] => self.bytecode(application).await,
            wanted => Ok(BlobId(wanted)),
        }
    }
}

/// The largest app that is installed, in bytes.
const WASM_BYTES_MAX: u64 = 16 * 1024 * 1024;

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
