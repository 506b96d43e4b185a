//! The thread that runs a coordinator's steps, and the code for steps that run inline on other threads.
//!
//! See docs/explanation/decisions/034-inline-steps.md

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tracing::Dispatch;

use super::assignment::Executor;
use super::mailbox::NextStep;
use super::{Coordinator, Mailbox, Message, Subscriptions, WorkQueues};
use crate::types::sync::Mutex;
use crate::types::{Clock, Error, ErrorCode};

/// The channels between a coordinator and its callers and workers.
#[derive(Clone)]
pub struct RunnerChannels {
    /// The mailbox for messages to the coordinator.
    pub mailbox: Arc<Mailbox>,
    /// The queues of work for the executors.
    pub queues: WorkQueues,
    /// The callers that wait until an execution ends.
    pub subscriptions: Arc<Subscriptions>,
    /// The clock of the runner.
    pub clock: Arc<dyn Clock>,
}

/// The thread of a running coordinator.
pub struct CoordinatorThread {
    shared: Arc<SharedCoordinator>,
    thread: Option<JoinHandle<()>>,
}

/// A coordinator whose steps run on its own thread or inline on other threads.
pub struct SharedCoordinator {
    /// Locked while a thread runs a step. The mailbox admits one thread at a time, so no thread waits for this lock.
    coordinator: Mutex<Coordinator>,
    channels: RunnerChannels,
    dispatch: Option<Dispatch>,
    failed: AtomicBool,
}

impl CoordinatorThread {
    /// Starts the thread. If `dispatch` is given, it receives the coordinator's log events.
    ///
    /// # Errors
    /// Returns an error if the operating system cannot start the thread.
    pub fn start(
        coordinator: Coordinator,
        channels: RunnerChannels,
        dispatch: Option<Dispatch>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(SharedCoordinator {
            coordinator: Mutex::new(coordinator),
            channels,
            dispatch,
            failed: AtomicBool::new(false),
        });
        let driven = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("cloacina".to_owned())
            .spawn(move || driven.drive())
            .map_err(|error| {
                Error::new(
                    ErrorCode::Configuration,
                    format!("cannot start the coordinator's thread: {error}"),
                )
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The coordinator, for threads that run steps inline.
    pub const fn coordinator(&self) -> &Arc<SharedCoordinator> {
        &self.shared
    }

    /// Waits until the thread has ended. The coordinator must have been asked to stop.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread itself catches and logs panics.
            drop(thread.join());
        }
    }
}

impl SharedCoordinator {
    /// Sends a message to the coordinator. If no other thread is running a step and the database takes writes, the calling
    /// thread runs the step inline. On the virtual clock of a test, only the coordinator's thread runs steps.
    ///
    /// Call this only from a thread that would otherwise wait for the effect of the message. Because the step may block in a
    /// commit, the thread must not hold a lock or the interpreter lock, must not be the thread that handles signals, and must
    /// not drive the caller's futures.
    pub fn run_inline(&self, message: Message) {
        if self.channels.clock.is_watched() {
            return drop(self.channels.mailbox.send(message));
        }
        // A closed mailbox drops the message, and dropping the message answers its caller.
        if let Ok(Some(messages)) = self.channels.mailbox.begin_inline(message) {
            self.step(messages);
        }
    }

    fn drive(&self) {
        while let Some(messages) = self.channels.mailbox.receive(&*self.channels.clock) {
            self.step(messages);
        }
        self.end();
    }

    fn step(&self, messages: Vec<Message>) {
        let mut coordinator = self.coordinator.lock();
        let stepped = catch_unwind(AssertUnwindSafe(|| match &self.dispatch {
            Some(dispatch) => {
                tracing::dispatcher::with_default(dispatch, || coordinator.step(messages))
            }
            None => coordinator.step(messages),
        }));
        let next = match stepped {
            Ok(due) if !coordinator.is_finished() => NextStep::At {
                due,
                allows_inline: coordinator.is_database_up(),
            },
            Ok(_) => NextStep::Never,
            Err(_) => {
                self.failed.store(true, Ordering::Release);
                NextStep::Never
            }
        };
        drop(coordinator);
        self.channels.mailbox.end_step(&next);
    }

    /// Answers all callers that are still waiting after the last step, and closes the work queues.
    fn end(&self) {
        let channels = &self.channels;
        let error = if self.failed.load(Ordering::Acquire) {
            let report = || {
                tracing::error!(
                    "the coordinator failed and the runner is closed; everything in the database is safe"
                );
            };
            match &self.dispatch {
                Some(dispatch) => tracing::dispatcher::with_default(dispatch, report),
                None => report(),
            }
            Error::new(ErrorCode::RunnerClosed, "the runner failed and is closed").with_hint(
                "start a new DefaultRunner, which continues from the database, and report the logged panic",
            )
        } else {
            Error::runner_closed()
        };
        for message in channels.mailbox.close() {
            match message {
                Message::Stop { reply, .. } => reply(Ok(())),
                other => other.refuse(&error),
            }
        }
        self.coordinator.lock().refuse_retries(&error);
        channels.subscriptions.close(&error);
        for executor in Executor::ALL {
            channels.queues.of(executor).close();
        }
        for reply in self.coordinator.lock().take_stop_replies() {
            reply(Ok(()));
        }
    }
}
