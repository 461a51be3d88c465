//! Faults on demand: the nth call of a named operation fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happened.
    Failed,
    /// It happened, but the caller is told that it failed; or the caller died right after. The
    /// pipeline keeps nothing in memory, so that both are the same to it.
    FailedButTookEffect,
}

/// Which call fails, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    pub operation: &'static str,
    pub call: u32,
    pub fault: Fault,
}

/// How often each operation was called, and what is planned.
type Inner = (HashMap<&'static str, u32>, Vec<Plan>);

#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Inner>>);

impl Faults {
    pub fn planned(plans: Vec<Plan>) -> Self {
        Self(Arc::new(Mutex::new((HashMap::new(), plans))))
    }

    /// Counts a call; answers the fault that is planned for it.
    pub fn take(&self, operation: &'static str) -> Option<Fault> {
        let mut inner = self.0.lock().expect("one test");
        let count = inner.0.entry(operation).or_default();
        *count += 1;
        let call = *count;
        let plan = inner
            .1
            .iter()
            .find(|p| p.operation == operation && p.call == call);
        plan.map(|plan| plan.fault)
    }

    /// For calls that change nothing.
    pub fn before(&self, operation: &'static str) -> Result<(), ()> {
        if self.take(operation).is_some() {
            Err(())
        } else {
            Ok(())
        }
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: &'static str) -> u32 {
        self.0
            .lock()
            .expect("one test")
            .0
            .get(operation)
            .copied()
            .unwrap_or_default()
    }
}
