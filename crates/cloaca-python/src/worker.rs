//! Passes work from the engine's queues to Python's worker threads and event loop, and the outcomes back to the engine.

use std::sync::Arc;
use std::time::Duration;

use cloacina::engine::{Finish, Outcome};
use cloacina::runner::EngineHandle;
use cloacina::runtime::{
    self, Completion, DispatchedWork, Executor, Message, Notice, RunnerSlot, SharedWorkers,
    WorkQueue, WorkerHost,
};
use cloacina::types::{Failure, FailureKind};
use pyo3::prelude::*;

use crate::content::ReturnedObjects;
use crate::events::{SupervisorEvent, SupervisorQueue};
use crate::loop_waker::WakeHandle;
use crate::process_guard::{ProcessGuard, ProcessOwned};
use crate::record::record;
use crate::work::Work;

record! {
    /// A coroutine that the event loop must cancel.
    CancelNotice {
        /// The token of the coroutine's attempt.
        token: u64,
        /// Why it must be cancelled: `overrun` after a timeout, or `cancelled`.
        reason: &'static str,
    }
}

/// The worker number of the event loop.
const LOOP_WORKER: u64 = 0;
/// Maximum length of one wait for work. Workers repeat the wait until the queue closes.
const PATIENCE: Duration = Duration::from_hours(1);
/// How long a worker waits for work before it releases the objects of its last task. Releasing 100 KB of JSON takes 0.1 ms.
/// The pause lets the thread that waits for the task's result take the interpreter lock first.
const BRIEF: Duration = Duration::from_micros(100);

/// Whether a worker takes further work after its task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WorkerState {
    /// The worker takes further work.
    Current,
    /// The worker's thread ends, because its attempt was taken away and another worker has its slot.
    Replaced,
}

/// Connects the queues of a runner with Python's threads. The supervisor thread gets the notices of the worker threads'
/// queue, such as requests for workers. The event loop is woken when work or a notice arrives in its queue.
pub fn connect(engine: &EngineHandle, supervisor: &Arc<SupervisorQueue>, waker: WakeHandle) {
    let threads = engine.queues().of(Executor::Threads);
    let (queue, supervisor) = (Arc::downgrade(threads), Arc::clone(supervisor));
    threads.on_arrival(Arc::new(move || {
        if let Some(queue) = queue.upgrade() {
            supervisor.collect(&queue);
        }
    }));
    threads.allow_workers(engine.config().max_concurrent_tasks);
    engine
        .queues()
        .of(Executor::Loop)
        .on_arrival(Arc::new(move || waker.wake()));
}

/// Sends the supervisor thread an event for each poll of a runner's triggers.
pub fn connect_polls(
    engine: &EngineHandle,
    supervisor: &Arc<SupervisorQueue>,
    guard: ProcessGuard,
) {
    let polls = engine.queues().polls();
    let (queue, supervisor) = (Arc::downgrade(polls), Arc::clone(supervisor));
    let ends = engine.poll_ends();
    let database = Arc::new(ProcessOwned::new(engine.inspector().clone(), guard));
    polls.on_arrival(Arc::new(move || {
        for poll in queue.upgrade().iter().flat_map(|queue| queue.take()) {
            let database = Arc::clone(&database);
            supervisor.push(SupervisorEvent::Poll(poll, ends.clone(), database));
        }
    }));
}

/// Marks an attempt as ended in its queue. Returns whether the worker takes further work, and the message for the coordinator.
fn ended(
    engine: &EngineHandle,
    executor: Executor,
    work: &Work,
    outcome: Outcome,
) -> (WorkerState, Option<Message>) {
    let Some(token) = work.task_token() else {
        return (WorkerState::Current, None); // `Work::end_callback` reports the end of a callback
    };
    let slot = work.slot();
    let queue = slot.map_or_else(|| engine.queues().of(executor), |slot| slot.queue(executor));
    match queue.complete(token) {
        Completion::Accepted(running) => {
            let ran = (engine.clock().monotonic()).since(work.entered().max(running.started));
            let finish = Finish {
                task: running.task,
                claim: running.claim,
                started_at: Some(running.started_at),
                outcome,
            };
            let message = Message::Finished {
                execution: running.execution,
                finish,
                executor,
                ran: ran.max(0),
            };
            (WorkerState::Current, Some(message))
        }
        Completion::Dropped => (WorkerState::Current, None),
        Completion::Replaced => (WorkerState::Replaced, None),
    }
}

/// Reports the end of a task that the event loop ran.
pub fn finish_async(engine: &EngineHandle, work: &Work, outcome: Outcome) {
    let (_, message) = ended(engine, Executor::Loop, work, outcome);
    report(engine, work.slot(), message);
    if let Some(shared) = engine.shared_workers()
        && work.slot().is_some()
    {
        shared.finished_async();
    }
}

/// Sends a message to the coordinator of the work's runner.
fn report(engine: &EngineHandle, slot: Option<&Arc<RunnerSlot>>, message: Option<Message>) {
    match (slot, message) {
        (_, None) => {}
        (Some(slot), Some(message)) => slot.report(message),
        (None, Some(message)) => engine.report(message),
    }
}

/// Reports the end of a worker thread's task and returns the thread's next work. After `None`, the thread must end.
pub fn finish_and_next(
    py: Python<'_>,
    engine: &EngineHandle,
    supervisor: &SupervisorQueue,
    worker: u64,
    work: &Work,
    outcome: Outcome,
) -> Option<Work> {
    let (state, message) = ended(engine, Executor::Threads, work, outcome);
    if state == WorkerState::Replaced {
        return None;
    }
    let returned = work.take_returned(py);
    if work.slot().is_some() {
        report(engine, work.slot(), message);
        return next_after(py, engine, supervisor, worker, None, returned);
    }
    next_after(py, engine, supervisor, worker, message, returned)
}

/// Handles an interrupt that reached a thread after the function had returned. The attempt was taken away from the thread
/// before the interrupt, so its outcome is dropped, and the thread must end.
pub fn interrupted(engine: &EngineHandle, work: &Work) {
    let failure = Failure::engine(FailureKind::TaskTimeout, "the attempt was interrupted");
    let (_, message) = ended(engine, Executor::Threads, work, Outcome::Failed(failure));
    report(engine, work.slot(), message);
}

/// Waits for a worker thread's next work. After `None`, the thread must end.
pub fn next(
    py: Python<'_>,
    engine: &EngineHandle,
    supervisor: &SupervisorQueue,
    worker: u64,
) -> Option<Work> {
    let returned = ReturnedObjects::default();
    next_after(py, engine, supervisor, worker, None, returned)
}

/// Reports `message` and returns the next work, or `None` if the thread must end. If no work is queued, the thread detaches.
/// Unless runners share the workers, the thread then runs the coordinator's step inline, because it would wait for the step's
/// result anyway. Releases `returned`, the objects of the worker's last task, when no work is queued.
fn next_after(
    py: Python<'_>,
    engine: &EngineHandle,
    supervisor: &SupervisorQueue,
    worker: u64,
    message: Option<Message>,
    returned: ReturnedObjects,
) -> Option<Work> {
    if let Some(shared) = engine.shared_workers() {
        report(engine, None, message);
        drop(returned);
        return next_shared(py, engine, shared, worker);
    }
    let queue = engine.queues().of(Executor::Threads);
    if queue.leave_if_surplus() {
        if let Some(message) = message {
            engine.report(message);
        }
        supervisor.collect(queue);
        return None;
    }
    let taken = if let Some(taken) = queue.try_take(worker, engine.clock()) {
        if let Some(message) = message {
            engine.report(message);
        }
        taken
    } else {
        let soon = py.detach(|| {
            if let Some(message) = message {
                let _incoming = queue.incoming();
                engine.report_inline(message);
            }
            if returned.is_empty() {
                wait(engine, queue, worker)
            } else {
                queue.wait_take(worker, BRIEF, engine.clock())
            }
        });
        let taken = if soon.is_none() && !returned.is_empty() {
            drop(returned);
            py.detach(|| wait(engine, queue, worker))
        } else {
            soon
        };
        match (taken, engine.shared_workers()) {
            (Some(taken), _) => taken,
            // The first tenant was added while this worker waited.
            (None, Some(shared)) => return next_shared(py, engine, shared, worker),
            (None, None) => return None,
        }
    };
    // Taking work can make the queue request another worker.
    supervisor.collect(queue);
    Some(accept(engine, Executor::Threads, None, taken))
}

fn wait(engine: &EngineHandle, queue: &WorkQueue, worker: u64) -> Option<DispatchedWork> {
    loop {
        let taken = queue.wait_take(worker, PATIENCE, engine.clock());
        if taken.is_some() || queue.is_closed() {
            return taken;
        }
        if queue.is_shared() {
            if engine.shared_workers().is_some() {
                return None;
            }
            // Another thread has made the queue shared, and is about to set `shared_workers`.
            std::thread::yield_now();
        }
    }
}

/// Waits for the next work of a thread that serves a runner and its tenants. The thread never runs a coordinator's step
/// inline, because another tenant's work can arrive while the step waits for the database.
fn next_shared(
    py: Python<'_>,
    engine: &EngineHandle,
    shared: &Arc<SharedWorkers>,
    worker: u64,
) -> Option<Work> {
    if shared.leave_if_surplus() {
        return None;
    }
    let taken = shared.try_take(worker).or_else(|| {
        py.detach(|| {
            loop {
                let taken = shared.wait_take(worker, PATIENCE);
                if taken.is_some() || shared.has_ended() {
                    return taken;
                }
            }
        })
    });
    let (slot, taken) = taken?;
    Some(accept(engine, Executor::Threads, Some(slot), taken))
}

/// Takes at most `limit` items of the event loop's queued work.
pub fn take_for_loop(engine: &EngineHandle, limit: usize) -> Vec<Work> {
    if let Some(shared) = engine.shared_workers() {
        let taken = shared.take_async(LOOP_WORKER, limit).into_iter();
        return taken
            .map(|(slot, taken)| accept(engine, Executor::Loop, Some(slot), taken))
            .collect();
    }
    let queue = engine.queues().of(Executor::Loop);
    let taken = std::iter::from_fn(|| queue.try_take(LOOP_WORKER, engine.clock()));
    taken
        .take(limit)
        .map(|taken| accept(engine, Executor::Loop, None, taken))
        .collect()
}

/// Returns the tokens of coroutines that the event loop must cancel, each with its reason.
pub fn loop_notices(engine: &EngineHandle) -> Vec<CancelNotice> {
    let notices = match engine.shared_workers() {
        Some(shared) => shared.async_notices(),
        None => engine.queues().of(Executor::Loop).notices(Duration::ZERO),
    };
    let named = notices.into_iter().filter_map(|notice| {
        let (reason, token) = match notice {
            Notice::Overrun { token, .. } => ("overrun", token),
            Notice::Cancelled { token, .. } => ("cancelled", token),
            Notice::WorkerWanted => return None,
        };
        Some(CancelNotice { token, reason })
    });
    named.collect()
}

/// Wraps a task or a callback for Python. Logs the start of a task, and reports the start to the coordinator if the
/// assignment asks for this report.
fn accept(
    engine: &EngineHandle,
    executor: Executor,
    slot: Option<Arc<RunnerSlot>>,
    taken: DispatchedWork,
) -> Work {
    if taken.poke {
        report(engine, slot.as_ref(), Some(Message::Poke));
    }
    if let runtime::Work::Task(_, assignment) = &taken.work {
        engine.log_attempt_start(assignment);
    }
    if let runtime::Work::Task(_, assignment) = &taken.work
        && assignment.reports_start
    {
        let started = Message::Started {
            execution: assignment.execution,
            task: assignment.task,
            claim: assignment.claim,
            at: engine.now(),
        };
        report(engine, slot.as_ref(), Some(started));
    }
    let entered = engine.clock().monotonic();
    Work::new(taken.work, entered, slot, engine.deferrals(executor))
}

/// The worker host of a tenant group: Python threads that several runners share.
pub struct PythonWorkerHost {
    supervisor: Arc<SupervisorQueue>,
    waker: WakeHandle,
}

impl PythonWorkerHost {
    /// Returns a host whose requests go to a supervisor thread and to an event loop.
    pub const fn new(supervisor: Arc<SupervisorQueue>, waker: WakeHandle) -> Self {
        Self { supervisor, waker }
    }
}

impl WorkerHost for PythonWorkerHost {
    fn worker_wanted(&self) {
        self.supervisor.push(SupervisorEvent::WorkerWanted);
    }

    fn interrupt(&self, worker: u64, token: u64) {
        self.supervisor
            .push(SupervisorEvent::Interrupt { worker, token });
    }

    fn loop_ready(&self) {
        self.waker.wake();
    }

    fn ended(&self) {
        self.supervisor.end();
    }
}
