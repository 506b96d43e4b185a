//! Runs an administrator's transaction, and determines its outcome even if the connection is lost during COMMIT.

use std::time::{Duration, Instant};

use diesel::sql_types::{Nullable, Text};
use tokio_postgres::error::SqlState;

use super::super::blocking_connection::BlockingConnection;
use super::super::driver::{Connection, Statement};
use super::super::error::Fault;
use super::super::session::Session;
use super::super::statement::query;
use crate::store::{Report, StoreError};

/// Maximum time to keep asking the server for the outcome. A server that is up ends the transaction of a lost
/// client within this time.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(10);
const OUTCOME_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum number of attempts at a transaction. A transaction is repeated after a deadlock. Deadlocks occur because
/// a tenant's runners and its administrator lock the same tables in different orders.
const MAX_ATTEMPTS: usize = 5;

query! {
    /// Returns the id of the open transaction.
    TransactionId {} -> Text;
    "SELECT pg_catalog.pg_current_xact_id()::text"
}

query! {
    Outcome { name: String => Text } -> Nullable<Text>;
    "SELECT pg_catalog.pg_xact_status(($1::text)::pg_catalog.xid8)"
}

/// Runs `work` in a transaction. Repeats the transaction after a deadlock.
pub(super) fn run(
    session: &Session,
    work: impl AsyncFn(&Connection, &Session) -> Result<(), Fault> + Send + Sync,
) -> Result<(), StoreError> {
    let mut attempts = 1;
    loop {
        let mut is_deadlock = false;
        let result = attempt(session, &work, &mut is_deadlock);
        if !is_deadlock || attempts == MAX_ATTEMPTS {
            return result;
        }
        attempts += 1;
    }
}

fn attempt(
    session: &Session,
    work: &(impl AsyncFn(&Connection, &Session) -> Result<(), Fault> + Send + Sync),
    is_deadlock: &mut bool,
) -> Result<(), StoreError> {
    let mut committing = None;
    let committing_now = &mut committing;
    let result =
        BlockingConnection::new().run_without_timeout(session, async move |connection, session| {
            let begin = format!("{}; {}", session.begin(), session.without_timeouts());
            connection.batch_execute(&begin).await?;
            work(connection, session)
                .await
                .inspect_err(|fault| *is_deadlock = fault.is(&SqlState::T_R_DEADLOCK_DETECTED))?;
            let names: Vec<String> = TransactionId {}.load(connection).await?;
            *committing_now = names.into_iter().next();
            connection.batch_execute("COMMIT").await?;
            Ok(())
        });
    match (result, committing) {
        (Err(error), Some(name)) => resolve_outcome(session, &name, error),
        (result, _) => result,
    }
}

/// Asks the server for the outcome of a COMMIT to which no answer arrived.
#[expect(
    clippy::disallowed_methods,
    reason = "no event tells when a server is up again or has noticed the lost client"
)]
fn resolve_outcome(session: &Session, name: &str, error: StoreError) -> Result<(), StoreError> {
    let until = Instant::now() + OUTCOME_TIMEOUT;
    loop {
        let asked: Result<Vec<Option<String>>, StoreError> =
            BlockingConnection::new().run(session, async |connection, session| {
                let name = name.to_owned();
                session.fetch(connection, Outcome { name }).await
            });
        let unknown = match asked {
            Ok(answers) => match answers.into_iter().next().flatten().as_deref() {
                Some("committed") => return Ok(()),
                Some("aborted") => return Err(error),
                _ => None,
            },
            Err(unreachable) => Some(unreachable),
        };
        if Instant::now() >= until {
            let why = unknown.map_or_else(String::new, |error| format!("; {error}"));
            return Err(StoreError::Unavailable(Report::hinted(
                format!("{error}; it is unknown whether the transaction was committed{why}"),
                "check with DatabaseAdmin.list_tenants",
            )));
        }
        std::thread::sleep(OUTCOME_POLL_INTERVAL);
    }
}
