//! The thread that steps a coordinator, and the way for others to step it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tracing::Dispatch;

use super::assignment::Executor;
use super::mailbox::Next;
use super::{Coordinator, Mailbox, Message, Waiters, WorkQueues};
use crate::types::sync::Mutex;
use crate::types::{Clock, Error, ErrorCode};

/// What a coordinator's thread shares with callers and workers.
#[derive(Clone)]
pub struct Parts {
    /// The way in.
    pub mailbox: Arc<Mailbox>,
    /// The way out for work.
    pub queues: WorkQueues,
    /// The way out for ends.
    pub waiters: Arc<Waiters>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A running coordinator.
pub struct Driver {
    stepper: Arc<Stepper>,
    thread: Option<JoinHandle<()>>,
}

/// A coordinator that its own thread steps, and whoever leads.
pub struct Stepper {
    /// Held by the one that makes a step: never fought for.
    coordinator: Mutex<Coordinator>,
    parts: Parts,
    dispatch: Option<Dispatch>,
    failed: AtomicBool,
}

impl Driver {
    /// Starts the thread. The coordinator's log events go to `dispatch` when one is given.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        coordinator: Coordinator,
        parts: Parts,
        dispatch: Option<Dispatch>,
    ) -> Result<Self, Error> {
        let stepper = Arc::new(Stepper {
            coordinator: Mutex::new(coordinator),
            parts,
            dispatch,
            failed: AtomicBool::new(false),
        });
        let driven = Arc::clone(&stepper);
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
            stepper,
            thread: Some(thread),
        })
    }

    /// The coordinator, for threads that lead.
    pub const fn stepper(&self) -> &Arc<Stepper> {
        &self.stepper
    }

    /// Waits for the thread's end, once it was told to stop.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic was caught and logged inside.
            drop(thread.join());
        }
    }
}

impl Stepper {
    /// Gives a message to the coordinator, and makes the step that it asks for if nobody else makes one.
    ///
    /// For a thread that would otherwise wait for what the message brings. It may block for a commit; so it must neither
    /// hold a lock or the interpreter, nor be one that has to react to signals, nor drive futures of the caller's.
    pub fn lead(&self, message: Message) {
        if self.parts.clock.is_watched() {
            return drop(self.parts.mailbox.send(message));
        }
        // A closed mailbox drops the message, and dropping it answers.
        if let Ok(Some(messages)) = self.parts.mailbox.lead(message) {
            self.step(messages);
        }
    }

    fn drive(&self) {
        while let Some(messages) = self.parts.mailbox.receive(&*self.parts.clock) {
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
            Ok(due) if !coordinator.is_finished() => Next::At {
                due,
                calm: coordinator.is_calm(),
            },
            Ok(_) => Next::Never,
            Err(_) => {
                self.failed.store(true, Ordering::Release);
                Next::Never
            }
        };
        drop(coordinator);
        self.parts.mailbox.stepped(&next);
    }

    /// Tells everybody who still waits that nothing will come any more.
    fn end(&self) {
        let parts = &self.parts;
        let error = if self.failed.load(Ordering::Acquire) {
            let report = || {
                tracing::error!(
                    "the coordinator failed; the runner is closed. What is in the database is safe"
                );
            };
            match &self.dispatch {
                Some(dispatch) => tracing::dispatcher::with_default(dispatch, report),
                None => report(),
            }
            Error::new(ErrorCode::RunnerClosed, "the runner failed and is closed").with_hint(
                "start a new DefaultRunner: it takes up what is in the database; please report the log",
            )
        } else {
            Error::runner_closed()
        };
        for message in parts.mailbox.close() {
            match message {
                Message::Stop { reply, .. } => reply(Ok(())),
                other => other.refuse(&error),
            }
        }
        parts.waiters.give_up(&error);
        for executor in Executor::ALL {
            parts.queues.of(executor).close();
        }
        for reply in self.coordinator.lock().take_stop_replies() {
            reply(Ok(()));
        }
    }
}
