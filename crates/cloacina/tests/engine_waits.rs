//! Tests of the engine's rules about waits. Each test name begins with the number of the tested rule in the semantics.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use cloacina::engine::{
    Changes, DecideError, Execution, Finish, NEVER, NewExecution, Outcome, TaskLimits,
};
use cloacina::types::{
    Approval, Condition, Context, Decision, DefinitionId, Delta, ExecutionId, ExecutionStatus,
    Failure, Json, Park, ParkKind, RetryPolicy, RunnerId, SignalRecord, Since, SkipCause,
    TaskStatus, Timestamp, Topic, WaitEnd, WaitKind,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

const LIMITS: TaskLimits = TaskLimits {
    max_context_bytes: 1000,
    max_rescues: 3,
};
/// One second, in microseconds.
const SECOND: i64 = 1_000_000;

fn task(id: &str, dependencies: &[&str]) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        retry: RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    }
}

fn waits(id: &str, dependencies: &[&str], condition: Condition) -> TaskDefinition {
    TaskDefinition {
        wait_for: Some(condition),
        ..task(id, dependencies)
    }
}

fn node(id: &str, condition: Condition) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Engine,
        ..waits(id, &[], condition)
    }
}

fn approval(id: &str) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Engine,
        approval: Some(Approval {
            title: Some("Release {order_id} of {absent}?".into()),
            to: Some("finance".into()),
            ..Approval::default()
        }),
        wait_timeout: Some(10 * SECOND),
        ..task(id, &[])
    }
}

fn signal(name: &str, key: Option<&str>) -> Condition {
    Condition::Signal {
        name: name.into(),
        key: key.map(str::to_owned),
        key_value: None,
        since: Since::Submitted,
    }
}

const fn delay(seconds: i64) -> Condition {
    Condition::Delay {
        duration: seconds * SECOND,
    }
}

/// Returns a stored signal. `at` is the time at which it was sent, in seconds.
fn sent(topic: Topic, seq: i64, data: &str, at: i64) -> SignalRecord {
    SignalRecord {
        seq,
        topic,
        data: Json::parse(data).unwrap(),
        sent_at: Timestamp(at * SECOND),
        sender: None,
    }
}

struct Run {
    execution: Execution,
    now: Timestamp,
}

impl Run {
    fn new(tasks: Vec<TaskDefinition>) -> Self {
        Self::with_input(tasks, r#"{"order_id":"o-1","n":7}"#)
    }

    fn with_input(tasks: Vec<TaskDefinition>, input: &str) -> Self {
        let definition = WorkflowDefinition {
            name: "w".into(),
            tenant: "public".into(),
            package: "embedded".into(),
            tasks,
            ..WorkflowDefinition::default()
        };
        let new = NewExecution {
            id: ExecutionId::generate(),
            definition: DefinitionId(1),
            input: Arc::new(Context::from_json(input).unwrap()),
            key: None,
            priority: 0,
            start_at: None,
            timeout: None,
        };
        let now = Timestamp(100 * SECOND);
        let workflow = Arc::new(Workflow::new(definition).unwrap());
        let (execution, _) = Execution::submit(workflow, new, now);
        Self { execution, now }
    }

    fn ordinal(&self, id: &str) -> u32 {
        self.execution.workflow().ordinal(id).unwrap()
    }

    /// Sets the current time, in seconds.
    fn at(&mut self, seconds: i64) -> &mut Self {
        self.now = Timestamp(seconds * SECOND);
        self
    }

    /// Evaluates the wait of a task with the signals of its topics.
    fn look(&mut self, id: &str, found: &[SignalRecord]) -> Changes {
        let (ordinal, now) = (self.ordinal(id), self.now);
        self.execution.look(ordinal, found, now)
    }

    fn status(&self, id: &str) -> TaskStatus {
        self.execution.task(self.ordinal(id)).status
    }

    fn is_waiting(&self, id: &str) -> bool {
        self.execution.task(self.ordinal(id)).is_waiting()
    }

    /// Returns whether a runner could claim the task now.
    fn can_claim(&self, id: &str) -> bool {
        let ordinal = self.ordinal(id);
        let mut copy = self.execution.clone();
        copy.claim(
            ordinal,
            RunnerId::generate(),
            self.now,
            &mut Changes::default(),
        )
        .is_some()
    }

    /// Claims a task and ends its attempt with an outcome.
    fn run(&mut self, id: &str, outcome: Outcome) -> Changes {
        let (task, now) = (self.ordinal(id), self.now);
        let claim = self
            .execution
            .claim(task, RunnerId::generate(), now, &mut Changes::default())
            .unwrap();
        let finish = Finish {
            task,
            claim,
            started_at: None,
            outcome,
        };
        self.execution.finish(finish, LIMITS, now, 0.5).unwrap()
    }

    fn fail(&mut self, id: &str) {
        self.run(
            id,
            Outcome::Failed(Failure {
                kind: "ValueError".into(),
                message: "boom".into(),
                traceback: None,
                retryable: true,
                lineage: Vec::new(),
            }),
        );
    }

    /// Returns the context that the task's function would get.
    fn view(&mut self, id: &str) -> String {
        let ordinal = self.ordinal(id);
        self.execution.view_with_signals(ordinal).to_json()
    }

    /// Returns the type of the task's error.
    fn error(&self, id: &str) -> String {
        let task = self.execution.task(self.ordinal(id));
        task.error.as_ref().unwrap().kind.clone()
    }
}

#[test]
fn l1_key_is_read_from_its_path_when_the_wait_is_registered() {
    let run = Run::new(vec![waits("book", &[], signal("paid", Some("order_id")))]);
    assert!(run.is_waiting("book"));
    assert!(!run.can_claim("book"));
    let cursors = run.execution.open_cursors(0);
    assert_eq!(cursors.len(), 1);
    assert_eq!(cursors[0].topic, Topic::keyed("paid", Some("o-1")));
    let numbered = Run::new(vec![waits("book", &[], signal("paid", Some("n")))]);
    assert_eq!(
        numbered.execution.open_cursors(0)[0].topic,
        Topic::keyed("paid", Some("7"))
    );
}

#[test]
fn l1_missing_path_fails_the_task() {
    let run = Run::new(vec![waits("book", &[], signal("paid", Some("order")))]);
    assert_eq!(run.status("book"), TaskStatus::Failed);
    assert_eq!(run.execution.record().status, ExecutionStatus::Failed);
}

#[test]
fn l1_key_that_no_signal_can_have_fails_the_task() {
    let long = format!(r#"{{"order_id":"{}"}}"#, "x".repeat(1_025));
    for input in [long.as_str(), r#"{"order_id":"a\u0000b"}"#] {
        let by_key = vec![waits("book", &[], signal("paid", Some("order_id")))];
        let run = Run::with_input(by_key, input);
        assert_eq!(run.status("book"), TaskStatus::Failed);
    }
}

#[test]
fn l3_consecutive_waits_take_consecutive_signals() {
    let topic = Topic::keyed("step", Some("o-1"));
    let mut run = Run::new(vec![
        waits("one", &[], signal("step", Some("order_id"))),
        waits("two", &["one"], signal("step", Some("order_id"))),
        waits("beside", &[], signal("step", Some("order_id"))),
    ]);
    let log = [
        sent(topic.clone(), 5, "1", 101),
        sent(topic.clone(), 9, "2", 102),
    ];
    run.look("one", &log);
    assert!(run.can_claim("one"));
    assert_eq!(run.view("one"), r#"{"order_id":"o-1","n":7,"step":1}"#);
    run.run("one", Outcome::Completed(Arc::new(Delta::default())));
    assert_eq!(run.execution.open_cursors(1)[0].after, 5);
    run.look("two", &log);
    assert_eq!(run.view("two"), r#"{"order_id":"o-1","n":7,"step":2}"#);
    // A parallel wait takes the same signal as the first wait.
    run.look("beside", &log);
    assert_eq!(run.view("beside"), r#"{"order_id":"o-1","n":7,"step":1}"#);
}

#[test]
fn l4_since_ever_and_the_mailbox_accept_signals_sent_before_submission() {
    let old = |topic: &Topic| [sent(topic.clone(), 1, "1", 99)];
    let topic = Topic::keyed("go", None);
    let mut run = Run::new(vec![waits("a", &[], signal("go", None))]);
    run.look("a", &old(&topic));
    assert!(run.is_waiting("a"));
    let mailbox = Topic::mailbox("go", run.execution.record().id);
    run.look("a", &old(&mailbox));
    assert!(
        run.can_claim("a"),
        "earlier signals in the execution's mailbox count"
    );
    let ever = Condition::Signal {
        name: "go".into(),
        key: None,
        key_value: None,
        since: Since::Ever,
    };
    let mut run = Run::new(vec![waits("a", &[], ever)]);
    run.look("a", &old(&topic));
    assert!(run.can_claim("a"));
}

#[test]
fn l6_timeout_and_signals_take_effect_only_after_a_pause() {
    let mut task = waits("a", &[], signal("go", None));
    task.wait_timeout = Some(10 * SECOND);
    let mut run = Run::new(vec![task]);
    assert_eq!(
        run.execution.task(0).ready_at,
        Some(Timestamp(110 * SECOND))
    );
    run.execution.pause(Timestamp(105 * SECOND)).unwrap();
    run.at(200);
    run.look("a", &[sent(Topic::keyed("go", None), 1, "1", 110)]);
    assert!(run.is_waiting("a"), "nothing happens in a pause");
    run.execution.resume(Timestamp(200 * SECOND)).unwrap();
    assert_eq!(
        run.execution.due_waits(run.now),
        [0],
        "signals are read again after the resume"
    );
    let mut late = run.execution.clone();
    late.look(0, &[], run.now);
    assert_eq!(late.task(0).ready_at, Some(Timestamp(205 * SECOND)));
    run.look("a", &[sent(Topic::keyed("go", None), 1, "1", 110)]);
    assert!(run.can_claim("a"));
}

#[test]
fn l6_cancel_removes_the_wait() {
    let mut run = Run::new(vec![waits("a", &[], signal("go", None))]);
    let changes = run.execution.cancel(run.now).unwrap();
    assert!(changes.flow.waits.contains(&0));
    assert!(!run.is_waiting("a"));
    assert!(run.execution.wait_rows(0).is_empty());
}

#[test]
fn l7_signal_wins_over_a_timeout_that_is_due() {
    let mut task = waits("a", &[], signal("go", None));
    task.wait_timeout = Some(10 * SECOND);
    let mut run = Run::new(vec![task]);
    run.at(1_000);
    run.look("a", &[sent(Topic::keyed("go", None), 1, "1", 999)]);
    assert!(run.can_claim("a"));
    run.look("a", &[]);
    assert!(run.can_claim("a"), "a second evaluation changes nothing");
}

#[test]
fn l8_wait_timeout_fails_skips_or_continues_the_task() {
    let with = |end: WaitEnd| {
        let mut task = waits("a", &[], signal("go", None));
        task.wait_timeout = Some(10 * SECOND);
        task.on_timeout = end;
        let mut run = Run::new(vec![task, self::task("b", &["a"])]);
        run.at(110);
        run.look("a", &[]);
        run
    };
    let run = with(WaitEnd::Fail);
    assert_eq!(run.status("a"), TaskStatus::Failed);
    assert_eq!(run.error("a"), "WaitTimeoutError");
    assert_eq!(run.status("b"), TaskStatus::Skipped);
    let run = with(WaitEnd::Skip);
    assert_eq!(run.status("a"), TaskStatus::Skipped);
    assert_eq!(
        run.execution.task(0).skip.as_ref().unwrap().cause,
        SkipCause::Rule
    );
    assert!(
        run.can_claim("b"),
        "a task skipped by its timeout does not block its dependents"
    );
    let mut run = with(WaitEnd::Continue);
    assert!(run.can_claim("a"));
    assert_eq!(run.view("a"), r#"{"order_id":"o-1","n":7}"#);
}

#[test]
fn l9_any_of_needs_one_signal_and_all_of_needs_all() {
    let go = || sent(Topic::keyed("go", None), 1, "\"now\"", 101);
    let any = Condition::AnyOf {
        conditions: vec![delay(60), signal("go", None)],
    };
    let mut run = Run::new(vec![node("cool", any.clone())]);
    run.look("cool", &[go()]);
    assert_eq!(run.status("cool"), TaskStatus::Completed);
    assert_eq!(
        run.execution.final_context().get("cool").unwrap().as_str(),
        r#"{"go":"now"}"#
    );
    assert!(run.execution.wait_rows(0).is_empty());
    let mut run = Run::new(vec![node("cool", any)]);
    run.at(160).look("cool", &[]);
    assert_eq!(
        run.execution.final_context().get("cool").unwrap().as_str(),
        "{}"
    );
    let all = Condition::AllOf {
        conditions: vec![signal("go", None), signal("stop", None)],
    };
    let mut run = Run::new(vec![node("both", all)]);
    run.look("both", &[go()]);
    assert!(run.is_waiting("both"));
    let left: Vec<String> = (run.execution.open_cursors(0).iter())
        .map(|cursor| cursor.topic.name().to_owned())
        .collect();
    assert_eq!(
        left,
        ["stop", "stop"],
        "the topic without a key, and the mailbox"
    );
    run.look("both", &[sent(Topic::keyed("stop", None), 2, "null", 102)]);
    assert_eq!(
        run.execution.final_context().get("both").unwrap().as_str(),
        r#"{"go":"now","stop":null}"#
    );
}

#[test]
fn l9_node_result_is_the_signals_data_or_null() {
    let mut run = Run::new(vec![
        node("paid", signal("paid", None)),
        node("later", delay(5)),
    ]);
    run.look(
        "paid",
        &[sent(Topic::keyed("paid", None), 1, "{\"n\":1}", 101)],
    );
    run.look("later", &[]);
    assert!(run.is_waiting("later"), "the delay has not passed");
    run.at(105).look("later", &[]);
    let context = run.execution.final_context();
    assert_eq!(context.get("paid").unwrap().as_str(), r#"{"n":1}"#);
    assert_eq!(context.get("later").unwrap().as_str(), "null");
    assert_eq!(run.execution.record().status, ExecutionStatus::Completed);
}

#[test]
fn l9_any_of_and_all_of_with_one_part_give_a_mapping() {
    let part = || vec![signal("go", None)];
    let any = Condition::AnyOf { conditions: part() };
    let all = Condition::AllOf { conditions: part() };
    for condition in [any, all] {
        let mut run = Run::new(vec![node("n", condition)]);
        run.look("n", &[sent(Topic::keyed("go", None), 1, "7", 101)]);
        let context = run.execution.final_context();
        assert_eq!(context.get("n").unwrap().as_str(), r#"{"go":7}"#);
    }
}

fn decision(approved: bool) -> Decision {
    Decision {
        approved,
        data: Json::parse("{\"limit\":5}").unwrap(),
        by: Some("ann".into()),
        at: Timestamp(101 * SECOND),
        reason: (!approved).then(|| "too much".to_owned()),
    }
}

#[test]
fn l11_first_decision_counts_and_the_second_is_refused() {
    let mut run = Run::new(vec![approval("approve")]);
    let rows = run.execution.wait_rows(0);
    assert_eq!(rows[0].kind, WaitKind::Approval);
    assert!(
        (rows[0].detail.as_ref().unwrap().as_str()).contains("Release o-1 of {absent}?"),
        "{:?}",
        rows[0].detail
    );
    let now = run.now;
    run.execution.decide(0, decision(true), now).unwrap();
    let result = run.execution.final_context();
    assert_eq!(
        result.get("approve").unwrap().as_str(),
        r#"{"approved":true,"data":{"limit":5},"by":"ann","at":"1970-01-01T00:01:41.000000Z","reason":null}"#
    );
    let again = run.execution.decide(0, decision(false), now).unwrap_err();
    assert!(
        matches!(&again, DecideError::AlreadyDecided { decision, .. } if decision.by.as_deref() == Some("ann")),
        "{again:?}"
    );
}

#[test]
fn l11_rejection_fails_skips_or_continues_the_task() {
    let with = |end: WaitEnd| {
        let mut task = approval("approve");
        task.approval.as_mut().unwrap().on_reject = end;
        let mut run = Run::new(vec![task]);
        let now = run.now;
        run.execution.decide(0, decision(false), now).unwrap();
        run
    };
    let run = with(WaitEnd::Fail);
    assert_eq!(run.error("approve"), "ApprovalRejectedError");
    let error = run.execution.task(0).error.clone().unwrap();
    assert_eq!(error.message, "'approve' was rejected by ann: too much");
    assert_eq!(with(WaitEnd::Skip).status("approve"), TaskStatus::Skipped);
    let run = with(WaitEnd::Continue);
    assert_eq!(run.status("approve"), TaskStatus::Completed);
    let context = run.execution.final_context();
    assert!((context.get("approve").unwrap().as_str()).starts_with(r#"{"approved":false"#));
}

#[test]
fn l11_approval_can_be_decided_in_a_pause() {
    let mut run = Run::new(vec![approval("approve"), task("after", &["approve"])]);
    let now = run.now;
    run.execution.pause(now).unwrap();
    run.execution.decide(0, decision(true), now).unwrap();
    assert_eq!(run.status("approve"), TaskStatus::Completed);
    assert_eq!(run.status("after"), TaskStatus::Pending);
    run.execution.resume(now).unwrap();
    assert!(run.can_claim("after"));
}

#[test]
fn l13_retry_gives_a_timed_out_wait_its_full_timeout() {
    let mut waiting = waits("a", &[], signal("go", None));
    waiting.wait_timeout = Some(10 * SECOND);
    let mut run = Run::new(vec![waiting]);
    run.at(110).look("a", &[]);
    run.at(500);
    let now = run.now;
    run.execution.retry(None, now).unwrap();
    assert_eq!(
        run.execution.task(0).ready_at,
        Some(Timestamp(510 * SECOND))
    );
    // The wait takes the signal that arrived after the first timeout.
    run.look("a", &[sent(Topic::keyed("go", None), 1, "1", 120)]);
    assert!(run.can_claim("a"));
}

#[test]
fn l13_retry_keeps_the_signals_data_unless_it_starts_from_the_task() {
    let log = [
        sent(Topic::keyed("go", None), 3, "1", 101),
        sent(Topic::keyed("go", None), 4, "2", 102),
    ];
    let mut run = Run::new(vec![waits("a", &[], signal("go", None))]);
    run.look("a", &log);
    run.fail("a");
    let now = run.now;
    run.execution.retry(None, now).unwrap();
    assert!(run.can_claim("a"), "the retried task does not wait again");
    assert_eq!(run.view("a"), r#"{"order_id":"o-1","n":7,"go":1}"#);
    run.fail("a");
    run.execution.retry(Some(0), now).unwrap();
    assert!(run.is_waiting("a"));
    run.look("a", &log);
    assert_eq!(run.view("a"), r#"{"order_id":"o-1","n":7,"go":2}"#);
}

#[test]
fn l14_pause_shifts_a_delay_but_not_a_fixed_time() {
    let until = Condition::Until {
        at: Some(Timestamp(160 * SECOND)),
        path: None,
    };
    let mut run = Run::new(vec![node("delay", delay(60)), node("until", until)]);
    assert_eq!(
        run.execution.task(1).ready_at,
        Some(Timestamp(160 * SECOND))
    );
    run.execution.pause(Timestamp(110 * SECOND)).unwrap();
    run.at(150);
    let now = run.now;
    run.execution.resume(now).unwrap();
    run.look("delay", &[]);
    run.look("until", &[]);
    assert_eq!(
        run.execution.task(0).ready_at,
        Some(Timestamp(200 * SECOND))
    );
    assert_eq!(
        run.execution.task(1).ready_at,
        Some(Timestamp(160 * SECOND))
    );
}

#[test]
fn l14_reschedule_moves_a_timer_and_refuses_other_waits() {
    let mut run = Run::new(vec![
        node("later", delay(60)),
        waits("other", &[], signal("go", None)),
    ]);
    let (now, soon) = (run.now, Timestamp(105 * SECOND));
    run.execution.reschedule(0, soon, now).unwrap();
    assert_eq!(run.execution.task(0).ready_at, Some(soon));
    let refused = run.execution.reschedule(1, soon, now).unwrap_err();
    assert!(refused.message.contains("no timer"), "{refused:?}");
    run.at(105).look("later", &[]);
    assert_eq!(run.status("later"), TaskStatus::Completed);
}

#[test]
fn l14_reschedule_in_a_pause_shifts_a_timer_by_the_remaining_pause() {
    let until = Condition::Until {
        at: Some(Timestamp(900 * SECOND)),
        path: None,
    };
    let mut run = Run::new(vec![
        node("delay", delay(600)),
        node("until", until),
        task("parks", &[]),
    ]);
    let running = run
        .execution
        .claim(2, RunnerId::generate(), run.now, &mut Changes::default())
        .unwrap();
    run.execution.pause(Timestamp(110 * SECOND)).unwrap();
    // The attempt parks during the pause, so its timer begins in the pause.
    let park = Park {
        runs: None,
        kind: ParkKind::Sleep,
        key: "nap".into(),
        position: 0,
        condition: delay(600),
        timeout: None,
    };
    let finish = Finish {
        task: 2,
        claim: running,
        started_at: None,
        outcome: Outcome::Park(Box::new(park)),
    };
    let parked_at = Timestamp(120 * SECOND);
    run.execution
        .finish(finish, LIMITS, parked_at, 0.5)
        .unwrap();
    let (now, due) = (Timestamp(150 * SECOND), Timestamp(160 * SECOND));
    for task in 0..3 {
        run.execution.reschedule(task, due, now).unwrap();
    }
    run.execution.resume(Timestamp(155 * SECOND)).unwrap();
    run.at(155);
    for (id, seconds) in [("delay", 165), ("until", 160), ("parks", 165)] {
        run.look(id, &[]);
        let ready_at = run.execution.task(run.ordinal(id)).ready_at;
        assert_eq!(ready_at, Some(Timestamp(seconds * SECOND)), "{id}");
    }
}

#[test]
fn l14_reschedule_in_a_pause_shifts_a_retry_by_the_remaining_pause() {
    let mut retried = task("a", &[]);
    retried.retry = RetryPolicy {
        max_attempts: 2,
        initial_delay: 600 * SECOND,
        max_delay: 600 * SECOND,
        jitter: false,
        ..RetryPolicy::default()
    };
    let mut run = Run::new(vec![retried]);
    run.fail("a");
    let task = |run: &Run| run.execution.task(0).ready_at;
    assert_eq!(task(&run), Some(Timestamp(700 * SECOND)));
    run.execution.pause(Timestamp(110 * SECOND)).unwrap();
    let due = Timestamp(160 * SECOND);
    run.execution
        .reschedule(0, due, Timestamp(150 * SECOND))
        .unwrap();
    run.execution.resume(Timestamp(155 * SECOND)).unwrap();
    assert_eq!(task(&run), Some(Timestamp(165 * SECOND)));
}

#[test]
fn l14_wait_without_a_timeout_is_never_due() {
    let run = Run::new(vec![waits("a", &[], signal("go", None))]);
    assert_eq!(run.execution.task(0).ready_at, Some(NEVER));
    assert!(run.execution.due_waits(Timestamp(i64::MAX - 1)).is_empty());
}

#[test]
fn t5_parked_task_uses_no_attempt_and_records_its_signal() {
    let mut run = Run::new(vec![task("a", &[])]);
    let park = |timeout: Option<i64>| Park {
        runs: None,
        kind: ParkKind::Wait,
        key: "approval".into(),
        position: 2,
        condition: signal("go", None),
        timeout,
    };
    run.run("a", Outcome::Park(Box::new(park(None))));
    assert!(run.is_waiting("a"));
    assert_eq!(run.execution.task(0).attempt, 0);
    let ended = run.look("a", &[sent(Topic::keyed("go", None), 1, "5", 101)]);
    let (_, step) = &ended.flow.steps.recorded[0];
    assert_eq!((step.key.as_str(), step.position), ("approval", 2));
    assert_eq!(step.value.as_str(), r#"{"value":5}"#);
    assert!(run.can_claim("a"));
    assert_eq!(
        run.view("a"),
        r#"{"order_id":"o-1","n":7}"#,
        "the signal's data is in the step, not in the context"
    );
    run.run("a", Outcome::Park(Box::new(park(Some(SECOND)))));
    let ended = run.at(102).look("a", &[]);
    assert_eq!(
        ended.flow.steps.recorded[0].1.value.as_str(),
        r#"{"timed_out":true}"#
    );
    assert!(
        run.can_claim("a"),
        "the function runs again after the timeout"
    );
}

#[test]
fn a4_version_changes_with_the_waits_condition() {
    let version = |task: TaskDefinition| {
        let definition = WorkflowDefinition {
            name: "w".into(),
            tasks: vec![task],
            tenant: "public".into(),
            package: "embedded".into(),
            ..WorkflowDefinition::default()
        };
        Workflow::new(definition).unwrap().version().to_owned()
    };
    let plain = version(task("a", &[]));
    let waiting = version(waits("a", &[], signal("go", None)));
    assert_ne!(plain, waiting);
    assert_ne!(waiting, version(waits("a", &[], signal("stop", None))));
}

#[test]
fn a2_waits_that_cannot_work_are_refused() {
    let refused = |task: TaskDefinition| {
        let definition = WorkflowDefinition {
            name: "w".into(),
            tenant: "public".into(),
            package: "embedded".into(),
            tasks: vec![task],
            ..WorkflowDefinition::default()
        };
        Workflow::new(definition).unwrap_err().message
    };
    let mut empty = task("a", &[]);
    empty.kind = TaskKind::Engine;
    assert!(refused(empty).contains("anything to wait for"));
    let mut zero = waits("a", &[], signal("go", None));
    zero.wait_timeout = Some(0);
    assert!(refused(zero).contains("greater than zero"));
    assert!(refused(waits("a", &[], signal("", None))).contains("signal name"));
    let none = Condition::AnyOf { conditions: vec![] };
    assert!(refused(waits("a", &[], none)).contains("without conditions"));
    let mut function = approval("a");
    function.kind = TaskKind::Sync;
    assert!(refused(function).contains("approval and a function"));
    let all = |first, second| Condition::AllOf {
        conditions: vec![first, second],
    };
    let any = |first, second| Condition::AnyOf {
        conditions: vec![first, second],
    };
    let (ann, bob) = (signal("vote", Some("order_id")), signal("vote", Some("n")));
    let lost = refused(waits("a", &[], all(ann.clone(), bob.clone())));
    assert!(
        lost.contains("two signals named 'vote'") && lost.contains("wait twice"),
        "{lost}"
    );
    let nested = all(any(delay(1), ann.clone()), all(delay(2), bob.clone()));
    assert!(refused(waits("a", &[], nested)).contains("two signals named 'vote'"));
    let twice = refused(waits("a", &[], any(ann.clone(), ann.clone())));
    assert!(twice.contains("signal 'vote' twice"), "{twice}");
    // One of the two votes is enough, so no vote is lost.
    Run::new(vec![waits("a", &[], all(any(ann, bob), delay(1)))]);
}

#[test]
fn l9_function_that_waits_for_two_signals_of_one_name_fails() {
    let keyed = |key: &str| Condition::signal("vote", Some(key));
    let mut run = Run::new(vec![task("a", &[])]);
    let park = Park {
        runs: None,
        kind: ParkKind::Wait,
        key: "votes".into(),
        position: 0,
        condition: Condition::AllOf {
            conditions: vec![keyed("ann"), keyed("bob")],
        },
        timeout: None,
    };
    run.run("a", Outcome::Park(Box::new(park)));
    assert_eq!(run.status("a"), TaskStatus::Failed);
    let error = run.execution.task(0).error.clone().unwrap();
    assert_eq!(error.kind, "TaskValidationError");
    assert!(
        error
            .message
            .starts_with("wait 'votes' of task 'a' has an all_of with two signals"),
        "{}",
        error.message
    );
}
