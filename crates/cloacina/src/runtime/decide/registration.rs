//! Registration of this program's workflows and handlers.

use crate::runtime::step::{Signal, Step};
use crate::runtime::{Message, Registration, Reply, Service};
use crate::store::StoreError;

impl Step {
    /// Stores the definition of a workflow and registers this program's handlers for it.
    ///
    /// # Errors
    /// When the database does not answer. The message goes to the retry queue.
    pub(in crate::runtime) fn register(
        &mut self,
        registration: Registration,
        reply: Reply<()>,
    ) -> Result<(), StoreError> {
        let read = self.read_unread(registration.workflow.name());
        let put = read.and_then(|()| self.store.put_definition(&registration.workflow, self.now));
        match put {
            Ok(id) => {
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

    /// Registers handlers for external tasks, unless they contradict the latest definition of the workflow.
    ///
    /// # Errors
    /// When the database does not answer. The message goes to the retry queue.
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

    /// Allows claims for new handlers, and has them announced.
    fn note_handlers(&mut self) {
        self.capacity.set_stale();
        self.signals.raise(Signal::Announce);
    }
}
