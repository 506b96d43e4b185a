//! The database as one process sees it: its marker tells of the writes of others, as those of SQLite and PostgreSQL do.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cloacina::store::failpoint::Verb;
use cloacina::store::{Layer, Store, StoreError};

use super::observed::ObservedStore;

pub struct Seat {
    database: Arc<ObservedStore>,
    /// By how much this process has moved the marker of all.
    own: AtomicI64,
}

impl Seat {
    pub fn new(database: &Arc<ObservedStore>) -> Arc<Self> {
        Arc::new(Self {
            database: Arc::clone(database),
            own: AtomicI64::new(0),
        })
    }
}

impl Layer for Seat {
    type Below = ObservedStore;

    fn below(&self) -> &ObservedStore {
        &self.database
    }

    fn pass<T>(
        &self,
        _verb: Verb,
        call: impl FnOnce(&ObservedStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let before = Store::change_marker(&*self.database)?;
        let answer = call(&self.database);
        let after = Store::change_marker(&*self.database)?;
        self.own.fetch_add(after - before, Ordering::Relaxed);
        answer
    }

    fn change_marker(&self) -> Result<i64, StoreError> {
        let marker = Store::change_marker(&*self.database)?;
        Ok(marker - self.own.load(Ordering::Relaxed))
    }
}
