//! Tests of steps that run inline on callers' threads, and of short tasks for which no second worker is woken.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use cloacina::runner::EngineHandle;
use cloacina::runtime::{Answer, Assignment, Notice, SubmitRequest, Work, WorkQueue};
use cloacina::types::{Claim, Context, ExecutionId, ExecutionStatus, RunnerId, SystemClock};

use super::support::{PATIENCE, body, config, define, done, in_memory, request, start, task, wait};

fn submit_inline(engine: &EngineHandle, requests: Vec<SubmitRequest>) -> Answer<Vec<ExecutionId>> {
    let (answer, reply) = Answer::new();
    engine.submit_inline(requests, reply);
    answer
}

#[test]
fn inline_and_queued_messages_are_all_processed() {
    let engine = start(in_memory(), config());
    let steps = vec![
        (task("a", &[]), body(|_| done())),
        (task("b", &["a"]), body(|_| done())),
    ];
    define(&engine, "pair", steps);
    thread::scope(|scope| {
        for number in 0..8 {
            let engine = &engine;
            scope.spawn(move || {
                for _ in 0..200 {
                    let requests = vec![request("pair")];
                    let answer = if number % 2 == 0 {
                        submit_inline(engine, requests)
                    } else {
                        engine.begin_submit(requests)
                    };
                    let ids = answer.wait(PATIENCE).expect("no answer came").unwrap();
                    let ended = wait(engine, ids[0]);
                    assert_eq!(ended.record().status, ExecutionStatus::Completed);
                }
            });
        }
    });
    engine.stop(Duration::from_secs(1));
    // After the runner has stopped, an inline message is answered with an error.
    let late = submit_inline(&engine, vec![request("pair")]);
    assert!(late.wait(PATIENCE).expect("no answer came").is_err());
}

#[test]
fn second_worker_is_woken_only_if_the_first_task_is_long() {
    let queue = WorkQueue::default();
    queue.allow_workers(2);
    let workers_wanted = |queue: &WorkQueue| {
        let notices = queue.notices(Duration::ZERO);
        notices
            .iter()
            .filter(|notice| **notice == Notice::WorkerWanted)
            .count()
    };
    queue.push(
        vec![assignment(), assignment(), assignment()],
        Vec::new(),
        true,
    );
    assert_eq!(
        workers_wanted(&queue),
        1,
        "one worker is woken for the new tasks"
    );
    let taken = queue.try_take(1, &SystemClock).expect("no task is queued");
    assert!(matches!(taken.work, Work::Task(..)));
    assert_eq!(
        workers_wanted(&queue),
        0,
        "the task is expected to be short, so no second worker is woken"
    );
    assert!(queue.must_check_short_tasks());
    assert!(
        queue.check_short_tasks(),
        "a task was taken since the last check"
    );
    assert_eq!(workers_wanted(&queue), 0);
    assert!(
        !queue.check_short_tasks(),
        "no task was taken, so the running task is not short"
    );
    assert_eq!(workers_wanted(&queue), 1);
}

#[test]
fn no_worker_is_woken_if_a_busy_worker_will_take_the_task() {
    let queue = WorkQueue::default();
    queue.allow_workers(2);
    let incoming = queue.incoming();
    queue.push(vec![assignment(), assignment()], Vec::new(), false);
    assert_eq!(queue.notices(Duration::ZERO), []);
    drop(incoming);
    queue.try_take(1, &SystemClock).expect("no task is queued");
    assert_eq!(
        queue.notices(Duration::ZERO),
        [Notice::WorkerWanted],
        "the second task needs a second worker"
    );
}

fn assignment() -> Assignment {
    let engine = start(in_memory(), config());
    let workflow = define(&engine, "one", vec![(task("a", &[]), body(|_| done()))]);
    engine.stop(Duration::ZERO);
    Assignment {
        execution: ExecutionId::generate(),
        workflow,
        task: 0,
        claim: Claim {
            runner: RunnerId::generate(),
            attempt: 1,
            item: None,
        },
        context: Arc::new(Context::new()),
        handler: 1,
        timeout: None,
        reports_start: false,
        priority: 0,
        max_context_bytes: u64::MAX,
        forward_key: None,
        insight: Arc::default(),
        cancelled: Arc::new(AtomicBool::new(false)),
        pulse: Arc::default(),
    }
}
