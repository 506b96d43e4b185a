//! Subscriptions to the ends of executions.

use std::sync::Arc;

use super::EngineHandle;
use crate::runtime::{Ended, Subscription};
use crate::types::{Error, ExecutionId};

impl EngineHandle {
    /// Calls `callback` once when the execution has ended, at once if it has. To wait without a thread.
    ///
    /// # Errors
    /// For an unknown id or a closed runner.
    pub fn when_ended(
        &self,
        id: ExecutionId,
        callback: impl FnOnce(Result<Ended, Error>) + Send + 'static,
    ) -> Result<Subscription, Error> {
        let subscription = self.channels().subscriptions.subscribe(id, callback);
        // Subscribed first, looked at second: an end in between is not missed.
        if let Some(ended) = self.channels().subscriptions.recent(id) {
            self.channels().subscriptions.resolve(subscription, ended);
            return Ok(subscription);
        }
        match self.look_for_end(id) {
            Ok(Some(ended)) => self.channels().subscriptions.resolve(subscription, ended),
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

    /// The end of an execution, if the database has it. Of executions that end elsewhere, those that were submitted here
    /// after it are read too, so that a caller that asks for many in turn does not need a query for each.
    fn look_for_end(&self, id: ExecutionId) -> Result<Option<Ended>, Error> {
        let read = self.channels().subscriptions.read_ahead(id);
        let states = match self.store.statuses(&read.ids) {
            Ok(states) => states,
            Err(error) => {
                // The coordinator looks again once the database answers.
                tracing::debug!(%error, "cannot look at the execution now");
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
            // One of the others may be what cannot be read.
            return self.execution(id).map(Some);
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

    /// Takes a subscription back.
    pub fn forget(&self, subscription: Subscription) {
        self.channels().subscriptions.unsubscribe(subscription);
    }
}
