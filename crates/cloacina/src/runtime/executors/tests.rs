//! Tests of the work queue.

use std::time::Duration;

use super::samples::assignment;
use super::work_queue::{DispatchedWork, Reacquired, WorkQueue};
use crate::runtime::assignment::{Assignment, Completion, Executor, Work, WorkToken};
use crate::types::{Clock, Micros, Monotonic, Timestamp};

const SECOND: Micros = 1_000_000;

/// The wall clock and the monotonic clock, in seconds.
struct Clocks(i64, i64);

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        Timestamp(self.0 * SECOND)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.1 * SECOND)
    }
}

fn queue_with(tasks: usize) -> WorkQueue {
    let queue = WorkQueue::default();
    queue.allow_workers(1);
    let ready = (0..tasks).map(|_| Assignment {
        timeout: Some(10 * SECOND),
        ..assignment(0)
    });
    queue.push(ready.collect(), Vec::new(), false);
    queue
}

fn token(dispatched: &DispatchedWork) -> WorkToken {
    match dispatched.work {
        Work::Task(token, _) => token,
        Work::Callback(_) => panic!("no callback was queued"),
    }
}

#[test]
fn b1_step_of_the_wall_clock_times_out_no_task() {
    let queue = queue_with(1);
    let dispatched = queue.try_take(1, &Clocks(5_000, 100)).unwrap();
    assert!(dispatched.poke);
    assert_eq!(queue.running()[0].started_at, Timestamp(5_000 * SECOND));
    // The wall clock is set an hour ahead, then an hour back. Only the monotonic clock counts.
    let ahead = Clocks(8_600, 101);
    assert!(queue.take_overdue(ahead.monotonic()).is_empty());
    assert_eq!(queue.longest_run(ahead.monotonic()), SECOND);
    let back = Clocks(1_400, 110);
    assert_eq!(queue.take_overdue(back.monotonic()).len(), 1);
    assert!(matches!(
        queue.complete(token(&dispatched)),
        Completion::Replaced
    ));
}

#[test]
fn g2_deferred_attempt_waits_until_another_one_frees_a_slot() {
    let queue = queue_with(2);
    let clock = Clocks(0, 0);
    let first = token(&queue.try_take(1, &clock).unwrap());
    assert!(queue.try_take(2, &clock).is_none(), "one slot");
    assert!(queue.release_slot(first).is_some());
    let second = token(&queue.try_take(2, &clock).unwrap());
    let reacquire = || queue.reacquire_slot(first, Executor::Threads, Duration::ZERO);
    assert!(matches!(reacquire(), Reacquired::NotYet));
    assert!(matches!(queue.complete(second), Completion::Accepted(_)));
    assert!(matches!(reacquire(), Reacquired::Yes(_)));
    assert!(queue.leave_if_surplus(), "two workers have one slot");
    assert!(!queue.leave_if_surplus());
    queue.abandon();
    assert!(matches!(reacquire(), Reacquired::Gone));
}
