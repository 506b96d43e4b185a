//! Schedules and triggers as dicts.

use cloacina::types::{ScheduleRecord, Timestamp};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::context::Context;

/// Returns a schedule or trigger as a dict. The Python package converts it to the dict that users see.
pub fn schedule_dict(py: Python<'_>, record: ScheduleRecord) -> PyResult<Bound<'_, PyDict>> {
    let row = PyDict::new(py);
    let us = |time: Option<Timestamp>| time.map(|time| time.0);
    row.set_item("id", record.id.to_string())?;
    row.set_item("name", &record.identity)?;
    row.set_item("workflow", &record.workflow)?;
    row.set_item("expression", record.spec.expression)?;
    row.set_item("timezone", record.spec.timezone)?;
    row.set_item("interval_us", record.spec.interval)?;
    row.set_item("instance", record.spec.instance)?;
    row.set_item(
        "input",
        Py::new(py, Context::plain(record.spec.input.into()))?,
    )?;
    row.set_item("enabled", record.enabled)?;
    row.set_item("catchup", record.spec.catchup.name())?;
    row.set_item("max_catchup", record.spec.max_catchup)?;
    row.set_item("overlap", record.spec.overlap.name())?;
    row.set_item("start_us", us(record.spec.start_at))?;
    row.set_item("end_us", us(record.spec.end_at))?;
    row.set_item("jitter_us", record.spec.jitter)?;
    let after = record.spec.after.map(|after| {
        let statuses = after.statuses.iter().map(|status| status.name());
        (after.workflow, statuses.collect::<Vec<_>>())
    });
    row.set_item("after", after)?;
    row.set_item("next_us", us(record.next_due))?;
    row.set_item("last_us", us(record.last_due))?;
    row.set_item("fired_us", us(record.state.last_fired_at))?;
    row.set_item("last_error", record.state.last_error)?;
    row.set_item("created_us", record.created_at.0)?;
    row.set_item("updated_us", record.updated_at.0)?;
    Ok(row)
}
