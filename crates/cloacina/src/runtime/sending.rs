//! Sends the signals of a turn in one transaction. The duty that checks waiting tasks runs later, usually
//! in the same turn, and finds these signals.

use super::batch::PendingSend;
use super::message::Reply;
use super::step::{Signal, Step};
use crate::store::StoreError;
use crate::types::{Error, Monotonic, NewSignal, Sent};

impl Step {
    /// Adds signals to the signals that this turn will send.
    pub(super) fn collect_send(
        &mut self,
        signals: Vec<NewSignal>,
        give_up: Monotonic,
        reply: Reply<Vec<Sent>>,
    ) {
        self.sends.push(PendingSend {
            signals,
            give_up,
            reply,
        });
    }

    /// Sends the signals of this turn and answers their callers. If the database refuses one of the
    /// signals, sends the signals of each caller in a separate transaction.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The messages then go to the retry queue.
    pub(super) fn send_signals(&mut self) -> Result<(), StoreError> {
        let sends = std::mem::take(&mut self.sends);
        if sends.is_empty() {
            return Ok(());
        }
        let all: Vec<NewSignal> = (sends.iter())
            .flat_map(|send| send.signals.iter().cloned())
            .collect();
        match self.store.send(Some(self.runner), &all, &[], self.now) {
            Ok(sent) => {
                self.signals.raise(Signal::Waits);
                self.metrics.count_signals(sent.len());
                let mut sent = sent.into_iter();
                for send in sends {
                    let answers = sent.by_ref().take(send.signals.len()).collect();
                    (send.reply)(Ok(answers));
                }
                Ok(())
            }
            Err(error) if error.is_of_item() && sends.len() > 1 => {
                let mut outcome = Ok(());
                for send in sends {
                    self.sends.push(send);
                    outcome = self.send_signals().and(outcome);
                }
                outcome
            }
            Err(error) if error.is_of_item() => {
                for send in sends {
                    (send.reply)(Err(Error::from(error.clone())));
                }
                Ok(())
            }
            Err(error) => {
                let again = sends.into_iter().map(PendingSend::into_message);
                self.retry.extend(again);
                Err(error)
            }
        }
    }
}
