//! Fills a database with queue numbers and schedule identities as an earlier release wrote them, and checks the
//! database after a migration has converted them.

use std::sync::Arc;

use cloacina::engine::schedule::NewSchedule;
use cloacina::store::{
    Batch, ClaimClass, ClaimRequest, PutOutcome, QueueId, RunnerRow, Store, Submit, TaskWrite,
};
use cloacina::types::{
    Context, ExecutionId, ExecutionRecord, ExecutionStatus, RunnerId, ScheduleId, ScheduleKind,
    ScheduleRecord, TaskRecord, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

const NOW: Timestamp = Timestamp(1_750_000_000_000_000);

fn workflow() -> Workflow {
    let task = |id: &str, kind| TaskDefinition {
        id: id.to_owned(),
        kind,
        ..TaskDefinition::default()
    };
    Workflow::new(WorkflowDefinition {
        name: "etl".to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: vec![
            task("a", TaskKind::Sync),
            task("b", TaskKind::Async),
            task("c", TaskKind::External),
            task("d", TaskKind::External),
        ],
        ..WorkflowDefinition::default()
    })
    .unwrap()
}

fn schedule(id: u8, instance: &str) -> ScheduleRecord {
    let mut new = NewSchedule::new("etl", "0 5 * * *", "Europe/Berlin");
    new.instance = Some(instance.to_owned());
    new.record(ScheduleId::from_bytes([id; 16]), NOW).unwrap()
}

/// Instance names, some with characters that the earlier release escaped in another way.
const INSTANCES: [&str; 3] = ["", "\"one\" \\ \u{7f}\u{200d}", "\u{1fae8} a\u{0}b\t\n'"];

/// Stores an execution whose tasks are all ready in queues with old numbers, and schedules with old identities.
pub fn fill(store: &dyn Store) -> ExecutionId {
    let definition = store.put_definition(&workflow(), NOW).unwrap();
    let mut ready = TaskRecord::pending();
    ready.status = TaskStatus::Ready;
    let record = ExecutionRecord {
        id: ExecutionId::generate(),
        definition,
        revision: 1,
        status: ExecutionStatus::Pending,
        priority: 0,
        key: None,
        input: Arc::new(Context::new()),
        created_at: NOW,
        start_at: None,
        started_at: None,
        ended_at: None,
        timeout: None,
        deadline: None,
        paused_at: None,
        parent: None,
        finale: None,
        error: None,
        tasks: vec![ready; 4],
    };
    let tasks = [0, 1, 2, 2]
        .into_iter()
        .zip(0..)
        .map(|(kind, ordinal)| TaskWrite {
            ordinal,
            insert: true,
            fence: None,
            queue: QueueId(definition.0 * 4 + kind),
            priority: 0,
        });
    let submit = Submit {
        record: &record,
        workflow: "etl",
        labels: &cloacina::types::Labels::NONE,
        tasks: tasks.collect(),
        history: &[],
    };
    store.commit(&batch(vec![submit], vec![])).unwrap();
    for (id, instance) in (0..).zip(INSTANCES) {
        let mut known = schedule(id, instance);
        known.identity = format!(
            "{:?} {:?} {:?} {instance:?}",
            "etl", "0 5 * * *", "Europe/Berlin"
        );
        assert!(matches!(
            store.put_schedule(&known, None),
            Ok(PutOutcome::Written)
        ));
    }
    record.id
}

fn batch(submits: Vec<Submit<'_>>, classes: Vec<ClaimClass>) -> Batch<'_> {
    Batch {
        runner: RunnerId::from_bytes([9; 16]),
        now: NOW,
        schedules: vec![],
        flow: cloacina::store::FlowWrites::default(),
        submits,
        advances: vec![],
        claim: ClaimRequest { classes },
    }
}

/// Checks that each task can be claimed from its new queue, and that each schedule is found by its new identity.
pub fn check(store: &dyn Store, execution: ExecutionId) {
    let row = RunnerRow {
        id: RunnerId::from_bytes([9; 16]),
        host: "host".to_owned(),
        pid: 1,
        pid_started: 1,
        started_at: NOW,
        heartbeat_at: NOW,
        lease_until: NOW,
        workflows: vec![],
    };
    store.register_runner(&row).unwrap();
    for ordinal in [3, 1, 2, 0] {
        let class = ClaimClass {
            queues: vec![QueueId::of(&workflow(), ordinal)],
            excluded: vec![],
            limit: 5,
        };
        let claimed = store.commit(&batch(vec![], vec![class])).unwrap().claimed;
        let claimed: Vec<_> = claimed
            .iter()
            .map(|task| (task.execution, task.ordinal))
            .collect();
        assert_eq!(claimed, [(execution, ordinal)]);
    }
    for (id, instance) in (0..).zip(INSTANCES) {
        let new = schedule(id, instance);
        let known = store
            .schedule_of(ScheduleKind::Cron, &new.identity)
            .unwrap();
        assert_eq!(known.map(|known| known.id), Some(new.id), "{instance:?}");
    }
}
