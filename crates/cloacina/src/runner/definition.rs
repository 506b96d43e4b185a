//! Workflows in Rust, and the registry of the workflows that this process has defined.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use super::input_defaults::InputDefaults;
use super::input_type::InputType;
use super::task::{Compensation, TaskNames, TaskRun};
use super::{describe, final_tasks, parameters};
use crate::types::sync::Mutex;
use crate::types::{Context, Error, ErrorCode, ExecutionId, Json};
use crate::workflow;
use crate::workflow::{TaskDefinition, WorkflowDefinition};

/// A workflow that `workflow!` created. It is defined in this process, so every runner of the process can run it by name.
///
/// Since 1.0.
#[derive(Clone)]
pub struct Workflow {
    inner: Arc<workflow::Workflow>,
    input: Option<InputType>,
    input_defaults: Arc<InputDefaults>,
    /// The names of the handlers, each with its function.
    functions: Arc<[(String, TaskRun)]>,
}

impl Workflow {
    /// The workflow's name. Since 1.0.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// The description; may be empty. Since 1.0.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.inner.definition().description
    }

    /// The version: sixteen hex characters, a hash of everything that affects what the workflow does. This includes names,
    /// dependencies, rules, retry and timeout settings, and the source tokens of the functions. The description and the
    /// tags do not affect the version.
    ///
    /// Since 1.0.
    #[must_use]
    pub fn version(&self) -> &str {
        self.inner.version()
    }

    /// The tags. Since 1.0.
    #[must_use]
    pub fn tags(&self) -> &BTreeMap<String, String> {
        &self.inner.definition().tags
    }

    /// The ids of the tasks, in declaration order. Since 1.0.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        let tasks = self.inner.definition().tasks.iter();
        tasks.map(|task| task.id.as_str())
    }

    /// The ids of the tasks, each after its dependencies, otherwise in declaration order. Since 1.0.
    pub fn topological_sort(&self) -> impl Iterator<Item = &str> {
        let order = self.inner.graph().order().iter();
        order.map(|task| self.inner.task(*task).id.as_str())
    }

    /// The JSON schema of the declared input: the names of the fields, their types if known, and the names of the required
    /// fields. `None` without `input:`. Since 1.0.
    #[must_use]
    pub fn input_schema(&self) -> Option<&Json> {
        self.inner.definition().input.as_ref()
    }

    /// The names of the results that form the output; empty without `output:`. Since 1.0.
    #[must_use]
    pub fn output(&self) -> &[String] {
        let output = self.inner.definition().output.as_ref();
        output.map_or(&[], |output| output.keys())
    }

    /// The dependencies of a task: first its declared dependencies, then the other tasks whose results the task
    /// receives. `None` if the workflow has no such task. Since 1.0.
    #[must_use]
    pub fn dependencies(&self, task: &str) -> Option<&[String]> {
        let ordinal = self.inner.ordinal(task)?;
        Some(&self.inner.task(ordinal).dependencies)
    }

    /// The graph as a Mermaid flow chart. Since 1.0.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        describe::to_mermaid(&self.inner)
    }

    /// The graph in Graphviz's DOT language. Since 1.0.
    #[must_use]
    pub fn to_dot(&self) -> String {
        describe::to_dot(&self.inner)
    }

    pub(super) const fn inner(&self) -> &Arc<workflow::Workflow> {
        &self.inner
    }

    pub(super) fn functions(&self) -> &[(String, TaskRun)] {
        &self.functions
    }
}

impl AsRef<str> for Workflow {
    /// Returns the name. A workflow can therefore be passed where a workflow's name is expected.
    fn as_ref(&self) -> &str {
        self.name()
    }
}

impl fmt::Debug for Workflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workflow")
            .field("name", &self.name())
            .field("version", &self.version())
            .field("tasks", &self.tasks().collect::<Vec<_>>())
            .finish()
    }
}

/// Defines a workflow in this process; `workflow!` expands to a call of this function. A workflow of the same name is
/// replaced (semantics A3).
///
/// # Panics
/// If the definition has a fault that the static check of the macro cannot find. Examples: a parameter or an output
/// that is neither a task nor a field of the declared input, a parameter whose type does not fit its source, an
/// output that is a map, and a workflow that would run itself as a child endlessly.
#[doc(hidden)]
#[must_use]
pub fn define(
    mut definition: WorkflowDefinition,
    names: &[TaskNames],
    compensations: &[Option<Compensation>],
    input: Option<InputType>,
    functions: Vec<(&'static str, TaskRun)>,
) -> Workflow {
    definition.input = input.as_ref().map(InputType::schema);
    let mut functions: Vec<(String, TaskRun)> = (functions.into_iter())
        .map(|(id, run)| (id.to_owned(), run))
        .collect();
    let resolved = parameters::resolve(&mut definition, names, input.as_ref()).and_then(|()| {
        final_tasks::add_compensations(
            &mut definition,
            names,
            compensations,
            input.as_ref(),
            &mut functions,
        )
    });
    final_tasks::set_apart(&mut definition);
    let resolved = resolved.and_then(|()| refuse_map_output(&definition));
    let inner = match resolved.and_then(|()| workflow::Workflow::new(definition)) {
        Ok(inner) => Arc::new(inner),
        Err(error) => panic!("{error}"),
    };
    let workflow = Workflow {
        inner,
        input,
        input_defaults: Arc::default(),
        functions: functions.into(),
    };
    if let Err(error) = DEFINITIONS.add(&workflow) {
        panic!("{error}");
    }
    workflow
}

/// Refuses an output that names a map. Definitions that earlier releases stored can have such an output. They stay valid, and
/// the output is null.
fn refuse_map_output(definition: &WorkflowDefinition) -> Result<(), Error> {
    let keys = definition.output.iter().flat_map(workflow::Output::keys);
    let maps = definition.tasks.iter().filter(|task| task.over.is_some());
    for key in keys {
        let is_key = |task: &&TaskDefinition| task.result.as_deref().unwrap_or(&task.id) == key;
        if maps.clone().any(|task| is_key(&task)) {
            let message = format!(
                "workflow '{}': output='{key}' is a map, whose results are not in the context",
                definition.name
            );
            let hint = format!("add a task that takes {key} as a parameter and returns the output");
            return Err(Error::new(ErrorCode::WorkflowInvalid, message).with_hint(hint));
        }
    }
    Ok(())
}

/// A runner that is notified of each workflow that this process defines.
pub(super) trait DefinitionListener: Send + Sync {
    /// Registers a workflow that was just defined.
    fn on_defined(&self, workflow: &Workflow);
}

/// The workflows that this process has defined.
pub(super) static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(Definitions::default);

#[derive(Default)]
pub(super) struct Definitions {
    state: Mutex<DefinitionState>,
    /// Whether any workflow declares the type of its input.
    has_inputs: AtomicBool,
}

#[derive(Default)]
struct DefinitionState {
    /// The number of definitions so far.
    revision: u64,
    workflows: BTreeMap<String, (u64, Workflow)>,
    runners: Vec<Weak<dyn DefinitionListener>>,
}

impl Definitions {
    /// Adds a workflow, and notifies the runners.
    ///
    /// # Errors
    /// `WorkflowInvalid` for a workflow that runs itself as a child without end.
    fn add(&self, workflow: &Workflow) -> Result<(), Error> {
        let mut state = self.state.lock();
        let known = |name: &str| Some(&**state.workflows.get(name)?.1.inner());
        workflow.inner().refuse_child_cycle(known)?;
        state.revision += 1;
        let entry = (state.revision, workflow.clone());
        state.workflows.insert(workflow.name().to_owned(), entry);
        if workflow.input.is_some() {
            self.has_inputs.store(true, Ordering::Release);
        }
        state.runners.retain(|runner| runner.strong_count() > 0);
        let runners: Vec<_> = state.runners.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for runner in runners {
            runner.on_defined(workflow);
        }
        Ok(())
    }

    /// Adds a runner that is notified of each workflow defined from now on.
    pub(super) fn add_runner(&self, runner: Weak<dyn DefinitionListener>) {
        self.state.lock().runners.push(runner);
    }

    /// Validates the input of an execution of a workflow, and adds the defaults of absent fields (J5). Does nothing if this
    /// process does not declare the type of the workflow's input.
    ///
    /// # Errors
    /// `WorkflowInputInvalid`.
    pub(super) fn validate(&self, workflow: &str, input: &mut Arc<Context>) -> Result<(), Error> {
        if let Some(input_type) = self.input_type(workflow) {
            *input = input_type.validate(workflow, input)?;
        }
        Ok(())
    }

    /// Validates the input of a schedule, and adds the defaults of absent fields, as [`validate`](Self::validate) does.
    pub(super) fn validate_scheduled(
        &self,
        workflow: &str,
        input: &mut Context,
    ) -> Result<(), Error> {
        match self.input_type(workflow) {
            Some(input_type) => input_type.validate_scheduled(workflow, input),
            None => Ok(()),
        }
    }

    /// Returns the default of a field that the input of an execution lacks. `None` if the field has no default, if the input
    /// is not valid, or if this process does not declare the type of the workflow's input. `value` returns the value of a
    /// field that the input has.
    ///
    /// The stored input lacks the defaults if another program submitted the execution, or if the execution is a child.
    pub(super) fn default_of(
        &self,
        workflow: &str,
        execution: ExecutionId,
        field: &str,
        value: impl Fn(&str) -> Option<Json>,
    ) -> Option<Json> {
        let (input, defaults) = self.declared(workflow, |known| {
            Some((known.input?, Arc::clone(&known.input_defaults)))
        })?;
        defaults.get(execution, field, || {
            let fields = input.fields()?.iter();
            let given = fields.filter_map(|name| Some((Arc::from(*name), value(name)?)));
            input.defaults(&given.collect())
        })
    }

    fn input_type(&self, workflow: &str) -> Option<InputType> {
        self.declared(workflow, |known| known.input)
    }

    /// Calls `read` with a workflow of this process; `None` if the process has not defined it. If no workflow of this
    /// process declares an input, returns `None` without a lookup.
    fn declared<T>(&self, workflow: &str, read: impl FnOnce(&Workflow) -> Option<T>) -> Option<T> {
        if !self.has_inputs.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock();
        let (_, known) = state.workflows.get(workflow)?;
        read(known)
    }

    pub(super) fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// Returns the current revision, and the workflows that were defined after `revision`, oldest first.
    pub(super) fn since(&self, revision: u64) -> (u64, Vec<Workflow>) {
        let state = self.state.lock();
        let entries = state.workflows.values();
        let mut found: Vec<_> = entries.filter(|(at, _)| *at > revision).cloned().collect();
        found.sort_by_key(|(at, _)| *at);
        let workflows = found.into_iter().map(|(_, workflow)| workflow).collect();
        (state.revision, workflows)
    }
}
