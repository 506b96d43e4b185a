//! Opens stores for several tenants that share connections (semantics H4).

use std::sync::Arc;

use super::blocking_connection::BlockingConnection;
use super::blocking_connection::close;
use super::driver::Connection;
use super::error::Fault;
use super::listener::Listener;
use super::session::Session;
use super::shared_pool::{PoolSlot, SharedPool};
use super::url::PostgresOptions;
use super::{PostgresStore, migration};
use crate::store::{Report, StoreError};

/// Minimum number of connections that can be shared: one listens, one works, and a spare one is used to switch between
/// tenants.
const MIN_SHARED_CONNECTIONS: usize = 3;

impl PostgresStore {
    /// Returns the options with which the store was opened.
    pub fn options(&self) -> &PostgresOptions {
        &self.session.options
    }

    /// Opens the schema of a tenant, using this store's connection limit and listener.
    ///
    /// `options` must name the same database. Only the role and the schema can differ.
    ///
    /// # Errors
    /// See [`Self::open`]. Also fails if there are too few connections to share.
    pub fn open_tenant(&self, options: &PostgresOptions) -> Result<Self, StoreError> {
        let pool = self.share_connections()?;
        let session = Arc::new(Session::new(options.clone()));
        let pool_slot = PoolSlot {
            key: pool.join(),
            pool,
            listener: self
                .pool_slot
                .get()
                .and_then(|pool_slot| pool_slot.listener.clone()),
        };
        let store = Self::with(
            Arc::clone(&session),
            BlockingConnection::new(),
            self.connections,
        );
        store.readers.close_and_wait();
        // The pool slot is set before anything can fail, so that dropping the store closes its connections.
        let _ = store.pool_slot.set(pool_slot);
        store.write(migration::prepare)?;
        Ok(store)
    }

    /// Runs `work` on a shared connection.
    pub(super) fn run_shared<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        match self.pool_slot.get() {
            Some(pool_slot) => {
                let (key, session) = (pool_slot.key, &*self.session);
                pool_slot
                    .pool
                    .run(key, session, |connection| connection.run(session, work))
            }
            None => self.writer.lock().run(&self.session, work),
        }
    }

    /// Closes this store's idle connections in the shared pool.
    pub(super) fn close_shared_connections(&self) {
        if let Some(pool_slot) = self.pool_slot.get() {
            pool_slot.pool.leave(pool_slot.key);
        }
    }

    /// Replaces the store's own connections with a shared pool when the first tenant is opened.
    fn share_connections(&self) -> Result<Arc<SharedPool>, StoreError> {
        let mut listener = self.listener.lock();
        if let Some(pool_slot) = self.pool_slot.get() {
            return Ok(Arc::clone(&pool_slot.pool));
        }
        if self.connections < MIN_SHARED_CONNECTIONS {
            return Err(StoreError::Failed(Report::hinted(
                format!(
                    "the runner on the database {} has {} connection(s), but needs {MIN_SHARED_CONNECTIONS} to share them \
                 among tenants",
                    self.session.location, self.connections
                ),
                "raise db_pool_size",
            )));
        }
        let listens = self.can_listen();
        let shared = listens
            .then(|| Listener::start(Arc::clone(&self.session)))
            .transpose()?;
        let pool = Arc::new(SharedPool::new(self.connections - usize::from(listens)));
        let key = pool.join();
        // While the writer and the listener are locked and the readers are closed, no other thread can use the
        // database.
        let mut writer = self.writer.lock();
        let mut pids = self.readers.close_and_wait();
        pids.extend(close(&mut writer));
        let was_listening = listener.take().is_some();
        pids.extend(self.session.listener_pid().filter(|_| was_listening));
        let pool_slot = PoolSlot {
            pool: Arc::clone(&pool),
            key,
            listener: shared,
        };
        let settled = pool.await_ends(key, &self.session, pids);
        let _ = self.pool_slot.set(pool_slot);
        drop(writer);
        drop(listener);
        if was_listening {
            self.listen()?;
        }
        settled?;
        Ok(pool)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        // The store leaves the listener first, so that it receives no notifications while its connections are closed.
        drop(self.listener.lock().take());
        self.close_shared_connections();
    }
}
