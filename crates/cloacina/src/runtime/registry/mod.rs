//! The workflows and handlers that this program has registered, the stored versions, and the queues from which executors claim.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::assignment::Executor;
use crate::store::{ClaimClass, QueueId, StoredDefinition, StoredVersion};
use crate::types::{DefinitionId, Error, ErrorCode, Ordinal};
use crate::workflow::{
    TaskDefinition, TaskKind, Workflow, WorkflowDefinition, check_external, queue,
};

/// The handler of a task in this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handler {
    /// The executor that runs the task.
    pub executor: Executor,
    /// The token by which the executor finds the function.
    pub token: u64,
    /// Whether a callback is called after the task has completed.
    pub on_success: bool,
    /// Whether a callback is called after the task has failed and will not be retried.
    pub on_failure: bool,
}

impl Handler {
    /// Whether the program calls a function after the task has ended.
    pub const fn has_callback(&self) -> bool {
        self.on_success || self.on_failure
    }
}

/// A workflow with this program's handlers. It replaces an earlier registration with the same name (semantics A3).
#[derive(Clone, Debug)]
pub struct Registration {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The handlers, by task id. Tasks without a handler run in other programs.
    pub handlers: BTreeMap<String, Handler>,
}

/// Handlers for external tasks of a workflow that another program defines.
#[derive(Clone, Debug)]
pub struct Service {
    /// The workflow's name.
    pub workflow: String,
    /// This program's declaration of each task, with its handler. A declaration replaces an earlier declaration of the same
    /// task.
    pub tasks: Vec<(TaskDefinition, Handler)>,
}

/// A version of a workflow in memory, with this program's handlers by ordinal.
struct LoadedVersion {
    workflow: Arc<Workflow>,
    handlers: Vec<Option<Handler>>,
}

/// The number of versions in memory at which unreferenced versions are dropped for the first time.
const FIRST_SWEEP: usize = 64;
/// Maximum number of unread versions that are remembered for each workflow without handlers in this program.
const MAX_UNREAD: usize = 1_000;
/// Maximum number of new versions to read at once. If there are more, only the newest are read.
const MAX_READ: usize = 64;

/// The registered workflows, handlers and stored versions.
#[derive(Default)]
pub(super) struct Registry {
    registrations: FxHashMap<String, (DefinitionId, Registration)>,
    /// The handlers for external tasks, by workflow name and task id.
    served: FxHashMap<String, BTreeMap<String, (TaskDefinition, Handler)>>,
    /// The versions in memory. A sweep keeps those of registrations and of cached executions, and the newest of each workflow.
    definitions: FxHashMap<DefinitionId, LoadedVersion>,
    /// The number of versions in memory at which unreferenced versions are dropped next.
    sweep_at: usize,
    /// The newest version in the database, by workflow name.
    newest: FxHashMap<String, DefinitionId>,
    /// Stored versions that have not been read, because this program does not have handlers for their workflow yet.
    unread: FxHashMap<String, Vec<DefinitionId>>,
    last_definition: DefinitionId,
    /// The queues for which this program has handlers, by workflow name and executor. They remain when a version is dropped.
    queues: FxHashMap<String, [BTreeSet<QueueId>; 3]>,
    /// Tasks that were claimed although this program has no handler for them, by workflow name.
    excluded: FxHashMap<String, BTreeSet<(DefinitionId, Ordinal)>>,
    /// Stored versions that cannot be read or that this release cannot run, each with its number of tasks and the reason.
    refused: FxHashMap<DefinitionId, (Ordinal, Error)>,
    /// Versions for which a contradicting declaration has been logged.
    warned: BTreeSet<DefinitionId>,
    /// The cached result of `classes`.
    classes: Option<[ClaimClass; 3]>,
    /// Workflows whose handlers have not been announced in the database yet.
    unannounced: BTreeSet<String>,
    has_callbacks: bool,
    has_maps: bool,
    has_children_maps: bool,
}

impl Registry {
    /// Adds a registration whose definition is stored under the given id.
    pub(super) fn register(&mut self, id: DefinitionId, registration: Registration) {
        let name = registration.workflow.name().to_owned();
        self.has_callbacks |= registration.handlers.values().any(Handler::has_callback);
        self.unannounced.insert(name.clone());
        self.renumber(id, registration);
        self.handlers_changed(&name);
    }

    /// M7: returns an error if the workflow would complete a cycle of unconditional children among the workflows of this
    /// program.
    pub(super) fn child_cycle(&self, workflow: &Workflow) -> Option<Error> {
        let known = |name: &str| Some(&*self.registrations.get(name)?.1.workflow);
        workflow.refuse_child_cycle(known).err()
    }

    /// Whether this program runs items of maps or starts their children.
    pub(super) const fn has_maps(&self) -> bool {
        self.has_maps || self.has_children_maps
    }

    /// The claim class of the items whose children must be started, for all versions that this program can read. `None` if no
    /// known workflow has such items.
    pub(super) fn children_class(&self, limit: usize) -> Option<ClaimClass> {
        let refused = self.refused.iter();
        let excluded = refused.flat_map(|(id, (tasks, _))| (0..*tasks).map(|task| (*id, task)));
        self.has_children_maps.then(|| ClaimClass {
            queues: vec![QueueId::CHILDREN],
            excluded: excluded.collect(),
            limit,
        })
    }

    /// Adds handlers for external tasks.
    ///
    /// # Errors
    /// Returns an error, and adds no handler, if the declaration of a task contradicts the version of the workflow that a new
    /// execution runs.
    pub(super) fn serve(&mut self, service: Service) -> Result<(), Error> {
        let latest = self.latest(&service.workflow);
        if let Some(workflow) = latest.and_then(|id| self.definition(id)) {
            for (task, _) in &service.tasks {
                check_external(workflow, task)?;
            }
        }
        let served = self.served.entry(service.workflow.clone()).or_default();
        for (task, handler) in service.tasks {
            self.has_callbacks |= handler.has_callback();
            served.insert(task.id.clone(), (task, handler));
        }
        self.handlers_changed(&service.workflow);
        self.unannounced.insert(service.workflow);
        Ok(())
    }

    /// Updates the handlers and queues of all versions of a workflow, because handlers belong to a name and not to a version.
    fn handlers_changed(&mut self, name: &str) {
        self.sweep();
        self.excluded.remove(name);
        self.queues.remove(name);
        let of_name = |(_, known): &(&DefinitionId, &LoadedVersion)| known.workflow.name() == name;
        let found: Vec<(DefinitionId, Arc<Workflow>)> = (self.definitions.iter().filter(of_name))
            .map(|(id, known)| (*id, Arc::clone(&known.workflow)))
            .collect();
        for (id, workflow) in found {
            self.insert(id, workflow);
        }
        for task in self.served.get(name).into_iter().flatten() {
            let (id, (_, handler)) = task;
            let queue = QueueId(queue::number(name, TaskKind::External, id));
            let queues = self.queues.entry(name.to_owned()).or_default();
            queues[handler.executor.index()].insert(queue);
        }
        self.classes = None;
    }

    fn add_definition(&mut self, id: DefinitionId, workflow: Arc<Workflow>) {
        self.sweep();
        self.insert(id, workflow);
    }

    fn insert(&mut self, id: DefinitionId, workflow: Arc<Workflow>) {
        let mut tasks = workflow.definition().tasks.iter();
        self.has_children_maps |= tasks.any(|task| task.over.is_some() && task.child.is_some());
        let handlers = self.handlers_of(id, &workflow);
        for (ordinal, handler) in (0..).zip(&handlers) {
            if let Some(handler) = handler {
                self.has_maps |= workflow.task(ordinal).over.is_some();
                if !self.queues.contains_key(workflow.name()) {
                    let name = workflow.name().to_owned();
                    self.queues.insert(name, Default::default());
                }
                if let Some(queues) = self.queues.get_mut(workflow.name()) {
                    queues[handler.executor.index()].insert(QueueId::of(&workflow, ordinal));
                }
            }
        }
        self.definitions
            .insert(id, LoadedVersion { workflow, handlers });
        self.classes = None;
    }

    /// Drops unreferenced versions if there are at least `FIRST_SWEEP` versions, and twice as many as after the last sweep.
    fn sweep(&mut self) {
        if self.definitions.len() < self.sweep_at.max(FIRST_SWEEP) {
            return;
        }
        let own = self.registrations.values().map(|(id, _)| *id);
        let kept: FxHashSet<DefinitionId> = own.chain(self.newest.values().copied()).collect();
        self.definitions
            .retain(|id, known| kept.contains(id) || Arc::strong_count(&known.workflow) > 1);
        self.sweep_at = self.definitions.len() * 2;
    }

    /// Notes stored versions, oldest first. Returns the versions to read now, because this program has handlers for their
    /// workflows. Older versions are included, because each of them may have external tasks that this program serves.
    pub(super) fn note_stored(&mut self, versions: Vec<StoredVersion>) -> Vec<DefinitionId> {
        for StoredVersion { id, workflow } in &versions {
            self.last_definition = self.last_definition.max(*id);
            self.newest.insert(workflow.clone(), *id);
        }
        let mut wanted = Vec::new();
        for StoredVersion { id, workflow } in versions {
            if self.has_handlers(&workflow) {
                wanted.push(id);
            } else {
                let unread = self.unread.entry(workflow).or_default();
                unread.push(id);
                let surplus = unread.len().saturating_sub(MAX_UNREAD);
                unread.drain(..surplus);
            }
        }
        wanted.retain(|id| !self.definitions.contains_key(id));
        let surplus = wanted.len().saturating_sub(MAX_READ);
        wanted.drain(..surplus);
        wanted
    }

    /// Takes the versions of a workflow that were not read while this program had no handlers for the workflow.
    pub(super) fn take_unread(&mut self, name: &str) -> Vec<DefinitionId> {
        let mut ids = self.unread.remove(name).unwrap_or_default();
        ids.retain(|id| !self.definitions.contains_key(id));
        ids
    }

    fn has_handlers(&self, name: &str) -> bool {
        self.registrations.contains_key(name) || self.served.contains_key(name)
    }

    /// Adds a stored definition.
    ///
    /// # Errors
    /// Returns an error if this release cannot read the definition or does not have a feature that the definition needs. The
    /// executions of this version are then left to other runners (E5).
    pub(super) fn add_stored(&mut self, stored: &StoredDefinition) -> Result<(), Error> {
        if self.definitions.contains_key(&stored.id) {
            return Ok(());
        }
        if let Some((_, error)) = self.refused.get(&stored.id) {
            return Err(error.clone());
        }
        let added = self.decode_stored(stored);
        if let Err((tasks, error)) = &added {
            tracing::warn!(workflow = %stored.workflow, %error, "cannot use a stored workflow definition; its executions are left to other runners");
            self.refused.insert(stored.id, (*tasks, error.clone()));
            self.classes = None;
        }
        added.map_err(|(_, error)| error)
    }

    fn decode_stored(&mut self, stored: &StoredDefinition) -> Result<(), (Ordinal, Error)> {
        let definition: WorkflowDefinition =
            serde_json::from_str(&stored.body).map_err(|error| {
                let message = format!(
                    "cannot read the stored workflow definition {}: {error}",
                    stored.id.0
                );
                (0, Error::new(ErrorCode::Database, message))
            })?;
        let tasks = Ordinal::try_from(definition.tasks.len()).unwrap_or(Ordinal::MAX);
        let workflow = Workflow::new(definition).map_err(|error| (tasks, error))?;
        workflow.check_needs().map_err(|error| (tasks, error))?;
        self.add_definition(stored.id, Arc::new(workflow));
        Ok(())
    }

    /// Returns the reason why this program cannot use the version that a new execution of a workflow would run. `None` if there
    /// is no such reason.
    pub(super) fn refusal(&self, name: &str) -> Option<Error> {
        let id = self.latest(name)?;
        self.refused.get(&id).map(|(_, error)| error.clone())
    }

    /// The highest definition id that has been noted.
    pub(super) const fn last_definition(&self) -> DefinitionId {
        self.last_definition
    }

    /// Returns a version if it is in memory.
    pub(super) fn definition(&self, id: DefinitionId) -> Option<&Arc<Workflow>> {
        self.definitions.get(&id).map(|known| &known.workflow)
    }

    /// The version that a new execution of a workflow runs: this program's version, or otherwise the newest version in the
    /// database.
    pub(super) fn latest(&self, name: &str) -> Option<DefinitionId> {
        let own = self.registrations.get(name).map(|(id, _)| *id);
        own.or_else(|| self.newest.get(name).copied())
    }

    /// The names of all known workflows.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let newest = self.newest.keys();
        let own = self.registrations.keys();
        own.filter(|name| !self.newest.contains_key(*name))
            .chain(newest)
            .map(String::as_str)
    }

    /// Forgets which versions are stored, but keeps the loaded versions. Returns this program's registrations, which
    /// must then be stored again.
    pub(super) fn forget_stored(&mut self) -> Vec<Registration> {
        self.newest.clear();
        self.unread.clear();
        self.refused.clear();
        self.last_definition = DefinitionId(0);
        let own = self.registrations.values();
        own.map(|(_, registration)| registration.clone()).collect()
    }

    /// Sets the id under which a registration is stored.
    pub(super) fn renumber(&mut self, id: DefinitionId, registration: Registration) {
        let name = registration.workflow.name().to_owned();
        let workflow = Arc::clone(&registration.workflow);
        self.registrations.insert(name, (id, registration));
        self.add_definition(id, workflow);
    }

    /// The names of the workflows for which this program has handlers.
    pub(super) fn registered(&self) -> Vec<String> {
        let names = self.registrations.keys().chain(self.served.keys());
        let mut names: Vec<String> = names.cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The workflows whose handlers have not been announced, each with the tasks that this program can run.
    pub(super) fn unannounced(&self) -> Vec<(String, Vec<String>)> {
        let named = self.unannounced.iter();
        named
            .map(|name| {
                let own = self.registrations.get(name);
                let served = self.served.get(name);
                let own = own.into_iter().flat_map(|(_, own)| own.handlers.keys());
                let served = served.into_iter().flat_map(BTreeMap::keys);
                let tasks: BTreeSet<String> = own.chain(served).cloned().collect();
                (name.clone(), tasks.into_iter().collect())
            })
            .collect()
    }

    /// Notes that all handlers have been announced.
    pub(super) fn note_announced(&mut self) {
        self.unannounced.clear();
    }

    /// Notes that no handlers have been announced under the runner's new id.
    pub(super) fn announce_again(&mut self) {
        self.unannounced = self.registered().into_iter().collect();
    }

    /// Whether this program has a handler for at least one task of a version.
    pub(super) fn serves(&self, definition: DefinitionId) -> bool {
        let known = self.definitions.get(&definition);
        known.is_some_and(|known| known.handlers.iter().any(Option::is_some))
    }

    /// Returns this program's handler for a task of a version. Handlers are assigned to the tasks of a version by
    /// task id, when the version is loaded and when the handlers of its workflow change.
    pub(super) fn handler(&self, definition: DefinitionId, task: Ordinal) -> Option<Handler> {
        self.definitions
            .get(&definition)?
            .handlers
            .get(task as usize)
            .copied()
            .flatten()
    }

    /// Whether any registered handler has had a callback.
    pub(super) const fn has_callbacks(&self) -> bool {
        self.has_callbacks
    }

    /// Excludes a task from claims, because it was claimed but this program has no handler for it.
    pub(super) fn exclude(&mut self, workflow: &Workflow, definition: DefinitionId, task: Ordinal) {
        let excluded = self.excluded.entry(workflow.name().to_owned()).or_default();
        excluded.insert((definition, task));
        self.classes = None;
    }

    /// The queues from which each executor can claim. Each `limit` is 0; the caller sets it.
    pub(super) fn classes(&mut self) -> &[ClaimClass; 3] {
        let classes = self
            .classes
            .take()
            .unwrap_or_else(|| self.compute_classes());
        self.classes.insert(classes)
    }

    fn compute_classes(&self) -> [ClaimClass; 3] {
        Executor::ALL.map(|executor| {
            let index = executor.index();
            let queues = self.queues.values().flat_map(|queues| &queues[index]);
            let mut excluded: BTreeSet<(DefinitionId, Ordinal)> =
                self.excluded.values().flatten().copied().collect();
            let refused = self.refused.iter();
            excluded
                .extend(refused.flat_map(|(id, (tasks, _))| (0..*tasks).map(|task| (*id, task))));
            for (id, known) in &self.definitions {
                let Some(queues) = self.queues.get(known.workflow.name()) else {
                    continue;
                };
                let others = (0..).zip(&known.handlers).filter(|(ordinal, handler)| {
                    handler.map(|handler| handler.executor) != Some(executor)
                        && queues[index].contains(&QueueId::of(&known.workflow, *ordinal))
                });
                excluded.extend(others.map(|(ordinal, _)| (*id, ordinal)));
            }
            ClaimClass {
                queues: queues.copied().collect(),
                excluded: excluded.into_iter().collect(),
                limit: 0,
            }
        })
    }

    /// Returns this program's handlers for a version. The declaration of an external task must be compatible with the version.
    /// If it is not, the task is left to other programs, and a warning is logged once.
    fn handlers_of(&mut self, id: DefinitionId, workflow: &Workflow) -> Vec<Option<Handler>> {
        let registration = self.registrations.get(workflow.name());
        let served = self.served.get(workflow.name());
        let mut contradiction = None;
        let tasks = workflow.definition().tasks.iter();
        let handlers = tasks
            .map(|task| {
                let own = registration.and_then(|(_, known)| {
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
                        contradiction.get_or_insert(error);
                        None
                    }
                }
            })
            .collect();
        if let Some(error) = contradiction
            && self.warned.insert(id)
        {
            tracing::warn!(workflow = workflow.name(), version = workflow.version(), %error, "this runner does not run a task, because this program's declaration of the task contradicts the workflow");
        }
        handlers
    }
}
