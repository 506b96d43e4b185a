//! `Schedules`: schedules and triggers of a database, asked by a runner on it or by an inspector.

use cloacina::engine::cron::Cron;
use cloacina::engine::schedule::NewSchedule;
use cloacina::engine::trigger::NewTrigger;
use cloacina::runner::{self, EngineHandle};
use cloacina::types::{
    Error, ErrorCode, Micros, ScheduleId, ScheduleKind, ScheduleRecord, TickRecord, Timestamp,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call;
use crate::context::Context;
use crate::errors::Raise;
use crate::inspector::Inspector;
use crate::process_guard::ProcessGuard;
use crate::runner::Runner;

/// `schedule_id`, `due_us`, outcome, `execution_id`, `created_us`, `updated_us`, detail.
type TickParts = (
    String,
    i64,
    &'static str,
    Option<String>,
    i64,
    i64,
    Option<String>,
);

/// The next fire times of an expression after an instant, with the zone's offsets in seconds.
#[pyfunction]
pub fn cron_preview(
    py: Python<'_>,
    expression: &str,
    timezone: &str,
    count: usize,
    start_us: i64,
) -> PyResult<Vec<(i64, i32)>> {
    let cron = Cron::parse(expression.trim(), timezone).raise(py)?;
    let times = py.detach(|| cron.preview(Timestamp(start_us), count));
    Ok(times
        .into_iter()
        .map(|time| (time.at.0, time.offset_seconds))
        .collect())
}

/// The schedules and triggers of a database.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Schedules {
    place: Place,
}

/// Who asks: a runner, whose coordinator hears of every change at once, or somebody who runs nothing.
#[derive(FromPyObject)]
enum Place {
    #[pyo3(transparent)]
    Runner(Py<Runner>),
    #[pyo3(transparent)]
    Database(Py<Inspector>),
}

fn schedule_id(text: &str) -> Result<ScheduleId, Error> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        Error::new(
            ErrorCode::ScheduleInvalid,
            format!("Invalid schedule ID '{shown}'"),
        )
        .with_hint("it is the UUID that register_cron_workflow returned")
    })
}

fn word<T: std::str::FromStr<Err = ()>>(what: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|()| {
        Error::new(
            ErrorCode::ScheduleInvalid,
            format!("'{text}' is not a {what} rule"),
        )
    })
}

fn described(py: Python<'_>, record: ScheduleRecord) -> PyResult<Bound<'_, PyDict>> {
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
    row.set_item("next_us", us(record.next_due))?;
    row.set_item("last_us", us(record.last_due))?;
    row.set_item("fired_us", us(record.state.last_fired_at))?;
    row.set_item("last_error", record.state.last_error)?;
    row.set_item("created_us", record.created_at.0)?;
    row.set_item("updated_us", record.updated_at.0)?;
    Ok(row)
}

fn tick_parts(tick: TickRecord) -> TickParts {
    (
        tick.schedule.to_string(),
        tick.due_at.0,
        tick.outcome.name(),
        tick.execution.map(|id| id.to_string()),
        tick.created_at.0,
        tick.updated_at.0,
        tick.detail,
    )
}

impl Schedules {
    fn guard(&self) -> ProcessGuard {
        match &self.place {
            Place::Runner(runner) => runner.get().guard(),
            Place::Database(inspector) => inspector.get().guard(),
        }
    }

    fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&runner::Inspector) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let inspector = match &self.place {
            Place::Runner(runner) => runner.get().engine().inspector(),
            Place::Database(inspector) => inspector.get().inner(),
        };
        call::detached(py, self.guard(), || work(inspector))
    }

    fn change<'py>(
        &self,
        py: Python<'py>,
        by_runner: impl FnOnce(&EngineHandle) -> Result<ScheduleRecord, Error> + Send,
        in_database: impl FnOnce(&runner::Inspector) -> Result<ScheduleRecord, Error> + Send,
    ) -> PyResult<Bound<'py, PyDict>> {
        let changed = match &self.place {
            Place::Runner(runner) => {
                let engine = runner.get().engine();
                call::detached(py, self.guard(), || by_runner(engine))
            }
            Place::Database(_) => self.read(py, in_database),
        };
        described(py, changed?)
    }

    /// The runner, for what only a runner can do.
    fn runner(&self) -> PyResult<&Runner> {
        match &self.place {
            Place::Runner(runner) => Ok(runner.get()),
            Place::Database(_) => Err(PyTypeError::new_err("only a runner can register")),
        }
    }
}

#[pymethods]
impl Schedules {
    #[new]
    const fn new(place: Place) -> Self {
        Self { place }
    }

    /// Registers a schedule; its id.
    #[expect(clippy::too_many_arguments, reason = "Python's side names them")]
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
        let new = NewSchedule {
            instance,
            input: input.map_or_else(Default::default, |input| (*input.get().snapshot()).clone()),
            catchup: word("catch-up", catchup).raise(py)?,
            max_catchup,
            overlap: word("overlap", overlap).raise(py)?,
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

    /// Whether a program has stored a definition of a workflow in the database.
    fn is_workflow_stored(&self, py: Python<'_>, workflow: &str) -> PyResult<bool> {
        self.read(py, |database| database.is_workflow_stored(workflow))
    }

    fn list<'py>(
        &self,
        py: Python<'py>,
        enabled_only: bool,
        limit: usize,
        offset: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let records = self.read(py, |database| {
            database.schedules(ScheduleKind::Cron, enabled_only, limit, offset)
        })?;
        records
            .into_iter()
            .map(|record| described(py, record))
            .collect()
    }

    fn get<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Bound<'py, PyDict>> {
        let id = schedule_id(id).raise(py)?;
        described(py, self.read(py, |database| database.schedule(id))?)
    }

    fn update<'py>(
        &self,
        py: Python<'py>,
        id: &str,
        expression: Option<&str>,
        timezone: Option<&str>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let id = schedule_id(id).raise(py)?;
        self.change(
            py,
            |engine| engine.update_schedule(id, expression, timezone),
            |database| database.update_schedule(id, expression, timezone),
        )
    }

    fn set_enabled<'py>(
        &self,
        py: Python<'py>,
        id: &str,
        enabled: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let id = schedule_id(id).raise(py)?;
        self.change(
            py,
            |engine| engine.set_schedule_enabled(id, enabled),
            |database| database.set_schedule_enabled(id, enabled),
        )
    }

    fn delete(&self, py: Python<'_>, id: &str) -> PyResult<()> {
        let id = schedule_id(id).raise(py)?;
        self.change(
            py,
            |engine| engine.delete_schedule(id),
            |database| database.delete_schedule(id),
        )
        .map(drop)
    }

    /// Starts a schedule's workflow now; the execution's id.
    fn run_now(&self, py: Python<'_>, id: &str) -> PyResult<String> {
        let id = schedule_id(id).raise(py)?;
        let execution = match &self.place {
            Place::Runner(runner) => call::answer(py, self.guard(), || {
                runner.get().engine().begin_run_schedule_now(id)
            }),
            Place::Database(_) => self.read(py, |database| database.run_schedule_now(id)),
        };
        Ok(execution?.to_string())
    }

    /// Newest first.
    fn history(
        &self,
        py: Python<'_>,
        id: &str,
        limit: usize,
        offset: usize,
    ) -> PyResult<Vec<TickParts>> {
        let id = schedule_id(id).raise(py)?;
        let ticks = self.read(py, |database| database.schedule_history(id, limit, offset))?;
        Ok(ticks.into_iter().map(tick_parts).collect())
    }

    /// Fired, missed, skipped, overlapped, queued.
    fn counts(&self, py: Python<'_>, since_us: i64) -> PyResult<(u64, u64, u64, u64, u64)> {
        let counts = self.read(py, |database| {
            database.count_ticks(ScheduleKind::Cron, Timestamp(since_us))
        })?;
        Ok((
            counts.fired,
            counts.missed,
            counts.skipped,
            counts.overlapped,
            counts.queued,
        ))
    }

    /// Makes a trigger known, with the number of its function; `poll` events of `Runner.supervise` ask for it.
    #[expect(clippy::too_many_arguments, reason = "Python's side names them")]
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
    ) -> PyResult<String> {
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
        };
        let id = call::answer(py, runner.guard(), || {
            runner.engine().begin_register_trigger(trigger, handler)
        })?;
        Ok(id.to_string())
    }

    fn triggers<'py>(
        &self,
        py: Python<'py>,
        enabled_only: bool,
        limit: usize,
        offset: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let records = self.read(py, |database| {
            database.schedules(ScheduleKind::Trigger, enabled_only, limit, offset)
        })?;
        records
            .into_iter()
            .map(|record| described(py, record))
            .collect()
    }

    fn trigger<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = self.read(py, |database| database.trigger(name))?;
        found.map(|record| described(py, record)).transpose()
    }

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
