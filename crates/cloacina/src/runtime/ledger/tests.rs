use std::sync::Arc;

use super::*;
use crate::engine::NewExecution;
use crate::types::{Context, DefinitionId, Json, Micros, RunnerId, Timestamp};
use crate::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

const IDLE_BYTES: usize = 1 << 20;
const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
const CLAIM: Claim = Claim {
    runner: RunnerId::from_bytes([1; 16]),
    attempt: 1,
    item: None,
};

fn id(number: u8) -> ExecutionId {
    ExecutionId::from_bytes([number; 16])
}

fn execution(number: u8, bytes: usize) -> Execution {
    let task = |id: &str| TaskDefinition {
        id: id.into(),
        ..TaskDefinition::default()
    };
    let workflow = Workflow::new(WorkflowDefinition {
        name: "w".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![task("a"), task("b")],
        ..WorkflowDefinition::default()
    });
    let text = Json::parse(&format!("\"{}\"", "x".repeat(bytes))).unwrap();
    let input: Context = [(Arc::from("key"), text)].into_iter().collect();
    let new = NewExecution {
        id: id(number),
        definition: DefinitionId(1),
        input: Arc::new(input),
        key: None,
        priority: 0,
        start_at: None,
        timeout: None,
    };
    Execution::submit(Arc::new(workflow.unwrap()), new, NOW).0
}

#[test]
fn b6_idle_executions_are_bounded_by_bytes_and_the_oldest_is_evicted() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    let quarter = IDLE_BYTES / 4;
    for number in 0..40 {
        ledger.insert(execution(number, quarter));
        ledger.end_turn();
        assert!(ledger.idle_bytes() <= IDLE_BYTES);
    }
    assert!(ledger.contains(id(39)));
    assert!(!ledger.contains(id(0)));
}

#[test]
fn b6_execution_with_a_claim_in_flight_is_never_evicted() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    for number in 0..8 {
        ledger.insert(execution(number, IDLE_BYTES / 4));
        ledger.hold(id(number), 0, CLAIM, Executor::Threads);
        ledger.end_turn();
    }
    assert_eq!(ledger.idle_bytes(), 0);
    assert!((0..8).all(|number| ledger.contains(id(number))));
    for number in 0..8 {
        assert!(ledger.drop_claim(id(number), 0, CLAIM).is_some());
    }
    ledger.end_turn();
    assert!(!ledger.contains(id(0)), "idle executions exceed the limit");
    assert!(ledger.contains(id(7)));
}

#[test]
fn c5_claimed_tasks_share_the_memory_of_their_execution() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    ledger.insert(execution(0, 100_000));
    ledger.hold(id(0), 1, CLAIM, Executor::Threads);
    let alone = ledger.bytes_per_claim(id(0));
    assert!(alone >= 100_000);
    ledger.hold(id(0), 0, CLAIM, Executor::Threads);
    assert_eq!(ledger.bytes_per_claim(id(0)), alone / 2);
}

#[test]
fn claims_added_in_any_order_are_found_by_task_and_item() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    let claim = |item| Claim { item, ..CLAIM };
    let keys = [(1, Some(7)), (0, None), (1, Some(2)), (2, None)];
    for (task, item) in keys {
        let known = ledger.hold(id(0), task, claim(item), Executor::Threads);
        assert_eq!(known, None);
    }
    let later = Claim {
        attempt: 2,
        ..claim(Some(2))
    };
    assert_eq!(ledger.drop_claim(id(0), 1, later), None);
    for (task, item) in keys {
        let held = ledger.held(id(0), task, item).unwrap();
        assert_eq!((held.task, held.claim), (task, claim(item)));
        assert_eq!(ledger.drop_claim(id(0), task, claim(item)), Some(held));
        assert_eq!(ledger.held(id(0), task, item), None);
    }
}

#[test]
fn b6_execution_is_not_evicted_during_the_turn_that_uses_it() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    for number in 0..8 {
        ledger.insert(execution(number, IDLE_BYTES / 4));
    }
    assert!((0..8).all(|number| ledger.contains(id(number))));
}

#[test]
fn claim_replaces_the_former_claim_of_its_task() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    ledger.insert(execution(0, 1));
    let later = Claim {
        attempt: 2,
        ..CLAIM
    };
    assert_eq!(ledger.hold(id(0), 0, CLAIM, Executor::Threads), None);
    assert_eq!(ledger.hold(id(0), 1, CLAIM, Executor::Loop), None);
    let former = ledger.hold(id(0), 0, later, Executor::Threads);
    assert_eq!(former.map(|held| held.claim), Some(CLAIM));
    assert_eq!(ledger.in_flight(), 2);
    assert_eq!(ledger.drop_claim(id(0), 0, CLAIM), None);
    assert!(ledger.drop_claim(id(0), 0, later).is_some());
    assert_eq!(ledger.in_flight(), 1);
}

#[test]
fn d5_passed_deadline_is_reported_once() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    let at = |micros: Micros| Monotonic(micros);
    ledger.watch_deadline(id(1), at(10));
    ledger.watch_deadline(id(2), at(20));
    assert_eq!(ledger.take_overdue(at(9)), []);
    assert_eq!(ledger.take_overdue(at(15)), [id(1)]);
    assert_eq!(ledger.take_overdue(at(15)), []);
    assert_eq!(ledger.first_deadline(), Some(at(20)));
}

#[test]
fn d5_execution_has_one_deadline() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    for at in [10, 13, 12] {
        ledger.watch_deadline(id(1), Monotonic(at));
    }
    assert_eq!(ledger.take_overdue(Monotonic(20)), [id(1)]);
    ledger.watch_deadline(id(1), Monotonic(30));
    ledger.drop_deadline(id(1));
    assert_eq!(ledger.first_deadline(), None);
}

#[test]
fn unreadable_execution_is_reported_once() {
    let mut ledger = Ledger::new(IDLE_BYTES);
    assert!(ledger.note_unreadable(id(1)));
    assert!(!ledger.note_unreadable(id(1)));
    assert!(ledger.is_unreadable(id(1)));
}
