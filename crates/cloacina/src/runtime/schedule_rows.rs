//! Changes the rows of schedules, on the calling thread. If another writer changes a row between the read and the
//! write, the row is read again and the change is computed again.

use crate::store::{PutOutcome, Store};
use crate::types::{Error, ErrorCode, ScheduleId, ScheduleKind, ScheduleRecord};

/// Maximum number of attempts to write a change. An attempt fails only if another writer changed the row at the same time.
const MAX_TRIES: usize = 20;

/// F5: adds a schedule. If a schedule with the same identity is already stored, calls `update` with the stored record,
/// and stores the record that `update` returns. If `update` returns `None`, changes nothing.
///
/// # Errors
/// Returns an error if the database fails, or if other writers keep changing the row.
pub fn register(
    store: &dyn Store,
    new: &ScheduleRecord,
    update: impl Fn(&ScheduleRecord) -> Option<ScheduleRecord>,
) -> Result<ScheduleRecord, Error> {
    for _ in 0..MAX_TRIES {
        let Some(known) = store.schedule_of(new.kind, &new.identity)? else {
            if store.put_schedule(new, None)? == PutOutcome::Written {
                return Ok(new.clone());
            }
            continue;
        };
        let Some(mut record) = update(&known) else {
            return Ok(known);
        };
        record.revision = known.revision + 1;
        if store.put_schedule(&record, Some(known.revision))? == PutOutcome::Written {
            return Ok(record);
        }
    }
    Err(busy(&new.identity))
}

/// Changes a schedule. `find` returns the current record, and `change` computes the new record.
///
/// # Errors
/// Returns the errors of `find` and of `change`, and `ScheduleInvalid` if another schedule already has the new
/// identity. Also returns an error if the database fails, or if other writers keep changing the row.
pub fn change(
    store: &dyn Store,
    find: impl Fn(&dyn Store) -> Result<ScheduleRecord, Error>,
    change: impl Fn(&ScheduleRecord) -> Result<ScheduleRecord, Error>,
) -> Result<ScheduleRecord, Error> {
    let mut identity = String::new();
    for _ in 0..MAX_TRIES {
        let known = find(store)?;
        let mut record = change(&known)?;
        record.revision = known.revision + 1;
        match store.put_schedule(&record, Some(known.revision))? {
            PutOutcome::Written => return Ok(record),
            PutOutcome::Exists(other) => {
                return Err(Error::new(
                    ErrorCode::ScheduleInvalid,
                    format!(
                        "cannot change schedule {}: schedule {other} already has this workflow, expression, zone and instance name",
                        record.id
                    ),
                )
                .with_hint(
                    "delete one of the two schedules, or give one of them another instance_name",
                ));
            }
            PutOutcome::Changed => identity = record.identity,
        }
    }
    Err(busy(&identity))
}

/// Returns a schedule by its id. A deleted schedule is not returned.
///
/// # Errors
/// Returns `ScheduleNotFound`, or an error of the database.
pub fn existing(
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
        .with_hint("list the schedules of this database with list_cron_schedules()")),
        Some(record) if record.deleted_at.is_some() => Err(Error::new(
            ErrorCode::ScheduleNotFound,
            format!("schedule {id} is deleted"),
        )
        .with_hint("read its history with get_cron_execution_history()")),
        Some(record) => Ok(record),
    }
}

fn busy(identity: &str) -> Error {
    Error::new(
        ErrorCode::Database,
        format!("cannot change schedule {identity}: other writers changed it during each of {MAX_TRIES} attempts"),
    )
    .with_hint("try again")
}
