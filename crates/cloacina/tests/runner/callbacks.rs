//! Tests that a caller that waits for an execution is answered when the callbacks of the execution's tasks have ended, or after
//! 30 s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloacina::runtime::{Callback, Control, Executor, Work};

use super::stepped::{SECOND, SteppedRunner};
use super::support::{config, done, request};

/// Returns a runner whose execution has ended, the callback that is still running, and a flag that is set when the caller is
/// answered.
fn with_open_callback() -> (SteppedRunner, Callback, Arc<AtomicBool>) {
    let mut runner = SteppedRunner::new(config());
    runner.register(true);
    let id = runner.submit(request("w"));
    let answered = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&answered);
    runner
        .subscriptions
        .subscribe(id, move |_| answer.store(true, Ordering::SeqCst));
    let attempt = runner.start_next().unwrap();
    runner.finish(attempt, done());
    let dispatched = (runner.queues.of(Executor::Threads)).try_take(1, &*runner.clock);
    let Some(Work::Callback(callback)) = dispatched.map(|dispatched| dispatched.work) else {
        panic!("no callback was dispatched");
    };
    (runner, callback, answered)
}

#[test]
fn hanging_callback_delays_the_answer_by_at_most_30_s() {
    let (mut runner, _callback, answered) = with_open_callback();
    // Each second, another runner changes the database. These changes must not prolong the delay.
    let mut other = runner.peer(config());
    for _ in 0..29 {
        other.submit(request("w"));
        runner.pass(SECOND);
        assert!(!answered.load(Ordering::SeqCst));
    }
    other.submit(request("w"));
    runner.pass(2 * SECOND);
    assert!(answered.load(Ordering::SeqCst));
}

#[test]
fn execution_that_waits_for_a_callback_is_not_read_again() {
    let (runner, callback, answered) = with_open_callback();
    assert_eq!(runner.subscriptions.awaited(), []);
    assert!(!answered.load(Ordering::SeqCst));
    callback.open.end();
    assert!(answered.load(Ordering::SeqCst));
}

#[test]
fn d7_retry_answers_callers_that_waited_for_the_first_end() {
    let (mut runner, callback, answered) = with_open_callback();
    let id = callback.execution;
    let from_task = Some("a".to_owned());
    runner.control(id, Control::Retry { from_task });
    assert!(answered.load(Ordering::SeqCst));
    let again = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&again);
    runner
        .subscriptions
        .subscribe(id, move |_| answer.store(true, Ordering::SeqCst));
    callback.open.end();
    assert!(!again.load(Ordering::SeqCst), "the second run is open");
    assert!(runner.subscriptions.recent(id).is_none());
}
