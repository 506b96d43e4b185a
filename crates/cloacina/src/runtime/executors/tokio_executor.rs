//! The executor of Rust tasks: futures on a tokio runtime.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use crate::types::sync::Mutex;
use rustc_hash::FxHashMap;
use tokio::runtime::{Handle, Runtime};
use tokio::task::AbortHandle;

use super::resource_slots::ResourceSlots;
use super::work_queue::WorkQueue;
use crate::engine::{Finish, Outcome};
use crate::runtime::assignment::{Assignment, Completion, Executor, Notice, Work, WorkToken};
use crate::runtime::{Mailbox, Message, log_attempt_start};
use crate::types::{Clock, Error, ErrorCode, Failure, Timestamp};

/// The future of a running Rust task.
pub type TaskFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The function of a Rust task. It receives the assignment and a port to its runner, and returns the outcome.
pub type TaskFunction = Arc<dyn Fn(Assignment, TaskPort) -> TaskFuture + Send + Sync>;

/// A port through which a running task reaches its runner.
#[derive(Clone)]
pub struct TaskPort(Arc<Tasks>);

impl TaskPort {
    /// The current time on the runner's clock.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Sends a message to the coordinator. If the coordinator is closed, the message is dropped.
    pub fn send(&self, message: Message) {
        drop(self.0.mailbox.send(message));
    }

    /// The resources that the runner's tasks share.
    pub fn resources(&self) -> Arc<ResourceSlots> {
        Arc::clone(&self.0.resources)
    }
}

impl std::fmt::Debug for TaskPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskPort").finish_non_exhaustive()
    }
}

/// A function that sends a message to the coordinator and runs the step inline.
pub type RunInline = Box<dyn Fn(Message) + Send + Sync>;

/// The executor of a runner's Rust tasks.
pub struct TokioExecutor {
    tasks: Arc<Tasks>,
    /// Whether the runtime belongs to another executor, which will shut it down.
    is_guest: bool,
}

/// The tokio runtime. `None` until the first task's function is added, and after the shutdown.
#[derive(Default)]
struct RuntimeSlot(Mutex<Option<Runtime>>);

impl std::ops::Deref for RuntimeSlot {
    type Target = Mutex<Option<Runtime>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for RuntimeSlot {
    fn drop(&mut self) {
        // A runner may be dropped inside a coroutine, and a runtime that is dropped there must not wait for its threads.
        if let Some(runtime) = self.0.lock().take() {
            runtime.shutdown_background();
        }
    }
}

/// The state that the threads of the runtime share.
struct Tasks {
    runtime: Arc<RuntimeSlot>,
    functions: Mutex<FxHashMap<u64, TaskFunction>>,
    next: AtomicU64,
    running: Mutex<FxHashMap<WorkToken, AbortHandle>>,
    queue: Arc<WorkQueue>,
    mailbox: Arc<Mailbox>,
    clock: Arc<dyn Clock>,
    resources: Arc<ResourceSlots>,
    /// Reports the end of an attempt and runs the coordinator's step inline. So the tasks that become ready do not wait until
    /// the coordinator's thread has woken up. If unset, the coordinator's thread runs the step.
    run_inline: OnceLock<RunInline>,
}

impl TokioExecutor {
    /// Returns an executor that takes work from `queue` and reports to `mailbox`.
    pub fn new(queue: Arc<WorkQueue>, mailbox: Arc<Mailbox>, clock: Arc<dyn Clock>) -> Self {
        Self::on(Arc::default(), queue, mailbox, clock, false)
    }

    /// Returns an executor for another runner. The returned executor uses the runtime of this executor.
    pub fn beside(
        &self,
        queue: Arc<WorkQueue>,
        mailbox: Arc<Mailbox>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::on(Arc::clone(&self.tasks.runtime), queue, mailbox, clock, true)
    }

    fn on(
        runtime: Arc<RuntimeSlot>,
        queue: Arc<WorkQueue>,
        mailbox: Arc<Mailbox>,
        clock: Arc<dyn Clock>,
        is_guest: bool,
    ) -> Self {
        let tasks = Tasks {
            runtime,
            functions: Mutex::default(),
            next: AtomicU64::new(1),
            running: Mutex::default(),
            queue,
            mailbox,
            clock,
            resources: Arc::default(),
            run_inline: OnceLock::new(),
        };
        Self {
            tasks: Arc::new(tasks),
            is_guest,
        }
    }

    /// Sets the function with which a runtime thread reports an attempt's end and runs the coordinator's step.
    pub fn run_inline_with(&self, run_inline: RunInline) {
        // The caller sets the function once, before the first task.
        drop(self.tasks.run_inline.set(run_inline));
    }

    /// Adds a task's function, and returns the token of its handler. The first call starts the runtime.
    ///
    /// # Errors
    /// Returns an error if the operating system cannot start threads.
    pub fn add(&self, function: TaskFunction) -> Result<u64, Error> {
        let mut runtime = self.tasks.runtime.lock();
        if runtime.is_none() {
            let built = tokio::runtime::Builder::new_multi_thread()
                .thread_name("cloacina-tasks")
                .enable_all()
                .build()
                .map_err(|error| {
                    Error::new(
                        ErrorCode::Configuration,
                        format!("cannot start the task runtime: {error}"),
                    )
                })?;
            *runtime = Some(built);
        }
        drop(runtime);
        let token = self.tasks.next.fetch_add(1, Ordering::Relaxed);
        if token == 1 {
            let weak = Arc::downgrade(&self.tasks);
            self.tasks.queue.on_arrival(Arc::new(move || {
                if let Some(tasks) = weak.upgrade() {
                    tasks.drain();
                }
            }));
        }
        self.tasks.functions.lock().insert(token, function);
        Ok(token)
    }

    /// Drops the resources, and shuts the runtime down without waiting for running tasks. If the runtime belongs to another
    /// executor, aborts this executor's tasks instead.
    pub fn shutdown(&self) {
        {
            // Dropping a resource may need the runtime, so the runtime's lock must not be held here.
            let runtime = self.tasks.runtime.lock();
            let handle = runtime.as_ref().map(|runtime| runtime.handle().clone());
            drop(runtime);
            let _entered = handle.as_ref().map(Handle::enter);
            self.tasks.resources.close();
        }
        if self.is_guest {
            for (_, running) in self.tasks.running.lock().drain() {
                running.abort();
            }
        } else if let Some(runtime) = self.tasks.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

impl Tasks {
    /// Starts the ready tasks, and aborts the running tasks that were cancelled or evicted.
    fn drain(self: &Arc<Self>) {
        for notice in self.queue.notices(std::time::Duration::ZERO) {
            if let Notice::Overrun { token, .. } | Notice::Cancelled { token, .. } = notice {
                if let Some(handle) = self.running.lock().remove(&token) {
                    handle.abort();
                }
                if let Some(message) = self.finished(token, Outcome::Released) {
                    drop(self.mailbox.send(message));
                }
            }
        }
        while let Some(dispatched) = self.queue.try_take(0, &*self.clock) {
            if dispatched.poke {
                drop(self.mailbox.send(Message::Poke));
            }
            if let Work::Task(token, assignment) = dispatched.work {
                self.start(token, assignment);
            }
        }
    }

    fn start(self: &Arc<Self>, token: WorkToken, assignment: Assignment) {
        log_attempt_start(&assignment);
        if assignment.reports_start {
            let Assignment {
                execution,
                task,
                claim,
                ..
            } = assignment;
            drop(self.mailbox.send(Message::Started {
                execution,
                task,
                claim,
                at: self.clock.now(),
            }));
        }
        let function = self.functions.lock().get(&assignment.handler).cloned();
        let tasks = Arc::clone(self);
        let port = TaskPort(Arc::clone(self));
        let runtime = self.runtime.lock();
        let Some(runtime) = runtime.as_ref() else {
            return;
        };
        let mut running = self.running.lock();
        let task = runtime.spawn(async move {
            let outcome = match function {
                Some(function) => {
                    CatchPanic(Box::pin(async move { function(assignment, port).await }))
                        .await
                        .unwrap_or_else(|panic| Outcome::Failed(panic_failure(&*panic)))
                }
                None => Outcome::Released,
            };
            tasks.running.lock().remove(&token);
            if let Some(message) = tasks.finished(token, outcome) {
                match tasks.run_inline.get() {
                    Some(run_inline) => run_inline(message),
                    None => drop(tasks.mailbox.send(message)),
                }
            }
        });
        running.insert(token, task.abort_handle());
    }

    /// Returns the message that reports an attempt's end, or `None` if the attempt was evicted.
    fn finished(&self, token: WorkToken, outcome: Outcome) -> Option<Message> {
        let Completion::Accepted(running) = self.queue.complete(token) else {
            return None;
        };
        let ran = self.clock.monotonic().since(running.started);
        let finish = Finish {
            task: running.task,
            claim: running.claim,
            started_at: Some(running.started_at),
            outcome,
        };
        Some(Message::Finished {
            execution: running.execution,
            finish,
            executor: Executor::Futures,
            ran,
        })
    }
}

/// A wrapper of a task's future that turns panics into errors. Dropping the wrapper drops the future, so an abort ends
/// the task.
struct CatchPanic(TaskFuture);

impl Future for CatchPanic {
    type Output = Result<Outcome, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        // A future that has panicked is not polled again.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

fn panic_failure(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the task panicked".to_owned());
    Failure {
        kind: "panic".to_owned(),
        message,
        traceback: None,
        retryable: true,
        lineage: Vec::new(),
    }
}
