//! What PostgreSQL's errors mean for a caller.

use std::error::Error as _;

use tokio_postgres::error::{DbError, SqlState};

use crate::store::StoreError;

/// An error inside a verb, before it is told where it happened.
#[derive(Debug)]
pub(super) enum Fault {
    /// PostgreSQL or the client reported an error.
    Sql(tokio_postgres::Error),
    /// The connection is gone; whether the last statement was applied is not known.
    Lost(String),
    /// A row cannot be decoded.
    Unreadable(String),
    /// A row or the caller's decision cannot be what it is.
    Corrupt(String),
    /// A statement has this many bytes of parameters, more than a message can carry. It was not sent.
    TooLarge(usize),
    /// The verb does not apply.
    Refused(String),
    /// The writing runner is dead.
    RunnerLost,
    /// A submission refers to the definition of this id, which is not stored.
    DefinitionGone(String),
    /// Said with its place already.
    Told(StoreError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(told) = error.as_db_error() else {
            return Self::Sql(error);
        };
        // The codes of the function `cloacina_refuse`.
        let object = told.detail().unwrap_or_default();
        match told.code().code() {
            "ZC001" => Self::RunnerLost,
            "ZC002" => Self::DefinitionGone(object.to_owned()),
            "ZC003" => Self::Corrupt(format!(
                "task {object} has no row to update, or is not claimed as the writer took it to be, although the \
                 execution's revision says so; nothing of the batch was written"
            )),
            _ => Self::Sql(error),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

impl Fault {
    /// Why a row cannot be read.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Corrupt(reason) => reason,
            other => format!("{other:?}"),
        }
    }

    /// Whether the server reported the error of this SQLSTATE.
    pub(super) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Self::Sql(error) if error.code() == Some(state))
    }

    /// The public error, with the place in its message.
    pub(super) fn at(self, location: &str) -> StoreError {
        match self {
            Self::Sql(error) => classify(&error, location),
            Self::Lost(why) => {
                StoreError::Unavailable(format!("the database {location} went away: {why}"))
            }
            Self::Unreadable(cause) => StoreError::Corrupt(format!(
                "a row of the database {location} holds what this version cannot read: {cause}"
            )),
            Self::Corrupt(message) => {
                StoreError::Corrupt(format!("{message} (database {location})"))
            }
            Self::TooLarge(bytes) => StoreError::TooLarge(format!(
                "the database {location} cannot take {bytes} bytes in one message; nothing was written"
            )),
            Self::Refused(message) => {
                StoreError::Failed(format!("{message} (database {location})"))
            }
            Self::RunnerLost => StoreError::RunnerLost,
            Self::DefinitionGone(id) => StoreError::DefinitionGone(format!(
                "a submission refers to the workflow definition {id}, which the database {location} does not hold"
            )),
            Self::Told(error) => error,
        }
    }
}

/// Errors are told by their SQLSTATE: the texts are in the server's language.
fn classify(error: &tokio_postgres::Error, location: &str) -> StoreError {
    match error.as_db_error() {
        Some(told) => classify_told(told, location),
        None => StoreError::Unavailable(format!(
            "the database {location} went away: {}",
            with_causes(error)
        )),
    }
}

fn classify_told(error: &DbError, location: &str) -> StoreError {
    let (code, message) = (error.code(), error.message());
    let failed =
        |hint: &str| StoreError::Failed(format!("the database {location} failed: {message}{hint}"));
    if code == &SqlState::DISK_FULL {
        return failed("; free some space on the server's disk");
    }
    if code == &SqlState::OUT_OF_MEMORY {
        // Not passing: a smaller batch may need less.
        return failed("");
    }
    if code == &SqlState::INSUFFICIENT_PRIVILEGE {
        return failed("; grant the role what it lacks, or use another one");
    }
    if code == &SqlState::READ_ONLY_SQL_TRANSACTION {
        return StoreError::Failed(format!(
            "the database {location} cannot be written: {message}; connect to the primary (several hosts: \
             target_session_attrs=read-write), or change the role's default_transaction_read_only"
        ));
    }
    if [
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ]
    .contains(code)
    {
        return failed("; a transaction pooler seems to be between: add pgbouncer=true to the URL");
    }
    if code == &SqlState::LOCK_NOT_AVAILABLE {
        return unavailable(location, message);
    }
    match code.code().get(..2).unwrap_or_default() {
        "40" | "53" | "57" | "08" => unavailable(location, message),
        "22" | "54" => StoreError::Refused(format!(
            "the database {location} cannot store a value: {message}; nothing of the batch was written"
        )),
        // A constraint that the engine's writes always keep: the row is not what the engine took it for.
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

/// The error of an attempt to connect.
pub(super) fn connecting(error: &tokio_postgres::Error, location: &str) -> StoreError {
    let text = with_causes(error);
    let Some(code) = error.code() else {
        return StoreError::Unavailable(format!(
            "the database {location} cannot be reached: {text}; check that the server runs there and that host, port \
             and sslmode are right"
        ));
    };
    let message = error
        .as_db_error()
        .map_or(text.as_str(), |error| error.message());
    if code == &SqlState::INVALID_PASSWORD || code == &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
    {
        return StoreError::Failed(format!(
            "the database {location} refuses the login: {message}; check user, password and sslmode"
        ));
    }
    if code == &SqlState::INVALID_CATALOG_NAME {
        return StoreError::Failed(format!(
            "the database {location} does not exist: {message}; create it first"
        ));
    }
    // Classes 53 (no resources), 57 (operator intervention) and 08 (connection) pass by themselves.
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

/// The error with what it came from: the client's own texts are as short as "error connecting to server".
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
