//! A node's database under the app, and what is read and written of it.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use calimero_runtime::store::{Key, Storage, Value as Bytes};
use rocksdb::DB;

/// A node's database, counted.
pub struct Store {
    pub db: DB,
    reads: Cell<usize>,
    pub tally: Tally,
}

/// What was written, and what of it is there.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    writes: usize,
    written_bytes: usize,
    pub live_bytes: usize,
}

impl Store {
    pub fn open(folder: &Path, tally: Tally) -> anyhow::Result<Rc<RefCell<Self>>> {
        Ok(Rc::new(RefCell::new(Self {
            db: DB::open_default(folder)?,
            reads: Cell::default(),
            tally,
        })))
    }

    pub fn counts(&self) -> [usize; 3] {
        [
            self.reads.get(),
            self.tally.writes,
            self.tally.written_bytes,
        ]
    }
}

impl Storage for Store {
    fn get(&self, key: &Key) -> Option<Bytes> {
        self.reads.set(self.reads.get() + 1);
        self.db.get(key).expect("the database reads")
    }

    fn set(&mut self, key: Key, value: Bytes) -> Option<Bytes> {
        let before = self.db.get(&key).expect("the database reads");
        self.tally.writes += 1;
        self.tally.written_bytes += key.len() + value.len();
        self.tally.live_bytes += value.len();
        match &before {
            Some(before) => self.tally.live_bytes -= before.len(),
            None => self.tally.live_bytes += key.len(),
        }
        self.db.put(&key, &value).expect("the database writes");
        before
    }

    fn remove(&mut self, key: &Key) -> Option<Vec<u8>> {
        let before = self.db.get(key).expect("the database reads");
        if let Some(before) = &before {
            self.tally.live_bytes -= key.len() + before.len();
            self.tally.writes += 1;
        }
        self.db.delete(key).expect("the database writes");
        before
    }

    fn has(&self, key: &Key) -> bool {
        self.reads.set(self.reads.get() + 1);
        self.db
            .get_pinned(key)
            .expect("the database reads")
            .is_some()
    }
}
