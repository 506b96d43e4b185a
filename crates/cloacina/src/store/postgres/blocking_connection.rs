//! Connections driven by the thread that uses them.
//!
//! Each connection has a small runtime of its own. The calling thread runs both the query and the connection's I/O, so
//! an answer wakes no second thread on its way. A connection that is not in use reads nothing.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use crate::store::{Report, StoreError};
use crate::types::sync::{Mutex, MutexGuard};

/// Idle time after which a connection is checked before its next use, because the server may have closed it.
const IDLE_CHECK_AGE: Duration = Duration::from_millis(50);

/// A timeout that never expires in practice.
const NO_TIMEOUT: Duration = Duration::from_hours(24 * 365);

/// An open connection.
pub(super) struct OpenConnection {
    pub(super) connection: Connection,
    /// Process id of the server's session; `None` behind a pooler, where it changes.
    pub(super) pid: Option<i32>,
    /// Why the connection ended, once it has.
    pub(super) closed: Arc<OnceLock<String>>,
    pub(super) used_at: Instant,
}

/// A connection that is opened when it is first used, with the runtime that drives it.
pub(super) struct BlockingConnection {
    runtime: Option<Runtime>,
    open: Option<OpenConnection>,
}

impl BlockingConnection {
    pub(super) fn new() -> Self {
        Self {
            runtime: None,
            open: None,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns the process id of the server's session, unless a pooler changes it.
    pub(super) fn pid(&self) -> Option<i32> {
        self.open.as_ref().and_then(|open| open.pid)
    }

    /// Closes the connection and returns the process id of the session that ends.
    fn close(&mut self) -> Option<i32> {
        let pid = self.pid();
        drop(std::mem::replace(self, Self::new()));
        pid
    }

    /// Runs `work` on the connection, opening it first if needed. Drops the connection if the server does not answer in
    /// time.
    pub(super) fn run<T: Send>(
        &mut self,
        session: &Session,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        outside_runtime(|| self.run_in_own_runtime(session, session.options.answer_timeout, work))
    }

    /// Like [`Self::run`] without a timeout, for administrative work.
    pub(super) fn run_without_timeout<T: Send>(
        &mut self,
        session: &Session,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        outside_runtime(|| self.run_in_own_runtime(session, NO_TIMEOUT, work))
    }

    fn run_in_own_runtime<T>(
        &mut self,
        session: &Session,
        answer_timeout: Duration,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => {
                self.runtime
                    .insert(Builder::new_current_thread().enable_all().build().map_err(
                        |error| {
                            StoreError::Failed(
                                format!(
                                    "cannot create the runtime of a database connection: {error}"
                                )
                                .into(),
                            )
                        },
                    )?)
            }
        };
        // Taken out, so that a panic in `work` drops the connection with its open transaction.
        let open = self.open.take();
        let (open, result) = runtime.block_on(async {
            let open = match usable(open).await {
                Some(open) => open,
                None => match session.connect(answer_timeout).await {
                    Ok(open) => open,
                    Err(error) => return (None, Err(error)),
                },
            };
            open.connection.note_answer();
            let result = tokio::select! {
                biased;
                result = work(&open.connection, session) => result,
                () = open.connection.silence(answer_timeout) => return (None, Err(no_answer(session))),
            };
            match result {
                Ok(value) => (Some(open), Ok(value)),
                Err(fault) => recover(open, fault, session).await,
            }
        });
        self.open = open.map(|open| OpenConnection {
            used_at: Instant::now(),
            ..open
        });
        result
    }
}

impl Drop for BlockingConnection {
    fn drop(&mut self) {
        drop(self.open.take());
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime in a thread of another runtime would panic.
            runtime.shutdown_background();
        }
    }
}

/// Returns the connection unless the server is known to have closed it.
async fn usable(open: Option<OpenConnection>) -> Option<OpenConnection> {
    let open = open?;
    if open.used_at.elapsed() >= IDLE_CHECK_AGE {
        // Lets the connection's task read what arrived in the meantime.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    open.closed.get().is_none().then_some(open)
}

/// Rolls back a failed transaction. If that fails too, the connection is dropped and reported as lost.
async fn recover<T>(
    open: OpenConnection,
    fault: Fault,
    session: &Session,
) -> (Option<OpenConnection>, Result<T, StoreError>) {
    // The session will stay read-only. The next connection may reach a server that accepts writes.
    if fault.is(&SqlState::READ_ONLY_SQL_TRANSACTION) {
        return (None, Err(fault.at(&session.location)));
    }
    let undo = open.connection.batch_execute("ROLLBACK");
    let undone = tokio::time::timeout(session.options.answer_timeout, undo).await;
    if matches!(undone, Ok(Ok(()))) && open.closed.get().is_none() {
        return (Some(open), Err(fault.at(&session.location)));
    }
    let why = open.closed.get().cloned();
    let fault = match fault {
        Fault::Sql(error) => Fault::Lost(match why {
            Some(why) => format!("{error}; {why}"),
            None => error.to_string(),
        }),
        other => other,
    };
    (None, Err(fault.at(&session.location)))
}

fn no_answer(session: &Session) -> StoreError {
    StoreError::Unavailable(Report::hinted(
        format!(
            "the database {} did not answer within {:?}",
            session.location, session.options.answer_timeout
        ),
        "look for a session that holds a lock, or a hanging server",
    ))
}

/// Runs `work` outside of any runtime, on another thread if the caller is inside one.
fn outside_runtime<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The connection that writes. Writers of this process queue at the mutex.
pub(super) struct Writer(Mutex<BlockingConnection>);

impl Writer {
    pub(super) fn new(connection: BlockingConnection) -> Self {
        Self(Mutex::new(connection))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BlockingConnection> {
        self.0.lock()
    }
}

/// Closes a writer's connection and returns the process id of the session that ends.
pub(super) fn close(connection: &mut MutexGuard<'_, BlockingConnection>) -> Option<i32> {
    connection.close()
}
