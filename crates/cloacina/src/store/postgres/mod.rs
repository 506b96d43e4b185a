//! The PostgreSQL store, for runners on several machines.
//!
//! One connection writes and up to three others read. The calling thread runs their I/O (`blocking_connection`,
//! `read_pool`). A batch usually takes one round trip (`commit`). A separate connection listens for changes by other
//! runners (`listener`).

pub mod admin;
mod answer_row;
mod blocking_connection;
mod call;
mod change_marker;
mod change_notifier;
mod children;
mod claim;
mod commit;
mod counting;
mod credential_url;
mod definition;
mod dial;
mod driver;
mod ends;
mod error;
mod hosts;
mod inbox;
mod insight;
mod list;
mod listener;
mod load;
mod map_claims;
mod map_feeds;
mod map_reads;
mod map_row;
mod map_rows;
mod maps;
mod migration;
mod notify_rate_limiter;
mod pass_file;
mod peer_table;
mod prune;
mod read_pool;
mod ready;
mod row;
mod runner;
mod schedule;
mod session;
mod shared_pool;
mod signals;
mod snapshot_poll;
mod statement;
mod steps;
mod summary;
mod tenant;
mod ticks;
mod tls;
mod url;
mod visible_writes;
mod waits;
mod wakes;
mod watch_requests;
mod write;
mod write_statement;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::types::sync::Mutex;

use blocking_connection::{BlockingConnection, Writer, close};
use change_notifier::ChangeNotifier;
use driver::Connection;
use error::Fault;
pub use hosts::Host;
use listener::{Listener, Membership};
pub use pass_file::Environment;
use read_pool::ReadPool;
use session::Session;
use shared_pool::PoolSlot;
use snapshot_poll::SnapshotPoll;
pub use url::{PostgresOptions, Secret, TargetSession, TlsMode};

use super::prune_cursor::PruneCursor;
use super::{
    Batch, Changes, Committed, InboxMessage, PutOutcome, Request, Response, RunnerRow, Store,
    StoreError,
};
use crate::types::{DefinitionId, InboxId, NewSignal, RunnerId, ScheduleRecord, Sent, Timestamp};
use crate::workflow::Workflow;

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    // This is the first field, so that it is dropped first.
    listener: Mutex<Option<Membership>>,
    session: Arc<Session>,
    writer: Writer,
    readers: ReadPool,
    notifier: Arc<ChangeNotifier>,
    snapshot_poll: Mutex<SnapshotPoll>,
    prune_cursor: PruneCursor,
    /// Maximum number of open connections, including the listener's.
    connections: usize,
    /// Set once this store shares its connections with other stores.
    pool_slot: OnceLock<PoolSlot>,
    /// Whether the store was closed. Each connection is then closed after it is used.
    closed: AtomicBool,
}

/// Maximum number of connections of a store that is opened without a limit.
const DEFAULT_CONNECTIONS: usize = 10;

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("location", &self.session.location)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Opens a database. Creates and migrates the schema if the options allow it.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached within the connection timeout, or if the server refuses the
    /// login or the schema.
    pub fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        Self::open_within(options, DEFAULT_CONNECTIONS)
    }

    /// Like [`Self::open`], with at most `connections` connections, but at least one.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn open_within(options: &PostgresOptions, connections: usize) -> Result<Self, StoreError> {
        let session = Arc::new(Session::new(options.clone()));
        let mut connection = BlockingConnection::new();
        connection.run_without_timeout(&session, migration::prepare)?;
        Ok(Self::with(session, connection, connections))
    }

    fn with(session: Arc<Session>, writer: BlockingConnection, connections: usize) -> Self {
        Self {
            listener: Mutex::new(None),
            session,
            writer: Writer::new(writer),
            // Two connections are reserved: for the writer and for the listener.
            readers: ReadPool::new(connections.saturating_sub(2)),
            notifier: Arc::new(ChangeNotifier::new()),
            prune_cursor: PruneCursor::default(),
            snapshot_poll: Mutex::default(),
            connections,
            pool_slot: OnceLock::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns the newest applied schema version, if any. Changes nothing.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    pub fn schema_version(options: &PostgresOptions) -> Result<Option<String>, StoreError> {
        let session = Session::new(options.clone());
        BlockingConnection::new()
            .run(&session, migration::read_versions)
            .map(|mut schema| schema.applied.pop())
    }

    /// Returns the schema versions that are not applied yet, oldest first. Changes nothing.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    pub fn pending_migrations(options: &PostgresOptions) -> Result<Vec<String>, StoreError> {
        let session = Session::new(options.clone());
        BlockingConnection::new()
            .run(&session, migration::read_versions)
            .map(|schema| schema.pending)
    }

    /// Runs `work` on the write connection, or on a connection of the shared pool.
    fn write<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        if self.pool_slot.get().is_none() {
            let mut connection = self.writer.lock();
            // This is checked again under the lock, because another thread may have shared the connections
            // meanwhile.
            if self.pool_slot.get().is_none() {
                let result = connection.run(&self.session, work);
                if self.closed.load(Ordering::Acquire) {
                    close(&mut connection);
                }
                return result;
            }
        }
        let result = self.run_shared(work);
        if self.closed.load(Ordering::Acquire) {
            self.close_shared_connections();
        }
        result
    }

    /// Runs `work` on a read connection. If the store has none, runs it as [`Self::write`] does.
    fn read<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        if self.pool_slot.get().is_none()
            && let Some(mut reader) = self.readers.borrow()
        {
            return reader.connection().run(&self.session, work);
        }
        self.write(work)
    }

    fn can_listen(&self) -> bool {
        self.session.options.listen && !self.session.pooled && self.connections > 1
    }

    /// Starts listening for changes, unless the store already listens.
    fn listen(&self) -> Result<(), StoreError> {
        if !self.can_listen() || self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut listener = self.listener.lock();
        if listener.is_none() {
            let shared = self
                .pool_slot
                .get()
                .and_then(|pool_slot| pool_slot.listener.clone());
            let thread = match shared {
                Some(thread) => thread,
                None => Listener::start(Arc::clone(&self.session))?,
            };
            *listener = Some(thread.join(&self.session, &self.notifier));
        }
        Ok(())
    }

    /// Returns what `read` finds in the runner cache. Refreshes the cache first if it is too old.
    fn with_runner_cache<T>(
        &self,
        read: impl Fn(&mut runner::RunnerCache) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        if let Some(known) = read(&mut self.notifier.runner_cache.lock()) {
            return Ok(Some(known));
        }
        let all = self.read(runner::all)?;
        let runner_cache = &mut *self.notifier.runner_cache.lock();
        runner::update_cache(runner_cache, all);
        Ok(read(runner_cache))
    }

    fn put_definition(
        &self,
        workflow: &Workflow,
        now: Timestamp,
    ) -> Result<DefinitionId, StoreError> {
        let (id, written) = self.write(async |connection, session| {
            definition::put(connection, session, workflow, now).await
        })?;
        if written {
            self.notifier.notify_changed(None);
        }
        Ok(id)
    }

    fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let claims = batch
            .claim
            .classes
            .iter()
            .any(|class| !class.queues.is_empty());
        let writes = !batch.submits.is_empty()
            || !batch.advances.is_empty()
            || !batch.schedules.is_empty()
            || !batch.flow.maps.is_empty();
        if !writes && !claims {
            let more = vec![false; batch.claim.classes.len()];
            return Ok(Committed {
                more,
                ..Committed::default()
            });
        }
        let committed = self
            .write(async |connection, session| commit::commit(connection, session, batch).await);
        match &committed {
            Ok(committed) if commit::concerns_others(batch, committed) => {
                let executions = batch.submits.len() + batch.advances.len();
                let revives = commit::revives(batch);
                self.notifier
                    .notify_written(batch.runner, executions, revives);
            }
            Err(StoreError::RunnerLost) => {
                self.notifier.runner_cache.lock().remove_own(batch.runner);
            }
            _ => {}
        }
        committed
    }

    /// Sends signals, and notifies other runners, which then check the tasks that wait for the signals.
    fn send(
        &self,
        runner: Option<RunnerId>,
        new: &[NewSignal],
        settled: &[InboxId],
        now: Timestamp,
    ) -> Result<Vec<Sent>, StoreError> {
        let sent = self.write(async |connection, session| {
            signals::send(connection, session, new, settled, now).await
        })?;
        match (runner, sent.iter().map(|sent| sent.woken).sum()) {
            (_, 0) => {}
            (Some(runner), woken) => self.notifier.notify_written(runner, woken, false),
            (None, _) => self.notifier.notify_changed(None),
        }
        Ok(sent)
    }

    /// Adds a message to the inbox, and notifies other runners, which then apply the message.
    fn post(&self, message: &InboxMessage) -> Result<(), StoreError> {
        self.write(async |connection, session| inbox::post(connection, session, message).await)?;
        self.notifier.notify_changed(None);
        Ok(())
    }

    fn register_runner(&self, row: &RunnerRow) -> Result<(), StoreError> {
        let sent = Instant::now();
        let stored = self
            .write(async |connection, session| runner::register(connection, session, row).await)?;
        let took = sent.elapsed();
        runner::note_registered(&mut self.notifier.runner_cache.lock(), row, stored, took);
        if self.can_listen() {
            self.notifier.notify_changed(Some(row.id));
            return Ok(());
        }
        // A process that waits for reports must poll from now on, because this runner cannot report its writes.
        if let Err(error) = self.notify_peers() {
            tracing::debug!(%error, "cannot tell other processes about this runner, so an open web page shows its work late");
        }
        Ok(())
    }

    fn heartbeat(
        &self,
        runner: RunnerId,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<bool, StoreError> {
        let lease = lease_until.since(now);
        let sent = Instant::now();
        let beat = self.write(async |connection, session| {
            runner::heartbeat(connection, session, runner, lease).await
        })?;
        let runner_cache = &mut *self.notifier.runner_cache.lock();
        let alive =
            runner::apply_heartbeat(runner_cache, beat, runner, now, lease_until, sent.elapsed());
        if !alive {
            runner_cache.remove_own(runner);
        }
        Ok(alive)
    }

    fn declare_dead(&self, runner: RunnerId, seen_lease: Timestamp) -> Result<bool, StoreError> {
        let stored = self
            .notifier
            .runner_cache
            .lock()
            .stored_lease(runner, seen_lease);
        let declared = match stored {
            None => false,
            Some(stored) => self.write(async |connection, session| {
                runner::declare_dead(connection, session, runner, stored).await
            })?,
        };
        self.notifier.runner_cache.lock().invalidate();
        Ok(declared)
    }

    fn retire_runner(&self, runner: RunnerId) -> Result<(), StoreError> {
        self.write(async |connection, session| runner::retire(connection, session, runner).await)?;
        self.notifier.runner_cache.lock().remove_own(runner);
        Ok(())
    }

    fn put_schedule(
        &self,
        record: &ScheduleRecord,
        expected: Option<i64>,
    ) -> Result<PutOutcome, StoreError> {
        let put = self.write(async |connection, session| {
            schedule::put(connection, session, record, expected).await
        })?;
        if put == PutOutcome::Written {
            self.notifier.notify_changed(None);
        }
        Ok(put)
    }

    fn changes(&self, busy: Option<RunnerId>) -> Result<Changes, StoreError> {
        if !self.can_listen() {
            return Ok(Changes::of(self.polled_marker()?));
        }
        self.listen()?;
        Ok(self.notifier.changes(busy))
    }
}

impl Store for PostgresStore {
    fn location(&self) -> String {
        self.session.location.clone()
    }

    fn on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.notifier.on_change(wake);
        if let Err(error) = self.listen() {
            tracing::warn!(%error, "cannot listen for notifications, so changes by other runners are noticed only by polling");
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // The listener is closed first, so that it does not wake runners, which would use the other connections.
        drop(self.listener.lock().take());
        self.readers.close();
        close(&mut self.writer.lock());
        self.close_shared_connections();
    }

    fn call(&self, request: Request<'_>) -> Result<Response, StoreError> {
        let can_show = visible_writes::can_show(&request);
        let response = self.answer(request);
        if can_show && visible_writes::shows(&response) {
            self.notifier.note_write();
        }
        response
    }
}
