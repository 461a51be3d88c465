//! What a party's node has and says: contexts, members, and what is pinned.

use std::collections::{BTreeSet, HashMap};

use medsync_protocol::ids::{ContextId, MemberId};
use serde::Deserialize;

use super::SourceResult;
use super::error::SourceError;
use super::model::Pin;
use super::names::{ApplicationId, Base58, BlobId, GroupId, HexBlob, StateHash, to_base58};
use super::node::{CalimeroNode, Data};

/// The most members of a group that are read, and how many at once. A circle has a handful.
const MEMBERS_MAX: usize = 1_000;
const MEMBERS_PAGE_LEN: usize = 100;

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
    /// Whether the node answers and takes the credential; with how many peers it is connected.
    ///
    /// # Errors
    /// [`SourceError`], as every method here.
    pub async fn peers(&self) -> SourceResult<usize> {
        #[derive(Deserialize)]
        struct Answer {
            count: usize,
        }
        Ok(self.http().get::<Answer>("/admin-api/peers").await?.count)
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
        let path = format!(
            "/admin-api/contexts/{}/identities-owned",
            to_base58(&context.0)
        );
        let Data { data } = self.http().get::<Data<Answer>>(&path).await?;
        match data.identities.first() {
            Some(member) => Ok(MemberId(member.0)),
            None => Err(SourceError::NotMember {
                call: path,
                reason: "no member key".into(),
            }),
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
        let Data { data } = self
            .http()
            .get::<Data<Answer>>("/admin-api/contexts")
            .await?;
        Ok(data.contexts.into_iter().map(NodeContext::from).collect())
    }

    /// The state of each context on this node.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn states(&self) -> SourceResult<HashMap<ContextId, StateHash>> {
        let contexts = self.contexts().await?.into_iter();
        let states = contexts.map(|found| (found.context, found.state));
        Ok(states.collect())
    }

    /// The members of a group that this node is in. Of more than are read, those that were: they
    /// are too many for a circle by far, and whoever compares them sees it.
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
            let page: Answer = self.http().get(&path).await?;
            let is_last = page.members.len() < MEMBERS_PAGE_LEN;
            members.extend(
                page.members
                    .into_iter()
                    .map(|entry| MemberId(entry.identity.0)),
            );
            if is_last {
                break;
            }
        }
        Ok(members)
    }

    pub(super) async fn context(&self, context: ContextId) -> SourceResult<NodeContext> {
        let path = format!("/admin-api/contexts/{}", to_base58(&context.0));
        match self.http().get::<Data<ContextAnswer>>(&path).await {
            Ok(Data { data }) if data.id.0 == context.0 => Ok(data.into()),
            Ok(_) => Err(SourceError::malformed(path, "it is about another context")),
            Err(SourceError::Node { status: 404, .. }) => Err(SourceError::UnknownContext(context)),
            Err(error) => Err(error),
        }
    }

    /// What stands in [`Pin`].
    pub(super) async fn pin(&self, context: ContextId) -> SourceResult<Pin> {
        let id = to_base58(&context.0);
        let NodeContext { application, .. } = self.context(context).await?;
        let path = format!("/admin-api/contexts/{id}/group");
        let Data { data } = self.http().get::<Data<Option<GroupId>>>(&path).await?;
        Ok(match data {
            Some(group) => Pin {
                application,
                bytecode: self.group_bytecode(group, application).await?,
                group: Some(group),
                members: self.members(group).await?,
            },
            None => Pin {
                application,
                bytecode: self.bytecode(application).await?,
                group: None,
                members: BTreeSet::new(),
            },
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
            app_key: HexBlob,
        }
        let path = format!("/admin-api/groups/{group}");
        let Data { data } = self.http().get::<Data<Answer>>(&path).await?;
        if data.app_key.0 == [0; 32] {
            return self.bytecode(application).await;
        }
        Ok(BlobId(data.app_key.0))
    }

    pub(super) async fn bytecode(&self, application: ApplicationId) -> SourceResult<BlobId> {
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
        let Data { data } = self.http().get::<Data<Answer>>(&path).await?;
        match data.application {
            Some(application) => Ok(application.blob.bytecode),
            None => Err(SourceError::malformed(path, "the application is not there")),
        }
    }
}
