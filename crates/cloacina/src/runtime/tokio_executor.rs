//! Runs Rust tasks as futures on tokio.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::sync::Mutex;
use rustc_hash::FxHashMap;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use super::work::{Assignment, Completion, Executor, Notice, Work, WorkQueue, WorkToken};
use super::{Mailbox, Message};
use crate::engine::{Finish, Outcome};
use crate::types::{Clock, Error, ErrorCode, Failure};

/// A task in Rust: takes the assignment, gives its outcome.
pub type TaskFunction =
    Arc<dyn Fn(Assignment) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

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
        };
        Self {
            inner: Arc::new(inner),
            is_guest,
        }
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
                .enable_time()
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
                self.report(token, Outcome::Released);
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
                // A task of its own, so that a panic is that task's failure.
                Some(function) => match tokio::spawn(function(assignment)).await {
                    Ok(outcome) => outcome,
                    Err(error) => Outcome::Failed(panic_failure(error)),
                },
                None => Outcome::Released,
            };
            inner.running.lock().remove(&token);
            inner.report(token, outcome);
        });
        running.insert(token, task.abort_handle());
    }

    fn report(&self, token: WorkToken, outcome: Outcome) {
        let Completion::Accepted(running) = self.queue.complete(token) else {
            return;
        };
        let ran = self.clock.now().since(running.started_at);
        let finish = Finish {
            task: running.task,
            claim: running.claim,
            started_at: Some(running.started_at),
            outcome,
        };
        drop(self.mailbox.send(Message::Finished {
            execution: running.execution,
            finish,
            executor: Executor::Futures,
            ran,
        }));
    }
}

fn panic_failure(error: tokio::task::JoinError) -> Failure {
    let message = match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the task panicked".to_owned()),
        Err(error) => error.to_string(),
    };
    Failure {
        kind: "panic".to_owned(),
        message,
        traceback: None,
        retryable: true,
        lineage: Vec::new(),
    }
}
