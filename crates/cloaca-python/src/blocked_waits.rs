//! Refuses a worker thread's wait if the wait would cause a deadlock. A waiting worker occupies its slot. If all workers of a
//! pool waited for tasks that only this pool can run, none of these tasks would ever run. Therefore the wait of the last
//! worker fails with an error.

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
    /// The id of the pool that the thread belongs to, from `BlockedWaits::id`.
    pool: usize,
    queue: Arc<WorkQueue>,
    token: u64,
    execution: ExecutionId,
}

thread_local! {
    static CURRENT: RefCell<Option<CurrentAttempt>> = const { RefCell::new(None) };
}

/// The ids of the tasks that a runner's worker threads run, by workflow.
pub type ThreadTasks = Arc<Mutex<FxHashMap<String, FxHashSet<String>>>>;

/// An execution that a worker waits for. Its submission may still be in progress.
struct AwaitedExecution {
    id: ExecutionId,
    /// The name of the workflow, if the caller knows it. The name is needed until the execution is stored.
    workflow: Option<String>,
    inspector: Inspector,
    runner: RunnerId,
    thread_tasks: ThreadTasks,
}

impl AwaitedExecution {
    /// Whether the execution can end only if a worker of this pool runs one of its tasks.
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

/// A worker's wait: the queue of the worker's attempt, and the execution that the worker waits for.
type WorkerWait = (Arc<WorkQueue>, Arc<AwaitedExecution>);

/// The worker threads of a pool that wait for executions, by the tokens of their attempts.
#[derive(Default)]
pub struct BlockedWaits {
    /// The open waits. This lock is never held during a database read. Otherwise a thread that ends its wait could block on
    /// this lock while it holds the interpreter lock, and no Python code would run until the read ends.
    waits: Mutex<FxHashMap<u64, WorkerWait>>,
}

/// The registration of a wait. Dropping it removes the registration.
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

    /// Records the work that the current worker thread runs from now on.
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

    /// Registers a wait of the current thread. Returns `None` if the thread is not a worker of this pool.
    ///
    /// `workflow`: the workflow of an execution that is not submitted yet.
    ///
    /// # Errors
    /// `Deadlock` if the thread itself runs a task of the awaited execution, or if no worker of the pool would be left to run
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
            let is_active = |(token, (queue, _)): &&(u64, WorkerWait)| queue.is_running(*token);
            let others: Vec<_> = others.iter().filter(is_active).collect();
            // If the attempt has timed out, another worker has taken over its slot.
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

    /// Registers a wait, and returns the waits that were registered earlier. If several workers begin to wait at the same
    /// time, only the worker that registers last sees that all other workers wait.
    fn register(
        self: &Arc<Self>,
        current: &CurrentAttempt,
        awaited: &Arc<AwaitedExecution>,
    ) -> (BlockedWait, Vec<(u64, WorkerWait)>) {
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

/// Whether the current thread is a worker that runs an attempt.
pub fn is_worker() -> bool {
    CURRENT.with_borrow(Option::is_some)
}

/// Refuses a wait for an execution if the current thread runs a task of this execution.
///
/// # Errors
/// `Deadlock` if the thread runs such a task.
pub fn refuse_own(id: ExecutionId) -> Result<(), Error> {
    let is_own = |current: &Option<CurrentAttempt>| {
        (current.as_ref()).is_some_and(|current| current.execution == id)
    };
    if CURRENT.with_borrow(is_own) {
        return Err(waits_for_itself(id));
    }
    Ok(())
}

/// Adds some tasks of a workflow to `thread_tasks`: the tasks whose handlers run on worker threads.
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

/// Adds an external task to `thread_tasks` if its handler runs on worker threads. `definition` is the task's JSON.
pub fn note_service(
    thread_tasks: &ThreadTasks,
    workflow: &str,
    definition: &str,
    handler: &TaskHandler,
) {
    // An unreadable definition is skipped here, because the caller raises an error for it.
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
    .with_hint(
        "return from the task and wait outside it; an execution ends only after all its tasks",
    )
}

fn no_worker_left(limit: usize, id: ExecutionId, workflow: Option<&str>) -> Error {
    let awaited = workflow.map_or_else(
        || format!("execution {id}"),
        |workflow| format!("workflow '{workflow}'"),
    );
    let wait = match limit {
        1 => format!("the only worker of this runner would wait for {awaited}"),
        all => {
            format!("a wait for {awaited} would block the last of the {all} workers of this runner")
        }
    };
    Error::new(
        ErrorCode::Deadlock,
        format!("{wait}, and no worker would be left to run its tasks"),
    )
    .with_hint(
        "run the other workflow with `handle.run(key, workflow, input)`, make the waiting task an `async def` and use `await \
         handle`, or raise max_concurrent_tasks above the number of tasks that wait at once",
    )
}
