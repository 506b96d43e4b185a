//! The connection that writes, the connections that read, and their transactions.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::types::sync::{Condvar, Mutex, MutexGuard};
use diesel::connection::SimpleConnection;
use diesel::query_dsl::LoadQuery;
use diesel::sql_types::BigInt;
use diesel::{QueryResult, RunQueryDsl, SqliteConnection};

use super::error::{Fault, is_busy};
use super::file::DatabaseFile;
use super::statement::{query, statement};
use crate::store::prune_cursor::PruneCursor;

/// Maximum number of read connections. A connection is opened when it is first needed.
const MAX_READERS: usize = 4;

/// How long SQLite itself waits for the write lock before the loop in [`Writer::until_free`] tries again. SQLite's own
/// pauses between attempts grow to 100 ms. With these pauses, four busy processes on one file waited up to 4 s for the
/// lock. With an attempt every millisecond, they waited at most 0.1 s, and together had 0.9 times the throughput of one
/// process.
const LOCK_POLL: Duration = Duration::from_millis(1);

statement! { BeginWrite {} "BEGIN IMMEDIATE" }
statement! { BeginRead {} "BEGIN" }
statement! { Commit {} "COMMIT" }
statement! { Rollback {} "ROLLBACK" }

query! {
    /// Returns a number that changes when another connection commits, but not when this connection commits.
    DataVersion {} -> BigInt;
    "PRAGMA data_version"
}

query! {
    /// Returns the number of rows that the connection has changed since it was opened.
    TotalChanges {} -> BigInt;
    "SELECT total_changes()"
}

/// The connection that writes. Threads of one process wait for the mutex; processes wait for SQLite's lock.
pub(super) struct Writer {
    connection: Arc<Mutex<Option<SqliteConnection>>>,
    /// `None` for an in-memory database, which exists only as long as its connection.
    file: Option<Arc<DatabaseFile>>,
    busy_timeout: Duration,
    is_wal: bool,
    /// Number of rows that this writer has changed. Set only for writers that [`share`](Self::share) has created. They
    /// use the same connection, so they need this number to tell their own changes from those of other writers.
    own_changes: Option<AtomicI64>,
    pub(super) prune_cursor: PruneCursor,
}

impl Writer {
    /// Creates a writer. In WAL mode, the writer itself polls for the lock. In other modes, a commit also waits for
    /// readers, so SQLite does the waiting.
    pub(super) fn new(
        mut connection: SqliteConnection,
        file: Option<Arc<DatabaseFile>>,
        busy_timeout: Duration,
        is_wal: bool,
    ) -> QueryResult<Self> {
        if is_wal {
            poll_for_lock(&mut connection, busy_timeout)?;
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(Some(connection))),
            file,
            busy_timeout,
            is_wal,
            own_changes: None,
            prune_cursor: PruneCursor::default(),
        })
    }

    /// Returns another writer on the same connection. In-memory databases need this, because they have only one
    /// connection.
    pub(super) fn share(&self) -> Self {
        Self {
            connection: Arc::clone(&self.connection),
            file: None,
            busy_timeout: self.busy_timeout,
            is_wal: self.is_wal,
            own_changes: Some(AtomicI64::new(0)),
            prune_cursor: PruneCursor::default(),
        }
    }

    /// Locks the connection. If the store was closed, opens a connection for this use. Fails if the file was deleted or
    /// replaced.
    pub(super) fn lock(&self) -> Result<WriteConnection<'_>, Fault> {
        let mut held = self.connection.lock();
        if let Some(file) = &self.file {
            file.refuse_lost()?;
            if held.is_none() {
                let mut connection = file.connect()?;
                if self.is_wal {
                    poll_for_lock(&mut connection, self.busy_timeout)?;
                }
                *held = Some(connection);
            }
        }
        Ok(WriteConnection { held, writer: self })
    }

    /// Marks the file as closed, and closes the connection when it is free.
    pub(super) fn close(&self) {
        if let Some(file) = &self.file {
            file.close();
            *self.connection.lock() = None;
        }
    }

    /// Runs `work` in a transaction that takes the write lock at its start. A transaction that takes the lock later
    /// would fail if another process had written meanwhile.
    pub(super) fn write<T>(
        &self,
        connection: &mut SqliteConnection,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let changes = self.own_changes.as_ref();
        let before = changes.map(|_| first(connection, TotalChanges {}));
        let before = before.transpose()?;
        self.until_free(|| Ok(BeginWrite {}.execute(connection)?))?;
        let result = in_transaction(connection, work);
        if let (Some(own), Some(before)) = (changes, before) {
            own.fetch_add(
                first(connection, TotalChanges {})? - before,
                Ordering::Relaxed,
            );
        }
        let value = result?;
        // A write to a deleted file must not be acknowledged.
        self.file
            .as_ref()
            .map_or(Ok(()), |file| file.check_files())?;
        Ok(value)
    }

    /// Returns a number that changes when another writer has changed the database.
    pub(super) fn change_marker(&self) -> Result<i64, Fault> {
        // The marker is read on the write connection, because on a read connection this store's own commits would count
        // as changes by others.
        let connection = &mut *self.lock()?;
        self.peek(connection, |connection| match &self.own_changes {
            None => first(connection, DataVersion {}),
            Some(own) => Ok(first(connection, TotalChanges {})? - own.load(Ordering::Relaxed)),
        })
    }

    /// Returns a number that changes when any connection, including this one, has changed the database.
    pub(super) fn marker(&self) -> Result<i64, Fault> {
        let connection = &mut *self.lock()?;
        self.peek(connection, |connection| {
            let (foreign, own) = (
                first(connection, DataVersion {})?,
                first(connection, TotalChanges {})?,
            );
            Ok(foreign.wrapping_shl(32).wrapping_add(own))
        })
    }

    /// Runs `work` on the write connection, without a transaction. `work` must only read.
    pub(super) fn peek<T>(
        &self,
        connection: &mut SqliteConnection,
        mut work: impl FnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        // Even a reader can find the file locked for a moment, while another process closes its last connection.
        self.until_free(|| work(connection))
    }

    /// Repeats `attempt` while another connection holds the lock that it needs, but not longer than the busy timeout.
    fn until_free<T>(&self, mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
        let give_up = Instant::now() + self.busy_timeout;
        loop {
            match attempt() {
                Err(Fault::Sql(error)) if is_busy(&error) && Instant::now() < give_up => {}
                result => return result,
            }
        }
    }
}

fn first<'a, Q>(connection: &mut SqliteConnection, query: Q) -> Result<i64, Fault>
where
    Q: RunQueryDsl<SqliteConnection> + LoadQuery<'a, SqliteConnection, i64>,
{
    let numbers: Vec<i64> = query.load(connection)?;
    Ok(numbers.first().copied().unwrap_or_default())
}

/// The locked write connection.
pub(super) struct WriteConnection<'a> {
    held: MutexGuard<'a, Option<SqliteConnection>>,
    writer: &'a Writer,
}

const LOCK_OPENS: &str = "`lock` opens the connection";

impl Deref for WriteConnection<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.held.as_ref().expect(LOCK_OPENS)
    }
}

impl DerefMut for WriteConnection<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.held.as_mut().expect(LOCK_OPENS)
    }
}

impl Drop for WriteConnection<'_> {
    fn drop(&mut self) {
        if self
            .writer
            .file
            .as_ref()
            .is_some_and(|file| file.is_closed())
        {
            *self.held = None;
        }
    }
}

fn poll_for_lock(connection: &mut SqliteConnection, busy_timeout: Duration) -> QueryResult<()> {
    let poll = LOCK_POLL.min(busy_timeout);
    connection.batch_execute(&format!("PRAGMA busy_timeout = {}", poll.as_millis()))
}

/// Runs `work` in a read transaction.
pub(super) fn read<T>(
    connection: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    BeginRead {}.execute(connection)?;
    in_transaction(connection, work)
}

fn in_transaction<T>(
    connection: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut open = OpenTransaction {
        connection,
        ended: false,
    };
    let value = work(open.connection)?;
    Commit {}.execute(open.connection)?;
    open.ended = true;
    Ok(value)
}

/// An open transaction. Rolls back if it is dropped without a commit, e.g. after a panic.
struct OpenTransaction<'a> {
    connection: &'a mut SqliteConnection,
    ended: bool,
}

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // The rollback fails if SQLite has already rolled back, as it does after some errors (disk full, I/O). The
            // failure is harmless.
            let _ = Rollback {}.execute(self.connection);
        }
    }
}

/// A pool of connections that only read. In WAL mode, they never wait for the writer.
pub(super) struct ReadPool {
    file: Arc<DatabaseFile>,
    state: Mutex<ReadPoolState>,
    returned: Condvar,
}

#[derive(Default)]
struct ReadPoolState {
    idle: Vec<SqliteConnection>,
    open: usize,
}

impl ReadPool {
    pub(super) fn new(file: Arc<DatabaseFile>) -> Self {
        Self {
            file,
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Runs `work` on a connection. Waits while all connections are in use.
    pub(super) fn run<T>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.file.refuse_lost()?;
        let mut pooled = PooledConnection {
            pool: self,
            connection: self.take(),
        };
        let connection = match &mut pooled.connection {
            Some(connection) => connection,
            none => none.insert(self.file.connect()?),
        };
        work(connection)
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.open -= state.idle.len();
        state.idle.clear();
    }

    /// Takes an idle connection. `None` means that the caller can open a new connection.
    fn take(&self) -> Option<SqliteConnection> {
        let mut state = self.state.lock();
        loop {
            if let Some(connection) = state.idle.pop() {
                return Some(connection);
            }
            if state.open < MAX_READERS {
                state.open += 1;
                return None;
            }
            self.returned.wait(&mut state);
        }
    }
}

/// A borrowed connection. Dropping it returns the connection to the pool.
struct PooledConnection<'a> {
    pool: &'a ReadPool,
    connection: Option<SqliteConnection>,
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        match self.connection.take() {
            Some(connection) if !self.pool.file.is_closed() => state.idle.push(connection),
            _ => state.open -= 1,
        }
        self.pool.returned.notify_one();
    }
}
