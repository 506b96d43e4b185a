//! Registration of the workflows and handlers of this program.

use std::sync::Arc;

use crate::runtime::step::{Signal, Step};
use crate::runtime::{Message, Registration, Reply, Service};
use crate::store::StoreError;
use crate::workflow::FinalRole;

/// The suffix of the handler name of a compensation. The compensation itself has the same id as the task that it undoes.
const COMPENSATION: &str = "~final";

/// The registration of the derived workflow that runs a workflow's final tasks (semantics Q).
fn finals_of(registration: &Registration) -> Option<Registration> {
    let workflow = Arc::clone(registration.workflow.finals()?);
    let tasks = workflow.definition().tasks.iter();
    let handlers = tasks.filter_map(|task| {
        let key = match &task.role {
            Some(FinalRole::Compensation { .. }) => format!("{}{COMPENSATION}", task.id),
            _ => task.id.clone(),
        };
        Some((task.id.clone(), *registration.handlers.get(&key)?))
    });
    Some(Registration {
        handlers: handlers.collect(),
        workflow,
    })
}

impl Step {
    /// Stores the definition of a workflow and registers this program's handlers for it.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The message goes to the retry queue.
    pub(in crate::runtime) fn register(
        &mut self,
        registration: Registration,
        reply: Reply<()>,
    ) -> Result<(), StoreError> {
        if let Err(error) = registration.workflow.check_needs() {
            reply(Err(error));
            return Ok(());
        }
        if let Some(error) = self.registry.child_cycle(&registration.workflow) {
            reply(Err(error));
            return Ok(());
        }
        let read = self.read_unread(registration.workflow.name());
        let finals = finals_of(&registration);
        let put = read
            .and_then(|()| {
                let put =
                    |finals: &Registration| self.store.put_definition(&finals.workflow, self.now);
                finals.as_ref().map(put).transpose()
            })
            .and_then(|finals| {
                let id = self.store.put_definition(&registration.workflow, self.now);
                id.map(|id| (id, finals))
            });
        match put {
            Ok((id, final_id)) => {
                if let (Some(id), Some(finals)) = (final_id, finals) {
                    self.registry.register(id, finals);
                }
                self.registry.register(id, registration);
                self.note_handlers();
                reply(Ok(()));
            }
            Err(error @ StoreError::Unavailable(_)) => {
                self.retry.push(Message::Register {
                    registration,
                    reply,
                });
                return Err(error);
            }
            Err(error) => reply(Err(error.into())),
        }
        Ok(())
    }

    /// Registers handlers for external tasks. Refuses them if they contradict the latest definition of the workflow.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The message goes to the retry queue.
    pub(in crate::runtime) fn serve(
        &mut self,
        service: Service,
        reply: Reply<()>,
    ) -> Result<(), StoreError> {
        let read = self.read_definitions();
        let read = read.and_then(|()| self.latest_definition(&service.workflow));
        match read.and_then(|_| self.read_unread(&service.workflow)) {
            Ok(()) => {}
            Err(error @ StoreError::Unavailable(_)) => {
                self.retry.push(Message::Serve { service, reply });
                return Err(error);
            }
            Err(error) => {
                reply(Err(error.into()));
                return Ok(());
            }
        }
        let served = self.registry.serve(service);
        if served.is_ok() {
            self.note_handlers();
        }
        reply(served);
        Ok(())
    }

    /// Makes the runner look for tasks that its new handlers can run, and has the announcer write these handlers to the
    /// database.
    fn note_handlers(&mut self) {
        self.capacity.set_stale();
        self.maps.set_stale();
        self.signals.raise(Signal::Announce);
    }
}
