//! `Workflow`: a valid workflow definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runner::{to_dot, to_mermaid};
use cloacina::types::{Condition, Error, ErrorCode, Json, Ordinal, nearest};
use cloacina::workflow::{self, Output, WorkflowDefinition};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::decoding::decode;
use crate::errors::Raise;

/// A valid workflow definition.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Workflow {
    inner: Arc<workflow::Workflow>,
}

impl Workflow {
    /// Wraps a workflow of the engine.
    pub const fn new(inner: Arc<workflow::Workflow>) -> Self {
        Self { inner }
    }

    /// Returns the engine's workflow.
    pub const fn inner(&self) -> &Arc<workflow::Workflow> {
        &self.inner
    }

    fn id(&self, task: Ordinal) -> &str {
        &self.inner.task(task).id
    }

    fn full_names(&self, tasks: impl IntoIterator<Item = Ordinal>) -> Vec<String> {
        tasks
            .into_iter()
            .map(|task| self.inner.full_name(self.id(task)))
            .collect()
    }

    fn ordinal(&self, task: &str) -> Result<Ordinal, Error> {
        self.inner.ordinal(task).ok_or_else(|| {
            let name = self.inner.name();
            let error = Error::new(
                ErrorCode::WorkflowInvalid,
                format!("workflow '{name}' has no task '{task}'"),
            );
            let ids = self
                .inner
                .definition()
                .tasks
                .iter()
                .map(|known| known.id.as_str());
            match nearest(task, ids) {
                Some(near) => error.with_hint(format!("did you mean '{near}'?")),
                None => error,
            }
        })
    }

    /// Returns the declared dependencies of a task in the order of their declaration, followed by the tasks that only its
    /// trigger rule names.
    fn dependencies_of(&self, task: Ordinal) -> Vec<&str> {
        let declared = &self.inner.task(task).dependencies;
        let mut ids: Vec<&str> = declared.iter().map(String::as_str).collect();
        for dependency in self.inner.graph().dependencies(task) {
            let id = self.id(*dependency);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}

fn build(definition: &str) -> Result<workflow::Workflow, Error> {
    let definition: WorkflowDefinition = serde_json::from_str(definition).map_err(|error| {
        Error::new(
            ErrorCode::WorkflowInvalid,
            format!("cannot read the workflow definition: {error}"),
        )
    })?;
    workflow::Workflow::new(definition)
}

/// Returns the key of a workflow's output value, a tuple of keys if the output has several values, or `None` if the workflow
/// declares no output.
pub fn output_keys<'py>(
    py: Python<'py>,
    workflow: &workflow::Workflow,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match &workflow.definition().output {
        None => Ok(None),
        Some(Output::One(key)) => key.into_bound_py_any(py).map(Some),
        Some(Output::Many(keys)) => Ok(Some(PyTuple::new(py, keys)?.into_any())),
    }
}

/// Returns the context key under which the result of each value task is stored, by the task's short id.
pub fn result_keys(workflow: &workflow::Workflow) -> BTreeMap<&str, &str> {
    let tasks = workflow.definition().tasks.iter();
    tasks
        .filter_map(|task| Some((task.id.as_str(), task.result.as_deref()?)))
        .collect()
}

#[pymethods]
impl Workflow {
    /// Validates a definition given as JSON.
    #[staticmethod]
    fn build(py: Python<'_>, definition: &str) -> PyResult<Self> {
        Ok(Self {
            inner: Arc::new(build(definition).raise(py)?),
        })
    }

    /// The names of the child workflows that every execution without failures runs.
    #[getter]
    fn always_runs(&self) -> Vec<&str> {
        self.inner.always_runs().collect()
    }

    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    #[getter]
    fn description(&self) -> &str {
        &self.inner.definition().description
    }

    #[getter]
    fn version(&self) -> &str {
        self.inner.version()
    }

    #[getter]
    fn tags(&self) -> BTreeMap<String, String> {
        self.inner.definition().tags.clone()
    }

    /// The short ids of the tasks, in the order of their declaration.
    #[getter]
    fn tasks(&self) -> Vec<&str> {
        self.inner
            .definition()
            .tasks
            .iter()
            .map(|task| task.id.as_str())
            .collect()
    }

    /// The short ids of each task's dependencies, by the task's short id.
    #[getter]
    fn dependencies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for (ordinal, task) in (0..).zip(&self.inner.definition().tasks) {
            all.set_item(&task.id, self.dependencies_of(ordinal))?;
        }
        Ok(all)
    }

    /// The JSON schema of the input, or `None`.
    #[getter]
    fn input_schema<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let schema = self.inner.definition().input.as_ref();
        schema.map(|schema| decode(py, schema)).transpose()
    }

    /// The key of the output value, a tuple of keys if the output has several values, or `None` if there is no output.
    #[getter]
    fn output<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        output_keys(py, &self.inner)
    }

    /// The names of the signals that cancel executions of this workflow.
    #[getter]
    fn cancel_signals(&self) -> Vec<&str> {
        let conditions = self.inner.definition().cancel_on.iter();
        conditions
            .filter_map(|condition| match condition {
                Condition::Signal { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The context key under which the result of each value task is stored, by the task's short id.
    #[getter]
    fn results(&self) -> BTreeMap<&str, &str> {
        result_keys(&self.inner)
    }

    /// The parameters of each typed task, as stored in the definition, by the task's short id.
    #[getter]
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for task in &self.inner.definition().tasks {
            if !task.parameters.is_empty() {
                let parameters = Json::encode(&task.parameters)
                    .map_err(|error| PyValueError::new_err(error.to_string()))?;
                all.set_item(&task.id, decode(py, &parameters)?)?;
            }
        }
        Ok(all)
    }

    /// Returns the full names of the tasks in an order in which each task comes after its dependencies.
    fn topological_sort(&self) -> Vec<String> {
        self.full_names(self.inner.graph().order().iter().copied())
    }

    /// Returns the full names of the tasks, grouped by the length of the longest path from a root.
    fn get_execution_levels(&self) -> Vec<Vec<String>> {
        let graph = self.inner.graph();
        let mut levels: Vec<Vec<String>> = Vec::new();
        for task in graph.order() {
            let level = graph.level(*task) as usize;
            if levels.len() <= level {
                levels.resize_with(level + 1, Vec::new);
            }
            levels[level].push(self.inner.full_name(self.id(*task)));
        }
        levels
    }

    /// Returns the full names of the tasks without dependencies.
    fn get_roots(&self) -> Vec<String> {
        self.full_names(self.inner.graph().roots())
    }

    /// Returns the full names of the tasks that no task depends on.
    fn get_leaves(&self) -> Vec<String> {
        self.full_names(self.inner.graph().leaves())
    }

    /// Returns whether two tasks can run in parallel: neither depends on the other, directly or indirectly. Takes short ids
    /// and full names.
    fn can_run_parallel(&self, py: Python<'_>, a: &str, b: &str) -> PyResult<bool> {
        let (a, b) = (self.ordinal(a).raise(py)?, self.ordinal(b).raise(py)?);
        let graph = self.inner.graph();
        Ok(a != b && !graph.is_ancestor(a, b) && !graph.is_ancestor(b, a))
    }

    /// Does nothing: every `Workflow` is valid.
    #[expect(clippy::unused_self, reason = "a method of the established interface")]
    const fn validate(&self) {}

    fn to_mermaid(&self) -> String {
        to_mermaid(&self.inner)
    }

    fn to_dot(&self) -> String {
        to_dot(&self.inner)
    }

    fn __repr__(&self) -> String {
        let (name, version) = (self.inner.name(), self.inner.version());
        format!(
            "<Workflow '{name}' version {version}, tasks: {}>",
            self.inner.len()
        )
    }
}
