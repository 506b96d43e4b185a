//! The store in a PostgreSQL database: the one for several machines.
//!
//! One connection writes, a few read, each driven by the calling thread (`write_connection`, `read_pool`). A batch is one round trip
//! (`commit`). Other runners' changes are heard on a connection of their own (`listener`).

pub mod admin;
mod call;
mod change_notifier;
mod claim;
mod commit;
mod credential_url;
mod definition;
mod dial;
mod driver;
mod error;
mod hosts;
mod insight;
mod list;
mod listener;
mod load;
mod migration;
mod notify_rate_limiter;
mod pass_file;
mod peer_table;
mod pool;
mod prune;
mod read_pool;
mod row;
mod runner;
mod schedule;
mod session;
mod statement;
mod tenant;
mod tls;
mod url;
mod write;
mod write_connection;
mod write_statement;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::types::sync::Mutex;
use diesel::sql_types::Text;

use change_notifier::ChangeNotifier;
use driver::Connection;
use error::Fault;
pub use hosts::Host;
use listener::{Listener, Membership};
pub use pass_file::Surroundings;
use pool::PoolSlot;
use read_pool::Readers;
use session::Session;
use statement::query;
pub use url::{PostgresOptions, Secret, TlsMode, Wanted};
use write_connection::{Lane, Writer, close};

use super::prune_cursor::PruneCursor;
use super::{Batch, Changes, Committed, Put, Request, Response, RunnerRow, Store, StoreError};
use crate::types::{DefinitionId, RunnerId, ScheduleRecord, Timestamp};
use crate::workflow::Workflow;

query! {
    /// Changes whenever a transaction of the server that wrote something starts or ends.
    Snapshot {} -> Text;
    "SELECT pg_current_snapshot()::text"
}

/// Without LISTEN, the least and the most time between two looks at the server.
const QUICK_LOOK: Duration = Duration::from_millis(100);
const SLOW_LOOK: Duration = Duration::from_secs(2);

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    // First, so that it ends first.
    listener: Mutex<Option<Membership>>,
    session: Arc<Session>,
    writer: Writer,
    readers: Readers,
    notifier: Arc<ChangeNotifier>,
    look: Mutex<Look>,
    prune_cursor: PruneCursor,
    /// Connections to the server at the same time, the listener's included.
    connections: usize,
    /// Set once the connections are shared with other stores.
    berth: OnceLock<PoolSlot>,
    /// Whether connections are closed after each use.
    closed: AtomicBool,
}

/// Connections of a store where nobody says how many.
const CONNECTIONS: usize = 10;

/// The marker of a store that cannot listen.
struct Look {
    marker: i64,
    next: Instant,
    pause: Duration,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("location", &self.session.location)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Opens a database, creating the schema and migrating it where the options allow it.
    ///
    /// # Errors
    /// What the server, the login or the schema lack, and what to do; within the connection's timeout.
    pub fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        Self::open_within(options, CONNECTIONS)
    }

    /// The same with at most so many connections, one at least.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_within(options: &PostgresOptions, connections: usize) -> Result<Self, StoreError> {
        let session = Arc::new(Session::new(options.clone()));
        let mut lane = Lane::new();
        lane.run_patiently(&session, migration::prepare)?;
        Ok(Self::with(session, lane, connections))
    }

    fn with(session: Arc<Session>, writer: Lane, connections: usize) -> Self {
        Self {
            listener: Mutex::new(None),
            session,
            writer: Writer::new(writer),
            // The writer and the listener have theirs.
            readers: Readers::new(connections.saturating_sub(2)),
            notifier: Arc::new(ChangeNotifier::new()),
            prune_cursor: PruneCursor::default(),
            look: Mutex::new(Look {
                marker: 0,
                next: Instant::now(),
                pause: QUICK_LOOK,
            }),
            connections,
            berth: OnceLock::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// The newest version of the schema that the database has, if it has any. Changes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn schema_version(options: &PostgresOptions) -> Result<Option<String>, StoreError> {
        let session = Session::new(options.clone());
        Lane::new()
            .run(&session, migration::look)
            .map(|mut schema| schema.applied.pop())
    }

    /// The versions of the schema that the database lacks, oldest first. Changes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn pending_migrations(options: &PostgresOptions) -> Result<Vec<String>, StoreError> {
        let session = Session::new(options.clone());
        Lane::new()
            .run(&session, migration::look)
            .map(|schema| schema.pending)
    }

    fn write<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        if self.berth.get().is_none() {
            let mut lane = self.writer.lock();
            // Not shared in the meantime.
            if self.berth.get().is_none() {
                let result = lane.run(&self.session, work);
                if self.closed.load(Ordering::Acquire) {
                    close(&mut lane);
                }
                return result;
            }
        }
        let result = self.share_out(work);
        if self.closed.load(Ordering::Acquire) {
            self.end_shared();
        }
        result
    }

    fn read<T: Send>(
        &self,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        if self.berth.get().is_none()
            && let Some(mut loan) = self.readers.borrow()
        {
            return loan.lane().run(&self.session, work);
        }
        self.write(work)
    }

    fn can_listen(&self) -> bool {
        self.session.options.listen && !self.session.pooled && self.connections > 1
    }

    /// Starts to listen, when somebody first cares.
    fn listen(&self) -> Result<(), StoreError> {
        if !self.can_listen() || self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut listener = self.listener.lock();
        if listener.is_none() {
            let shared = self.berth.get().and_then(|berth| berth.listener.clone());
            let thread = match shared {
                Some(thread) => thread,
                None => Listener::start(Arc::clone(&self.session))?,
            };
            *listener = Some(thread.join(&self.session, &self.notifier));
        }
        Ok(())
    }

    /// The rows of all runners, unless they are known well enough.
    fn with_roster<T>(
        &self,
        read: impl Fn(&mut runner::Roster) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        if let Some(known) = read(&mut self.notifier.roster.lock()) {
            return Ok(Some(known));
        }
        let all = self.read(runner::all)?;
        let roster = &mut *self.notifier.roster.lock();
        runner::fetched(roster, all);
        Ok(read(roster))
    }

    /// A number that changes with the server's transactions, asked for rarely while nothing happens.
    fn snapshot(&self) -> Result<i64, StoreError> {
        let mut look = self.look.lock();
        if Instant::now() < look.next {
            return Ok(look.marker);
        }
        let texts: Vec<String> =
            self.read(async |connection, session| session.fetch(connection, Snapshot {}).await)?;
        let mut hasher = DefaultHasher::new();
        texts.hash(&mut hasher);
        let marker = i64::from_ne_bytes(hasher.finish().to_ne_bytes());
        look.pause = if marker == look.marker {
            (look.pause * 2).min(SLOW_LOOK)
        } else {
            QUICK_LOOK
        };
        look.marker = marker;
        look.next = Instant::now() + look.pause;
        Ok(marker)
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
            self.notifier.tell_news(None);
        }
        Ok(id)
    }

    fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let claims = batch
            .claim
            .classes
            .iter()
            .any(|class| !class.queues.is_empty());
        let writes =
            !batch.submits.is_empty() || !batch.advances.is_empty() || !batch.schedules.is_empty();
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
                    .tell_written(batch.runner, executions, revives);
            }
            Err(StoreError::RunnerLost) => self.notifier.roster.lock().lose(batch.runner),
            _ => {}
        }
        committed
    }

    fn register_runner(&self, row: &RunnerRow) -> Result<(), StoreError> {
        let stored = self
            .write(async |connection, session| runner::register(connection, session, row).await)?;
        runner::registered(&mut self.notifier.roster.lock(), row, stored);
        self.notifier.tell_news(Some(row.id));
        Ok(())
    }

    fn heartbeat(
        &self,
        runner: RunnerId,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<bool, StoreError> {
        let lease = lease_until.since(now);
        let beat = self.write(async |connection, session| {
            runner::heartbeat(connection, session, runner, lease).await
        })?;
        let roster = &mut *self.notifier.roster.lock();
        let alive = runner::beaten(roster, beat, runner, now, lease_until);
        if !alive {
            roster.lose(runner);
        }
        Ok(alive)
    }

    fn declare_dead(&self, runner: RunnerId, seen_lease: Timestamp) -> Result<bool, StoreError> {
        let stored = self.notifier.roster.lock().stored_lease(runner, seen_lease);
        let declared = match stored {
            None => false,
            Some(stored) => self.write(async |connection, session| {
                runner::declare_dead(connection, session, runner, stored).await
            })?,
        };
        self.notifier.roster.lock().forget();
        Ok(declared)
    }

    fn retire_runner(&self, runner: RunnerId) -> Result<(), StoreError> {
        self.write(async |connection, session| runner::retire(connection, session, runner).await)?;
        self.notifier.roster.lock().lose(runner);
        Ok(())
    }

    fn put_schedule(
        &self,
        record: &ScheduleRecord,
        expected: Option<i64>,
    ) -> Result<Put, StoreError> {
        let put = self.write(async |connection, session| {
            schedule::put(connection, session, record, expected).await
        })?;
        if put == Put::Written {
            self.notifier.tell_news(None);
        }
        Ok(put)
    }

    fn changes(&self, busy: Option<RunnerId>) -> Result<Changes, StoreError> {
        if !self.can_listen() {
            return Ok(Changes::of(self.snapshot()?));
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
            tracing::warn!(%error, "changes by other runners are noticed late");
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // The listener first: it may still read.
        drop(self.listener.lock().take());
        self.readers.end();
        close(&mut self.writer.lock());
        self.end_shared();
    }

    fn call(&self, request: Request<'_>) -> Result<Response, StoreError> {
        self.answer(request)
    }
}
