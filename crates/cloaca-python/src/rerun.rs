//! `RerunRequest`: the request to submit a copy of an earlier execution, with changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runner::{Rerun, RerunVersion};
use cloacina::types::{Audit, ExecutionId, Labels};
use pyo3::prelude::*;

use crate::context::Context;
use crate::errors::Raise;
use crate::requests;

/// The request to submit a copy of an earlier execution.
#[pyclass(frozen, module = "cloaca._core")]
pub struct RerunRequest {
    id: ExecutionId,
    rerun: Rerun,
}

#[pymethods]
impl RerunRequest {
    /// `input` and `labels` default to those of the earlier execution. With `latest`, the copy runs the latest stored version
    /// of the workflow instead of the earlier execution's version.
    #[new]
    #[pyo3(signature = (execution_id, input=None, latest=false, labels=None, actor=None, note=None))]
    pub fn new(
        py: Python<'_>,
        execution_id: &str,
        input: Option<&Bound<'_, Context>>,
        latest: bool,
        labels: Option<BTreeMap<String, String>>,
        actor: Option<String>,
        note: Option<String>,
    ) -> PyResult<Self> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let input = input.map(|input| input.get().snapshot(py)).transpose()?;
        let version = if latest {
            RerunVersion::Latest
        } else {
            RerunVersion::Original
        };
        let rerun = Rerun {
            input: input.map(Arc::unwrap_or_clone),
            version,
            labels: labels.map(Labels::new).transpose().raise(py)?,
            audit: Audit { actor, note },
        };
        Ok(Self { id, rerun })
    }
}

impl RerunRequest {
    /// Returns the earlier execution's id, and the changes.
    pub fn parts(&self) -> (ExecutionId, Rerun) {
        (self.id, self.rerun.clone())
    }
}
