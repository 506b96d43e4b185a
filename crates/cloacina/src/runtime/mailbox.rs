//! The coordinator's mailbox, and one-shot answers for blocking callers.
//!
//! See docs/explanation/decisions/035-coalescing-callers.md

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::types::sync::{Condvar, Mutex, MutexGuard};

use super::message::{TURN_BYTES, TURN_ITEMS_WITH_OTHERS, TURN_MESSAGES};
use super::{Message, Reply};
use crate::types::{Clock, Error, Monotonic};

/// The queue of messages to a coordinator. The thread that takes the messages also runs the step.
///
/// The coordinator's own thread waits in `receive`. A thread that would otherwise wait for the effect of its message can call
/// `begin_inline` and run one step itself, which saves two wake-ups. Only one step runs at a time. The thread that ends a step
/// checks for messages that have arrived during the step, so that no message stays unhandled.
#[derive(Default)]
pub struct Mailbox {
    state: Mutex<MailboxState>,
    /// The value of [`MailboxState::is_coalescing`] after the last message was queued. The thread that waits for more callers
    /// reads this copy, so that it does not take the lock for which the callers wait.
    is_coalescing: AtomicBool,
    /// Wakes the coordinator's own thread.
    arrived: Condvar,
}

#[expect(clippy::struct_excessive_bools, reason = "every combination occurs")]
struct MailboxState {
    messages: Vec<Message>,
    /// The number of queued messages whose callers wait for an answer.
    asking: usize,
    /// The number of callers that recent steps have answered. These callers are likely to send their next message soon.
    answered: usize,
    /// Whether a thread is running a step.
    is_stepping: bool,
    /// The time by which the next step must run.
    due: Monotonic,
    /// The time until which the coordinator's thread sleeps. `None` if it is awake.
    sleeps_until: Option<Monotonic>,
    /// Whether other threads can run steps inline. They can while the database accepts writes, because a step then
    /// lasts no longer than a commit.
    allows_inline: bool,
    /// Whether the coordinator's final step has ended, so that no step follows.
    ended: bool,
    /// Whether messages are refused.
    closed: bool,
}

impl Default for MailboxState {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            asking: 0,
            answered: 0,
            is_stepping: false,
            due: Monotonic(0),
            sleeps_until: None,
            allows_inline: false,
            ended: false,
            closed: false,
        }
    }
}

/// Maximum time that a step waits for more callers. Callers that were answered by the same commit tend to send their next
/// message within microseconds, one by one because of the interpreter lock. The wait is shorter than the commit that they will
/// share.
const COALESCE_WINDOW: Duration = Duration::from_micros(200);

impl MailboxState {
    fn push(&mut self, message: Message) {
        self.asking += usize::from(message.is_of_caller());
        self.messages.push(message);
    }

    /// Takes the messages for a turn: at most `TURN_BYTES` in total unless the first message alone is larger, at most
    /// `TURN_MESSAGES` messages that do not come from callers, and at most `most_items` ends of maps' items.
    fn take(&mut self) -> Vec<Message> {
        self.answered = self.asking.max(self.answered / 2);
        self.asking = 0;
        let messages = std::mem::take(&mut self.messages);
        let most_items = most_items(&messages);
        if messages.len() <= TURN_MESSAGES
            && most_items == usize::MAX
            && messages.iter().map(Message::weight).sum::<usize>() <= TURN_BYTES
        {
            return messages;
        }
        let (mut bytes, mut count, mut items, mut is_full) = (0_usize, 0, 0, false);
        let mut taken = Vec::with_capacity(messages.len());
        for message in messages {
            let is_other = !message.is_of_caller();
            let is_item = message.is_end_of_item();
            if is_item && items >= most_items {
                self.messages.push(message);
                continue;
            }
            bytes = bytes.saturating_add(message.weight());
            is_full |= bytes > TURN_BYTES && !taken.is_empty();
            if is_full || (is_other && count >= TURN_MESSAGES) {
                self.asking += usize::from(!is_other);
                self.messages.push(message);
            } else {
                count += usize::from(is_other);
                items += usize::from(is_item);
                taken.push(message);
            }
        }
        taken
    }

    /// Whether some of the callers that were answered together have sent their next message, but not all of them.
    const fn is_coalescing(&self) -> bool {
        self.asking > 0 && self.asking < self.answered
    }
}

/// Maximum number of ends of maps' items in the next turn. There is a maximum only if the turn also contains other work, because this
/// work must not wait until hundreds of items are written (K2).
fn most_items(messages: &[Message]) -> usize {
    let items = (messages.iter()).filter(|message| message.is_end_of_item());
    let is_limited = items.count() > TURN_ITEMS_WITH_OTHERS
        && messages.iter().any(Message::is_beside_items)
        && !messages.iter().any(Message::is_stop);
    if is_limited {
        TURN_ITEMS_WITH_OTHERS
    } else {
        usize::MAX
    }
}

impl Mailbox {
    /// Queues a message for the coordinator's thread.
    ///
    /// # Errors
    /// Returns the message if the mailbox is closed.
    #[expect(
        clippy::result_large_err,
        reason = "the error is the message itself, which the caller gets back"
    )]
    pub fn send(&self, message: Message) -> Result<(), Message> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(message);
        }
        self.push(&mut state, message);
        // A thread that is running a step checks for new messages at the end of the step.
        if !state.is_stepping && state.sleeps_until.take().is_some() {
            drop(state);
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Queues a message. If no step is running and inline steps are allowed, also begins a step and returns its messages. The
    /// caller must then run the step and call [`end_step`](Self::end_step).
    ///
    /// # Errors
    /// Returns the message if the mailbox is closed.
    #[expect(
        clippy::result_large_err,
        reason = "the error is the message itself, which the caller gets back"
    )]
    pub(super) fn begin_inline(&self, message: Message) -> Result<Option<Vec<Message>>, Message> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(message);
        }
        self.push(&mut state, message);
        if state.is_stepping {
            return Ok(None);
        }
        if state.allows_inline {
            state.is_stepping = true;
            return Ok(Some(self.coalesce(state).take()));
        }
        if state.sleeps_until.take().is_some() {
            drop(state);
            self.arrived.notify_one();
        }
        Ok(None)
    }

    /// Waits until messages arrive or the next step is due, and begins the step. Returns `None` after the last step.
    pub(super) fn receive(&self, clock: &dyn Clock) -> Option<Vec<Message>> {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return None;
            }
            if state.is_stepping {
                state.sleeps_until = Some(Monotonic::NEVER);
                self.arrived.wait(&mut state);
            } else {
                let patience = clock.until(state.due);
                if !state.messages.is_empty() || patience.is_zero() {
                    state.sleeps_until = None;
                    state.is_stepping = true;
                    return Some(self.coalesce(state).take());
                }
                state.sleeps_until = Some(state.due);
                self.arrived.wait_for(&mut state, patience);
            }
        }
    }

    /// Waits up to `COALESCE_WINDOW` for callers that are about to send a message. The step must have begun.
    fn coalesce<'a>(&'a self, state: MutexGuard<'a, MailboxState>) -> MutexGuard<'a, MailboxState> {
        if !state.is_coalescing() {
            return state;
        }
        drop(state);
        let start = Instant::now();
        while self.is_coalescing.load(Ordering::Relaxed) && start.elapsed() < COALESCE_WINDOW {
            thread::yield_now();
        }
        self.state.lock()
    }

    /// Queues a message.
    fn push(&self, state: &mut MailboxState, message: Message) {
        state.push(message);
        self.is_coalescing
            .store(state.is_coalescing(), Ordering::Relaxed);
    }

    /// Ends a step.
    pub(super) fn end_step(&self, next: &NextStep) {
        let mut state = self.state.lock();
        state.is_stepping = false;
        match next {
            NextStep::At { due, allows_inline } => {
                (state.due, state.allows_inline) = (*due, *allows_inline);
            }
            NextStep::Never => state.ended = true,
        }
        let wanted = state.ended || !state.messages.is_empty();
        let due = state.due;
        if state
            .sleeps_until
            .take_if(|until| wanted || due < *until)
            .is_some()
        {
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Whether messages are refused.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Refuses messages from now on. Returns the messages that are still queued.
    pub(super) fn close(&self) -> Vec<Message> {
        let mut state = self.state.lock();
        state.closed = true;
        std::mem::take(&mut state.messages)
    }
}

/// The time of the next step.
pub(super) enum NextStep {
    /// The next step must run at a given time, or earlier if messages arrive.
    At {
        /// The time by which the step must run.
        due: Monotonic,
        /// Whether other threads can run the step inline.
        allows_inline: bool,
    },
    /// There is no further step.
    Never,
}

/// A value that one thread sets once and that another thread waits for.
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

    /// Waits for the value up to `patience`. Returns `None` if it does not arrive.
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

/// The receiving end of a [`Reply`]. If the reply is dropped and not called, the answer is an error.
pub struct Answer<T> {
    slot: OneShot<Result<T, Error>>,
}

impl<T: Send + 'static> Answer<T> {
    /// Returns an answer, and the reply that delivers it.
    pub fn new() -> (Self, Reply<T>) {
        let slot = OneShot::default();
        let sender = slot.clone();
        (
            Self { slot },
            assured_reply(move |result| sender.set(result)),
        )
    }
}

impl<T> Answer<T> {
    /// Returns an answer that has already arrived.
    pub fn ready(result: Result<T, Error>) -> Self {
        let slot = OneShot::default();
        slot.set(result);
        Self { slot }
    }

    /// Waits for the answer up to `patience`. Returns `None` if the answer does not arrive, or if an earlier call returned it.
    pub fn wait(&self, patience: Duration) -> Option<Result<T, Error>> {
        self.slot.wait(patience)
    }
}

/// Returns a reply that calls `send` once: with the answer, or with an error when the reply is dropped and not called.
pub fn assured_reply<T: 'static>(send: impl FnOnce(Result<T, Error>) + Send + 'static) -> Reply<T> {
    let mut promise = Promise {
        send: Some(send),
        answer: PhantomData,
    };
    Box::new(move |result| promise.keep(result))
}

/// Calls a function once, at the latest when it is dropped.
struct Promise<T, F: FnOnce(Result<T, Error>)> {
    send: Option<F>,
    answer: PhantomData<fn(T)>,
}

impl<T, F: FnOnce(Result<T, Error>)> Promise<T, F> {
    fn keep(&mut self, result: Result<T, Error>) {
        if let Some(send) = self.send.take() {
            send(result);
        }
    }
}

impl<T, F: FnOnce(Result<T, Error>)> Drop for Promise<T, F> {
    fn drop(&mut self) {
        self.keep(Err(Error::runner_closed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::assignment::Executor;
    use crate::runtime::capacity::release_message;
    use crate::types::{Claim, ExecutionId, RunnerId};

    fn end_of(item: Option<u32>) -> Message {
        let claim = Claim {
            runner: RunnerId::from_bytes([1; 16]),
            attempt: 1,
            item,
        };
        let execution = ExecutionId::from_bytes([2; 16]);
        release_message(execution, 0, claim, Executor::Threads)
    }

    fn queued(messages: impl IntoIterator<Item = Message>) -> MailboxState {
        let mut state = MailboxState::default();
        for message in messages {
            state.push(message);
        }
        state
    }

    #[test]
    fn k2_other_work_does_not_wait_for_many_items() {
        let mut state = queued((0..200).map(|item| end_of(Some(item))));
        state.push(end_of(None));
        let taken = state.take();
        assert_eq!(taken.len(), TURN_ITEMS_WITH_OTHERS + 1);
        assert!(taken.iter().any(Message::is_beside_items));
        let rest: Vec<u32> = (state.take().iter())
            .map(|message| match message {
                Message::Finished { finish, .. } => finish.claim.item.unwrap(),
                _ => unreachable!("only ends of items are left"),
            })
            .collect();
        assert_eq!(
            rest,
            (32..200).collect::<Vec<u32>>(),
            "all at once, in order"
        );
        assert!(state.take().is_empty());
    }

    #[test]
    fn d8_shutdown_does_not_overtake_ends_of_items() {
        let mut state = queued((0..200).map(|item| end_of(Some(item))));
        state.push(end_of(None));
        let (_, reply) = Answer::new();
        state.push(Message::Stop { grace: 0, reply });
        assert_eq!(state.take().len(), 202);
    }
}
