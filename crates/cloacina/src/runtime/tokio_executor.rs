//! Runs Rust tasks as futures on tokio.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;

use crate::types::sync::Mutex;
use rustc_hash::FxHashMap;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use super::assignment::{Assignment, Completion, Executor, Notice, Work, WorkToken};
use super::work::WorkQueue;
use super::{Mailbox, Message, Stepper};
use crate::engine::{Finish, Outcome};
use crate::types::{Clock, Error, ErrorCode, Failure};

/// A task in Rust under way.
pub type TaskFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A task in Rust: takes the assignment, gives its outcome.
pub type TaskFunction = Arc<dyn Fn(Assignment) -> TaskFuture + Send + Sync>;

/// The executor of a runner's Rust tasks.
pub struct TokioExecutor {
    inner: Arc<Inner>,
    /// The runtime is another executor's too, which ends it.
    is_guest: bool,
}

struct Inner {
    runtime: Arc<Mutex<Option<Runtime>>>,
    functions: Mutex<FxHashMap<u64, TaskFunction>>,
    next: AtomicU64,
    running: Mutex<FxHashMap<WorkToken, AbortHandle>>,
    queue: Arc<WorkQueue>,
    mailbox: Arc<Mailbox>,
    clock: Arc<dyn Clock>,
    /// For threads of the runtime, which make a step themselves: at most one of them is busy with it at a time, and what
    /// the step starts runs on it without a wake-up.
    stepper: OnceLock<Weak<Stepper>>,
}

impl TokioExecutor {
    /// An executor that takes from `queue` and reports to `mailbox`.
    pub fn new(queue: Arc<WorkQueue>, mailbox: Arc<Mailbox>, clock: Arc<dyn Clock>) -> Self {
        Self::on(Arc::default(), queue, mailbox, clock, false)
    }

    /// An executor of another runner on the same threads.
    pub fn beside(
        &self,
        queue: Arc<WorkQueue>,
        mailbox: Arc<Mailbox>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::on(Arc::clone(&self.inner.runtime), queue, mailbox, clock, true)
    }

    fn on(
        runtime: Arc<Mutex<Option<Runtime>>>,
        queue: Arc<WorkQueue>,
        mailbox: Arc<Mailbox>,
        clock: Arc<dyn Clock>,
        is_guest: bool,
    ) -> Self {
        let inner = Inner {
            runtime,
            functions: Mutex::default(),
            next: AtomicU64::new(1),
            running: Mutex::default(),
            queue,
            mailbox,
            clock,
            stepper: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
            is_guest,
        }
    }

    /// Lets the threads that run tasks make the steps that the tasks' ends ask for.
    pub fn lead_with(&self, stepper: &Arc<Stepper>) {
        // A second one would be the same.
        drop(self.inner.stepper.set(Arc::downgrade(stepper)));
    }

    /// Adds a task's function and gives the token of its handler. The first one starts the runtime.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn add(&self, function: TaskFunction) -> Result<u64, Error> {
        let mut runtime = self.inner.runtime.lock();
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
        let token = self.inner.next.fetch_add(1, Ordering::Relaxed);
        if token == 1 {
            let weak = Arc::downgrade(&self.inner);
            self.inner.queue.on_arrival(Arc::new(move || {
                if let Some(inner) = weak.upgrade() {
                    inner.drain();
                }
            }));
        }
        self.inner.functions.lock().insert(token, function);
        Ok(token)
    }

    /// Ends the runtime without waiting for what still runs.
    pub fn shutdown(&self) {
        if self.is_guest {
            for (_, running) in self.inner.running.lock().drain() {
                running.abort();
            }
        } else if let Some(runtime) = self.inner.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    /// Starts what waits and stops what must stop.
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
        while let Some(taken) = self.queue.try_take(0, self.clock.now()) {
            if taken.poke {
                drop(self.mailbox.send(Message::Poke));
            }
            if let Work::Task(token, assignment) = taken.work {
                self.start(token, assignment);
            }
        }
    }

    fn start(self: &Arc<Self>, token: WorkToken, assignment: Assignment) {
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
        let inner = Arc::clone(self);
        let runtime = self.runtime.lock();
        let Some(runtime) = runtime.as_ref() else {
            return;
        };
        let mut running = self.running.lock();
        let task = runtime.spawn(async move {
            let outcome = match function {
                Some(function) => CatchPanic(Box::pin(async move { function(assignment).await }))
                    .await
                    .unwrap_or_else(|panic| Outcome::Failed(panic_failure(&*panic))),
                None => Outcome::Released,
            };
            inner.running.lock().remove(&token);
            if let Some(message) = inner.finished(token, outcome) {
                match inner.stepper.get().and_then(Weak::upgrade) {
                    Some(stepper) => stepper.lead(message),
                    None => drop(inner.mailbox.send(message)),
                }
            }
        });
        running.insert(token, task.abort_handle());
    }

    /// What the coordinator must hear of an attempt's end.
    fn finished(&self, token: WorkToken, outcome: Outcome) -> Option<Message> {
        let Completion::Accepted(running) = self.queue.complete(token) else {
            return None;
        };
        let ran = self.clock.now().since(running.started_at);
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

/// Makes a panic of a task's future that task's failure. Dropping it drops the future: an abort ends the task itself.
struct CatchPanic(TaskFuture);

impl Future for CatchPanic {
    type Output = Result<Outcome, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        // A future that panicked is not polled again.
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
