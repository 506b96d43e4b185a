//! Subscriptions to the end of an execution.

use std::sync::Arc;

use super::EngineHandle;
use crate::runtime::{Ended, Message, Subscription};
use crate::types::{Error, ExecutionId};

impl EngineHandle {
    /// Calls `callback` once: immediately if the execution has already ended, otherwise when it ends, or with an error when the
    /// runner is closed. No thread has to wait.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `RunnerClosed`; `Database` or `Connection` if the execution has ended but cannot be read.
    pub fn when_ended(
        &self,
        id: ExecutionId,
        callback: impl FnOnce(Result<Ended, Error>) + Send + 'static,
    ) -> Result<Subscription, Error> {
        let subscription = self.channels().subscriptions.subscribe(id, callback);
        // Subscribe before the query, so that an end between the two is not missed.
        if let Some(ended) = self.channels().subscriptions.recent(id) {
            self.resolve(subscription, ended);
            return Ok(subscription);
        }
        match self.read_end(id) {
            Ok(Some(ended)) => self.resolve(subscription, ended),
            Ok(None) => {}
            Err(error) => {
                self.channels().subscriptions.unsubscribe(subscription);
                return Err(error);
            }
        }
        if self.is_closed() {
            self.channels().subscriptions.unsubscribe(subscription);
            return Err(Error::runner_closed());
        }
        Ok(subscription)
    }

    /// Returns an execution that has ended recently, as it was at its end, without a wait and without reading the database.
    ///
    /// Returns `None` if its end is not remembered, if callbacks of its tasks are running in this process, or if the runner is
    /// closed. In these cases, use [`when_ended`](Self::when_ended).
    pub fn recent_end(&self, id: ExecutionId) -> Option<Ended> {
        if self.is_closed() {
            return None;
        }
        self.channels().subscriptions.recent_answer(id)
    }

    fn resolve(&self, subscription: Subscription, ended: Ended) {
        let channels = self.channels();
        let now = channels.clock.monotonic();
        if (channels.subscriptions).resolve(subscription, ended, now) {
            self.report(Message::Poke);
        }
    }

    /// Reads the end of an execution from the database; `None` if the execution has not ended, or if its state cannot
    /// be read now.
    ///
    /// The query also reads executions that this runner submitted after the execution `id`, because other runners may have
    /// ended them. So a caller that waits for many executions in turn does not need a query for each of them.
    fn read_end(&self, id: ExecutionId) -> Result<Option<Ended>, Error> {
        let read = self.channels().subscriptions.read_ahead(id);
        let states = match self.store.statuses(&read.ids) {
            Ok(states) => states,
            Err(error) => {
                tracing::debug!(%error, "cannot read whether an execution has ended; the coordinator reads it later");
                // The coordinator reads the execution when the database answers again. It needs this message, because it
                // otherwise reads only after changes, and the execution may already have ended.
                self.report(Message::Watch);
                return Ok(None);
            }
        };
        let Some((_, status)) = states.iter().find(|(found, _)| *found == id) else {
            return Err(Error::unknown_execution(id));
        };
        if !status.is_terminal() {
            return Ok(None);
        }
        let ended = states.iter().filter(|(_, status)| status.is_terminal());
        let ended: Vec<ExecutionId> = ended.map(|(id, _)| *id).collect();
        let Ok(ended) = self.inspector().executions(&ended) else {
            // Another execution in the list may be unreadable, so read only the requested execution.
            return self.inspector().execution(id).map(Some);
        };
        self.channels().subscriptions.note_read(&read, &ended);
        let asked = ended.iter().find(|ended| ended.record().id == id);
        asked.map(Arc::clone).map_or_else(
            || Err(Error::unknown_execution(id)),
            |ended| Ok(Some(ended)),
        )
    }

    /// Subscribes to the end of an execution that is about to be submitted under this id.
    pub fn when_new_ended(
        &self,
        id: ExecutionId,
        callback: impl FnOnce(Result<Ended, Error>) + Send + 'static,
    ) -> Subscription {
        self.channels().subscriptions.subscribe(id, callback)
    }

    /// Cancels a subscription.
    pub fn forget(&self, subscription: Subscription) {
        self.channels().subscriptions.unsubscribe(subscription);
    }
}
