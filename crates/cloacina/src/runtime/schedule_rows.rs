//! Rows of schedules, changed by whoever asks: optimistically, again when somebody else was faster.

use crate::store::{Put, Store};
use crate::types::{Error, ErrorCode, ScheduleId, ScheduleKind, ScheduleRecord};

/// Somebody else changes the same row at the same moment: more often than this is no coincidence.
const TRIES: usize = 20;

/// F5: adds a schedule, or has the known one of its identity changed by `again`, where it asks for a change.
///
/// # Errors
/// When the database is in trouble, or the row changes all the time.
pub fn register(
    store: &dyn Store,
    new: &ScheduleRecord,
    again: impl Fn(&ScheduleRecord) -> Option<ScheduleRecord>,
) -> Result<ScheduleRecord, Error> {
    for _ in 0..TRIES {
        let Some(known) = store.schedule_of(new.kind, &new.identity)? else {
            if store.put_schedule(new, None)? == Put::Written {
                return Ok(new.clone());
            }
            continue;
        };
        let Some(mut record) = again(&known) else {
            return Ok(known);
        };
        record.revision = known.revision + 1;
        if store.put_schedule(&record, Some(known.revision))? == Put::Written {
            return Ok(record);
        }
    }
    Err(busy(&new.identity))
}

/// Changes a schedule that is not deleted.
///
/// # Errors
/// `ScheduleNotFound`; what `change` refuses; `ScheduleInvalid` when another one has the new identity; the database's trouble.
pub fn change(
    store: &dyn Store,
    find: impl Fn(&dyn Store) -> Result<ScheduleRecord, Error>,
    change: impl Fn(&ScheduleRecord) -> Result<ScheduleRecord, Error>,
) -> Result<ScheduleRecord, Error> {
    let mut identity = String::new();
    for _ in 0..TRIES {
        let known = find(store)?;
        let mut record = change(&known)?;
        record.revision = known.revision + 1;
        match store.put_schedule(&record, Some(known.revision))? {
            Put::Written => return Ok(record),
            Put::Exists(other) => {
                return Err(Error::new(
                    ErrorCode::ScheduleInvalid,
                    format!(
                        "schedule {other} has the same workflow, expression, zone and instance name"
                    ),
                )
                .with_hint(
                    "delete one of the two, or register one under an instance_name of its own",
                ));
            }
            Put::Changed => identity = record.identity,
        }
    }
    Err(busy(&identity))
}

/// A schedule that is not deleted, by its id.
///
/// # Errors
/// `ScheduleNotFound`, or the database's trouble.
pub fn living(
    store: &dyn Store,
    kind: ScheduleKind,
    id: ScheduleId,
) -> Result<ScheduleRecord, Error> {
    let found = store.schedule(id)?.filter(|record| record.kind == kind);
    match found {
        None => Err(Error::new(
            ErrorCode::ScheduleNotFound,
            format!("there is no schedule {id}"),
        )
        .with_hint("list_cron_schedules() shows those of this database")),
        Some(record) if record.deleted_at.is_some() => Err(Error::new(
            ErrorCode::ScheduleNotFound,
            format!("schedule {id} is deleted"),
        )
        .with_hint("its history can still be read")),
        Some(record) => Ok(record),
    }
}

fn busy(identity: &str) -> Error {
    Error::new(
        ErrorCode::Database,
        format!("the schedule {identity} is changed by others all the time"),
    )
    .with_hint("try again")
}
