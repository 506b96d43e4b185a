//! Translates PostgreSQL's errors into store errors.

use std::error::Error as _;

use tokio_postgres::error::{DbError, SqlState};

use crate::store::StoreError;

/// An error inside a request, without the database's location yet.
#[derive(Debug)]
pub(super) enum Fault {
    /// PostgreSQL or the client reported an error.
    Sql(tokio_postgres::Error),
    /// The connection was lost; whether the last statement was applied is unknown.
    Lost(String),
    /// A row cannot be decoded.
    Unreadable(String),
    /// A row, or the caller's decision, violates an invariant.
    Corrupt(String),
    /// The parameters of a statement have this many bytes, more than a message can carry. It was not sent.
    TooLarge(usize),
    /// The request is not allowed in the current state.
    Refused(String),
    /// The writing runner was declared dead.
    RunnerLost,
    /// A submission refers to the definition of this id, which is not stored.
    DefinitionGone(String),
    /// An error that already names the database.
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db_error) = error.as_db_error() else {
            return Self::Sql(error);
        };
        // The SQLSTATEs that the function `cloacina_refuse` raises.
        let object = db_error.detail().unwrap_or_default();
        match db_error.code().code() {
            "ZC001" => Self::RunnerLost,
            "ZC002" => Self::DefinitionGone(object.to_owned()),
            "ZC003" => Self::Corrupt(format!(
                "task {object} has no row to update, or is not claimed as the writer assumed, although the execution's \
                 revision matches; nothing of the batch was written"
            )),
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
            Self::Lost(why) => StoreError::Unavailable(format!(
                "lost the connection to the database {location}: {why}"
            )),
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
                StoreError::Failed(format!("{message} (database {location})"))
            }
            Self::RunnerLost => StoreError::RunnerLost,
            Self::DefinitionGone(id) => StoreError::DefinitionGone(format!(
                "a submission refers to the workflow definition {id}, which is not stored in the database {location}"
            )),
            Self::Store(error) => error,
        }
    }
}

/// Errors are distinguished by SQLSTATE, because their texts are in the server's language.
fn classify(error: &tokio_postgres::Error, location: &str) -> StoreError {
    match error.as_db_error() {
        Some(db_error) => classify_db_error(db_error, location),
        None => StoreError::Unavailable(format!(
            "lost the connection to the database {location}: {}",
            with_causes(error)
        )),
    }
}

fn classify_db_error(error: &DbError, location: &str) -> StoreError {
    let (code, message) = (error.code(), error.message());
    let failed =
        |hint: &str| StoreError::Failed(format!("the database {location} failed: {message}{hint}"));
    if code == &SqlState::DISK_FULL {
        return failed("; hint: free some space on the server's disk");
    }
    if code == &SqlState::OUT_OF_MEMORY {
        // Not a temporary error: only a smaller batch may need less memory.
        return failed("");
    }
    if code == &SqlState::INSUFFICIENT_PRIVILEGE {
        return failed("; hint: grant the missing privilege, or use another role");
    }
    if code == &SqlState::READ_ONLY_SQL_TRANSACTION {
        return StoreError::Failed(format!(
            "the database {location} is read-only: {message}; hint: connect to the primary (several hosts: \
             target_session_attrs=read-write), or change the role's default_transaction_read_only"
        ));
    }
    if [
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ]
    .contains(code)
    {
        return failed(
            "; hint: if a transaction pooler stands in front of the server, add pgbouncer=true to the URL",
        );
    }
    if code == &SqlState::LOCK_NOT_AVAILABLE {
        return unavailable(location, message);
    }
    match code.code().get(..2).unwrap_or_default() {
        "40" | "53" | "57" | "08" => unavailable(location, message),
        "22" | "54" => StoreError::Refused(format!(
            "the database {location} cannot store a value: {message}; nothing of the batch was written"
        )),
        // The engine's writes never violate a constraint, so the row is not what the engine assumed.
        "23" => StoreError::Corrupt(format!(
            "the database {location} refused a row: {message}; nothing of the batch was written"
        )),
        _ => failed(""),
    }
}

fn unavailable(location: &str, message: &str) -> StoreError {
    StoreError::Unavailable(format!(
        "the database {location} is not available: {message}"
    ))
}

/// Translates the error of an attempt to connect.
pub(super) fn connecting(error: &tokio_postgres::Error, location: &str) -> StoreError {
    let text = with_causes(error);
    let Some(code) = error.code() else {
        return StoreError::Unavailable(format!(
            "cannot connect to the database {location}: {text}; hint: check that the server runs there and that host, \
             port and sslmode are right"
        ));
    };
    let message = error
        .as_db_error()
        .map_or(text.as_str(), |error| error.message());
    if code == &SqlState::INVALID_PASSWORD || code == &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        return StoreError::Failed(format!(
            "the database {location} refuses the login: {message}; hint: check user, password and sslmode"
        ));
    }
    if code == &SqlState::INVALID_CATALOG_NAME {
        return StoreError::Failed(format!(
            "the database {location} does not exist: {message}; hint: create it first"
        ));
    }
    // Classes 53 (insufficient resources), 57 (operator intervention) and 08 (connection) are temporary.
    if ["53", "57", "08"]
        .iter()
        .any(|class| code.code().starts_with(class))
    {
        return unavailable(location, message);
    }
    StoreError::Failed(format!(
        "the database {location} refuses the connection: {message}"
    ))
}

/// Returns the error with its causes: the client's own texts are as short as "error connecting to server".
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
