//! Tests of the steps that running attempts record: lost claims, lost answers, shared commits, and retries.

use std::time::Duration;

use cloacina::runtime::{Answer, Assignment, Control, Message};
use cloacina::store::failpoint::{Moment, Verb};
use cloacina::store::{Store, StoreError};
use cloacina::types::{
    Clock, Error, ErrorCode, ExecutionId, ExecutionStatus, Json, StepKind, StepRecord, Timestamp,
};

use super::stepped::{MILLISECOND, SECOND, SteppedRunner, with_timeout};
use super::support::{config, done, failed, request};

fn step(key: &str, position: u32) -> StepRecord {
    StepRecord {
        key: key.to_owned(),
        position,
        kind: StepKind::Step,
        attempt: 1,
        started_at: Timestamp(1),
        ended_at: Timestamp(2),
        value: Json::parse("1").unwrap(),
    }
}

/// Returns the message with which an attempt records a step, and the answer to that message.
fn recording(assignment: &Assignment, step: StepRecord) -> (Message, Answer<()>) {
    let (answer, reply) = Answer::new();
    let message = Message::RecordStep {
        execution: assignment.execution,
        task: assignment.task,
        claim: assignment.claim,
        step,
        reply,
    };
    (message, answer)
}

/// Returns the answer, if it has arrived.
fn answered(answer: &Answer<()>) -> Option<Result<(), Error>> {
    answer.wait(Duration::ZERO)
}

/// Returns whether the answer says that the attempt has lost its claim.
fn is_lost(answer: &Answer<()>) -> bool {
    answered(answer).is_some_and(|answer| answer.unwrap_err().code == ErrorCode::ClaimLost)
}

/// Returns the keys of the stored steps.
fn keys(runner: &SteppedRunner, id: ExecutionId) -> Vec<String> {
    let steps = runner.store.steps(id, None).unwrap();
    steps.into_iter().map(|(_, step)| step.key).collect()
}

#[test]
fn t1_step_is_durable_when_the_attempt_gets_the_answer() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let (token, assignment) = runner.start_next().unwrap();
    let (message, answer) = recording(&assignment, step("plan", 0));
    runner.step(message);
    assert_eq!(answered(&answer), Some(Ok(())));
    assert_eq!(keys(&runner, id), ["plan"]);
    runner.finish((token, assignment), done());
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
    assert_eq!(
        keys(&runner, id),
        ["plan"],
        "the step stays stored after the end"
    );
}

#[test]
fn t2_later_attempt_reads_the_recorded_steps() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let (token, assignment) = runner.start_next().unwrap();
    for (key, position) in [("plan", 0), ("work", 1)] {
        runner.step(recording(&assignment, step(key, position)).0);
    }
    runner.finish((token, assignment), failed("boom"));
    runner.control(id, Control::Retry { from_task: None });
    let (_, assignment) = runner.start_next().unwrap();
    let (answer, reply) = Answer::new();
    runner.step(Message::LoadSteps {
        execution: assignment.execution,
        task: assignment.task,
        item: None,
        reply,
    });
    let steps = answer.wait(Duration::ZERO).unwrap().unwrap();
    assert_eq!(steps, [step("plan", 0), step("work", 1)]);
}

#[test]
fn t7_steps_of_one_turn_share_a_commit() {
    let mut runner = SteppedRunner::new(config());
    let ids: Vec<ExecutionId> = (0..3).map(|_| runner.submit(request("w"))).collect();
    let mut messages = Vec::new();
    let mut answers = Vec::new();
    while let Some((_, assignment)) = runner.start_next() {
        for (key, position) in [("a", 0), ("b", 1)] {
            let (message, answer) = recording(&assignment, step(key, position));
            messages.push(message);
            answers.push(answer);
        }
    }
    let before: Vec<i64> = ids.iter().map(|id| runner.revision(*id)).collect();
    runner.coordinator.step(messages);
    assert!(
        answers
            .iter()
            .all(|answer| answered(answer) == Some(Ok(())))
    );
    for (id, before) in ids.iter().zip(before) {
        assert_eq!(runner.revision(*id), before + 1);
        assert_eq!(keys(&runner, *id), ["a", "b"]);
    }
}

#[test]
fn t8_attempt_that_timed_out_cannot_record_a_step() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(with_timeout());
    let (_, assignment) = runner.start_next().unwrap();
    runner.pass(2 * SECOND);
    let (message, answer) = recording(&assignment, step("late", 0));
    runner.step(message);
    assert!(is_lost(&answer));
    assert!(keys(&runner, id).is_empty());
}

#[test]
fn t8_step_is_refused_after_a_cancel_by_another_process() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let (_, assignment) = runner.start_next().unwrap();
    runner.others.control(id, &Control::Cancel).unwrap();
    // The cached execution is still running. Only the stored revision shows that the execution was cancelled.
    let (message, answer) = recording(&assignment, step("late", 0));
    runner.step(message);
    for _ in 0..3 {
        runner.pass(MILLISECOND);
    }
    assert!(is_lost(&answer));
    assert!(keys(&runner, id).is_empty());
}

#[test]
fn t8_only_the_attempt_after_a_rescue_can_record_steps() {
    let mut runner = SteppedRunner::new(config());
    let mut doomed = runner.peer(config());
    let id = doomed.submit(request("w"));
    let (_, lost) = doomed.start_next().unwrap();
    // `doomed` sends no heartbeats, so `runner` declares it dead when its lease has expired.
    for _ in 0..40 {
        runner.pass(SECOND);
    }
    let (_, assignment) = runner.start_next().expect("the task was rescued");
    let (message, answer) = recording(&assignment, step("plan", 0));
    runner.step(message);
    assert_eq!(answered(&answer), Some(Ok(())));
    let (message, answer) = recording(&lost, step("other", 0));
    doomed.step(message);
    for _ in 0..3 {
        doomed.pass(MILLISECOND);
    }
    assert!(is_lost(&answer), "the dead runner lost its claims");
    assert_eq!(keys(&runner, id), ["plan"]);
}

#[test]
fn t8_step_is_recorded_if_the_cancel_before_it_was_not_written() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let (_, assignment) = runner.start_next().unwrap();
    runner.fail_once(Verb::Commit, Moment::Before);
    let (cancelled, reply) = Answer::new();
    let cancel = Message::Control {
        execution: id,
        action: Control::Cancel,
        // The caller gives up at once, so the cancel is not tried again after the outage.
        give_up: runner.clock.monotonic(),
        reply,
    };
    let (message, answer) = recording(&assignment, step("plan", 0));
    runner.coordinator.step(vec![cancel, message]);
    for _ in 0..5 {
        runner.pass(SECOND);
    }
    assert!(cancelled.wait(Duration::ZERO).unwrap().is_err());
    assert_eq!(answered(&answer), Some(Ok(())));
    assert_eq!(keys(&runner, id), ["plan"]);
}

#[test]
fn t1_step_with_a_lost_answer_is_recorded_once() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let (_, assignment) = runner.start_next().unwrap();
    for (moment, key, position) in [(Moment::After, "a", 0), (Moment::Before, "b", 1)] {
        runner.fail_once(Verb::Commit, moment);
        let (message, answer) = recording(&assignment, step(key, position));
        runner.step(message);
        assert_eq!(answered(&answer), None, "the outcome is not known yet");
        for _ in 0..5 {
            runner.pass(SECOND);
        }
        assert_eq!(answered(&answer), Some(Ok(())));
    }
    assert_eq!(keys(&runner, id), ["a", "b"]);
}

#[test]
fn t2_failed_read_of_recorded_steps_is_repeated() {
    let mut runner = SteppedRunner::new(config());
    runner.submit(request("w"));
    let (_, assignment) = runner.start_next().unwrap();
    runner.fail_once(Verb::Steps, Moment::Before);
    let (answer, reply) = Answer::new();
    runner.step(Message::LoadSteps {
        execution: assignment.execution,
        task: assignment.task,
        item: None,
        reply,
    });
    for _ in 0..5 {
        runner.pass(SECOND);
    }
    assert_eq!(answer.wait(Duration::ZERO).unwrap(), Ok(Vec::new()));
}

#[test]
fn t3_only_the_step_that_the_database_refuses_fails() {
    let mut runner = SteppedRunner::new(config());
    let ids = [runner.submit(request("w")), runner.submit(request("w"))];
    let is_bad = |key: &str| key == "bad";
    runner.refuse(move |batch| {
        let steps = batch.advances.iter().filter_map(|advance| advance.steps);
        steps
            .flat_map(|steps| &steps.recorded)
            .any(|(_, step)| is_bad(&step.key))
            .then(|| StoreError::Refused("a value cannot be stored".to_owned()))
    });
    let mut messages = Vec::new();
    let mut answers = Vec::new();
    for key in ["bad", "good"] {
        let (_, assignment) = runner.start_next().unwrap();
        let (message, answer) = recording(&assignment, step(key, 0));
        messages.push(message);
        answers.push(answer);
    }
    runner.coordinator.step(messages);
    let refused = answered(&answers[0]).unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Database);
    assert_eq!(answered(&answers[1]), Some(Ok(())));
    let recorded: Vec<String> = ids.iter().flat_map(|id| keys(&runner, *id)).collect();
    assert_eq!(recorded, ["good"]);
}

#[test]
fn t6_retry_from_a_step_drops_that_step_and_later_steps() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let attempt = runner.start_next().unwrap();
    for (key, position) in [("a", 0), ("b", 1), ("c", 2)] {
        runner.step(recording(&attempt.1, step(key, position)).0);
    }
    runner.finish(attempt, done());
    let from = |task: Option<&str>, step: &str| Control::RetryFromStep {
        task: task.map(str::to_owned),
        step: step.to_owned(),
        again: false,
    };
    let unknown = runner.ask(id, from(None, "aa")).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::ExecutionState);
    assert_eq!(unknown.hint.as_deref(), Some("did you mean 'a'?"));
    let unknown = runner.ask(id, from(Some("x"), "a")).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::WorkflowInvalid);
    runner.control(id, from(Some("a"), "b"));
    assert_eq!(keys(&runner, id), ["a"]);
    let attempt = runner.start_next().unwrap();
    runner.finish(attempt, done());
    // A client without a runner drops steps in the same way.
    runner.others.control(id, &from(None, "a")).unwrap();
    assert!(keys(&runner, id).is_empty());
}
