//! Tests of waits, signals and approvals with runners on real databases (semantics L).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloacina::runner::{EngineHandle, Inspector, WaitFilter};
use cloacina::runtime::{Control, Executor, Handler, Registration};
use cloacina::store::{InboxMessage, Store};
use cloacina::types::{
    Approval, Condition, Context, ErrorCode, ExecutionId, ExecutionStatus, InboxId, Json,
    NewSignal, Since, SystemClock, TaskStatus, Timestamp, WaitKind,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

use super::support::{
    Body, Counter, body, config, done, on_each_database, request, start, submit, task, until, wait,
};

pub fn signal(name: &str, key: Option<&str>) -> Condition {
    Condition::Signal {
        name: name.into(),
        key: key.map(str::to_owned),
        key_value: None,
        since: Since::Submitted,
    }
}

pub fn waits(id: &str, dependencies: &[&str], condition: Condition) -> TaskDefinition {
    TaskDefinition {
        wait_for: Some(condition),
        ..task(id, dependencies)
    }
}

pub fn node(id: &str, dependencies: &[&str], condition: Condition) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Engine,
        ..waits(id, dependencies, condition)
    }
}

fn approval(id: &str) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Engine,
        approval: Some(Approval::default()),
        ..task(id, &[])
    }
}

pub fn define(
    engine: &EngineHandle,
    name: &str,
    tasks: Vec<(TaskDefinition, Option<Body>)>,
    cancel_on: Vec<Condition>,
) {
    let mut handlers = BTreeMap::new();
    let mut definitions = Vec::new();
    for (definition, body) in tasks {
        if let Some(body) = body {
            let token = engine
                .tasks()
                .add(Arc::new(move |assignment, _| {
                    let body = Arc::clone(&body);
                    Box::pin(async move { body(&assignment) })
                }))
                .unwrap();
            let handler = Handler {
                executor: Executor::Futures,
                token,
                on_success: false,
                on_failure: false,
            };
            handlers.insert(definition.id.clone(), handler);
        }
        definitions.push(definition);
    }
    let workflow = Workflow::new(WorkflowDefinition {
        name: name.into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: definitions,
        cancel_on,
        ..WorkflowDefinition::default()
    });
    engine
        .register(Registration {
            workflow: Arc::new(workflow.unwrap()),
            handlers,
        })
        .unwrap();
}

pub fn new_signal(name: &str, key: Option<&str>, data: &str) -> NewSignal {
    NewSignal {
        name: name.into(),
        key: key.map(str::to_owned),
        to: None,
        data: Json::parse(data).unwrap(),
        id: None,
        sender: None,
    }
}

pub fn with_input(name: &str, input: &str) -> cloacina::runtime::SubmitRequest {
    cloacina::runtime::SubmitRequest {
        input: Arc::new(Context::from_json(input).unwrap()),
        ..request(name)
    }
}

fn submit_with(engine: &EngineHandle, name: &str, input: &str) -> ExecutionId {
    engine.submit(vec![with_input(name, input)]).unwrap()[0]
}

fn is_waiting(engine: &EngineHandle, id: ExecutionId) -> bool {
    let execution = engine.inspector().execution(id).unwrap();
    let mut tasks = execution.record().tasks.iter();
    tasks.any(|task| task.status == TaskStatus::Waiting)
}

/// The function of a task that copies the payload of the signal `go` to the key `got`.
fn takes_go() -> Body {
    body(|assignment| {
        let go = assignment.context.get("go").map(ToString::to_string);
        super::support::wrote("got", &go.unwrap_or_else(|| "\"nothing\"".to_owned()))
    })
}

#[test]
fn l1_signals_reach_a_waiting_task_and_a_later_wait() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let first = (
            waits("a", &[], signal("go", Some("order"))),
            Some(takes_go()),
        );
        let second = (
            waits("b", &["a"], signal("go", Some("order"))),
            Some(takes_go()),
        );
        define(&engine, "w", vec![first, second], vec![]);
        let id = submit_with(&engine, "w", r#"{"order":"o-1"}"#);
        assert!(is_waiting(&engine, id));
        let other = engine
            .send(vec![new_signal("go", Some("o-2"), "0")])
            .unwrap();
        assert_eq!(other[0].woken, 0);
        // The second signal is sent before task `b` waits.
        let sent = engine
            .send(vec![
                new_signal("go", Some("o-1"), "1"),
                new_signal("go", Some("o-1"), "2"),
            ])
            .unwrap();
        assert!(sent[0].seq < sent[1].seq);
        let ended = wait(&engine, id);
        assert_eq!(ended.record().status, ExecutionStatus::Completed);
        assert_eq!(
            ended.final_context().to_json(),
            r#"{"order":"o-1","got":2}"#
        );
        let (_, events) = engine.inspector().history(id).unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds.iter().filter(|kind| **kind == "waiting").count(), 2);
        assert_eq!(kinds.iter().filter(|kind| **kind == "signalled").count(), 2);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn l2_second_signal_with_the_same_id_changes_nothing() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let once = || NewSignal {
            id: Some("stripe-1".into()),
            ..new_signal("go", None, "1")
        };
        let sent = engine.send(vec![once(), once()]).unwrap();
        assert_eq!(sent[0].seq, sent[1].seq);
        assert!(sent[0].is_new && !sent[1].is_new);
        let again = engine.inspector().send(&[once()]).unwrap();
        assert_eq!((again[0].seq, again[0].is_new), (sent[0].seq, false));
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn l1_mailbox_signal_reaches_only_its_execution() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "w",
            vec![(waits("a", &[], signal("go", None)), Some(takes_go()))],
            vec![],
        );
        let (one, two) = (submit(&engine, "w"), submit(&engine, "w"));
        let to = NewSignal {
            to: Some(two),
            ..new_signal("go", None, "\"hi\"")
        };
        engine.send(vec![to]).unwrap();
        assert_eq!(
            wait(&engine, two).final_context().to_json(),
            r#"{"got":"hi"}"#
        );
        assert!(is_waiting(&engine, one));
        engine.send(vec![new_signal("go", None, "1")]).unwrap();
        assert_eq!(wait(&engine, one).final_context().to_json(), r#"{"got":1}"#);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn l16_any_runner_completes_a_node() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "w",
            vec![(node("go", &[], signal("go", None)), None)],
            vec![],
        );
        let id = submit(&engine, "w");
        engine.stop(Duration::from_secs(1));
        let store: Arc<dyn Store> = open();
        let outside = Inspector::new(Arc::clone(&store), Arc::new(SystemClock));
        outside.send(&[new_signal("go", None, "7")]).unwrap();
        // This runner has no registered workflow.
        let other = start(open(), config());
        assert_eq!(wait(&other, id).final_context().to_json(), r#"{"go":7}"#);
        other.stop(Duration::from_secs(1));
    });
}

#[test]
fn l14_timer_fires_and_survives_a_restart() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let delay = Condition::Delay { duration: 300_000 };
        define(
            &engine,
            "w",
            vec![(node("later", &[], delay), None)],
            vec![],
        );
        let begun = Instant::now();
        let (first, second) = (submit(&engine, "w"), submit(&engine, "w"));
        wait(&engine, first);
        assert!(
            begun.elapsed() >= Duration::from_millis(300),
            "the timer fired early"
        );
        wait(&engine, second);
        let third = submit(&engine, "w");
        engine.stop(Duration::from_secs(1));
        let again = start(open(), config());
        assert_eq!(
            wait(&again, third).record().status,
            ExecutionStatus::Completed
        );
        again.stop(Duration::from_secs(1));
    });
}

#[test]
fn l8_wait_times_out() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let mut waiting = waits("a", &[], signal("go", None));
        waiting.wait_timeout = Some(50_000);
        define(&engine, "w", vec![(waiting, Some(takes_go()))], vec![]);
        let ended = wait(&engine, submit(&engine, "w"));
        let error = ended.record().tasks[0].error.clone().unwrap();
        assert_eq!(error.kind, "WaitTimeoutError");
        assert!(error.message.contains("signal 'go'"), "{}", error.message);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn l11_second_decision_is_refused() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(&engine, "w", vec![(approval("ok"), None)], vec![]);
        let id = submit(&engine, "w");
        let page = engine.inspector().waits(&WaitFilter::default()).unwrap();
        assert_eq!(page.items.len(), 1);
        assert_eq!(page.items[0].kind, WaitKind::Approval);
        assert_eq!(page.items[0].task.as_deref(), Some("ok"));
        let approve = |by: &str| {
            Control::approve(
                "ok",
                Json::parse("{\"limit\":5}").unwrap(),
                Some(by.to_owned()),
            )
        };
        engine.control(id, approve("ann")).unwrap();
        let ended = wait(&engine, id);
        let result = ended.final_context().get("ok").unwrap().to_string();
        assert!(
            result.contains(r#""approved":true,"data":{"limit":5},"by":"ann""#),
            "{result}"
        );
        let error = engine.control(id, approve("bob")).unwrap_err();
        assert_eq!(error.code, ErrorCode::AlreadyDecided);
        assert_eq!(error.decided.as_ref().unwrap().by.as_deref(), Some("ann"));
        assert!(
            error.message.contains("approved by ann"),
            "{}",
            error.message
        );
        let outside = engine
            .inspector()
            .control(id, &Control::reject("ok", None, None));
        assert_eq!(outside.unwrap_err().code, ErrorCode::AlreadyDecided);
        assert!(
            engine
                .inspector()
                .waits(&WaitFilter::default())
                .unwrap()
                .items
                .is_empty()
        );
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn l12_data_of_an_approval_must_match_its_schema() {
    let schema = r#"{
        "type": "object",
        "required": ["limit"],
        "properties": {"limit": {"type": "integer"}, "note": {"type": "string", "default": "-"}}
    }"#;
    on_each_database(|open| {
        let engine = start(open(), config());
        let mut task = approval("ok");
        task.approval = Some(Approval {
            schema: Some(Json::parse(schema).unwrap()),
            ..Approval::default()
        });
        define(&engine, "w", vec![(task, None)], vec![]);
        let mut open_task = approval("ok");
        let optional = schema.replace(r#""required": ["limit"],"#, "");
        open_task.approval = Some(Approval {
            schema: Some(Json::parse(&optional).unwrap()),
            ..Approval::default()
        });
        define(&engine, "optional", vec![(open_task, None)], vec![]);
        let (id, bare) = (submit(&engine, "w"), submit(&engine, "optional"));
        let outside = Inspector::new(open(), Arc::new(SystemClock));
        let approve = |data: &str| Control::approve("ok", Json::parse(data).unwrap(), None);
        let long = format!(r#"{{"limit":5,"note":"{}"}}"#, "x".repeat(16 << 20));
        for (data, code, message) in [
            (
                r#"{"limit":"x"}"#,
                ErrorCode::WorkflowInputInvalid,
                "the data of approval 'ok' is not valid: `limit`: expected integer, got string",
            ),
            ("{}", ErrorCode::WorkflowInputInvalid, "'limit' is missing"),
            (
                "null",
                ErrorCode::WorkflowInputInvalid,
                "'limit' is missing",
            ),
            (
                "[5]",
                ErrorCode::WorkflowInputInvalid,
                "expected object, got array",
            ),
            (
                &long,
                ErrorCode::ContextInvalid,
                "the decision's data takes 16777",
            ),
        ] {
            let inside = engine.control(id, approve(data)).unwrap_err();
            let other = outside.control(id, &approve(data)).unwrap_err();
            for error in [inside, other] {
                assert_eq!(error.code, code, "{}", error.message);
                assert!(error.message.contains(message), "{}", error.message);
            }
        }
        assert!(is_waiting(&engine, id), "a refused decision ended the wait");
        outside.control(id, &approve(r#"{"limit":5}"#)).unwrap();
        let result = wait(&engine, id)
            .final_context()
            .get("ok")
            .unwrap()
            .to_string();
        assert!(
            result.contains(r#""data":{"limit":5,"note":"-"}"#),
            "{result}"
        );
        // A late decision gets the same answer whether its data is valid or not.
        let late = engine.control(id, approve("{}")).unwrap_err();
        assert_eq!(late.code, ErrorCode::AlreadyDecided);
        engine.control(bare, approve("null")).unwrap();
        let result = wait(&engine, bare)
            .final_context()
            .get("ok")
            .unwrap()
            .to_string();
        assert!(result.contains(r#""data":{"note":"-"}"#), "{result}");
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn l11_one_of_several_simultaneous_decisions_counts() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(&engine, "w", vec![(approval("ok"), None)], vec![]);
        let id = submit(&engine, "w");
        let outside = Inspector::new(open(), Arc::new(SystemClock));
        let accepted = Counter::default();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (engine, outside, accepted) = (&engine, &outside, accepted.clone());
                scope.spawn(move || {
                    let null = Json::parse("null").unwrap();
                    let action = Control::approve("ok", null, Some(number.to_string()));
                    let answer = if number % 2 == 0 {
                        engine.control(id, action)
                    } else {
                        outside.control(id, &action)
                    };
                    match answer {
                        Ok(_) => accepted.hit(),
                        Err(error) => assert_eq!(error.code, ErrorCode::AlreadyDecided),
                    }
                });
            }
        });
        assert_eq!(accepted.get(), 1);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn cancel_on_cancels_only_executions_with_the_signals_key() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let tasks = vec![(waits("a", &[], signal("go", None)), Some(takes_go()))];
        define(&engine, "w", tasks, vec![signal("stop", Some("order"))]);
        let one = submit_with(&engine, "w", r#"{"order":"1"}"#);
        let two = submit_with(&engine, "w", r#"{"order":"2"}"#);
        engine
            .send(vec![new_signal("stop", Some("1"), "null")])
            .unwrap();
        assert_eq!(
            wait(&engine, one).record().status,
            ExecutionStatus::Cancelled
        );
        assert!(is_waiting(&engine, two));
        engine.send(vec![new_signal("go", None, "1")]).unwrap();
        wait(&engine, two);
        let filter = WaitFilter {
            kind: Some(WaitKind::Cancel),
            ..WaitFilter::default()
        };
        assert!(engine.inspector().waits(&filter).unwrap().items.is_empty());
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn unreadable_inbox_message_does_not_block_the_others() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "w",
            vec![(waits("a", &[], signal("go", None)), Some(takes_go()))],
            vec![],
        );
        let id = submit(&engine, "w");
        let store = open();
        let post = |kind: &str, target: Option<String>, body: &str| {
            let message = InboxMessage {
                id: InboxId::generate(),
                kind: kind.to_owned(),
                target,
                body: Some(body.to_owned()),
                created_at: Timestamp(1),
                note: None,
            };
            store.post(&message).unwrap();
        };
        post("signal", None, "nonsense");
        post("signal", None, r#"{"name":"go","data":5}"#);
        let second = submit(&engine, "w");
        post("cancel", Some(second.to_string()), "{}");
        store.notify_peers().unwrap();
        let posted = Instant::now();
        assert_eq!(wait(&engine, id).final_context().to_json(), r#"{"got":5}"#);
        wait(&engine, second);
        assert!(
            posted.elapsed() < Duration::from_secs(20),
            "the runner was not notified of the messages"
        );
        until("the inbox is empty", || {
            store.due_waits(Timestamp(0), 10).unwrap().inbox.is_empty()
        });
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn l10_signal_wakes_more_tasks_than_fit_into_one_transaction() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "w",
            vec![(waits("a", &[], signal("go", None)), Some(body(|_| done())))],
            vec![],
        );
        let ids = engine
            .submit((0..2_500).map(|_| request("w")).collect())
            .unwrap();
        let sent = engine.send(vec![new_signal("go", None, "1")]).unwrap();
        assert_eq!(sent[0].woken, 1_000);
        for id in ids {
            wait(&engine, id);
        }
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn l5_signal_sent_during_registration_is_not_lost() {
    on_each_database(|open| {
        let (engine, other) = (start(open(), config()), start(open(), config()));
        for runner in [&engine, &other] {
            let tasks = vec![
                (task("first", &[]), Some(body(|_| done()))),
                (
                    waits("a", &["first"], signal("go", Some("key"))),
                    Some(takes_go()),
                ),
            ];
            define(runner, "w", tasks, vec![]);
        }
        let outside = Inspector::new(open(), Arc::new(SystemClock));
        for round in 0..30 {
            let keys: Vec<String> = (0..20).map(|number| format!("{round}-{number}")).collect();
            let requests = keys
                .iter()
                .map(|key| with_input("w", &format!(r#"{{"key":"{key}"}}"#)));
            let ids = engine.submit(requests.collect()).unwrap();
            // Meanwhile the runners run the first tasks and register the waits.
            std::thread::scope(|scope| {
                for part in keys.chunks(5) {
                    let outside = &outside;
                    scope.spawn(move || {
                        for key in part {
                            outside.send(&[new_signal("go", Some(key), "1")]).unwrap();
                        }
                    });
                }
            });
            for id in ids {
                assert_eq!(
                    wait(&engine, id).record().status,
                    ExecutionStatus::Completed
                );
            }
        }
        engine.stop(Duration::from_secs(1));
        other.stop(Duration::from_secs(1));
    });
}

#[test]
fn l7_acknowledged_signal_wins_over_the_timeout() {
    on_each_database(|open| {
        let (engine, other) = (start(open(), config()), start(open(), config()));
        let mut waiting = node("go", &[], signal("go", Some("key")));
        waiting.wait_timeout = Some(20_000);
        for runner in [&engine, &other] {
            define(runner, "w", vec![(waiting.clone(), None)], vec![]);
        }
        let outside = Inspector::new(open(), Arc::new(SystemClock));
        let (mut won, mut lost) = (0, 0);
        for round in 0..60 {
            let id = submit_with(&engine, "w", &format!(r#"{{"key":"{round}"}}"#));
            #[expect(
                clippy::disallowed_methods,
                reason = "three of four signals are sent shortly before the timeout"
            )]
            std::thread::sleep(Duration::from_micros(if round % 4 == 0 {
                0
            } else {
                17_000 + round * 80
            }));
            outside
                .send(&[new_signal("go", Some(&round.to_string()), "1")])
                .unwrap();
            let acknowledged = outside.now();
            let ended = wait(&engine, id);
            let task = &ended.record().tasks[0];
            if task.status == TaskStatus::Completed {
                won += 1;
            } else {
                lost += 1;
                assert!(
                    task.ended_at.unwrap() <= acknowledged,
                    "the timeout was recorded after the signal was acknowledged"
                );
            }
        }
        assert!(
            won > 0,
            "no signal won over its timeout; {lost} waits timed out"
        );
        engine.stop(Duration::from_secs(1));
        other.stop(Duration::from_secs(1));
    });
}
