//! `Workflow`: a valid definition, to look at and to register.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runner::{to_dot, to_mermaid};
use cloacina::types::{Error, ErrorCode, Ordinal, nearest};
use cloacina::workflow::{self, WorkflowDefinition};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::Raise;

/// A valid workflow definition.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Workflow {
    inner: Arc<workflow::Workflow>,
}

impl Workflow {
    /// A workflow of the engine.
    pub const fn new(inner: Arc<workflow::Workflow>) -> Self {
        Self { inner }
    }

    /// The engine's value.
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

    /// What a task waits for, in the order of its declaration; tasks that its rule names come last.
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
            format!("the workflow definition cannot be read: {error}"),
        )
    })?;
    workflow::Workflow::new(definition)
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

    /// Short ids, in the order of their declaration.
    #[getter]
    fn tasks(&self) -> Vec<&str> {
        self.inner
            .definition()
            .tasks
            .iter()
            .map(|task| task.id.as_str())
            .collect()
    }

    /// Per task, by short id: the short ids of what it waits for.
    #[getter]
    fn dependencies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for (ordinal, task) in (0..).zip(&self.inner.definition().tasks) {
            all.set_item(&task.id, self.dependencies_of(ordinal))?;
        }
        Ok(all)
    }

    /// Full names in an order in which no task comes before what it waits for.
    fn topological_sort(&self) -> Vec<String> {
        self.full_names(self.inner.graph().order().iter().copied())
    }

    /// Full names, grouped by the longest path from a root.
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

    /// Full names of the tasks that wait for nothing.
    fn get_roots(&self) -> Vec<String> {
        self.full_names(self.inner.graph().roots())
    }

    /// Full names of the tasks that nothing waits for.
    fn get_leaves(&self) -> Vec<String> {
        self.full_names(self.inner.graph().leaves())
    }

    /// Whether neither of two tasks waits for the other, directly or not. Takes short ids and full names.
    fn can_run_parallel(&self, py: Python<'_>, a: &str, b: &str) -> PyResult<bool> {
        let (a, b) = (self.ordinal(a).raise(py)?, self.ordinal(b).raise(py)?);
        let graph = self.inner.graph();
        Ok(a != b && !graph.is_ancestor(a, b) && !graph.is_ancestor(b, a))
    }

    /// Does nothing: a workflow that could be built is valid.
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
