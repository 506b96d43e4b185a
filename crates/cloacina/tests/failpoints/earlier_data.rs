//! Data that an earlier runner left in the database before a run begins.

use cloacina::engine::schedule::NewSchedule;
use cloacina::store::{Batch, ClaimRequest, PutOutcome, RunnerRow, Store, Submit};
use cloacina::types::{
    Catchup, Clock, ExecutionRecord, ExecutionStatus, RunnerId, ScheduleId, SystemClock, Timestamp,
};

use super::records::{record_of, runner_row, workflow};
use super::workflows::workflows;

/// One second, in microseconds.
const SECOND: i64 = 1_000_000;

/// The instance name of the schedule with missed ticks.
pub const MISSED: &str = "missed";
/// The number of missed ticks of the schedule `MISSED`.
pub const TICKS: usize = 3;

/// Stores the row of a dead runner, an execution that ended long ago, and a schedule with missed ticks.
pub fn store_earlier_data(store: &dyn Store) {
    let long_ago = Timestamp(1_000_000);
    let dead = store_runner(store, long_ago);
    store_execution(store, dead, long_ago);
    store_schedule(store);
}

fn store_runner(store: &dyn Store, long_ago: Timestamp) -> RunnerId {
    let dead = RunnerId::generate();
    let row = RunnerRow {
        lease_until: long_ago,
        ..runner_row(dead, long_ago)
    };
    store.register_runner(&row).unwrap();
    dead
}

fn store_execution(store: &dyn Store, dead: RunnerId, long_ago: Timestamp) {
    let definition = store.put_definition(&workflow("old", 1), long_ago);
    let record = ExecutionRecord {
        status: ExecutionStatus::Completed,
        key: Some("old".into()),
        ended_at: Some(long_ago),
        ..record_of(definition.unwrap(), 1, long_ago)
    };
    let batch = Batch {
        runner: dead,
        now: long_ago,
        submits: vec![Submit {
            record: &record,
            labels: &cloacina::types::Labels::NONE,
            workflow: "old",
            tasks: Vec::new(),
            history: &[],
        }],
        advances: Vec::new(),
        claim: ClaimRequest::default(),
        schedules: Vec::new(),
        flow: cloacina::store::FlowWrites::default(),
    };
    store.commit(&batch).unwrap();
}

/// Stores a schedule that catches up on all its missed ticks. All its ticks lie in the past, so their number does not depend
/// on when a runner starts. Also stores the workflows, because a runner can catch up before it has registered them.
fn store_schedule(store: &dyn Store) {
    let created = SystemClock.now() - 10 * SECOND;
    for workflow in workflows() {
        store.put_definition(&workflow, created).unwrap();
    }
    let seconds = i64::try_from(TICKS).unwrap();
    let new = NewSchedule {
        instance: Some(MISSED.to_owned()),
        catchup: Catchup::All,
        end_at: Some(created + seconds * SECOND),
        ..NewSchedule::new("ticked", "* * * * * *", "UTC")
    };
    let record = new.record(ScheduleId::generate(), created).unwrap();
    assert_eq!(store.put_schedule(&record, None), Ok(PutOutcome::Written));
}
