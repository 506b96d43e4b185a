//! Changes schedules' rows on the calling thread. A change is optimistic, and repeated if another writer was first.

use crate::store::{PutOutcome, Store};
use crate::types::{Error, ErrorCode, ScheduleId, ScheduleKind, ScheduleRecord};

/// Maximum number of optimistic attempts. Each fails only if another writer changed the row in between.
const MAX_TRIES: usize = 20;

/// F5: adds a schedule. If a schedule with the same identity is stored, updates that one if `update` returns a changed
/// record.
///
/// # Errors
/// When the database fails, or other writers keep changing the row.
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

/// Changes a schedule that is not deleted.
///
/// # Errors
/// `ScheduleNotFound`; an error of `change`; `ScheduleInvalid` if another schedule has the new identity; a failure of the
/// database.
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
                        "schedule {other} has the same workflow, expression, zone and instance name"
                    ),
                )
                .with_hint(
                    "delete one of the two, or register one under an instance_name of its own",
                ));
            }
            PutOutcome::Changed => identity = record.identity,
        }
    }
    Err(busy(&identity))
}

/// Returns a schedule that is not deleted, by its id.
///
/// # Errors
/// `ScheduleNotFound`, or a failure of the database.
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
        .with_hint("list_cron_schedules() lists the schedules of this database")),
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
        format!("cannot change schedule {identity}: other writers changed it {MAX_TRIES} times in between"),
    )
    .with_hint("try again")
}
