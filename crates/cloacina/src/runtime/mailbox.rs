//! The coordinator's inbox, and one-shot answers for blocking callers.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::types::sync::{Condvar, Mutex, MutexGuard};

use super::message::{TURN_BYTES, TURN_MESSAGES};
use super::{Message, Reply};
use crate::types::{Clock, Error, Monotonic};

/// The queue of messages of a coordinator. The thread that takes them makes the step.
///
/// The coordinator's own thread waits in `receive`. A thread that would otherwise wait for the effect of its message may
/// `lead`: it runs one step inline, which saves two wake-ups. One step runs at a time, and the thread that ends a step checks
/// for messages that arrived meanwhile, so that no message is left behind.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    /// For the coordinator's own thread.
    arrived: Condvar,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own: no two of them exclude each other"
)]
struct Inner {
    messages: Vec<Message>,
    /// The number of messages whose callers wait for an answer.
    asking: usize,
    /// The number of callers that the last steps answered, and that may be about to ask again.
    answered: usize,
    /// A thread runs a step.
    stepping: bool,
    /// When the next step is due at the latest.
    due: Monotonic,
    /// The time until which the coordinator's thread sleeps, if it does.
    sleeps_until: Option<Monotonic>,
    /// The database answers: a step takes no longer than a commit.
    calm: bool,
    /// There will be no further step.
    ended: bool,
    closed: bool,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            asking: 0,
            answered: 0,
            stepping: false,
            due: Monotonic(0),
            sleeps_until: None,
            calm: false,
            ended: false,
            closed: false,
        }
    }
}

/// How long a step waits for more callers. Callers that one commit answered tend to ask again within microseconds, one after
/// the other because of the interpreter lock. The wait is shorter than the commit that they then share.
const GATHER: Duration = Duration::from_micros(200);

impl Inner {
    fn push(&mut self, message: Message) {
        self.asking += usize::from(message.is_of_caller());
        self.messages.push(message);
    }

    /// The messages of a turn: those of all callers, and as many others as a short commit can carry, within its bytes.
    fn take(&mut self) -> Vec<Message> {
        self.answered = self.asking.max(self.answered / 2);
        self.asking = 0;
        let messages = std::mem::take(&mut self.messages);
        if messages.len() <= TURN_MESSAGES
            && messages.iter().map(Message::weight).sum::<usize>() <= TURN_BYTES
        {
            return messages;
        }
        let (mut bytes, mut count, mut is_full) = (0_usize, 0, false);
        let mut taken = Vec::with_capacity(messages.len());
        for message in messages {
            let is_other = !message.is_of_caller();
            bytes = bytes.saturating_add(message.weight());
            is_full |= bytes > TURN_BYTES && !taken.is_empty();
            if is_full || (is_other && count >= TURN_MESSAGES) {
                self.asking += usize::from(!is_other);
                self.messages.push(message);
            } else {
                count += usize::from(is_other);
                taken.push(message);
            }
        }
        taken
    }

    /// Whether some of the callers that were answered together have asked again, and not all.
    const fn is_gathering(&self) -> bool {
        self.asking > 0 && self.asking < self.answered
    }
}

impl Mailbox {
    /// Puts a message in, for the coordinator's thread.
    ///
    /// # Errors
    /// Returns the message if no step will ever read it.
    #[expect(
        clippy::result_large_err,
        reason = "the message goes on or back, never up"
    )]
    pub fn send(&self, message: Message) -> Result<(), Message> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(message);
        }
        inner.push(message);
        // The thread that runs a step checks again when it ends.
        if !inner.stepping && inner.sleeps_until.take().is_some() {
            drop(inner);
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Puts a message in. Returns all messages if no step runs and the caller may run one: it must do so, and say that it
    /// [`stepped`](Self::stepped).
    ///
    /// # Errors
    /// Returns the message if no step will ever read it.
    #[expect(
        clippy::result_large_err,
        reason = "the message goes on or back, never up"
    )]
    pub(super) fn lead(&self, message: Message) -> Result<Option<Vec<Message>>, Message> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(message);
        }
        inner.push(message);
        if inner.stepping {
            return Ok(None);
        }
        if inner.calm {
            inner.stepping = true;
            return Ok(Some(self.gather(inner).take()));
        }
        if inner.sleeps_until.take().is_some() {
            drop(inner);
            self.arrived.notify_one();
        }
        Ok(None)
    }

    /// All messages for the next step, once there are some or it is due. `None`: there will be no further step.
    pub(super) fn receive(&self, clock: &dyn Clock) -> Option<Vec<Message>> {
        let mut inner = self.inner.lock();
        loop {
            if inner.ended {
                return None;
            }
            if inner.stepping {
                inner.sleeps_until = Some(Monotonic::NEVER);
                self.arrived.wait(&mut inner);
            } else {
                let patience = clock.until(inner.due);
                if !inner.messages.is_empty() || patience.is_zero() {
                    inner.sleeps_until = None;
                    inner.stepping = true;
                    return Some(self.gather(inner).take());
                }
                inner.sleeps_until = Some(inner.due);
                self.arrived.wait_for(&mut inner, patience);
            }
        }
    }

    /// Waits a moment for callers that are about to ask. The step is the caller's already.
    fn gather<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        if inner.is_gathering() {
            let start = Instant::now();
            while inner.is_gathering() && start.elapsed() < GATHER {
                drop(inner);
                thread::yield_now();
                inner = self.inner.lock();
            }
        }
        inner
    }

    /// A step was made: the next one is due then, or there will be none.
    pub(super) fn stepped(&self, next: &Next) {
        let mut inner = self.inner.lock();
        inner.stepping = false;
        match next {
            Next::At { due, calm } => (inner.due, inner.calm) = (*due, *calm),
            Next::Never => inner.ended = true,
        }
        let wanted = inner.ended || !inner.messages.is_empty();
        let due = inner.due;
        if inner
            .sleeps_until
            .take_if(|until| wanted || due < *until)
            .is_some()
        {
            drop(inner);
            self.arrived.notify_one();
        }
    }

    /// Whether messages are refused.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// Refuses messages from now on and returns those not read.
    pub(super) fn close(&self) -> Vec<Message> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        std::mem::take(&mut inner.messages)
    }
}

/// When the next step is due.
pub(super) enum Next {
    /// It is due then at the latest.
    At {
        /// The time at which it is due at the latest.
        due: Monotonic,
        /// Whether the database answers.
        calm: bool,
    },
    /// There is none.
    Never,
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

/// An answer on its way to a caller. If the giver is dropped without giving it, the answer is an error.
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
            self.slot.set(Err(Error::runner_closed()));
        }
    }
}
