//! A runner's metrics in the Prometheus text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::EngineHandle;
use crate::runtime::{
    Counters, Executor, Histogram, Metrics, SIZE_BOUNDS, TIME_BOUNDS, TaskCounters, Times,
};
use crate::types::{Error, WaitKind};

/// Maximum count of unclaimed ready tasks, and of open waits of one kind, in the database. Counting stops at this number.
const BACKLOG_LIMIT: usize = 100_000;

/// The text of the metrics. Each metric family consists of a header and samples.
struct MetricsText {
    text: String,
}

impl MetricsText {
    // Writing to a String cannot fail.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = writeln!(self.text, "{name}{} {value}", labelled(labels, None));
    }

    fn count(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let _ = writeln!(self.text, "{name}{} {value}", labelled(labels, None));
    }

    /// Writes a histogram. `unit`: the number of observed units in one exposed unit, e.g. 1e6 if microseconds are observed
    /// and seconds are exposed.
    fn histogram<const N: usize>(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds: &[i64; N],
        unit: f64,
        histogram: &Histogram<N>,
    ) {
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(histogram.buckets) {
            below += count;
            let bound = (as_float(*bound) / unit).to_string();
            let labels = labelled(labels, Some(&bound));
            let _ = writeln!(self.text, "{name}_bucket{labels} {below}");
        }
        let all = labelled(labels, Some("+Inf"));
        let _ = writeln!(self.text, "{name}_bucket{all} {}", histogram.count);
        let plain = labelled(labels, None);
        let sum = as_float(histogram.sum) / unit;
        let _ = writeln!(self.text, "{name}_sum{plain} {sum}");
        let _ = writeln!(self.text, "{name}_count{plain} {}", histogram.count);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "values of up to 285 years in microseconds are exact"
)]
const fn as_float(value: i64) -> f64 {
    value as f64
}

fn labelled(labels: &[(&str, &str)], bound: Option<&str>) -> String {
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    pairs.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

/// The counters, by the names of workflows and tasks. All versions of a workflow share one series, and so do all versions of
/// a task.
#[derive(Default)]
struct ByName {
    submitted: BTreeMap<String, u64>,
    ended: BTreeMap<(String, &'static str), u64>,
    durations: BTreeMap<String, Times>,
    tasks: BTreeMap<(String, String), TaskCounters>,
}

impl ByName {
    fn of(counters: &Counters) -> Self {
        let mut names = Self::default();
        for (name, counted) in &counters.workflows {
            names.submitted.insert(name.clone(), counted.submitted);
            let statuses = ["Completed", "Failed", "Cancelled"];
            let ended = statuses.into_iter().zip(counted.ended);
            let ended = ended.map(|(status, count)| ((name.clone(), status), count));
            names.ended.extend(ended);
            let durations = counted.duration.clone();
            names.durations.insert(name.clone(), durations);
            let tasks = counted.tasks.iter();
            let tasks = tasks.map(|(id, task)| ((name.clone(), id.clone()), task.clone()));
            names.tasks.extend(tasks);
        }
        names
    }
}

pub(super) fn expose(engine: &EngineHandle, metrics: &Metrics) -> String {
    let counters = metrics.snapshot();
    let mut page = MetricsText {
        text: String::with_capacity(8192),
    };
    runner(&mut page, engine, metrics);
    let names = ByName::of(&counters);
    executions(&mut page, &names);
    tasks(&mut page, &names);
    maps(&mut page, engine, metrics);
    writes(&mut page, &counters);
    page.text
}

fn runner(page: &mut MetricsText, engine: &EngineHandle, metrics: &Metrics) {
    let gauge = "gauge";
    page.family("cloaca_runner_up", gauge, "Whether the runner is running.");
    page.count("cloaca_runner_up", &[], u64::from(!engine.is_closed()));
    let name = "cloaca_runner_start_time_seconds";
    page.family(
        name,
        gauge,
        "Start time of the runner, in seconds since the Unix epoch.",
    );
    page.sample(name, &[], as_float(engine.started_at().0) / 1e6);
    let name = "cloaca_database_up";
    page.family(
        name,
        gauge,
        "Whether the database accepts this runner's writes.",
    );
    page.count(name, &[], u64::from(metrics.is_database_up()));
    let loads = Executor::ALL.map(|executor| {
        let name = match executor {
            Executor::Threads => "threads",
            Executor::Loop => "loop",
            Executor::Futures => "futures",
        };
        (name, engine.queues().of(executor).load())
    });
    let name = "cloaca_tasks_running";
    page.family(name, gauge, "Tasks that are running in this runner.");
    for (executor, (running, _)) in loads {
        page.count(name, &[("executor", executor)], running as u64);
    }
    let name = "cloaca_queue_depth";
    page.family(
        name,
        gauge,
        "Tasks that this runner has claimed and that wait for a free worker.",
    );
    for (executor, (_, waiting)) in loads {
        page.count(name, &[("executor", executor)], waiting as u64);
    }
    // The samples of the backlog and of the open waits are read from the database, and omitted if it does not answer.
    if let Ok(backlog) = engine.inspector().backlog(BACKLOG_LIMIT) {
        let name = "cloaca_backlog_tasks";
        page.family(
            name,
            gauge,
            "Ready tasks in the database that no runner has claimed, counted up to 100000.",
        );
        page.count(name, &[], backlog as u64);
    }
    let counts = WaitKind::ALL.iter().map(|kind| {
        let count = engine.inspector().count_waits(*kind, BACKLOG_LIMIT)?;
        Ok((kind.name(), count))
    });
    if let Ok(counts) = counts.collect::<Result<Vec<_>, Error>>() {
        let name = "cloaca_open_waits";
        let help = "Open waits in the database, each kind counted up to 100000.";
        page.family(name, gauge, help);
        for (kind, count) in counts {
            page.count(name, &[("kind", kind)], count as u64);
        }
    }
}

fn executions(page: &mut MetricsText, names: &ByName) {
    let name = "cloaca_executions_submitted_total";
    page.family(
        name,
        "counter",
        "Executions submitted through this runner, including children. Final tasks count as workflow `NAME~final`.",
    );
    for (workflow, count) in &names.submitted {
        page.count(name, &[("workflow", workflow)], *count);
    }
    let name = "cloaca_executions_ended_total";
    page.family(name, "counter", "Executions that this runner ended.");
    for ((workflow, status), count) in &names.ended {
        page.count(name, &[("workflow", workflow), ("status", status)], *count);
    }
    let name = "cloaca_execution_duration_seconds";
    page.family(
        name,
        "histogram",
        "Duration of executions, from the start of the first task to the end.",
    );
    for (workflow, times) in &names.durations {
        page.histogram(name, &[("workflow", workflow)], &TIME_BOUNDS, 1e6, times);
    }
}

/// A counter of tasks: its name, its help text, and the function that reads it.
type TaskCounter = (&'static str, &'static str, fn(&TaskCounters) -> u64);
/// A histogram of tasks: its name, its help text, and the function that reads it.
type TaskTimes = (&'static str, &'static str, fn(&TaskCounters) -> &Times);

const TASK_COUNTERS: [TaskCounter; 4] = [
    (
        "cloaca_tasks_started_total",
        "Attempts that workers of this runner started.",
        |task| task.started,
    ),
    (
        "cloaca_tasks_completed_total",
        "Attempts that completed their task.",
        |task| task.completed,
    ),
    (
        "cloaca_tasks_failed_total",
        "Attempts that failed and are not retried.",
        |task| task.failed,
    ),
    (
        "cloaca_tasks_retried_total",
        "Attempts that failed and are retried.",
        |task| task.retried,
    ),
];

const TASK_TIMES: [TaskTimes; 2] = [
    (
        "cloaca_task_duration_seconds",
        "Duration of attempts.",
        |task| &task.duration,
    ),
    (
        "cloaca_task_wait_seconds",
        "Time from when a task became ready to the start of its first attempt.",
        |task| &task.wait,
    ),
];

fn tasks(page: &mut MetricsText, names: &ByName) {
    for (name, help, read) in TASK_COUNTERS {
        page.family(name, "counter", help);
        for ((workflow, task), counters) in &names.tasks {
            page.count(
                name,
                &[("workflow", workflow), ("task", task)],
                read(counters),
            );
        }
    }
    for (name, help, read) in TASK_TIMES {
        page.family(name, "histogram", help);
        for ((workflow, task), counters) in &names.tasks {
            let labels = [("workflow", workflow.as_str()), ("task", task.as_str())];
            page.histogram(name, &labels, &TIME_BOUNDS, 1e6, read(counters));
        }
    }
}

/// K12: writes the counts of the maps that this runner takes part in. The counts are read from the rows of the maps.
fn maps(page: &mut MetricsText, engine: &EngineHandle, metrics: &Metrics) {
    // These samples are omitted if the database does not answer.
    let Ok(states) = engine.inspector().map_states(&metrics.maps()) else {
        return;
    };
    let name = "cloaca_map_items";
    page.family(
        name,
        "gauge",
        "Items, by state, of the open maps that this runner takes part in. Items of all runners are counted.",
    );
    for ((workflow, task), counts) in &states {
        for (state, count) in counts {
            let labels = [
                ("workflow", workflow.as_str()),
                ("task", task.as_str()),
                ("state", state.name()),
            ];
            page.count(name, &labels, *count);
        }
    }
}

fn writes(page: &mut MetricsText, counters: &Counters) {
    let name = "cloaca_commit_batch_size";
    page.family(
        name,
        "histogram",
        "Number of executions written in one commit.",
    );
    page.histogram(name, &[], &SIZE_BOUNDS, 1.0, &counters.batch);
    let name = "cloaca_commit_duration_seconds";
    page.family(name, "histogram", "Duration of commits.");
    page.histogram(name, &[], &TIME_BOUNDS, 1e6, &counters.commit);
    let runner = [
        (
            "cloaca_tasks_rescued_total",
            "Tasks that this runner rescued from dead runners.",
            counters.rescued,
        ),
        (
            "cloaca_results_dropped_total",
            "Results that were dropped because their claim was lost to a timeout, a cancel or a rescue.",
            counters.dropped,
        ),
        (
            "cloaca_signals_sent_total",
            "Signals that programs sent through this runner.",
            counters.signals,
        ),
    ];
    for (name, help, count) in runner {
        page.family(name, "counter", help);
        page.count(name, &[], count);
    }
}
