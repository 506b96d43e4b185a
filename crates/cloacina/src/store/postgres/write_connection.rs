//! A connection driven by the thread that uses it, and the one that writes.
//!
//! A lane is a connection with a small runtime of its own. The calling thread runs both its query and the connection's
//! input and output, so an answer wakes no second thread on its way. A lane that is not in use reads nothing.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use crate::store::StoreError;
use crate::types::sync::{Mutex, MutexGuard};

/// A connection that nobody used for so long is looked at before it is used: the server may have closed it.
const IDLE: Duration = Duration::from_millis(50);

/// Longer than anything takes.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// An open connection.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// The server's process; none behind a pooler, which changes it.
    pub(super) pid: Option<i32>,
    /// Why it ended, once it has.
    pub(super) closed: Arc<OnceLock<String>>,
    pub(super) used: Instant,
}

/// A place for a connection, with the runtime that drives it.
pub(super) struct Lane {
    runtime: Option<Runtime>,
    link: Option<Link>,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            runtime: None,
            link: None,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// The server's process, where there is one for the connection's whole life.
    pub(super) fn pid(&self) -> Option<i32> {
        self.link.as_ref().and_then(|link| link.pid)
    }

    /// Ends the connection; the server's process that ends with it.
    fn close(&mut self) -> Option<i32> {
        let pid = self.pid();
        drop(std::mem::replace(self, Self::new()));
        pid
    }

    /// Runs `work` on the lane's connection, which is opened first if there is none. Gives the connection up when the server
    /// says nothing for too long.
    pub(super) fn run<T: Send>(
        &mut self,
        session: &Session,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        outside(|| self.run_here(session, session.options.patience, work))
    }

    /// The same for work of an administrator, which may take any time.
    pub(super) fn run_patiently<T: Send>(
        &mut self,
        session: &Session,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        outside(|| self.run_here(session, FOREVER, work))
    }

    fn run_here<T>(
        &mut self,
        session: &Session,
        patience: Duration,
        work: impl AsyncFnOnce(&Connection, &Session) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => {
                self.runtime
                    .insert(Builder::new_current_thread().enable_all().build().map_err(
                        |error| {
                            StoreError::Failed(format!(
                                "the system gives no way to wait for the network: {error}"
                            ))
                        },
                    )?)
            }
        };
        // Taken out: work that panics leaves no half-done transaction behind.
        let link = self.link.take();
        let (link, result) = runtime.block_on(async {
            let link = match usable(link).await {
                Some(link) => link,
                None => match session.connect(patience).await {
                    Ok(link) => link,
                    Err(error) => return (None, Err(error)),
                },
            };
            link.connection.note_answer();
            let result = tokio::select! {
                biased;
                result = work(&link.connection, session) => result,
                () = link.connection.silence(patience) => return (None, Err(silent(session))),
            };
            match result {
                Ok(value) => (Some(link), Ok(value)),
                Err(fault) => recover(link, fault, session).await,
            }
        });
        self.link = link.map(|link| Link {
            used: Instant::now(),
            ..link
        });
        result
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        drop(self.link.take());
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would panic in a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A connection that the server has not closed, as far as this side can know.
async fn usable(link: Option<Link>) -> Option<Link> {
    let link = link?;
    if link.used.elapsed() >= IDLE {
        // Gives the connection's own task its turn to read what came in the meantime.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    link.closed.get().is_none().then_some(link)
}

/// Ends the transaction that failed. If that is not possible either, the connection is what failed.
async fn recover<T>(
    link: Link,
    fault: Fault,
    session: &Session,
) -> (Option<Link>, Result<T, StoreError>) {
    // The session will not take writes later either: the next one may lead to a server that does.
    if fault.is(&SqlState::READ_ONLY_SQL_TRANSACTION) {
        return (None, Err(fault.at(&session.location)));
    }
    let undo = link.connection.batch_execute("ROLLBACK");
    let undone = tokio::time::timeout(session.options.patience, undo).await;
    if matches!(undone, Ok(Ok(()))) && link.closed.get().is_none() {
        return (Some(link), Err(fault.at(&session.location)));
    }
    let why = link.closed.get().cloned();
    let fault = match fault {
        Fault::Sql(error) => Fault::Lost(match why {
            Some(why) => format!("{error}; {why}"),
            None => error.to_string(),
        }),
        other => other,
    };
    (None, Err(fault.at(&session.location)))
}

fn silent(session: &Session) -> StoreError {
    StoreError::Unavailable(format!(
        "the database {} did not answer within {:?}; look for a session that holds a lock, or a server that hangs",
        session.location, session.options.patience
    ))
}

/// Runs `work` where no runtime is running: a caller may well be a task of its own.
fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The lane that writes; writers of this process queue at the mutex.
pub(super) struct Writer(Mutex<Lane>);

impl Writer {
    pub(super) fn new(lane: Lane) -> Self {
        Self(Mutex::new(lane))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Lane> {
        self.0.lock()
    }
}

/// Ends the connection of a writer that is held; the server's process that ends with it.
pub(super) fn close(lane: &mut MutexGuard<'_, Lane>) -> Option<i32> {
    lane.close()
}
