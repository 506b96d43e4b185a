//! One writer, a few readers, and transactions on them.

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

/// Readers at the same time; they are opened when they are first needed.
const READERS: usize = 4;

/// How long SQLite itself waits for the write lock before the loop in [`Writer::until_free`] asks again. Left to itself it
/// waits up to 100 ms between two looks, and four busy processes on one file kept each other out for up to 4 s; asked
/// every millisecond, for 0.1 s, at 0.9 of the throughput of one process.
const LOCK_POLL: Duration = Duration::from_millis(1);

statement! { BeginWrite {} "BEGIN IMMEDIATE" }
statement! { BeginRead {} "BEGIN" }
statement! { Commit {} "COMMIT" }
statement! { Rollback {} "ROLLBACK" }

query! {
    /// Changes when another connection has committed; the connection's own commits do not count.
    DataVersion {} -> BigInt;
    "PRAGMA data_version"
}

query! {
    /// The number of rows that the connection has changed since it was opened.
    TotalChanges {} -> BigInt;
    "SELECT total_changes()"
}

/// The connection that writes. Within the process, writers queue at the mutex; among processes, at SQLite's lock.
pub(super) struct Writer {
    connection: Arc<Mutex<Option<SqliteConnection>>>,
    /// None for a database in memory, which ends with its connection.
    file: Option<Arc<DatabaseFile>>,
    busy_timeout: Duration,
    is_wal: bool,
    /// The number of rows that this writer has changed, where other writers use the same connection.
    own_changes: Option<AtomicI64>,
    pub(super) prune_cursor: PruneCursor,
}

impl Writer {
    /// `is_wal`: with another journal a commit may wait for readers too, and that waiting stays SQLite's.
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

    /// Another writer on the same connection, which is that of a database in memory.
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

    /// The connection, opened again for this one use if the store was closed.
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

    /// Closes the connection, once it is free, and has the file's others closed after their use.
    pub(super) fn close(&self) {
        if let Some(file) = &self.file {
            file.close();
            *self.connection.lock() = None;
        }
    }

    /// Runs `work` in a transaction that has the write lock from its start: one that took it later could be refused
    /// because another process had written in between.
    pub(super) fn write<T>(
        &self,
        connection: &mut SqliteConnection,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let changes = self.own_changes.as_ref();
        let before = changes.map(|_| first(connection, TotalChanges {}));
        let before = before.transpose()?;
        self.until_free(|| Ok(BeginWrite {}.execute(connection)?))?;
        let result = within(connection, work);
        if let (Some(own), Some(before)) = (changes, before) {
            own.fetch_add(
                first(connection, TotalChanges {})? - before,
                Ordering::Relaxed,
            );
        }
        let value = result?;
        // What went into a deleted file is not acknowledged.
        self.file.as_ref().map_or(Ok(()), |file| file.look())?;
        Ok(value)
    }

    /// A number that changes when anything but this writer has changed the database.
    pub(super) fn change_marker(&self) -> Result<i64, Fault> {
        // On the connection that writes: for a reader, this store's own commits would count as another connection's.
        let connection = &mut *self.lock()?;
        self.peek(connection, |connection| match &self.own_changes {
            None => first(connection, DataVersion {}),
            Some(own) => Ok(first(connection, TotalChanges {})? - own.load(Ordering::Relaxed)),
        })
    }

    /// Runs `work`, which only reads, on the connection that writes.
    pub(super) fn peek<T>(
        &self,
        connection: &mut SqliteConnection,
        mut work: impl FnMut(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        // Even a reader meets a lock for a moment, while the last other connection closes the file.
        self.until_free(|| work(connection))
    }

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

/// The connection that writes, held by one thread.
pub(super) struct WriteConnection<'a> {
    held: MutexGuard<'a, Option<SqliteConnection>>,
    writer: &'a Writer,
}

const OPENED: &str = "`lock` opens the connection";

impl Deref for WriteConnection<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.held.as_ref().expect(OPENED)
    }
}

impl DerefMut for WriteConnection<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.held.as_mut().expect(OPENED)
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

/// Runs `work` in a transaction in which the database does not change.
pub(super) fn read<T>(
    connection: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    BeginRead {}.execute(connection)?;
    within(connection, work)
}

fn within<T>(
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

/// Rolls back what did not reach its commit, after a panic too.
struct OpenTransaction<'a> {
    connection: &'a mut SqliteConnection,
    ended: bool,
}

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // SQLite has already rolled back after some errors (disk full, input/output) and says so: nothing to do.
            let _ = Rollback {}.execute(self.connection);
        }
    }
}

/// Connections that only read. In WAL mode they never wait for the writer.
pub(super) struct Readers {
    file: Arc<DatabaseFile>,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<SqliteConnection>,
    open: usize,
}

impl Readers {
    pub(super) fn new(file: Arc<DatabaseFile>) -> Self {
        Self {
            file,
            pool: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Lends a connection to `work`; waits while all are lent.
    pub(super) fn lend<T>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.file.refuse_lost()?;
        let mut loan = Loan {
            readers: self,
            connection: self.take(),
        };
        let connection = match &mut loan.connection {
            Some(connection) => connection,
            none => none.insert(self.file.connect()?),
        };
        work(connection)
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        let mut pool = self.pool.lock();
        pool.open -= pool.idle.len();
        pool.idle.clear();
    }

    /// An idle connection, or the place for a new one.
    fn take(&self) -> Option<SqliteConnection> {
        let mut pool = self.pool.lock();
        loop {
            if let Some(connection) = pool.idle.pop() {
                return Some(connection);
            }
            if pool.open < READERS {
                pool.open += 1;
                return None;
            }
            self.returned.wait(&mut pool);
        }
    }
}

/// A connection's place in the pool; it goes back when the loan ends, however it ends.
struct Loan<'a> {
    readers: &'a Readers,
    connection: Option<SqliteConnection>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool.lock();
        match self.connection.take() {
            Some(connection) if !self.readers.file.is_closed() => pool.idle.push(connection),
            _ => pool.open -= 1,
        }
        self.readers.returned.notify_one();
    }
}
