//! The capacity of this process for work: the prefetch window and work queue of each executor, and the earliest known
//! due time of a task in the database.

use super::assignment::Executor;
use super::executors::WorkQueues;
use super::prefetch::{ClaimKey, Prefetch};
use super::{Message, RunnerConfig};
use crate::engine::{Finish, Outcome};
use crate::store::{ClaimClass, ClaimRequest};
use crate::types::{Claim, ExecutionId, Micros, Monotonic, Ordinal, Timestamp};

/// How long, in microseconds, a task that was expected to be short can run before its queue offers waiting tasks to another
/// worker.
const SHORT_TASK_LIMIT: Micros = 1_000;

/// The claims and the work queues of all executors.
pub(super) struct Capacity {
    prefetch: [Prefetch; 3],
    queues: WorkQueues,
    /// The earliest known due time of a task that waits in the database.
    next_due: Option<Timestamp>,
    /// The time at which [`check_short_tasks`](Self::check_short_tasks) is due, if it is planned.
    check_short_tasks_at: Option<Monotonic>,
    /// The time of the next check for attempts whose start must be stored.
    check_starts_at: Option<Monotonic>,
    /// Whether claims are stopped.
    is_paused: bool,
    /// The time until which the runner claims no tasks and fires no schedules, because its owner has not started it
    /// yet.
    held_until: Option<Monotonic>,
}

impl Capacity {
    pub(super) fn new(config: &RunnerConfig, queues: WorkQueues) -> Self {
        Self {
            prefetch: [
                Prefetch::new(config.max_concurrent_tasks),
                Prefetch::new(config.max_concurrent_async_tasks),
                Prefetch::new(config.max_concurrent_async_tasks),
            ],
            queues,
            next_due: None,
            check_short_tasks_at: None,
            check_starts_at: None,
            is_paused: false,
            held_until: None,
        }
    }

    pub(super) const fn queues(&self) -> &WorkQueues {
        &self.queues
    }

    /// Stops claims, or allows claims again.
    pub(super) const fn set_paused(&mut self, paused: bool) {
        self.is_paused = paused;
    }

    /// Holds the runner back until a given time. With `None`, the runner begins.
    pub(super) fn hold(&mut self, until: Option<Monotonic>) {
        self.held_until = until;
        self.set_stale();
    }

    /// The time until which the runner is held back. `None` if it is not held back.
    pub(super) const fn held_until(&self) -> Option<Monotonic> {
        self.held_until
    }

    /// Whether the runner is held back and therefore claims no tasks yet.
    pub(super) const fn is_held(&self) -> bool {
        self.held_until.is_some()
    }

    /// Whether the runner is held back without a time limit, until [`Message::Begin`].
    pub(super) fn is_held_until_begin(&self) -> bool {
        self.held_until == Some(Monotonic::NEVER)
    }

    /// Lets the runner begin if the time until which it was held back has come.
    pub(super) fn check_hold(&mut self, monotonic: Monotonic) {
        if self.held_until.is_some_and(|until| until <= monotonic) {
            self.hold(None);
        }
    }

    /// Notes that a slot has become free, because its attempt has ended or is deferred.
    pub(super) const fn free_slot(&mut self, executor: Executor) {
        self.prefetch[executor.index()].free_slot();
    }

    /// Notes that a claim takes a slot.
    pub(super) const fn take_slot(&mut self, executor: Executor) {
        self.prefetch[executor.index()].take_slot();
    }

    /// Adds the run time of an attempt to the executor's average.
    pub(super) fn note_run(&mut self, executor: Executor, micros: Micros) {
        self.prefetch[executor.index()].note_run(micros);
    }

    /// Adds the memory of a claimed task to the executor's average. `bytes`: the task's share of the memory of its execution.
    pub(super) fn note_size(&mut self, executor: Executor, bytes: usize) {
        self.prefetch[executor.index()].note_size(bytes);
    }

    /// Notes that the database may hold ready tasks that this process does not know of.
    pub(super) fn set_stale(&mut self) {
        for prefetch in &mut self.prefetch {
            prefetch.set_stale();
        }
    }

    /// Whether this runner is the sole runner, as far as it knows.
    pub(super) fn is_sole(&self) -> bool {
        self.prefetch.iter().all(Prefetch::is_sole)
    }

    /// Notes whether this runner is the sole runner. Takes out of the queues the tasks that peers could run sooner.
    /// Returns the messages that return the claims of these tasks to the database.
    pub(super) fn rebalance(&mut self, sole: bool, monotonic: Monotonic) -> Vec<Message> {
        let mut returned = Vec::new();
        for executor in Executor::ALL {
            let prefetch = &mut self.prefetch[executor.index()];
            prefetch.set_sole(sole);
            let queue = self.queues.of(executor);
            let longest_run = queue.longest_run(monotonic);
            let surplus = queue.take_last(prefetch.surplus(longest_run));
            returned.extend(surplus.into_iter().map(|assignment| {
                let (execution, task) = (assignment.execution, assignment.task);
                release_message(execution, task, assignment.claim, executor)
            }));
        }
        returned
    }

    /// For each executor, the lowest priority of the claimed tasks that no worker has taken.
    pub(super) fn lowest_waiting(&self) -> [Option<i16>; 3] {
        Executor::ALL.map(|executor| self.queues.of(executor).lowest_priority())
    }

    /// Whether a task that becomes ready in this step can be claimed in the same step. If not, the task stays in the database.
    pub(super) fn allows_direct(
        &mut self,
        executor: Executor,
        key: ClaimKey,
        lowest: &[Option<i16>; 3],
    ) -> bool {
        let index = executor.index();
        let prefetch = &mut self.prefetch[index];
        let may_claim = !self.is_paused && self.held_until.is_none();
        let allowed = may_claim && prefetch.allows_direct(&key, lowest[index]);
        if !allowed {
            prefetch.note_left(key);
        }
        allowed
    }

    /// The claim request for the next commit, and the executor for each class of the request.
    pub(super) fn claim_request(&self, classes: &[ClaimClass; 3]) -> (Vec<Executor>, ClaimRequest) {
        let mut executors = Vec::new();
        let mut request = ClaimRequest::default();
        if self.is_paused || self.is_held() {
            return (executors, request);
        }
        let lowest = self.lowest_waiting();
        for executor in Executor::ALL {
            let index = executor.index();
            let wanted = self.prefetch[index].claims(lowest[index]);
            if wanted > 0 && !classes[index].queues.is_empty() {
                let mut class = classes[index].clone();
                class.limit = wanted;
                request.classes.push(class);
                executors.push(executor);
            }
        }
        (executors, request)
    }

    /// The number of map items to claim in addition to the tasks that have been claimed. `None` if claims are
    /// stopped, or if the runner is held back.
    pub(super) fn item_room(&self, executor: Executor) -> Option<usize> {
        let may_claim = !self.is_paused && !self.is_held();
        may_claim.then(|| self.prefetch[executor.index()].item_room())
    }

    /// The number of the executor's free workers.
    pub(super) fn free_workers(&self, executor: Executor) -> usize {
        self.prefetch[executor.index()].free_workers()
    }

    /// Notes the result of a claim. `more`: whether ready tasks remain; `last`: the key of the last claimed task.
    pub(super) fn note_claimed(&mut self, executor: Executor, more: bool, last: Option<ClaimKey>) {
        self.prefetch[executor.index()].note_claimed(more, last);
    }

    /// Whether the next tasks are expected to end before another worker could wake up.
    pub(super) fn expects_short(&self, executor: Executor) -> bool {
        self.prefetch[executor.index()].expects_short()
    }

    /// Notes that a task in the database becomes due at a given time.
    pub(super) fn note_due(&mut self, at: Timestamp) {
        self.next_due = Some(self.next_due.map_or(at, |known| known.min(at)));
    }

    /// The earliest known due time of a task that waits in the database.
    pub(super) const fn next_due(&self) -> Option<Timestamp> {
        self.next_due
    }

    /// If a task in the database is due, notes that a claim can find it.
    pub(super) fn check_due(&mut self, now: Timestamp) {
        if self.next_due.is_some_and(|due| due <= now) {
            self.next_due = None;
            self.set_stale();
        }
    }

    /// Offers waiting tasks to another worker if a task that was expected to be short is still running.
    pub(super) fn check_short_tasks(&mut self, monotonic: Monotonic) {
        if self.check_short_tasks_at.is_some_and(|at| at <= monotonic) {
            self.check_short_tasks_at = None;
            self.queues.of(Executor::Threads).check_short_tasks();
        }
    }

    /// The time at which [`check_short_tasks`](Self::check_short_tasks) is due. Plans a check if one is needed.
    pub(super) fn next_check(&mut self, monotonic: Monotonic) -> Option<Monotonic> {
        if self.check_short_tasks_at.is_none()
            && self.queues.of(Executor::Threads).must_check_short_tasks()
        {
            self.check_short_tasks_at = Some(monotonic + SHORT_TASK_LIMIT);
        }
        self.check_short_tasks_at
    }

    /// The time of the next check for attempts whose start must be stored. `None` if no check is planned.
    pub(super) const fn starts_due(&self) -> Option<Monotonic> {
        self.check_starts_at
    }

    /// Plans the next check for attempts whose start must be stored.
    pub(super) fn plan_start_check(&mut self, at: Monotonic) {
        let must_check = |executor: &Executor| self.queues.of(*executor).watches_starts();
        if self.check_starts_at.is_none() && Executor::ALL.iter().any(must_check) {
            self.check_starts_at = Some(at);
        }
    }

    /// Notes that the planned check begins now.
    pub(super) const fn begin_start_check(&mut self) {
        self.check_starts_at = None;
    }

    /// The earliest deadline of a running attempt.
    pub(super) fn first_deadline(&self) -> Option<Monotonic> {
        let deadlines = Executor::ALL
            .iter()
            .filter_map(|executor| self.queues.of(*executor).first_deadline());
        deadlines.min()
    }

    /// Whether all work queues are [idle](super::executors::WorkQueue::is_idle).
    pub(super) fn is_idle(&self) -> bool {
        Executor::ALL
            .iter()
            .all(|executor| self.queues.of(*executor).is_idle())
    }
}

/// Creates the message that returns a claim to the database. Used for a task that this process did not run
/// to its end.
pub(super) fn release_message(
    execution: ExecutionId,
    task: Ordinal,
    claim: Claim,
    executor: Executor,
) -> Message {
    Message::Finished {
        execution,
        finish: Finish {
            task,
            claim,
            started_at: None,
            outcome: Outcome::Released,
        },
        executor,
        ran: 0,
    }
}
