//! Tests of the work queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::samples::{assignment, callback};
use super::shared_workers::{SharedWorkers, WorkerHost};
use super::work_queue::{DispatchedWork, Reacquired, WorkQueue};
use crate::runtime::assignment::{Assignment, Completion, Executor, Work, WorkToken, WorkerId};
use crate::types::{Clock, Micros, Monotonic, Timestamp};

const SECOND: Micros = 1_000_000;

/// A wall clock and a monotonic clock that stand still. Both values are in seconds.
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
        Work::Callback(_) => panic!("the work is a callback, not a task"),
    }
}

#[test]
fn d4_wall_clock_change_does_not_time_out_a_task() {
    let queue = queue_with(1);
    let dispatched = queue.try_take(1, &Clocks(5_000, 100)).unwrap();
    assert!(dispatched.poke);
    assert_eq!(queue.running()[0].started_at, Timestamp(5_000 * SECOND));
    // The wall clock is first an hour ahead, then an hour behind. Only the monotonic clock counts.
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
fn g2_deferred_attempt_waits_until_another_attempt_frees_a_slot() {
    let queue = queue_with(2);
    let clock = Clocks(0, 0);
    let first = token(&queue.try_take(1, &clock).unwrap());
    assert!(
        queue.try_take(2, &clock).is_none(),
        "the only slot is occupied"
    );
    assert!(queue.release_slot(first).is_some());
    let second = token(&queue.try_take(2, &clock).unwrap());
    let reacquire = || queue.reacquire_slot(first, Executor::Threads, Duration::ZERO);
    assert!(matches!(reacquire(), Reacquired::NotYet));
    assert!(matches!(queue.complete(second), Completion::Accepted(_)));
    assert!(matches!(reacquire(), Reacquired::Yes(_)));
    assert!(queue.leave_if_surplus(), "two workers share one slot");
    assert!(!queue.leave_if_surplus());
    queue.abandon();
    assert!(matches!(reacquire(), Reacquired::Gone));
}

/// Counts the workers that were requested.
#[derive(Default)]
struct CountingHost(AtomicUsize);

impl WorkerHost for CountingHost {
    fn worker_wanted(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn interrupt(&self, _: WorkerId, _: WorkToken) {}

    fn loop_ready(&self) {}

    fn ended(&self) {}
}

#[test]
fn h4_callback_gets_a_worker_while_tenant_tasks_occupy_every_worker() {
    let host = Arc::new(CountingHost::default());
    let wanted = || host.0.load(Ordering::SeqCst);
    let shared = SharedWorkers::new(1, 1, Some(Arc::clone(&host) as Arc<dyn WorkerHost>));
    let tenant = || {
        let (number, queues) = shared.queues();
        let queue = Arc::clone(queues.of(Executor::Threads));
        let slot = shared.join(number, queues, Arc::default(), Arc::new(Clocks(0, 0)));
        (slot, queue)
    };
    let ((_busy, tasks), (_other, callbacks)) = (tenant(), tenant());
    tasks.push(vec![assignment(0)], Vec::new(), false);
    assert_eq!(wanted(), 1);
    assert!(shared.try_take(1).is_some());
    tasks.push(vec![assignment(0)], Vec::new(), false);
    assert_eq!(wanted(), 1, "the only worker is busy");
    callbacks.push(Vec::new(), vec![callback()], false);
    assert_eq!(wanted(), 2, "a worker is requested for the callback");
    assert!(!shared.leave_if_surplus(), "the callback is ready");
    let (_, dispatched) = shared.try_take(2).unwrap();
    assert!(matches!(dispatched.work, Work::Callback(_)));
    assert!(shared.try_take(2).is_none(), "the tasks wait for a slot");
    assert!(shared.leave_if_surplus());
    assert!(!shared.leave_if_surplus(), "one worker is left");
    let (_, dispatched) = shared.try_take(1).unwrap();
    assert!(matches!(dispatched.work, Work::Task(..)));
}
