//! Faults on demand: the nth call of a named operation fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use medsync::store::{WriteFault, WriteFaults};

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

#[derive(Debug, Default)]
struct Inner {
    /// How often each operation was called.
    calls: HashMap<&'static str, u32>,
    plans: Vec<Plan>,
    /// What becomes of the next call of an operation.
    next: HashMap<&'static str, Fault>,
    /// What becomes of the store's next write.
    next_write: Option<Fault>,
    is_dead: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Inner>>);

impl Faults {
    pub fn planned(plans: Vec<Plan>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            plans,
            ..Inner::default()
        })))
    }

    /// Plans anew; what was called before is not counted.
    pub fn plan(&self, plans: Vec<Plan>) {
        *self.0.lock().expect("one test") = Inner {
            plans,
            ..Inner::default()
        };
    }

    /// The next call of an operation goes wrong.
    pub fn plan_next(&self, operation: &'static str, fault: Fault) {
        let mut inner = self.0.lock().expect("one test");
        inner.next.insert(operation, fault);
    }

    /// The store's next write goes wrong.
    pub fn plan_next_write(&self, fault: Fault) {
        self.0.lock().expect("one test").next_write = Some(fault);
    }

    /// A part that fails whatever it is asked, until it is revived.
    pub fn dead() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            is_dead: true,
            ..Inner::default()
        })))
    }

    /// Every operation that was called, and how often.
    pub fn all_calls(&self) -> HashMap<&'static str, u32> {
        self.0.lock().expect("one test").calls.clone()
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
        let fault = fault.or_else(|| inner.next.remove(operation));
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

/// One spelling for ever of each name that comes along.
fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut names = NAMES.lock().expect("the tests");
    if let Some(known) = names.iter().find(|known| **known == name) {
        return known;
    }
    let new: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.push(new);
    new
}

impl WriteFaults for Faults {
    fn take(&self, write: &str) -> Option<WriteFault> {
        let name = interned(write);
        let planned = self.0.lock().expect("one test").next_write.take();
        if let Some(fault) = planned {
            self.plan_next(name, fault);
        }
        match Self::take(self, name)? {
            Fault::Failed => Some(WriteFault::Failed),
            Fault::FailedButTookEffect | Fault::Died => Some(WriteFault::FailedButTookEffect),
        }
    }
}
