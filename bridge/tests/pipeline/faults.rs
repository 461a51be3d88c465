//! Faults on demand: the nth call of a named operation fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happened.
    Failed,
    /// It happened, but the caller is told that it failed.
    FailedButTookEffect,
    /// It happened, and the caller died right after: nothing works for it any more, until it is
    /// started again.
    Died,
}

/// Which call fails, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    pub operation: &'static str,
    pub call: u32,
    pub fault: Fault,
}

#[derive(Default)]
struct Inner {
    /// How often each operation was called.
    calls: HashMap<&'static str, u32>,
    plans: Vec<Plan>,
    is_dead: bool,
}

#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Inner>>);

impl Faults {
    pub fn planned(plans: Vec<Plan>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            plans,
            ..Inner::default()
        })))
    }

    /// Counts a call; answers the fault that is planned for it.
    pub fn take(&self, operation: &'static str) -> Option<Fault> {
        let mut inner = self.0.lock().expect("one test");
        if inner.is_dead {
            return Some(Fault::Failed);
        }
        let count = inner.calls.entry(operation).or_default();
        *count += 1;
        let call = *count;
        let plan = inner
            .plans
            .iter()
            .find(|p| p.operation == operation && p.call == call);
        let fault = plan.map(|plan| plan.fault);
        inner.is_dead = fault == Some(Fault::Died);
        fault
    }

    /// Whether the caller died since this was last asked; from now on it lives again.
    pub fn revive(&self) -> bool {
        std::mem::take(&mut self.0.lock().expect("one test").is_dead)
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
            .calls
            .get(operation)
            .copied()
            .unwrap_or_default()
    }
}
