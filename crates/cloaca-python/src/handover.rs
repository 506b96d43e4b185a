//! Work between the engine's queues and Python's threads.

use std::sync::Arc;
use std::time::Duration;

use cloacina::engine::{Finish, Outcome};
use cloacina::runner::EngineHandle;
use cloacina::runtime::{
    self, Completion, DispatchedWork, Executor, Message, Notice, RunnerSlot, SharedWorkers,
    WorkQueue, WorkerHost,
};
use pyo3::prelude::*;

use crate::port::Bell;
use crate::supervision::{Event, Supervision};
use crate::work::Work;

/// The event loop takes as this worker.
const LOOP_WORKER: u64 = 0;
/// A worker waits for ever; this long at a time.
const PATIENCE: Duration = Duration::from_hours(1);

/// Whether a worker goes on after its task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// It takes the next work.
    Kept,
    /// Another worker has its place.
    Lost,
}

/// Connects the queues of worker threads and of the event loop with those who wake for them.
pub fn connect(engine: &EngineHandle, supervision: &Arc<Supervision>, bell: Bell) {
    let threads = engine.queues().of(Executor::Threads);
    let (queue, told) = (Arc::downgrade(threads), Arc::clone(supervision));
    threads.on_arrival(Arc::new(move || {
        if let Some(queue) = queue.upgrade() {
            told.collect(&queue);
        }
    }));
    threads.allow_workers(engine.config().max_concurrent_tasks);
    engine
        .queues()
        .of(Executor::Loop)
        .on_arrival(Arc::new(move || bell.ring()));
}

/// Has the supervisor thread told of the polls of a runner's triggers.
pub fn connect_polls(engine: &EngineHandle, supervision: &Arc<Supervision>) {
    let polls = engine.queues().polls();
    let (queue, told) = (Arc::downgrade(polls), Arc::clone(supervision));
    let ends = engine.poll_ends();
    polls.on_arrival(Arc::new(move || {
        for poll in queue.upgrade().iter().flat_map(|queue| queue.take()) {
            told.push(Event::Poll(poll, ends.clone()));
        }
    }));
}

/// Ends an attempt on this side. What the coordinator must hear of it, and whether the worker goes on.
fn ended(
    engine: &EngineHandle,
    executor: Executor,
    work: &Work,
    outcome: Outcome,
) -> (Slot, Option<Message>) {
    let Some(token) = work.task_token() else {
        return (Slot::Kept, None); // nobody waits for a callback
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
            (Slot::Kept, Some(message))
        }
        Completion::Dropped => (Slot::Kept, None),
        Completion::Replaced => (Slot::Lost, None),
    }
}

/// Reports the end of what the event loop ran.
pub fn finish_async(engine: &EngineHandle, work: &Work, outcome: Outcome) {
    let (_, message) = ended(engine, Executor::Loop, work, outcome);
    report(engine, work.slot(), message);
    if let Some(shared) = engine.shared_workers()
        && work.slot().is_some()
    {
        shared.finished_async();
    }
}

/// Tells the coordinator of the runner whose work it was.
fn report(engine: &EngineHandle, slot: Option<&Arc<RunnerSlot>>, message: Option<Message>) {
    match (slot, message) {
        (_, None) => {}
        (Some(slot), Some(message)) => slot.report(message),
        (None, Some(message)) => engine.report(message),
    }
}

/// Reports the end of what a thread ran, and takes its next work. `None`: there will be none for it.
pub fn finish_and_next(
    py: Python<'_>,
    engine: &EngineHandle,
    supervision: &Supervision,
    worker: u64,
    work: &Work,
    outcome: Outcome,
) -> Option<Work> {
    let (slot, message) = ended(engine, Executor::Threads, work, outcome);
    if slot == Slot::Lost {
        return None;
    }
    if work.slot().is_some() {
        report(engine, work.slot(), message);
        return next_after(py, engine, supervision, worker, None);
    }
    next_after(py, engine, supervision, worker, message)
}

/// The next work of a thread. `None`: there will be none.
pub fn next(
    py: Python<'_>,
    engine: &EngineHandle,
    supervision: &Supervision,
    worker: u64,
) -> Option<Work> {
    next_after(py, engine, supervision, worker, None)
}

/// Detaches only when no work waits; then this thread makes the step that its message asks for, since it would wait for
/// what comes of it anyway.
fn next_after(
    py: Python<'_>,
    engine: &EngineHandle,
    supervision: &Supervision,
    worker: u64,
    message: Option<Message>,
) -> Option<Work> {
    if let Some(shared) = engine.shared_workers() {
        report(engine, None, message);
        return next_shared(py, engine, shared, worker);
    }
    let queue = engine.queues().of(Executor::Threads);
    if queue.leave_if_surplus() {
        if let Some(message) = message {
            engine.report(message);
        }
        supervision.collect(queue);
        return None;
    }
    let taken = if let Some(taken) = queue.try_take(worker, engine.clock()) {
        if let Some(message) = message {
            engine.report(message);
        }
        taken
    } else {
        let taken = py.detach(|| {
            if let Some(message) = message {
                let _coming = queue.coming();
                engine.report_leading(message);
            }
            wait(engine, queue, worker)
        });
        match (taken, engine.shared_workers()) {
            (Some(taken), _) => taken,
            // The first tenant came while this worker waited.
            (None, Some(shared)) => return next_shared(py, engine, shared, worker),
            (None, None) => return None,
        }
    };
    // Taking may have found that more workers are wanted.
    supervision.collect(queue);
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
            // The thread that shares it is about to say so.
            std::thread::yield_now();
        }
    }
}

/// The next work of a thread that serves a runner and its tenants. It makes no coordinator's step: another tenant's work
/// may come while that one waits for its turn at the database.
fn next_shared(
    py: Python<'_>,
    engine: &EngineHandle,
    shared: &Arc<SharedWorkers>,
    worker: u64,
) -> Option<Work> {
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

/// What waits for the event loop, at most `limit`.
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

/// Coroutines that the event loop must cancel, and why.
pub fn loop_notices(engine: &EngineHandle) -> Vec<(&'static str, u64)> {
    let notices = match engine.shared_workers() {
        Some(shared) => shared.async_notices(),
        None => engine.queues().of(Executor::Loop).notices(Duration::ZERO),
    };
    let named = notices.into_iter().filter_map(|notice| match notice {
        Notice::Overrun { token, .. } => Some(("overrun", token)),
        Notice::Cancelled { token, .. } => Some(("cancelled", token)),
        Notice::WorkerWanted => None,
    });
    named.collect()
}

fn accept(
    engine: &EngineHandle,
    executor: Executor,
    slot: Option<Arc<RunnerSlot>>,
    taken: DispatchedWork,
) -> Work {
    if taken.poke {
        report(engine, slot.as_ref(), Some(Message::Poke));
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

/// The Python side of workers that several runners share.
pub struct PythonWorkerHost {
    supervision: Arc<Supervision>,
    bell: Bell,
}

impl PythonWorkerHost {
    pub const fn new(supervision: Arc<Supervision>, bell: Bell) -> Self {
        Self { supervision, bell }
    }
}

impl WorkerHost for PythonWorkerHost {
    fn worker_wanted(&self) {
        self.supervision.push(Event::WorkerWanted);
    }

    fn interrupt(&self, worker: u64, token: u64) {
        self.supervision.push(Event::Interrupt { worker, token });
    }

    fn loop_ready(&self) {
        self.bell.ring();
    }

    fn ended(&self) {
        self.supervision.end();
    }
}
