//! The coordinator's inbox, and one-shot answers for blocking callers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::types::sync::{Condvar, Mutex};

use super::submitting::closed;
use super::{Message, Reply};
use crate::types::Error;

/// A queue of messages with one reader. A reader that waits is woken at once; nobody polls.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inner {
    messages: Vec<Message>,
    reader_waits: bool,
    closed: bool,
}

impl Mailbox {
    /// Puts a message in.
    ///
    /// # Errors
    /// Gives the message back when nobody will ever read it.
    #[expect(
        clippy::result_large_err,
        reason = "the message goes on or back, never up"
    )]
    pub fn send(&self, message: Message) -> Result<(), Message> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(message);
        }
        inner.messages.push(message);
        let wake = std::mem::take(&mut inner.reader_waits);
        drop(inner);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// All messages; waits for the first one for at most `patience`.
    pub fn receive(&self, patience: Duration) -> Vec<Message> {
        let mut inner = self.inner.lock();
        if inner.messages.is_empty() && !patience.is_zero() {
            let until = Instant::now() + patience;
            while inner.messages.is_empty() {
                inner.reader_waits = true;
                if self.arrived.wait_until(&mut inner, until).timed_out() {
                    break;
                }
            }
            inner.reader_waits = false;
        }
        std::mem::take(&mut inner.messages)
    }

    /// Whether messages are refused.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// Refuses messages from now on and returns those not read.
    pub fn close(&self) -> Vec<Message> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        std::mem::take(&mut inner.messages)
    }
}

/// A value that arrives once, for a thread that waits for it.
pub struct OneShot<T> {
    slot: Arc<(Mutex<Option<T>>, Condvar)>,
}

impl<T> Clone for OneShot<T> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
        }
    }
}

impl<T> Default for OneShot<T> {
    fn default() -> Self {
        Self {
            slot: Arc::new((Mutex::new(None), Condvar::new())),
        }
    }
}

impl<T> OneShot<T> {
    /// Delivers the value.
    pub fn set(&self, value: T) {
        *self.slot.0.lock() = Some(value);
        self.slot.1.notify_all();
    }

    /// The value, if it arrives within `patience`.
    pub fn wait(&self, patience: Duration) -> Option<T> {
        let mut slot = self.slot.0.lock();
        if slot.is_none() {
            let until = Instant::now().checked_add(patience);
            while slot.is_none() {
                match until {
                    Some(until) if self.slot.1.wait_until(&mut slot, until).timed_out() => break,
                    Some(_) => {}
                    None => self.slot.1.wait(&mut slot),
                }
            }
        }
        slot.take()
    }
}

/// An answer on its way to a caller. When nobody is left to give it, it is an error and not silence.
pub struct Answer<T> {
    slot: OneShot<Result<T, Error>>,
}

impl<T: Send + 'static> Answer<T> {
    /// An answer and the way to give it.
    pub fn new() -> (Self, Reply<T>) {
        let slot = OneShot::default();
        let promise = Promise {
            slot: slot.clone(),
            kept: false,
        };
        (Self { slot }, Box::new(move |result| promise.keep(result)))
    }
}

impl<T> Answer<T> {
    /// An answer that is there already.
    pub fn ready(result: Result<T, Error>) -> Self {
        let slot = OneShot::default();
        slot.set(result);
        Self { slot }
    }

    /// The answer, once, if it arrives within `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Result<T, Error>> {
        self.slot.wait(patience)
    }
}

/// The giver's half of an [`Answer`].
struct Promise<T> {
    slot: OneShot<Result<T, Error>>,
    kept: bool,
}

impl<T> Promise<T> {
    fn keep(mut self, result: Result<T, Error>) {
        self.kept = true;
        self.slot.set(result);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if !self.kept {
            self.slot.set(Err(closed()));
        }
    }
}
