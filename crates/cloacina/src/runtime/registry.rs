//! Which workflows this program has, which versions the database holds, and what can be claimed for which executor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::assignment::Executor;
use crate::store::{ClaimClass, QueueId};
use crate::types::{DefinitionId, Error, ErrorCode, Ordinal};
use crate::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition, check_external};

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

/// Handlers for external tasks of a workflow that another program defines.
#[derive(Clone, Debug)]
pub struct Service {
    /// The workflow's name.
    pub workflow: String,
    /// What this program declares of each task, and its handler. A task that is served already is replaced.
    pub tasks: Vec<(TaskDefinition, Handler)>,
}

/// A version of a workflow, with this program's handlers by ordinal.
struct Known {
    workflow: Arc<Workflow>,
    handlers: Vec<Option<Handler>>,
}

#[derive(Default)]
pub(super) struct Registry {
    registrations: FxHashMap<String, Registration>,
    served: FxHashMap<String, BTreeMap<String, (TaskDefinition, Handler)>>,
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
        self.look_up_handlers(&name);
        self.add_definition(id, workflow);
    }

    /// Takes handlers for external tasks.
    ///
    /// # Errors
    /// When one contradicts the version of the workflow that a submission would run now: then none is taken.
    pub(super) fn serve(&mut self, service: Service) -> Result<(), Error> {
        if let Some((_, workflow)) = self.latest(&service.workflow) {
            for (task, _) in &service.tasks {
                check_external(workflow, task)?;
            }
        }
        let served = self.served.entry(service.workflow.clone()).or_default();
        for (task, handler) in service.tasks {
            served.insert(task.id.clone(), (task, handler));
        }
        self.look_up_handlers(&service.workflow);
        self.unannounced.insert(service.workflow);
        Ok(())
    }

    /// Handlers go by names: those of every version of the workflow change together.
    fn look_up_handlers(&mut self, name: &str) {
        let mut handlers = Vec::new();
        for (id, known) in &self.definitions {
            if known.workflow.name() == name {
                handlers.push((*id, self.handlers_of(&known.workflow, false)));
            }
        }
        for (id, handlers) in handlers {
            if let Some(known) = self.definitions.get_mut(&id) {
                known.handlers = handlers;
            }
        }
        self.classes = None;
    }

    pub(super) fn add_definition(&mut self, id: DefinitionId, workflow: Arc<Workflow>) {
        let name = workflow.name().to_owned();
        if !self.registrations.contains_key(&name) {
            let latest = self.latest.entry(name).or_insert(id);
            *latest = (*latest).max(id);
        }
        let handlers = self.handlers_of(&workflow, true);
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

    /// Names of the workflows for which this program has handlers.
    pub(super) fn registered(&self) -> Vec<String> {
        let names = self.registrations.keys().chain(self.served.keys());
        let mut names: Vec<String> = names.cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Workflows whose handlers the database has not been told of, with the tasks that this program can run.
    pub(super) fn unannounced(&self) -> Vec<(String, Vec<String>)> {
        let named = self.unannounced.iter();
        named
            .map(|name| {
                let own = self.registrations.get(name);
                let served = self.served.get(name);
                let own = own.into_iter().flat_map(|own| own.handlers.keys());
                let served = served.into_iter().flat_map(BTreeMap::keys);
                let tasks: BTreeSet<String> = own.chain(served).cloned().collect();
                (name.clone(), tasks.into_iter().collect())
            })
            .collect()
    }

    /// The database knows them.
    pub(super) fn announced(&mut self) {
        self.unannounced.clear();
    }

    /// The runner has a new id: nothing of it is known.
    pub(super) fn announce_again(&mut self) {
        self.unannounced = self.registered().into_iter().collect();
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

    /// Whether this program has a handler for any task of a version.
    pub(super) fn serves(&self, definition: DefinitionId) -> bool {
        let known = self.definitions.get(&definition);
        known.is_some_and(|known| known.handlers.iter().any(Option::is_some))
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

    /// This program's handlers of a version. An external task's handler must agree with the version about it: a
    /// contradiction leaves the task to programs that agree, with a warning when the version comes up.
    fn handlers_of(&self, workflow: &Workflow, is_new: bool) -> Vec<Option<Handler>> {
        let registration = self.registrations.get(workflow.name());
        let served = self.served.get(workflow.name());
        let tasks = workflow.definition().tasks.iter();
        tasks
            .map(|task| {
                let own = registration.and_then(|known| {
                    let handler = known.handlers.get(&task.id)?;
                    let ordinal = known.workflow.ordinal(&task.id)?;
                    Some((known.workflow.task(ordinal), *handler))
                });
                let other = || {
                    let (declared, handler) = served?.get(&task.id)?;
                    Some((declared, *handler))
                };
                let (declared, handler) = own.or_else(other)?;
                if own.is_some() && task.kind != TaskKind::External {
                    return Some(handler);
                }
                match check_external(workflow, declared) {
                    Ok(()) => Some(handler),
                    Err(error) => {
                        if is_new {
                            tracing::warn!(workflow = workflow.name(), version = workflow.version(), %error, "a task is not run here");
                        }
                        None
                    }
                }
            })
            .collect()
    }
}
