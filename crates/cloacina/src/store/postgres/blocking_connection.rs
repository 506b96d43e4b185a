//! Connections whose I/O runs on the calling thread.
//!
//! Each connection has its own small Tokio runtime. The calling thread runs both the query and the connection's I/O, so
//! no other thread must wake up to receive an answer. A connection that is not in use reads nothing.

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use crate::store::{Report, StoreError};
use crate::types::sync::{Mutex, MutexGuard};

/// Idle time after which a connection is checked before it is used, because the server may have closed it.
const IDLE_CHECK_AGE: Duration = Duration::from_millis(50);

/// A timeout that never expires in practice.
const NO_TIMEOUT: Duration = Duration::from_hours(24 * 365);

/// An open connection.
pub(super) struct OpenConnection {
    pub(super) connection: Connection,
    /// Process id of the server's session. `None` behind a pooler, where the session can change.
    pub(super) pid: Option<i32>,
    /// The reason why the connection ended, once it has ended.
    pub(super) closed: Arc<OnceLock<String>>,
    pub(super) used_at: Instant,
}

/// A connection that is opened on first use, and the runtime that runs its I/O.
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

    /// Returns the process id of the server's session. `None` if no connection is open, or if a pooler can change the
    /// session.
    pub(super) fn pid(&self) -> Option<i32> {
        self.open.as_ref().and_then(|open| open.pid)
    }

    /// Closes the connection and returns the process id of the server's session.
    fn close(&mut self) -> Option<i32> {
        let pid = self.pid();
        drop(std::mem::replace(self, Self::new()));
        pid
    }

    /// Runs `work` on the connection. Opens the connection if needed. Drops the connection if the server does not
    /// answer in time.
    pub(super) fn run<T: Send>(
        &mut self,
        session: &Session,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        self.run_within(session, session.options.answer_timeout, work)
    }

    /// Like [`Self::run`], but without a timeout, for administrative work.
    pub(super) fn run_without_timeout<T: Send>(
        &mut self,
        session: &Session,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        self.run_within(session, NO_TIMEOUT, work)
    }

    fn run_within<T: Send>(
        &mut self,
        session: &Session,
        answer_timeout: Duration,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        let (mut work, mut answer) = (Some(work), None);
        outside_runtime(&mut || {
            let Some(work) = work.take() else { return };
            answer = Some(self.run_in_own_runtime(session, answer_timeout, work));
        });
        answer.expect("outside_runtime calls its argument")
    }

    /// Runs `work` on the connection. The compiler makes a copy of this function for each request of the store, so all
    /// code that does not need `T` is in functions without type parameters.
    fn run_in_own_runtime<T>(
        &mut self,
        session: &Session,
        answer_timeout: Duration,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        // The connection is taken out of `self`, so that a panic in `work` drops the connection with its open
        // transaction.
        let open = self.take_usable(session, answer_timeout)?;
        let mut answer = None;
        let result = {
            let work = pin!(async {
                answer = Some(work(&open.connection, session).await?);
                Ok(())
            });
            self.drive(&open, answer_timeout, work)
        };
        self.put_back(open, session, result)?;
        answer.ok_or_else(|| no_answer(session))
    }

    fn runtime(&mut self) -> Result<&Runtime, StoreError> {
        if self.runtime.is_none() {
            let runtime = Builder::new_current_thread().enable_all().build();
            self.runtime = Some(runtime.map_err(|error| {
                let problem =
                    format!("cannot create the runtime of a database connection: {error}");
                StoreError::Failed(problem.into())
            })?);
        }
        Ok(self
            .runtime
            .as_ref()
            .expect("the runtime was created above"))
    }

    /// Takes the open connection. Opens a new connection if none is open, or if the server has closed the open one.
    fn take_usable(
        &mut self,
        session: &Session,
        answer_timeout: Duration,
    ) -> Result<OpenConnection, StoreError> {
        let open = self.open.take();
        let runtime = self.runtime()?;
        let usable = open.and_then(|open| {
            if open.used_at.elapsed() >= IDLE_CHECK_AGE {
                runtime.block_on(read_what_arrived());
            }
            open.closed.get().is_none().then_some(open)
        });
        match usable {
            Some(open) => Ok(open),
            None => runtime.block_on(session.connect(answer_timeout)),
        }
    }

    /// Runs `work`. Returns `None` if the server did not answer in time.
    fn drive(
        &self,
        open: &OpenConnection,
        answer_timeout: Duration,
        work: Pin<&mut dyn Future<Output = Result<(), Fault>>>,
    ) -> Option<Result<(), Fault>> {
        open.connection.note_answer();
        let runtime = self.runtime.as_ref()?;
        runtime.block_on(async {
            tokio::select! {
                biased;
                result = work => Some(result),
                () = open.connection.silence(answer_timeout) => None,
            }
        })
    }

    /// Keeps the connection for the next request, unless it is lost.
    fn put_back(
        &mut self,
        open: OpenConnection,
        session: &Session,
        result: Option<Result<(), Fault>>,
    ) -> Result<(), StoreError> {
        let (open, result) = match result {
            None => return Err(no_answer(session)),
            Some(Ok(())) => (Some(open), Ok(())),
            Some(Err(fault)) => {
                let (open, error) = self.runtime()?.block_on(recover(open, fault, session));
                (open, Err(error))
            }
        };
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
            // Dropping a runtime on a thread of another runtime panics.
            runtime.shutdown_background();
        }
    }
}

/// Lets the connection's task read data that arrived while the connection was idle.
async fn read_what_arrived() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

/// Rolls back a failed transaction. If the rollback fails, drops the connection and reports it as lost.
async fn recover(
    open: OpenConnection,
    fault: Fault,
    session: &Session,
) -> (Option<OpenConnection>, StoreError) {
    // This session stays read-only, but the next connection may reach a server that accepts writes.
    if fault.is(&SqlState::READ_ONLY_SQL_TRANSACTION) {
        return (None, fault.at(&session.location));
    }
    let undo = open.connection.batch_execute("ROLLBACK");
    let undone = tokio::time::timeout(session.options.answer_timeout, undo).await;
    if matches!(undone, Ok(Ok(()))) && open.closed.get().is_none() {
        return (Some(open), fault.at(&session.location));
    }
    let why = open.closed.get().cloned();
    let fault = match fault {
        Fault::Sql(error) => Fault::Lost(match why {
            Some(why) => format!("{error}; {why}"),
            None => error.to_string(),
        }),
        other => other,
    };
    (None, fault.at(&session.location))
}

fn no_answer(session: &Session) -> StoreError {
    StoreError::Unavailable(Report::hinted(
        format!(
            "the database {} did not answer within {:?}",
            session.location, session.options.answer_timeout
        ),
        "check whether another session holds a lock, or whether the server hangs",
    ))
}

/// Calls `work` outside of any runtime. Uses another thread if the caller is inside a runtime.
fn outside_runtime(work: &mut (dyn FnMut() + Send)) {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    let ended = std::thread::scope(|scope| scope.spawn(work).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// The connection that writes. Threads of this process that want to write wait for the mutex.
pub(super) struct Writer(Mutex<BlockingConnection>);

impl Writer {
    pub(super) fn new(connection: BlockingConnection) -> Self {
        Self(Mutex::new(connection))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BlockingConnection> {
        self.0.lock()
    }
}

/// Closes a writer's connection and returns the process id of the server's session.
pub(super) fn close(connection: &mut MutexGuard<'_, BlockingConnection>) -> Option<i32> {
    connection.close()
}
