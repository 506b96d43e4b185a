//! Stores of several tenants that share their connections (semantics H4).

use std::sync::Arc;

use super::driver::Connection;
use super::error::Fault;
use super::listener::Listener;
use super::pool::{Pool, PoolSlot};
use super::session::Session;
use super::url::PostgresOptions;
use super::write_connection::Lane;
use super::write_connection::close;
use super::{PostgresStore, migration};
use crate::store::StoreError;

/// The least number of connections that can be shared: one that listens, one that works, and one to change over.
const LEAST: usize = 3;

impl PostgresStore {
    /// The options with which the store was opened.
    pub fn options(&self) -> &PostgresOptions {
        &self.session.options
    }

    /// Opens a tenant's schema, within this store's number of connections and over its listener.
    ///
    /// `options` must name the same database: only the role and the schema may differ.
    ///
    /// # Errors
    /// As for [`Self::open`], and when there are too few connections to share.
    pub fn open_tenant(&self, options: &PostgresOptions) -> Result<Self, StoreError> {
        let pool = self.share()?;
        let session = Arc::new(Session::new(options.clone()));
        let berth = PoolSlot {
            key: pool.join(),
            pool,
            listener: self.berth.get().and_then(|berth| berth.listener.clone()),
        };
        let store = Self::with(Arc::clone(&session), Lane::new(), self.connections);
        store.readers.close();
        // Nobody else has set it. Set before anything may fail, so that its connections are closed with the store.
        let _ = store.berth.set(berth);
        store.write(migration::prepare)?;
        Ok(store)
    }

    /// Runs `work` on a shared connection.
    pub(super) fn share_out<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        match self.berth.get() {
            Some(berth) => {
                let (key, session) = (berth.key, &*self.session);
                berth
                    .pool
                    .lend(key, session, |lane| lane.run(session, work))
            }
            None => self.writer.lock().run(&self.session, work),
        }
    }

    /// Ends the shared connections that are this store's now.
    pub(super) fn end_shared(&self) {
        if let Some(berth) = self.berth.get() {
            berth.pool.leave(berth.key);
        }
    }

    /// Gives the store's own connections up for shared ones. The first tenant makes it so.
    fn share(&self) -> Result<Arc<Pool>, StoreError> {
        let mut listener = self.listener.lock();
        if let Some(berth) = self.berth.get() {
            return Ok(Arc::clone(&berth.pool));
        }
        if self.connections < LEAST {
            return Err(StoreError::Failed(format!(
                "the runner on the database {} has {} connection(s), and needs {LEAST} to share them among tenants; \
                 raise db_pool_size",
                self.session.location, self.connections
            )));
        }
        let listens = self.can_listen();
        let shared = listens
            .then(|| Listener::start(Arc::clone(&self.session)))
            .transpose()?;
        let pool = Arc::new(Pool::new(self.connections - usize::from(listens)));
        let key = pool.join();
        // Nobody writes, reads or listens until it is done.
        let mut writer = self.writer.lock();
        let mut pids = self.readers.close();
        pids.extend(close(&mut writer));
        let was_listening = listener.take().is_some();
        pids.extend(self.session.listener_pid().filter(|_| was_listening));
        let berth = PoolSlot {
            pool: Arc::clone(&pool),
            key,
            listener: shared,
        };
        let settled = pool.await_ends(key, &self.session, pids);
        let _ = self.berth.set(berth);
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
        // Its listener first: it may still read.
        drop(self.listener.lock().take());
        self.end_shared();
    }
}
