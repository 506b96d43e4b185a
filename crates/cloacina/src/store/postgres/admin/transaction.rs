//! One transaction of an administrator, whose outcome is known even when the connection ends in the middle of COMMIT.

use std::time::{Duration, Instant};

use diesel::sql_types::{Nullable, Text};
use tokio_postgres::error::SqlState;

use super::super::driver::{Connection, Statement};
use super::super::error::Fault;
use super::super::session::Session;
use super::super::statement::query;
use super::super::write_connection::Lane;
use crate::store::StoreError;

/// A transaction whose client vanished is ended by the server within this time, unless the server is down.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// A tenant's runners and its administrator lock the same tables in different orders.
const ATTEMPTS: usize = 5;

query! {
    /// Names the open transaction.
    Name {} -> Text;
    "SELECT pg_catalog.pg_current_xact_id()::text"
}

query! {
    Outcome { name: String => Text } -> Nullable<Text>;
    "SELECT pg_catalog.pg_xact_status(($1::text)::pg_catalog.xid8)"
}

/// Runs `work` in a transaction: all of it is in the database afterwards, or nothing.
pub(super) fn run(
    session: &Session,
    work: impl AsyncFn(&Connection, &Session) -> Result<(), Fault> + Send + Sync,
) -> Result<(), StoreError> {
    let mut attempts = 1;
    loop {
        let mut is_deadlock = false;
        let result = attempt(session, &work, &mut is_deadlock);
        if !is_deadlock || attempts == ATTEMPTS {
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
    let result = Lane::new().run_patiently(session, async move |connection, session| {
        let shared = connection;
        let begin = format!("{}; {}", session.begin(), session.unhurried());
        shared.batch_execute(&begin).await?;
        work(connection, session)
            .await
            .inspect_err(|fault| *is_deadlock = fault.is(&SqlState::T_R_DEADLOCK_DETECTED))?;
        let names: Vec<String> = Name {}.load(shared).await?;
        *committing_now = names.into_iter().next();
        shared.batch_execute("COMMIT").await?;
        Ok(())
    });
    match (result, committing) {
        (Err(error), Some(name)) => settle(session, &name, error),
        (result, _) => result,
    }
}

/// COMMIT was sent and did not answer: asks the server what became of it.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when a server is back, or has noticed that its client is gone"
)]
fn settle(session: &Session, name: &str, error: StoreError) -> Result<(), StoreError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let asked: Result<Vec<Option<String>>, StoreError> =
            Lane::new().run(session, async |connection, session| {
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
            return Err(StoreError::Unavailable(format!(
                "{error}; whether it was done is not known{why}; look with DatabaseAdmin.list_tenants"
            )));
        }
        std::thread::sleep(PAUSE);
    }
}
