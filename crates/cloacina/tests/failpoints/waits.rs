//! The part of a run that waits for a signal, a decision and timers, applies inbox messages, and lists waits.

use std::collections::BTreeMap;

use cloacina::runner::{EngineHandle, WaitFilter};
use cloacina::runtime::Control;
use cloacina::store::{InboxMessage, Store};
use cloacina::types::{ErrorCode, ExecutionId, InboxId, Json, NewSignal, Timestamp, WaitKind};

use super::scenario::{end_of, retry, submit_once};
use super::time::until;

/// The result of the execution that waits: the states of its tasks, and the number of events by task and kind.
pub type WaitsEnd = (Vec<String>, BTreeMap<(Option<u32>, String), usize>);

/// The kinds of events about waits. Each event occurs once, even if requests fail.
const KINDS: [&str; 4] = ["waiting", "signalled", "decided", "step_recorded"];

/// Approves the task `ok`. An earlier call whose answer was lost may already have approved it.
fn approve_once(engine: &EngineHandle, id: ExecutionId) {
    retry(|| {
        let null = Json::parse("null").unwrap();
        let approve = Control::approve("ok", null, Some("ann".into()));
        match engine.control(id, approve) {
            Err(error)
                if matches!(
                    error.code,
                    ErrorCode::AlreadyDecided | ErrorCode::ExecutionState
                ) =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    });
}

/// Checks that no wait of the workflow `waits` is open and that no inbox message is left. Returns the result of the
/// execution. After a crash, executions of other workflows that the earlier run has started can still wait.
fn waits_end(engine: &EngineHandle, store: &dyn Store, id: ExecutionId) -> WaitsEnd {
    for kind in WaitKind::ALL {
        let filter = WaitFilter {
            kind: Some(*kind),
            workflow: Some("waits".into()),
            ..WaitFilter::default()
        };
        let open = retry(|| engine.inspector().waits(&filter)).items;
        assert!(open.is_empty(), "{open:?}");
    }
    until("no inbox message and no due wait is left", || {
        let due = retry(|| Ok(store.due_waits(Timestamp(i64::MAX - 1), 10)?));
        due.inbox.is_empty() && due.executions.is_empty()
    });
    let (ended, history) = retry(|| engine.inspector().history(id));
    let mut counts = BTreeMap::new();
    for event in history {
        let kind = event.kind.as_str().to_owned();
        if KINDS.contains(&kind.as_str()) {
            *counts.entry((event.task, kind)).or_default() += 1;
        }
    }
    let tasks = ended.record().tasks.iter();
    (tasks.map(|task| task.status.to_string()).collect(), counts)
}

/// Sends a signal to an execution that waits for it, and cancels another execution through the inbox. `observer` is a
/// separate connection, so the runner learns through the database of the message that `observer` adds.
pub fn wait_for_signals(
    engine: &EngineHandle,
    store: &dyn Store,
    observer: &dyn Store,
) -> WaitsEnd {
    let id = submit_once(engine, "waits", "waits");
    let cancelled = submit_once(engine, "waits", "cancelled");
    let signal = |key: &str| NewSignal {
        name: "go".into(),
        key: None,
        to: Some(if key == "mine" {
            id
        } else {
            ExecutionId::from_bytes([1; 16])
        }),
        data: Json::parse("1").unwrap(),
        id: Some(format!("failpoint-{key}")),
        sender: None,
    };
    retry(|| engine.send(vec![signal("other")]));
    let filter = WaitFilter {
        kind: Some(WaitKind::Signal),
        ..WaitFilter::default()
    };
    retry(|| engine.inspector().waits(&filter));
    retry(|| engine.explain(id));
    let post = |by: &dyn Store, kind: &str, target: Option<String>, body: &str| {
        let message = InboxMessage {
            id: InboxId::generate(),
            kind: kind.to_owned(),
            target,
            body: Some(body.to_owned()),
            created_at: Timestamp(1),
            note: None,
        };
        retry(|| Ok(by.post(&message)?));
        // A store that does not listen, such as the observer, sends notifications only on request.
        retry(|| Ok(by.notify_peers()?));
    };
    post(store, "cancel", Some(cancelled.to_string()), "{}");
    post(store, "signal", None, "nonsense");
    let unknown = ExecutionId::from_bytes([0; 16]);
    let advance = serde_json::json!({
        "topic": "unknown", "seq": 1, "sent_at": 1, "after": (unknown, -2),
    });
    post(observer, "advance", None, &advance.to_string());
    until("the inbox is applied", || {
        retry(|| Ok(store.due_waits(Timestamp(0), 10)?))
            .inbox
            .is_empty()
    });
    retry(|| engine.send(vec![signal("mine")]));
    approve_once(engine, id);
    end_of(engine, id);
    end_of(engine, cancelled);
    retry(|| Ok(store.prune_signals(Timestamp(0), 1)?));
    waits_end(engine, store, id)
}
