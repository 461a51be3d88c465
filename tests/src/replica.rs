//! Replicas of the app: the built wasm in Calimero's runtime, over stores in memory.
//!
//! A replica does what a node does, without the network: it runs a method, signs the actions that
//! came of it with its member's key, keeps those signatures, and hands the actions on; others
//! apply them through the app's own sync entry point, where the storage layer checks them.
//! Nothing here uses the storage crate's `testing` feature, which would switch those checks off.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::OnceLock;

use calimero_primitives::identity::PrivateKey;
use calimero_runtime::logic::Outcome;
use calimero_runtime::store::{InMemoryStorage, Storage};
use calimero_runtime::{Engine, Module};
use calimero_storage::action::Action;
use calimero_storage::delta::StorageDelta;
use calimero_storage::entities::StorageType;
use calimero_storage::env::{RuntimeEnv, with_runtime_env};
use calimero_storage::interface::MainInterface;
use calimero_storage::store::Key;
use medsync_protocol::ids::{ContextId, MemberId};
use serde_json::Value;

/// A signature that storage left for the node to fill in.
const UNSIGNED: [u8; 64] = [0; 64];

/// What a call changed, as it travels to other replicas.
#[derive(Clone, Debug)]
pub struct Delta(pub Vec<Action>);

/// A refusal of the app.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Refused {
    /// The stable name.
    pub error: String,
    /// The text for people.
    pub message: String,
}

/// Checks that a call was refused for this reason.
///
/// # Panics
/// If it was not.
pub fn refused<T>(answer: Result<(Value, T), Refused>, error: &str) {
    match answer {
        Ok((answer, _)) => panic!("expected the refusal {error}, got {answer}"),
        Err(refused) => assert_eq!(refused.error, error, "{}", refused.message),
    }
}

/// One member's node.
pub struct Replica {
    store: Rc<RefCell<InMemoryStorage>>,
    key: PrivateKey,
    context: ContextId,
    /// The hash of the whole state after the last write.
    pub root_hash: Option<[u8; 32]>,
}

/// The app under test, compiled once.
///
/// # Panics
/// If the wasm is missing: build it with `scripts/build-app`, or name it in `MEDSYNC_APP_WASM`.
pub fn app() -> &'static Module {
    static APP: OnceLock<Module> = OnceLock::new();
    APP.get_or_init(|| {
        let path = wasm_path();
        let wasm = std::fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "the app's wasm is not at {} ({error}): run scripts/build-app, or set \
                 MEDSYNC_APP_WASM",
                path.display()
            )
        });
        Engine::default().compile(&wasm).expect("the wasm compiles")
    })
}

fn wasm_path() -> PathBuf {
    std::env::var_os("MEDSYNC_APP_WASM").map_or_else(
        || PathBuf::from(env!("MEDSYNC_ROOT")).join("target/app/medsync_app.wasm"),
        PathBuf::from,
    )
}

impl Replica {
    /// A member whose node knows nothing of the context yet.
    #[must_use]
    pub fn new(seed: u8, context: ContextId) -> Self {
        Self {
            store: Rc::default(),
            key: PrivateKey::from([seed; 32]),
            context,
            root_hash: None,
        }
    }

    /// Another member who got this replica's state as a snapshot.
    #[must_use]
    pub fn join(&self, seed: u8) -> Self {
        let mut joined = Self::new(seed, self.context);
        joined.store = Rc::new(RefCell::new(self.store.borrow().clone()));
        joined.root_hash = self.root_hash;
        joined
    }

    /// The member's name.
    #[must_use]
    pub fn member(&self) -> MemberId {
        MemberId(*self.key.public_key().digest())
    }

    /// The context that this is a replica of.
    #[must_use]
    pub fn context(&self) -> ContextId {
        self.context
    }

    /// The member's key, for those who forge.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Calls a method that writes.
    ///
    /// # Errors
    /// The app's refusal.
    ///
    /// # Panics
    /// If the call traps, which no argument may bring about.
    pub fn call(&mut self, method: &str, arguments: &Value) -> Result<(Value, Delta), Refused> {
        // A call that is refused leaves nothing behind, as on a node.
        let mut store = self.store.borrow().clone();
        let outcome = self.run(
            method,
            &serde_json::to_vec(arguments).expect("JSON"),
            &mut store,
        );
        let answer = answer(method, &outcome)?;
        *self.store.borrow_mut() = store;
        self.root_hash = outcome.root_hash.or(self.root_hash);
        let actions = seal(&self.store, self.context, &self.key, &outcome.artifact);
        Ok((answer, Delta(actions)))
    }

    /// Calls a method that reads.
    ///
    /// # Errors
    /// The app's refusal.
    ///
    /// # Panics
    /// If the call traps or writes.
    pub fn view(&self, method: &str, arguments: &Value) -> Result<Value, Refused> {
        let mut store = self.store.borrow().clone();
        let outcome = self.run(
            method,
            &serde_json::to_vec(arguments).expect("JSON"),
            &mut store,
        );
        assert!(
            outcome.artifact.is_empty(),
            "{method} is a view and wrote something"
        );
        answer(method, &outcome)
    }

    /// The error of a call that must trap, such as an `init` with a wrong argument.
    ///
    /// # Panics
    /// If the call succeeds.
    #[must_use]
    pub fn trap(&self, method: &str, arguments: &Value) -> String {
        let mut store = self.store.borrow().clone();
        let outcome = self.run(
            method,
            &serde_json::to_vec(arguments).expect("JSON"),
            &mut store,
        );
        match outcome.returns {
            Ok(_) => panic!("{method} was expected to trap"),
            Err(error) => error.to_string(),
        }
    }

    /// Applies what another replica did, through the app's own sync entry point.
    ///
    /// # Panics
    /// If applying traps: no peer may be able to bring that about, but for the one way that
    /// [`Replica::try_apply`] is for.
    pub fn apply(&mut self, delta: &Delta) {
        if let Err(trap) = self.try_apply(delta) {
            panic!("applying a delta failed: {trap}");
        }
    }

    /// Applies what a peer sent at which storage may end the whole delta, as it does at the
    /// deletion of what it does not know. Such a delta leaves nothing behind, as on a node.
    ///
    /// # Errors
    /// The trap.
    pub fn try_apply(&mut self, delta: &Delta) -> Result<(), String> {
        let artifact =
            borsh::to_vec(&StorageDelta::Actions(delta.0.clone())).expect("actions encode");
        let mut store = self.store.borrow().clone();
        let outcome = self.run("__calimero_sync_next", &artifact, &mut store);
        outcome.returns.map_err(|trap| trap.to_string())?;
        *self.store.borrow_mut() = store;
        self.root_hash = outcome.root_hash.or(self.root_hash);
        Ok(())
    }

    fn run(&self, method: &str, input: &[u8], store: &mut InMemoryStorage) -> Outcome {
        app()
            .run(
                self.context.0.into(),
                self.key.public_key(),
                method,
                input,
                store,
                None,
                None,
            )
            .expect("the runtime runs")
    }

    /// Signs what this member owns and nobody signed yet.
    pub fn sign(&self, actions: &mut [Action]) {
        sign(&self.key, actions);
    }

    /// Runs storage code over this replica's store, as a patched node would.
    pub fn with_storage<T>(&self, work: impl FnOnce() -> T) -> T {
        in_storage(&self.store, self.context, self.member(), work)
    }
}

/// Runs storage code over a store, in the name of a member.
pub fn in_storage<S: Storage + 'static, T>(
    store: &Rc<RefCell<S>>,
    context: ContextId,
    member: MemberId,
    work: impl FnOnce() -> T,
) -> T {
    let (read, write, remove) = (store.clone(), store.clone(), store.clone());
    let environment = RuntimeEnv::new(
        Rc::new(move |key: &Key| read.borrow().get(&key.to_bytes().to_vec())),
        Rc::new(move |key: Key, value: &[u8]| {
            write
                .borrow_mut()
                .set(key.to_bytes().to_vec(), value.to_vec())
                .is_some()
        }),
        Rc::new(move |key: &Key| {
            remove
                .borrow_mut()
                .remove(&key.to_bytes().to_vec())
                .is_some()
        }),
        context.0,
        member.0,
    );
    with_runtime_env(environment, work)
}

/// Signs what a call did in its member's name, and keeps the signatures in the store, as a node
/// does for peers that compare trees.
///
/// # Panics
/// If an entry that was just written is not there.
pub fn seal<S: Storage + 'static>(
    store: &Rc<RefCell<S>>,
    context: ContextId,
    key: &PrivateKey,
    artifact: &[u8],
) -> Vec<Action> {
    let mut actions = actions(artifact);
    sign(key, &mut actions);
    let member = MemberId(*key.public_key().digest());
    in_storage(store, context, member, || {
        for action in &actions {
            let (Action::Add { id, metadata, .. } | Action::Update { id, metadata, .. }) = action
            else {
                continue;
            };
            if let StorageType::User {
                signature_data: Some(_),
                ..
            } = metadata.storage_type
            {
                let kept =
                    MainInterface::update_signature_in_place(*id, metadata.storage_type.clone());
                assert!(
                    matches!(kept, Ok(true)),
                    "signature of {id} not kept: {kept:?}"
                );
            }
        }
    });
    actions
}

/// Signs what this member owns and nobody signed yet.
fn sign(key: &PrivateKey, actions: &mut [Action]) {
    let me = key.public_key();
    for action in actions {
        let at = match action {
            Action::Add { metadata, .. } | Action::Update { metadata, .. } => metadata.updated_at(),
            Action::DeleteRef { deleted_at, .. } => *deleted_at,
            Action::Compare { .. } => continue,
        };
        let Some(StorageType::User {
            owner,
            signature_data: Some(data),
        }) = domain(action)
        else {
            continue;
        };
        if *owner != me || data.signature != UNSIGNED {
            continue;
        }
        // The signature covers the nonce, which is the time of the write.
        data.nonce = at;
        let signature = key.sign(&action.payload_for_signing()).expect("signs");
        if let Some(StorageType::User {
            signature_data: Some(data),
            ..
        }) = domain(action)
        {
            data.signature = signature.to_bytes();
        }
    }
}

fn domain(action: &mut Action) -> Option<&mut StorageType> {
    match action {
        Action::Add { metadata, .. }
        | Action::Update { metadata, .. }
        | Action::DeleteRef { metadata, .. } => Some(&mut metadata.storage_type),
        Action::Compare { .. } => None,
    }
}

fn actions(artifact: &[u8]) -> Vec<Action> {
    if artifact.is_empty() {
        return Vec::new();
    }
    match borsh::from_slice(artifact).expect("an artifact is a delta") {
        StorageDelta::Actions(actions) => actions,
        other => panic!("a call made an unexpected delta: {other:?}"),
    }
}

fn answer(method: &str, outcome: &Outcome) -> Result<Value, Refused> {
    use calimero_runtime::errors::FunctionCallError;
    match &outcome.returns {
        Ok(None) => Ok(Value::Null),
        Ok(Some(bytes)) => Ok(serde_json::from_slice(bytes).expect("answers are JSON")),
        Err(FunctionCallError::ExecutionError(bytes)) => Err(serde_json::from_slice(bytes)
            .unwrap_or_else(|_| panic!("{method}: {}", String::from_utf8_lossy(bytes)))),
        Err(trap) => panic!("{method} trapped: {trap}"),
    }
}
