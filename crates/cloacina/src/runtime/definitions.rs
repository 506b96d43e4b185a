//! Reads the stored versions of workflows that this program needs, and stores its own versions again after they were pruned.

use super::step::Step;
use crate::store::StoreError;
use crate::types::DefinitionId;

impl Step {
    /// Finds the versions that other programs have stored, and reads those for which this program has handlers.
    pub(super) fn read_definitions(&mut self) -> Result<(), StoreError> {
        let versions = self.store.versions(self.registry.last_definition())?;
        for id in self.registry.note_stored(versions) {
            self.read_definition(id)?;
        }
        Ok(())
    }

    /// Reads the versions of a workflow that were not read while this program had no handlers for the workflow.
    pub(super) fn read_unread(&mut self, workflow: &str) -> Result<(), StoreError> {
        for id in self.registry.take_unread(workflow) {
            self.read_definition(id)?;
        }
        Ok(())
    }

    fn read_definition(&mut self, id: DefinitionId) -> Result<(), StoreError> {
        if let Some(stored) = self.store.definition(id)?
            && let Err(error) = self.registry.add_stored(&stored)
        {
            tracing::debug!(workflow = %stored.workflow, %error, "a stored workflow definition is not used");
        }
        Ok(())
    }

    /// Returns the version of a workflow that a new execution runs, and reads it if necessary. Returns `None` if this
    /// program knows of no stored version, or if it cannot read the latest version.
    pub(super) fn latest_definition(
        &mut self,
        workflow: &str,
    ) -> Result<Option<DefinitionId>, StoreError> {
        for _ in 0..2 {
            let Some(id) = self.registry.latest(workflow) else {
                return Ok(None);
            };
            if self.registry.definition(id).is_none() {
                self.read_definition(id)?;
            }
            if self.registry.definition(id).is_some() {
                return Ok(Some(id));
            }
            // The version was pruned, so the database has a newer version.
            self.read_definitions()?;
        }
        Ok(None)
    }

    /// After a version was pruned, stores the versions of this program again, and reads the versions of other programs again.
    pub(super) fn restore_definitions(&mut self) -> Result<(), StoreError> {
        for registration in self.registry.forget_stored() {
            let id = self
                .store
                .put_definition(&registration.workflow, self.now)?;
            self.registry.renumber(id, registration);
        }
        self.read_definitions()
    }
}
