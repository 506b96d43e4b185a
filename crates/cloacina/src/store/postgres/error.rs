//! What PostgreSQL's errors mean for a caller.

use std::error::Error as _;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// An error inside a verb, before it is told where it happened.
#[derive(Debug)]
pub(super) enum Fault {
    /// PostgreSQL or Diesel said no.
    Sql(DieselError),
    /// The connection is gone; whether the last statement was applied is not known.
    Lost(String),
    /// A row or the caller's decision cannot be what it is.
    Corrupt(String),
    /// The verb does not apply.
    Refused(String),
    /// The writing runner is dead.
    RunnerLost,
    /// Said with its place already.
    Told(StoreError),
}

impl From<DieselError> for Fault {
    fn from(error: DieselError) -> Self {
        match problem_of(&error) {
            Some(problem) => problem.into_fault(),
            None => Self::Sql(error),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Told(error)
    }
}

impl Fault {
    /// The public error, with the place in its message.
    pub(super) fn at(self, location: &str) -> StoreError {
        match self {
            Self::Sql(error) => classify(&error, location),
            Self::Lost(why) => {
                StoreError::Unavailable(format!("the database {location} went away: {why}"))
            }
            Self::Corrupt(message) => {
                StoreError::Corrupt(format!("{message} (database {location})"))
            }
            Self::Refused(message) => {
                StoreError::Failed(format!("{message} (database {location})"))
            }
            Self::RunnerLost => StoreError::RunnerLost,
            Self::Told(error) => error,
        }
    }
}

/// What a statement found wrong by itself. It cannot roll back, but it can fail: it casts a text that begins with this
/// word to a number, and PostgreSQL quotes that text in its error, in whatever language the rest of the message is.
const MARK: &str = "cloacina:";

#[derive(Debug, PartialEq, Eq)]
enum Problem {
    RunnerLost,
    UnknownDefinition(String),
    Task(String),
}

impl Problem {
    fn parse(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once(MARK)?;
        let rest = rest.split('"').next().unwrap_or(rest);
        match rest.split_once(':') {
            None if rest == "runner" => Some(Self::RunnerLost),
            Some(("definition", id)) => Some(Self::UnknownDefinition(id.to_owned())),
            Some(("task", what)) => Some(Self::Task(what.to_owned())),
            _ => None,
        }
    }

    fn into_fault(self) -> Fault {
        match self {
            Self::RunnerLost => Fault::RunnerLost,
            Self::UnknownDefinition(id) => Fault::Corrupt(format!(
                "an execution refers to definition {id}, which is not stored; nothing of the batch was written"
            )),
            Self::Task(what) => Fault::Corrupt(format!(
                "task {what} has no row to update, or is not claimed as the writer took it to be, although the \
                 execution's revision says so; nothing of the batch was written"
            )),
        }
    }
}

fn problem_of(error: &DieselError) -> Option<Problem> {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            Problem::parse(information.message())
        }
        _ => None,
    }
}

/// Diesel hands over the message and not the code, except for a few kinds. `lc_messages` is set to English where the role
/// may do so, and whatever ends a session is known by its end and not by its message.
fn classify(error: &DieselError, location: &str) -> StoreError {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, information) => {
            StoreError::Unavailable(format!(
                "the database {location} could not serialize a transaction: {}",
                information.message()
            ))
        }
        DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, information) => {
            StoreError::Failed(format!(
                "the database {location} cannot be written: {}; connect to the primary, or change the role's \
                 default_transaction_read_only",
                information.message()
            ))
        }
        DieselError::DatabaseError(
            DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection,
            information,
        ) => StoreError::Unavailable(format!(
            "the database {location} went away: {}",
            information.message()
        )),
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            explain(information.message(), location)
        }
        DieselError::DeserializationError(cause) => StoreError::Corrupt(format!(
            "a row of the database {location} holds what this version cannot read: {cause}"
        )),
        // A constraint that the engine's writes always keep: the row is not what the engine took it for.
        DieselError::DatabaseError(_, information) => StoreError::Corrupt(format!(
            "the database {location} refused a row: {}; nothing of the batch was written",
            information.message()
        )),
        other => StoreError::Failed(format!("the database {location} failed: {other}")),
    }
}

fn explain(message: &str, location: &str) -> StoreError {
    const PASSING: [&str; 9] = [
        "deadlock detected",
        "terminating connection",
        "the database system is",
        "canceling statement due to lock timeout",
        "canceling statement due to statement timeout",
        "canceling statement due to user request",
        "could not serialize",
        "sorry, too many clients",
        "remaining connection slots",
    ];
    if PASSING.iter().any(|text| message.contains(text)) {
        return StoreError::Unavailable(format!(
            "the database {location} is not available: {message}"
        ));
    }
    let hint = if message.starts_with("permission denied") {
        "; grant the role what it lacks, or use another one"
    } else if ["No space left on device", "could not extend file"]
        .iter()
        .any(|text| message.contains(text))
    {
        "; free some space on the server's disk"
    } else {
        ""
    };
    StoreError::Failed(format!("the database {location} failed: {message}{hint}"))
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
        return StoreError::Unavailable(format!(
            "the database {location} is not available: {message}"
        ));
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

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn what_a_statement_found_is_read_in_any_language() {
        let cases = [
            (
                "invalid input syntax for type smallint: \"cloacina:runner\"",
                Problem::RunnerLost,
            ),
            (
                "ungültige Eingabe für Typ smallint: »\"cloacina:definition:7\"«",
                Problem::UnknownDefinition("7".into()),
            ),
            (
                "x \"cloacina:task:3 of execution 4\"",
                Problem::Task("3 of execution 4".into()),
            ),
        ];
        for (message, problem) in cases {
            assert_eq!(Problem::parse(message), Some(problem));
        }
        assert_eq!(Problem::parse("deadlock detected"), None);
    }
}
