//! Refuses waits of worker threads for something that cannot end while they wait: a worker that waits occupies its slot, so
//! when all workers of a pool wait for tasks that only this pool can run, none of them continues.

use std::cell::RefCell;
use std::sync::Arc;

use cloacina::runner::{EngineHandle, Inspector};
use cloacina::runtime::{Executor, WorkQueue};
use cloacina::types::sync::Mutex;
use cloacina::types::{Error, ErrorCode, ExecutionId, RunnerId};
use cloacina::workflow::TaskDefinition;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::requests::TaskHandler;
use crate::work::Work;

/// The attempt that the current thread runs as a worker.
struct CurrentAttempt {
    /// Identifies the pool of the thread.
    pool: usize,
    queue: Arc<WorkQueue>,
    token: u64,
    execution: ExecutionId,
}

thread_local! {
    static CURRENT: RefCell<Option<CurrentAttempt>> = const { RefCell::new(None) };
}

/// The tasks that worker threads of a runner run, by workflow.
pub type ThreadTasks = Arc<Mutex<FxHashMap<String, FxHashSet<String>>>>;

/// An execution that a worker waits for, or is about to submit and wait for.
struct AwaitedExecution {
    id: ExecutionId,
    /// The workflow, if the execution may not be stored yet.
    workflow: Option<String>,
    inspector: Inspector,
    runner: RunnerId,
    thread_tasks: ThreadTasks,
}

impl AwaitedExecution {
    /// Whether the execution can end only if a worker of this pool runs a task of it.
    fn needs_pool(&self) -> bool {
        let (workflow, open): (String, Option<FxHashSet<String>>) =
            match self.inspector.outline(self.id) {
                Ok(execution) => {
                    let tasks = execution.workflow().definition().tasks.iter();
                    let open = tasks
                        .zip(&execution.record().tasks)
                        .filter(|(_, task)| !task.status.is_terminal())
                        .map(|(definition, _)| definition.id.clone());
                    (execution.workflow().name().to_owned(), Some(open.collect()))
                }
                Err(error) if error.code == ErrorCode::ExecutionNotFound => match &self.workflow {
                    Some(workflow) => (workflow.clone(), None),
                    None => return false,
                },
                Err(_) => return false,
            };
        let own = self.thread_tasks.lock().get(&workflow).cloned();
        let needed: Vec<String> = own
            .into_iter()
            .flatten()
            .filter(|task| open.as_ref().is_none_or(|open| open.contains(task)))
            .collect();
        if needed.is_empty() {
            return false;
        }
        let Ok(offers) = self.inspector.live_offers(&workflow) else {
            return false;
        };
        let mut others = offers.iter().filter(|offer| offer.runner != self.runner);
        !others.any(|offer| needed.iter().all(|task| offer.tasks.contains(task)))
    }
}

/// A wait of a worker: the queue of its attempt, and what it waits for.
type Wait = (Arc<WorkQueue>, Arc<AwaitedExecution>);

/// The worker threads of a pool that wait for executions, by the tokens of their attempts.
#[derive(Default)]
pub struct BlockedWaits {
    /// Never locked while the database is read, because a wait also ends while its thread holds the interpreter lock.
    waits: Mutex<FxHashMap<u64, Wait>>,
}

/// The registration of a wait, until it is dropped.
pub struct BlockedWait {
    pool: Arc<BlockedWaits>,
    token: u64,
}

impl Drop for BlockedWait {
    fn drop(&mut self) {
        self.pool.waits.lock().remove(&self.token);
    }
}

impl BlockedWaits {
    fn id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Notes what the current worker thread runs from now on.
    pub fn note_work(self: &Arc<Self>, engine: &EngineHandle, work: Option<&Work>) {
        let attempt = work.and_then(|work| {
            let (token, assignment) = work.task_token().zip(work.assignment())?;
            let queue = work.slot().map_or_else(
                || engine.queues().of(Executor::Threads),
                |slot| slot.queue(Executor::Threads),
            );
            Some(CurrentAttempt {
                pool: self.id(),
                queue: Arc::clone(queue),
                token,
                execution: assignment.execution,
            })
        });
        CURRENT.set(attempt);
    }

    /// Registers a wait of the current thread, if it is a worker of this pool.
    ///
    /// `workflow`: the workflow of an execution that is not submitted yet.
    ///
    /// # Errors
    /// `Deadlock` if the thread runs a task of the awaited execution itself, or if no worker of the pool would be left to run
    /// the awaited execution.
    pub fn enter(
        self: &Arc<Self>,
        engine: &EngineHandle,
        thread_tasks: &ThreadTasks,
        id: ExecutionId,
        workflow: Option<&str>,
    ) -> Result<Option<BlockedWait>, Error> {
        CURRENT.with_borrow(|current| {
            let Some(current) = current.as_ref() else {
                return Ok(None);
            };
            if current.execution == id {
                return Err(waits_for_itself(id));
            }
            if current.pool != self.id() {
                return Ok(None);
            }
            let awaited = Arc::new(AwaitedExecution {
                id,
                workflow: workflow.map(str::to_owned),
                inspector: engine.inspector().clone(),
                runner: engine.runner_id(),
                thread_tasks: Arc::clone(thread_tasks),
            });
            let (registered, others) = self.register(current, &awaited);
            let limit = engine.config().max_concurrent_tasks;
            let is_active = |(token, (queue, _)): &&(u64, Wait)| queue.is_running(*token);
            let others: Vec<_> = others.iter().filter(is_active).collect();
            // An attempt that has timed out has lost its slot to another worker.
            let has_slot = current.queue.is_running(current.token);
            let would_block = has_slot
                && others.len() + 1 >= limit
                && awaited.needs_pool()
                && others.iter().all(|(_, (_, other))| other.needs_pool());
            if would_block {
                return Err(no_worker_left(limit, id, workflow));
            }
            Ok(Some(registered))
        })
    }

    /// Registers a wait, and returns the waits that were registered before it. If several workers begin to wait at the same
    /// time, only the last one finds all others waiting.
    fn register(
        self: &Arc<Self>,
        current: &CurrentAttempt,
        awaited: &Arc<AwaitedExecution>,
    ) -> (BlockedWait, Vec<(u64, Wait)>) {
        let token = current.token;
        let mut waits = self.waits.lock();
        let others = waits.iter().filter(|(other, _)| **other != token);
        let others = others.map(|(other, wait)| (*other, wait.clone())).collect();
        waits.insert(token, (Arc::clone(&current.queue), Arc::clone(awaited)));
        drop(waits);
        let registered = BlockedWait {
            pool: Arc::clone(self),
            token,
        };
        (registered, others)
    }
}

/// Refuses a wait for the execution whose task the current thread runs.
///
/// # Errors
/// `Deadlock` if `id` is that execution.
pub fn refuse_own(id: ExecutionId) -> Result<(), Error> {
    let is_own = |current: &Option<CurrentAttempt>| {
        (current.as_ref()).is_some_and(|current| current.execution == id)
    };
    if CURRENT.with_borrow(is_own) {
        return Err(waits_for_itself(id));
    }
    Ok(())
}

/// Adds the tasks of a workflow that worker threads run.
pub fn note_handlers<'a>(
    thread_tasks: &ThreadTasks,
    workflow: &str,
    handlers: impl Iterator<Item = (&'a str, &'a TaskHandler)>,
) {
    let on_threads = handlers.filter(|(_, handler)| handler.is_on_threads());
    let tasks = on_threads.map(|(task, _)| task.to_owned());
    let mut known = thread_tasks.lock();
    known.entry(workflow.to_owned()).or_default().extend(tasks);
}

/// Adds an external task that worker threads run. `definition` is its JSON.
pub fn note_service(
    thread_tasks: &ThreadTasks,
    workflow: &str,
    definition: &str,
    handler: &TaskHandler,
) {
    // A definition that cannot be read is refused by the caller.
    if let Ok(task) = serde_json::from_str::<TaskDefinition>(definition) {
        note_handlers(
            thread_tasks,
            workflow,
            std::iter::once((task.id.as_str(), handler)),
        );
    }
}

fn waits_for_itself(id: ExecutionId) -> Error {
    Error::new(
        ErrorCode::Deadlock,
        format!("a task of execution {id} waits for the end of its own execution"),
    )
    .with_hint("an execution ends after its tasks: return instead, and wait outside the task")
}

fn no_worker_left(limit: usize, id: ExecutionId, workflow: Option<&str>) -> Error {
    let awaited = workflow.map_or_else(
        || format!("execution {id}"),
        |workflow| format!("workflow '{workflow}'"),
    );
    let workers = match limit {
        1 => "the only worker of this runner".to_owned(),
        more => format!("the last of the {more} workers of this runner, whose others wait too,"),
    };
    Error::new(
        ErrorCode::Deadlock,
        format!("{workers} would wait for {awaited}, and no worker would be left to run its tasks"),
    )
    .with_hint(
        "make the waiting task an `async def` and use `await handle`, or raise max_concurrent_tasks above the number of \
         tasks that wait at once",
    )
}
