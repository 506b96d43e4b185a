//! Which workflows this program has, which versions the database holds, and what can be claimed for which executor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::work::Executor;
use crate::store::{ClaimClass, QueueId};
use crate::types::{DefinitionId, Error, ErrorCode, Ordinal};
use crate::workflow::{TaskKind, Workflow, WorkflowDefinition};

/// How this program runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Where.
    pub executor: Executor,
    /// The executor's name for it.
    pub token: u64,
    /// Whether to call back after it completed.
    pub on_success: bool,
    /// Whether to call back after it failed for good.
    pub on_failure: bool,
}

/// A workflow with this program's handlers; replaces an earlier one of the same name whole (semantics A3).
#[derive(Clone, Debug)]
pub struct Registration {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// Handlers by task id; tasks without one run elsewhere.
    pub handlers: BTreeMap<String, Handler>,
}

/// A version of a workflow, with this program's handlers by ordinal.
struct Known {
    workflow: Arc<Workflow>,
    handlers: Vec<Option<Handler>>,
}

#[derive(Default)]
pub(super) struct Registry {
    registrations: FxHashMap<String, Registration>,
    definitions: FxHashMap<DefinitionId, Known>,
    latest: FxHashMap<String, DefinitionId>,
    last_definition: DefinitionId,
    classes: Option<[ClaimClass; 3]>,
    /// Workflows whose handlers the database has not been told of.
    unannounced: BTreeSet<String>,
}

impl Registry {
    pub(super) fn register(&mut self, id: DefinitionId, registration: Registration) {
        let name = registration.workflow.name().to_owned();
        let workflow = Arc::clone(&registration.workflow);
        self.latest.insert(name.clone(), id);
        self.unannounced.insert(name.clone());
        self.registrations.insert(name.clone(), registration);
        // Handlers go by names: those of other versions change with it.
        for known in self
            .definitions
            .values_mut()
            .filter(|known| known.workflow.name() == name)
        {
            known.handlers = handlers_of(&self.registrations, &known.workflow);
        }
        self.add_definition(id, workflow);
    }

    pub(super) fn add_definition(&mut self, id: DefinitionId, workflow: Arc<Workflow>) {
        let name = workflow.name().to_owned();
        if !self.registrations.contains_key(&name) {
            let latest = self.latest.entry(name).or_insert(id);
            *latest = (*latest).max(id);
        }
        let handlers = handlers_of(&self.registrations, &workflow);
        self.definitions.insert(id, Known { workflow, handlers });
        self.classes = None;
    }

    /// Takes what the database tells of a definition.
    pub(super) fn add_stored(&mut self, id: DefinitionId, body: &str) -> Result<(), Error> {
        self.last_definition = self.last_definition.max(id);
        if self.definitions.contains_key(&id) {
            return Ok(());
        }
        let definition: WorkflowDefinition = serde_json::from_str(body).map_err(|error| {
            Error::new(
                ErrorCode::Database,
                format!(
                    "the stored workflow definition {} cannot be read: {error}",
                    id.0
                ),
            )
        })?;
        self.add_definition(id, Arc::new(Workflow::new(definition)?));
        Ok(())
    }

    /// The highest definition id that was read from the database.
    pub(super) const fn last_definition(&self) -> DefinitionId {
        self.last_definition
    }

    pub(super) fn definition(&self, id: DefinitionId) -> Option<&Arc<Workflow>> {
        self.definitions.get(&id).map(|known| &known.workflow)
    }

    /// The version of a workflow that a submission by name runs: this program's, else the database's latest.
    pub(super) fn latest(&self, name: &str) -> Option<(DefinitionId, &Arc<Workflow>)> {
        let id = *self.latest.get(name)?;
        self.definition(id).map(|workflow| (id, workflow))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.latest.keys().map(String::as_str)
    }

    /// Names of the workflows that this program has.
    pub(super) fn registered(&self) -> Vec<String> {
        let mut names: Vec<String> = self.registrations.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Workflows whose handlers the database has not been told of, with the tasks that this program can run.
    pub(super) fn unannounced(&self) -> Vec<(String, Vec<String>)> {
        let named = self.unannounced.iter();
        named
            .filter_map(|name| {
                let registration = self.registrations.get(name)?;
                Some((
                    name.clone(),
                    registration.handlers.keys().cloned().collect(),
                ))
            })
            .collect()
    }

    /// The database knows them.
    pub(super) fn announced(&mut self) {
        self.unannounced.clear();
    }

    /// The runner has a new id: nothing of it is known.
    pub(super) fn announce_again(&mut self) {
        self.unannounced = self.registrations.keys().cloned().collect();
    }

    /// This program's handler of a task, by the names alone: any version of the workflow will do (design §4).
    pub(super) fn handler(&self, definition: DefinitionId, task: Ordinal) -> Option<Handler> {
        self.definitions
            .get(&definition)?
            .handlers
            .get(task as usize)
            .copied()
            .flatten()
    }

    /// What each executor can claim, without limits.
    pub(super) fn classes(&mut self) -> &[ClaimClass; 3] {
        let classes = self
            .classes
            .take()
            .unwrap_or_else(|| self.compute_classes());
        self.classes.insert(classes)
    }

    fn compute_classes(&self) -> [ClaimClass; 3] {
        let mut classes: [ClaimClass; 3] = Default::default();
        for (id, known) in &self.definitions {
            for kind in TaskKind::ALL {
                let queue = QueueId::new(*id, kind);
                let tasks = known
                    .workflow
                    .definition()
                    .tasks
                    .iter()
                    .zip(&known.handlers)
                    .enumerate();
                let owners: Vec<(usize, Option<Executor>)> = tasks
                    .filter(|(_, (task, _))| task.kind == kind)
                    .map(|(ordinal, (_, handler))| {
                        (ordinal, handler.map(|handler| handler.executor))
                    })
                    .collect();
                for executor in Executor::ALL {
                    if owners.iter().any(|(_, owner)| *owner == Some(executor)) {
                        let class = &mut classes[executor.index()];
                        class.queues.push(queue);
                        let others = owners.iter().filter(|(_, owner)| *owner != Some(executor));
                        let others =
                            others.filter_map(|(ordinal, _)| Ordinal::try_from(*ordinal).ok());
                        class
                            .excluded
                            .extend(others.map(|ordinal| (queue, ordinal)));
                    }
                }
            }
        }
        classes
    }
}

fn handlers_of(
    registrations: &FxHashMap<String, Registration>,
    workflow: &Workflow,
) -> Vec<Option<Handler>> {
    let registration = registrations.get(workflow.name());
    let tasks = workflow.definition().tasks.iter();
    tasks
        .map(|task| registration.and_then(|known| known.handlers.get(&task.id).copied()))
        .collect()
}
