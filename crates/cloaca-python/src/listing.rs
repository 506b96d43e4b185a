//! `ListFilter`: the conditions of a listing of executions.

use cloacina::runner;
use cloacina::types::{Error, ExecutionId, ExecutionStatus, RunnerId, Timestamp, nearest};
use pyo3::prelude::*;

use crate::errors::Raise;
use crate::requests::{execution_id, invalid, schedule_id};

/// The prefix of a cursor that leads to a previous page, whose executions are newer.
const NEWER: &str = "newer-than:";

/// The conditions that an execution must meet to be listed.
#[pyclass(frozen, module = "cloaca._core")]
pub struct ListFilter {
    filter: runner::ListFilter,
}

#[pymethods]
impl ListFilter {
    #[new]
    #[pyo3(signature = (
        *, workflows=Vec::new(), versions=Vec::new(), statuses=Vec::new(), not_statuses=Vec::new(), tags=Vec::new(),
        labels=Vec::new(), keys=None, id_prefix=None, error=None, inputs=Vec::new(), schedule=None, runner=None,
        since_us=None, until_us=None, children=false, parent=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "PyO3 passes arguments by value"
    )]
    fn new(
        py: Python<'_>,
        workflows: Vec<String>,
        versions: Vec<String>,
        statuses: Vec<String>,
        not_statuses: Vec<String>,
        tags: Vec<(String, String)>,
        labels: Vec<(String, String)>,
        keys: Option<Vec<String>>,
        id_prefix: Option<String>,
        error: Option<String>,
        inputs: Vec<(String, String)>,
        schedule: Option<&str>,
        runner: Option<&str>,
        since_us: Option<i64>,
        until_us: Option<i64>,
        children: bool,
        parent: Option<&str>,
    ) -> PyResult<Self> {
        let states = |names: &[String]| {
            let states = names.iter().map(|name| status(name));
            states.collect::<Result<Vec<_>, _>>().raise(py)
        };
        Ok(Self {
            filter: runner::ListFilter {
                workflows,
                versions,
                statuses: states(&statuses)?,
                not_statuses: states(&not_statuses)?,
                tags,
                labels,
                keys,
                id_prefix,
                error,
                inputs,
                schedule: schedule.map(schedule_id).transpose().raise(py)?,
                runner: runner.map(runner_id).transpose().raise(py)?,
                since: since_us.map(Timestamp),
                until: until_us.map(Timestamp),
                children,
                parent: parent.map(execution_id).transpose().raise(py)?,
                ..runner::ListFilter::default()
            },
        })
    }
}

impl ListFilter {
    /// Returns the engine's filter for one page of the listing.
    pub fn page(&self, limit: usize, cursor: Option<&str>) -> Result<runner::ListFilter, Error> {
        let newer = cursor.and_then(|cursor| cursor.strip_prefix(NEWER));
        let older = cursor.filter(|_| newer.is_none());
        Ok(runner::ListFilter {
            before: older.map(cursor_id).transpose()?,
            after: newer.map(cursor_id).transpose()?,
            limit,
            ..self.filter.clone()
        })
    }
}

/// Returns the cursor of the previous page. `id` is the first execution of the current page.
pub fn previous(id: ExecutionId) -> String {
    format!("{NEWER}{id}")
}

/// Parses a listing's cursor: the id of the execution that the page follows or precedes.
fn cursor_id(text: &str) -> Result<ExecutionId, Error> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        invalid(format!("'{shown}' is not a cursor of a list of executions"))
            .with_hint("pass the `next_cursor` or `prev_cursor` of a page of the list")
    })
}

fn runner_id(text: &str) -> Result<RunnerId, Error> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        invalid(format!("'{shown}' is not the id of a runner"))
            .with_hint("`cloaca runners` lists the runners with their ids")
    })
}

fn status(name: &str) -> Result<ExecutionStatus, Error> {
    name.parse().map_err(|()| {
        let names = ExecutionStatus::ALL.iter().map(|status| status.name());
        let error = invalid(format!("'{name}' is not an execution status"));
        let known = names.clone().collect::<Vec<_>>().join(", ");
        error.with_hint(match nearest(name, names) {
            Some(near) => format!("did you mean '{near}'? A status is one of {known}"),
            None => format!("a status is one of {known}"),
        })
    })
}
