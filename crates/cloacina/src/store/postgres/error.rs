//! Translates PostgreSQL's errors into store errors.

use std::error::Error as _;

use tokio_postgres::error::{DbError, SqlState};

use crate::store::{Report, StoreError};

/// An error of a request. Except for [`Fault::Store`], its message does not name the database yet.
#[derive(Debug)]
pub(super) enum Fault {
    /// PostgreSQL or the client reported an error.
    Sql(tokio_postgres::Error),
    /// The connection was lost. It is unknown whether the last statement was applied.
    Lost(String),
    /// A row cannot be decoded.
    Unreadable(String),
    /// A row, or the caller's decision, violates an invariant.
    Corrupt(String),
    /// The total size of a statement's parameters, in bytes, exceeds the maximum size of a message. The statement
    /// was not sent.
    TooLarge(usize),
    /// The request cannot be carried out, e.g. a runner cannot be removed because it still has claims.
    Refused(String),
    /// The writing runner was declared dead.
    RunnerLost,
    /// A submission refers to the definition with this id, which is not stored.
    DefinitionGone(String),
    /// Some triggers fire at the end of executions, but the statement does not store the ends for them.
    Followed,
    /// An error that already names the database.
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db_error) = error.as_db_error() else {
            return Self::Sql(error);
        };
        // SQLSTATEs that the function `cloacina_refuse` raises.
        let object = db_error.detail().unwrap_or_default();
        match db_error.code().code() {
            "ZC001" => Self::RunnerLost,
            "ZC002" => Self::DefinitionGone(object.to_owned()),
            "ZC003" => Self::Corrupt(format!(
                "task {object} has no row to update, or is not claimed as the writer assumed, although the execution's \
                 revision matches; no part of the batch was written"
            )),
            "ZC004" => Self::Followed,
            _ => Self::Sql(error),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// Returns the reason why a row cannot be read.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Corrupt(reason) => reason,
            other => format!("{other:?}"),
        }
    }

    /// Returns whether the server reported this SQLSTATE.
    pub(super) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Self::Sql(error) if error.code() == Some(state))
    }

    /// Returns the public error, which names the database.
    pub(super) fn at(self, location: &str) -> StoreError {
        match self {
            Self::Sql(error) => classify(&error, location),
            Self::Lost(why) => StoreError::Unavailable(
                format!("lost the connection to the database {location}: {why}").into(),
            ),
            Self::Unreadable(cause) => StoreError::Corrupt(format!(
                "cannot read a row of the database {location}: {cause}"
            )),
            Self::Corrupt(message) => {
                StoreError::Corrupt(format!("{message} (database {location})"))
            }
            Self::TooLarge(bytes) => StoreError::TooLarge(format!(
                "a message of {bytes} bytes is too large for the database {location}; nothing was written"
            )),
            Self::Refused(message) => {
                StoreError::Failed(format!("{message} (database {location})").into())
            }
            Self::RunnerLost => StoreError::RunnerLost,
            Self::Followed => StoreError::Failed(
                format!(
                    "the batch was not written, because a trigger that fires at the end of executions was registered \
                     meanwhile (database {location})"
                )
                .into(),
            ),
            Self::DefinitionGone(id) => StoreError::DefinitionGone(format!(
                "a submission refers to the workflow definition {id}, which is not stored in the database {location}"
            )),
            Self::Store(error) => error,
        }
    }
}

/// Classifies an error by its SQLSTATE, because its text is in the server's language.
fn classify(error: &tokio_postgres::Error, location: &str) -> StoreError {
    match error.as_db_error() {
        Some(db_error) => classify_db_error(db_error, location),
        None => StoreError::Unavailable(
            format!(
                "lost the connection to the database {location}: {}",
                with_causes(error)
            )
            .into(),
        ),
    }
}

fn classify_db_error(error: &DbError, location: &str) -> StoreError {
    let (code, message) = (error.code(), error.message());
    let failed = || format!("the database {location} failed: {message}");
    let hinted = |hint: &str| StoreError::Failed(Report::hinted(failed(), hint));
    if code == &SqlState::DISK_FULL {
        return hinted("free some space on the server's disk");
    }
    if code == &SqlState::OUT_OF_MEMORY {
        // This error is not treated as temporary, because the same batch would need as much memory again.
        return StoreError::Failed(failed().into());
    }
    if code == &SqlState::INSUFFICIENT_PRIVILEGE {
        return hinted("grant the missing privilege, or use another role");
    }
    if code == &SqlState::READ_ONLY_SQL_TRANSACTION {
        return StoreError::Failed(Report::hinted(
            format!("the database {location} is read-only: {message}"),
            "connect to the primary (with several hosts, add \
             target_session_attrs=read-write to the URL), or change the role's default_transaction_read_only",
        ));
    }
    if [
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ]
    .contains(code)
    {
        return hinted(
            "if a transaction pooler is in front of the server, add pgbouncer=true to the URL",
        );
    }
    if code == &SqlState::LOCK_NOT_AVAILABLE {
        return unavailable(location, message);
    }
    match code.code().get(..2).unwrap_or_default() {
        "40" | "53" | "57" | "08" => unavailable(location, message),
        "22" | "54" => StoreError::Refused(format!(
            "the database {location} cannot store a value: {message}; no part of the batch was written"
        )),
        // The engine's writes never violate a constraint, so the row is not in the state that the engine assumed.
        "23" => StoreError::Corrupt(format!(
            "the database {location} refused a row: {message}; no part of the batch was written"
        )),
        _ => StoreError::Failed(failed().into()),
    }
}

fn unavailable(location: &str, message: &str) -> StoreError {
    StoreError::Unavailable(format!("the database {location} is not available: {message}").into())
}

/// Translates an error that occurred while connecting.
pub(super) fn connecting(error: &tokio_postgres::Error, location: &str) -> StoreError {
    let text = with_causes(error);
    let Some(code) = error.code() else {
        return StoreError::Unavailable(Report::hinted(
            format!("cannot connect to the database {location}: {text}"),
            "check that the server runs there and that host, \
             port and sslmode are right",
        ));
    };
    let message = error
        .as_db_error()
        .map_or(text.as_str(), |error| error.message());
    if code == &SqlState::INVALID_PASSWORD || code == &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        return StoreError::Failed(Report::hinted(
            format!("the database {location} refuses the login: {message}"),
            "check user, password and sslmode",
        ));
    }
    if code == &SqlState::INVALID_CATALOG_NAME {
        return StoreError::Failed(Report::hinted(
            format!("the database {location} does not exist: {message}"),
            "create the database first",
        ));
    }
    // Classes 53 (insufficient resources), 57 (operator intervention) and 08 (connection) are temporary.
    if ["53", "57", "08"]
        .iter()
        .any(|class| code.code().starts_with(class))
    {
        return unavailable(location, message);
    }
    StoreError::Failed(format!("the database {location} refuses the connection: {message}").into())
}

/// Returns the text of an error with its causes. The client's own texts are too short, e.g. "error connecting to
/// server".
pub(super) fn with_causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
