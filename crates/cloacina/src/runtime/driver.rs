//! The thread that steps a coordinator.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tracing::Dispatch;

use super::submitting::closed;
use super::work::Executor;
use super::{Coordinator, Mailbox, Message, Waiters, WorkQueues};
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
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts the thread. Its log events go to `dispatch` when one is given.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        coordinator: Coordinator,
        parts: Parts,
        dispatch: Option<Dispatch>,
    ) -> Result<Self, Error> {
        let run = move || match dispatch {
            Some(dispatch) => {
                tracing::dispatcher::with_default(&dispatch, || drive(coordinator, &parts));
            }
            None => drive(coordinator, &parts),
        };
        let thread = thread::Builder::new()
            .name("cloacina".to_owned())
            .spawn(run)
            .map_err(|error| {
                Error::new(
                    ErrorCode::Configuration,
                    format!("cannot start the coordinator's thread: {error}"),
                )
            })?;
        Ok(Self {
            thread: Some(thread),
        })
    }

    /// Waits for the thread's end, once it was told to stop.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic was caught and logged inside.
            drop(thread.join());
        }
    }
}

fn drive(mut coordinator: Coordinator, parts: &Parts) {
    let mut next_wake = parts.clock.now();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        while !coordinator.is_finished() {
            let inbox = parts.mailbox.receive(parts.clock.until(next_wake));
            next_wake = coordinator.step(inbox);
        }
    }));
    let error = if outcome.is_ok() {
        closed()
    } else {
        tracing::error!(
            "the coordinator failed; the runner is closed. What is in the database is safe"
        );
        Error::new(ErrorCode::RunnerClosed, "the runner failed and is closed").with_hint(
            "start a new DefaultRunner: it takes up what is in the database; please report the log",
        )
    };
    for message in parts.mailbox.close() {
        match message {
            Message::Submit { reply, .. } => reply(Err(error.clone())),
            Message::Control { reply, .. } => reply(Err(error.clone())),
            Message::Register { reply, .. } => reply(Err(error.clone())),
            Message::RegisterTrigger { reply, .. } => reply(Err(error.clone())),
            Message::RunNow { reply, .. } => reply(Err(error.clone())),
            Message::Stop { reply, .. } => reply(Ok(())),
            _ => {}
        }
    }
    parts.waiters.give_up(&error);
    for executor in Executor::ALL {
        parts.queues.of(executor).close();
    }
}
