//! `Schedules`: registers and changes schedules and triggers. `Reads` reads them.

use cloacina::engine::cron::Cron;
use cloacina::engine::schedule::NewSchedule;
use cloacina::engine::trigger::NewTrigger;
use cloacina::runner::{self, EngineHandle};
use cloacina::types::{After, Error, ErrorCode, Micros, ScheduleRecord, Timestamp};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call;
use crate::context::Context;
use crate::errors::Raise;
use crate::inspector::Inspector;
use crate::process_guard::ProcessGuard;
use crate::records::FireTime;
use crate::requests;
use crate::runner::Runner;
use crate::schedule_dict::schedule_dict;

/// Returns the next times at which a cron expression fires after `start_us`.
#[pyfunction]
pub fn cron_preview(
    py: Python<'_>,
    expression: &str,
    timezone: &str,
    count: usize,
    start_us: i64,
) -> PyResult<Vec<FireTime>> {
    let cron = Cron::parse(expression.trim(), timezone).raise(py)?;
    let times = py.detach(|| cron.preview(Timestamp(start_us), count));
    let times = times.into_iter().map(|time| FireTime {
        at_us: time.at.0,
        offset_seconds: time.offset_seconds,
    });
    Ok(times.collect())
}

/// Registers and changes the schedules and triggers of a database.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Schedules {
    target: Target,
}

/// The object that makes changes: a runner, whose coordinator notices the changes at once, or an inspector of the database.
#[derive(FromPyObject)]
enum Target {
    #[pyo3(transparent)]
    Runner(Py<Runner>),
    #[pyo3(transparent)]
    Database(Py<Inspector>),
}

/// Parses the name of a catch-up rule or an overlap rule. `what` names the kind of rule in the error.
fn rule<T: std::str::FromStr<Err = ()>>(what: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|()| {
        Error::new(
            ErrorCode::ScheduleInvalid,
            format!("'{text}' is not a {what} rule"),
        )
    })
}

impl Schedules {
    fn guard(&self) -> ProcessGuard {
        match &self.target {
            Target::Runner(runner) => runner.get().guard(),
            Target::Database(inspector) => inspector.get().database().guard(),
        }
    }

    /// Makes a change through the runner, or directly in the database.
    fn change<'py>(
        &self,
        py: Python<'py>,
        by_runner: impl FnOnce(&EngineHandle) -> Result<ScheduleRecord, Error> + Send,
        in_database: impl FnOnce(&runner::Inspector) -> Result<ScheduleRecord, Error> + Send,
    ) -> PyResult<Bound<'py, PyDict>> {
        let changed = match &self.target {
            Target::Runner(runner) => {
                let engine = runner.get().engine();
                call::detached(py, self.guard(), || by_runner(engine))
            }
            Target::Database(inspector) => {
                let database = inspector.get().database();
                call::detached(py, self.guard(), || in_database(database))
            }
        };
        schedule_dict(py, changed?)
    }

    /// Returns the runner, or raises `TypeError` if an inspector makes the changes.
    fn runner(&self) -> PyResult<&Runner> {
        match &self.target {
            Target::Runner(runner) => Ok(runner.get()),
            Target::Database(_) => Err(PyTypeError::new_err(
                "an inspector cannot register schedules or triggers: use a runner",
            )),
        }
    }
}

#[pymethods]
impl Schedules {
    /// Takes a runner or an inspector. Only a runner can register schedules and triggers.
    #[new]
    const fn new(target: Target) -> Self {
        Self { target }
    }

    /// Registers a schedule; returns its id.
    #[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
    fn register(
        &self,
        py: Python<'_>,
        workflow: String,
        expression: String,
        timezone: String,
        instance: Option<String>,
        input: Option<Bound<'_, Context>>,
        catchup: &str,
        max_catchup: Option<u32>,
        overlap: &str,
        start_us: Option<i64>,
        end_us: Option<i64>,
        jitter_us: Micros,
        enabled: bool,
    ) -> PyResult<String> {
        let input = input.map(|input| input.get().snapshot(py)).transpose()?;
        let new = NewSchedule {
            instance,
            input: input.map(|input| (*input).clone()).unwrap_or_default(),
            catchup: rule("catch-up", catchup).raise(py)?,
            max_catchup,
            overlap: rule("overlap", overlap).raise(py)?,
            start_at: start_us.map(Timestamp),
            end_at: end_us.map(Timestamp),
            jitter: jitter_us,
            enabled,
            ..NewSchedule::new(workflow, expression, timezone)
        };
        let engine = self.runner()?.engine();
        let record = call::detached(py, self.guard(), || engine.register_schedule(&new))?;
        Ok(record.id.to_string())
    }

    /// Changes the expression, the time zone or both of a schedule; returns the schedule.
    fn update<'py>(
        &self,
        py: Python<'py>,
        id: &str,
        expression: Option<&str>,
        timezone: Option<&str>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let id = requests::schedule_id(id).raise(py)?;
        self.change(
            py,
            |engine| engine.update_schedule(id, expression, timezone),
            |database| database.update_schedule(id, expression, timezone),
        )
    }

    /// Enables or disables a schedule; returns the schedule.
    fn set_enabled<'py>(
        &self,
        py: Python<'py>,
        id: &str,
        enabled: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let id = requests::schedule_id(id).raise(py)?;
        self.change(
            py,
            |engine| engine.set_schedule_enabled(id, enabled),
            |database| database.set_schedule_enabled(id, enabled),
        )
    }

    /// Deletes a schedule. Its history stays.
    fn delete(&self, py: Python<'_>, id: &str) -> PyResult<()> {
        let id = requests::schedule_id(id).raise(py)?;
        self.change(
            py,
            |engine| engine.delete_schedule(id),
            |database| database.delete_schedule(id),
        )
        .map(drop)
    }

    /// Starts a schedule's workflow now; returns the id of the execution.
    fn run_now(&self, py: Python<'_>, id: &str) -> PyResult<String> {
        let id = requests::schedule_id(id).raise(py)?;
        let execution = match &self.target {
            Target::Runner(runner) => call::answer(py, self.guard(), || {
                runner.get().engine().begin_run_schedule_now(id)
            }),
            Target::Database(inspector) => {
                let database = inspector.get().database();
                call::detached(py, self.guard(), || database.run_schedule_now(id))
            }
        };
        Ok(execution?.to_string())
    }

    /// Registers a trigger with the number of its function; returns the trigger's id. `Runner.supervise` returns a `Poll` when
    /// the function must be called.
    #[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
    fn register_trigger(
        &self,
        py: Python<'_>,
        name: String,
        workflow: String,
        interval_us: Option<Micros>,
        expression: Option<String>,
        timezone: String,
        allow_concurrent: bool,
        handler: u64,
        is_async: bool,
        after: Option<(String, Vec<String>)>,
    ) -> PyResult<String> {
        let after = after.map(|(workflow, statuses)| {
            let statuses = statuses.iter().map(|status| {
                status.parse().map_err(|()| {
                    PyValueError::new_err(format!("'{status}' is not an execution status"))
                })
            });
            Ok::<_, PyErr>(After {
                workflow,
                statuses: statuses.collect::<PyResult<_>>()?,
            })
        });
        let after = after.transpose()?;
        let runner = self.runner()?;
        if is_async {
            runner.want_loop();
        }
        let trigger = NewTrigger {
            name,
            workflow,
            interval: interval_us,
            expression,
            timezone,
            allow_concurrent,
            after,
        };
        let id = call::answer(py, runner.guard(), || {
            runner.engine().begin_register_trigger(trigger, handler)
        })?;
        Ok(id.to_string())
    }

    /// Enables or disables a trigger; returns the trigger.
    fn set_trigger_enabled<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        enabled: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.change(
            py,
            |engine| engine.set_trigger_enabled(name, enabled),
            |database| database.set_trigger_enabled(name, enabled),
        )
    }
}
