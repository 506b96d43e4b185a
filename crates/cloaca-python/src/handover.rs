//! Work between the engine's queues and Python's threads.

use std::sync::Arc;
use std::time::Duration;

use cloacina::engine::{Finish, Outcome};
use cloacina::runner::EngineHandle;
use cloacina::runtime::{self, Completion, Executor, Message, Notice, Taken, WorkQueue};
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
    let polls = engine.queues().polls();
    let (queue, told) = (Arc::downgrade(polls), Arc::clone(supervision));
    polls.on_arrival(Arc::new(move || {
        for poll in queue.upgrade().iter().flat_map(|queue| queue.take()) {
            told.push(Event::Poll(poll));
        }
    }));
    engine
        .queues()
        .of(Executor::Loop)
        .on_arrival(Arc::new(move || bell.ring()));
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
    match engine.queues().of(executor).complete(token) {
        Completion::Accepted(running) => {
            let ran = engine.now().since(work.entered().max(running.started_at));
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
    if let (_, Some(message)) = ended(engine, Executor::Loop, work, outcome) {
        engine.report(message);
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
    let queue = engine.queues().of(Executor::Threads);
    if queue.leave_if_surplus() {
        if let Some(message) = message {
            engine.report(message);
        }
        supervision.collect(queue);
        return None;
    }
    let now = || engine.now();
    let taken = match queue.try_take(worker, now()) {
        Some(taken) => {
            if let Some(message) = message {
                engine.report(message);
            }
            taken
        }
        None => py.detach(|| {
            if let Some(message) = message {
                let _coming = queue.coming();
                engine.report_leading(message);
            }
            wait(queue, worker, &now)
        })?,
    };
    // Taking may have found that more workers are wanted.
    supervision.collect(queue);
    Some(accept(engine, Executor::Threads, taken))
}

fn wait(
    queue: &WorkQueue,
    worker: u64,
    now: &dyn Fn() -> cloacina::types::Timestamp,
) -> Option<Taken> {
    loop {
        let taken = queue.wait_take(worker, PATIENCE, now);
        if taken.is_some() || queue.is_closed() {
            return taken;
        }
    }
}

/// What waits for the event loop, at most `limit`.
pub fn take_for_loop(engine: &EngineHandle, limit: usize) -> Vec<Work> {
    let queue = engine.queues().of(Executor::Loop);
    let taken = std::iter::from_fn(|| queue.try_take(LOOP_WORKER, engine.now()));
    taken
        .take(limit)
        .map(|taken| accept(engine, Executor::Loop, taken))
        .collect()
}

/// Coroutines that the event loop must cancel, and why.
pub fn loop_notices(engine: &EngineHandle) -> Vec<(&'static str, u64)> {
    let notices = engine.queues().of(Executor::Loop).notices(Duration::ZERO);
    let named = notices.into_iter().filter_map(|notice| match notice {
        Notice::Overrun { token, .. } => Some(("overrun", token)),
        Notice::Cancelled { token, .. } => Some(("cancelled", token)),
        Notice::WorkerWanted => None,
    });
    named.collect()
}

fn accept(engine: &EngineHandle, executor: Executor, taken: Taken) -> Work {
    if taken.poke {
        engine.report(Message::Poke);
    }
    if let runtime::Work::Task(_, assignment) = &taken.work
        && assignment.reports_start
    {
        engine.report(Message::Started {
            execution: assignment.execution,
            task: assignment.task,
            claim: assignment.claim,
            at: engine.now(),
        });
    }
    Work::new(taken.work, engine.now(), engine.deferrals(executor))
}
