//! Translates SQLite's errors into store errors.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::store::{Report, StoreError};

/// An error of a request. Except for [`Fault::Store`], its message does not name the database yet.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite or Diesel reported an error.
    Sql(DieselError),
    /// A row, or the caller's decision, violates an invariant.
    Corrupt(String),
    /// A problem with the schema. The text continues the sentence "the database …".
    Migration(Report),
    /// The request cannot be carried out, e.g. a runner cannot be removed because it still has claims.
    Refused(String),
    /// The writing runner was declared dead.
    RunnerLost,
    /// An error that already names the database.
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DieselError> for Fault {
    fn from(error: DieselError) -> Self {
        Self::Sql(error)
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

    /// Returns the public error, which names the database.
    pub(super) fn at(self, location: &str) -> StoreError {
        match self {
            Self::Sql(error) => classify(&error, location),
            Self::Corrupt(message) => {
                StoreError::Corrupt(format!("{message} (database {location})"))
            }
            Self::Refused(message) => {
                StoreError::Failed(format!("{message} (database {location})").into())
            }
            Self::Migration(message) => {
                StoreError::Migration(message.map(|what| format!("the database {location} {what}")))
            }
            Self::RunnerLost => StoreError::RunnerLost,
            Self::Store(error) => error,
        }
    }
}

/// Returns whether the lock of another connection prevented the statement. In this case, nothing was applied.
pub(super) fn is_busy(error: &DieselError) -> bool {
    message_of(error).is_some_and(|message| Cause::of(message) == Cause::Busy)
}

fn message_of(error: &DieselError) -> Option<&str> {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            Some(information.message())
        }
        _ => None,
    }
}

/// The cause of an SQLite error. Diesel returns SQLite's text instead of its error code. The texts come from the fixed
/// table `sqlite3_errstr`. A test checks their classification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Busy,
    Full,
    ReadOnly,
    InputOutput,
    CannotOpen,
    Damaged,
    NoMemory,
    Other,
}

impl Cause {
    fn of(message: &str) -> Self {
        const TEXTS: [(&str, Cause); 12] = [
            ("database is locked", Cause::Busy),
            ("database table is locked", Cause::Busy),
            ("database schema is locked", Cause::Busy),
            ("locking protocol", Cause::Busy),
            ("database or disk is full", Cause::Full),
            ("attempt to write a readonly database", Cause::ReadOnly),
            ("disk I/O error", Cause::InputOutput),
            ("unable to open database", Cause::CannotOpen),
            ("database disk image is malformed", Cause::Damaged),
            ("malformed database schema", Cause::Damaged),
            ("file is not a database", Cause::Damaged),
            ("out of memory", Cause::NoMemory),
        ];
        TEXTS
            .iter()
            .find(|(text, _)| message.starts_with(text))
            .map_or(Self::Other, |(_, cause)| *cause)
    }
}

fn classify(error: &DieselError, location: &str) -> StoreError {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, information) => {
            explain(information.message(), location)
        }
        DieselError::DeserializationError(cause) => StoreError::Corrupt(format!(
            "cannot read a row of the database {location}: {cause}"
        )),
        // There is only one foreign key: from an execution to its definition.
        DieselError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => {
            StoreError::DefinitionGone(format!(
                "a submission refers to a workflow definition that is not stored in the database {location}"
            ))
        }
        // The engine's writes never violate a constraint, so the row is not in the state that the engine assumed.
        DieselError::DatabaseError(_, information) => StoreError::Corrupt(format!(
            "the database {location} refused a row: {}; no part of the batch was written",
            information.message()
        )),
        other => StoreError::Failed(format!("the database {location} failed: {other}").into()),
    }
}

/// Translates an error text of SQLite.
pub(super) fn explain(message: &str, location: &str) -> StoreError {
    match Cause::of(message) {
        Cause::Busy => StoreError::Unavailable(Report::hinted(
            format!(
                "the database {location} was held by another process for longer than its busy_timeout"
            ),
            "look for a program with an open transaction, or raise busy_timeout in the URL",
        )),
        Cause::Full => StoreError::Failed(Report::hinted(
            format!("the disk of the database {location} is full"),
            "free some space and try again",
        )),
        Cause::ReadOnly => StoreError::Failed(Report::hinted(
            format!(
                "the database {location} cannot be written: it was opened with mode=ro, or the file or its folder is \
             read-only"
            ),
            "change the URL or the permissions",
        )),
        Cause::InputOutput => StoreError::Failed(Report::hinted(
            format!("the disk of the database {location} reported an error ({message})"),
            "check the disk and the system log",
        )),
        Cause::CannotOpen => StoreError::Failed(Report::hinted(
            format!("cannot open the database {location}"),
            "check that its folder exists, and that this user may read \
             and write the file and the folder",
        )),
        Cause::Damaged => StoreError::Failed(Report::hinted(
            format!("{location} is not an SQLite database or is damaged ({message})"),
            "check the path, or restore a backup",
        )),
        Cause::NoMemory => {
            StoreError::Failed(format!("out of memory in the database {location}").into())
        }
        Cause::Other => {
            StoreError::Failed(format!("the database {location} failed: {message}").into())
        }
    }
}
