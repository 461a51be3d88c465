//! A key-value app that does nothing else. It is never installed: the size of its wasm is what any
//! app of this platform weighs, and what MedSync's is compared with.

use calimero_sdk::app;
use calimero_storage::collections::{LwwRegister, UnorderedMap};

/// Texts by name.
#[app::state]
pub struct Bare {
    items: UnorderedMap<String, LwwRegister<String>>,
}

#[app::logic]
impl Bare {
    /// An empty map.
    #[app::init]
    pub fn init() -> Self {
        Self {
            items: UnorderedMap::new(),
        }
    }

    /// Puts a text under a name.
    pub fn set(&mut self, key: String, value: String) -> app::Result<()> {
        self.items.insert(key, value.into())?;
        Ok(())
    }

    /// The text under a name.
    pub fn get(&self, key: String) -> app::Result<Option<String>> {
        Ok(self.items.get(&key)?.map(|value| value.get().clone()))
    }
}
