//! A run that makes every store request: it retires a dead runner, runs executions, prunes, fires schedules, and reads the
//! results.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloacina::engine::schedule::NewSchedule;
use cloacina::engine::trigger::NewTrigger;
use cloacina::runner::{EngineHandle, ListFilter, OpenOptions};
use cloacina::runtime::{OneShot, RunnerConfig, SubmitRequest};
use cloacina::store::Store;
use cloacina::store::failpoint::{FailpointStore, Failpoints};
use cloacina::types::{
    After, Context, Error, ErrorCode, ExecutionId, ExecutionStatus, Labels, ScheduleId,
    ScheduleKind, SystemClock, TickOutcome, Timestamp, WaitKind,
};

use super::database::{Database, open};
use super::earlier_data::{MISSED, TICKS, store_earlier_data};
use super::families::{Family, run_a_family};
use super::maps::{Items, map_a_task};
use super::overview::{Overview, overview};
use super::time::{PATIENCE, until};
use super::waits::{WaitsEnd, wait_for_signals};
use super::workflows::{registration, workflows};

/// The final state of a run. It must not depend on the failures during the run.
#[derive(Debug, PartialEq, Eq)]
pub struct FinalState {
    status: ExecutionStatus,
    tasks: Vec<String>,
    context: String,
    /// The names of the workflows of all executions, sorted.
    executions: Vec<String>,
    /// The schedules and triggers, and whether they are enabled.
    schedules: Vec<(String, bool)>,
    /// The outcome of each missed tick, and the state of the execution that it started.
    ticks: Vec<(TickOutcome, ExecutionStatus)>,
    /// The number of fired ticks of cron schedules.
    fired: u64,
    progress: Vec<String>,
    /// The task and the key of each recorded step.
    steps: Vec<(String, String)>,
    /// The log lines. This is a set, because a line is written twice if the answer to the first write is lost.
    logs: BTreeSet<String>,
    /// The problems that the check of the database found.
    problems: Vec<String>,
    /// The items of the maps.
    items: Items,
    /// The result of `run_a_family`; `None` until `run` has set it.
    family: Option<Family>,
    /// The result of `wait_for_signals`; `None` until `run` has set it.
    waits: Option<WaitsEnd>,
    overview: Overview,
}

/// Runs the scenario once in a fresh database and returns the final state.
pub fn run_in_fresh_database(database: &Database, points: Arc<dyn Failpoints>) -> FinalState {
    let name = database.name();
    store_earlier_data(&*open(&name));
    run(&name, points)
}

/// Runs the scenario, or continues it after a crash. Returns the final state.
pub fn run(name: &str, points: Arc<dyn Failpoints>) -> FinalState {
    let store: Arc<dyn Store> = Arc::new(FailpointStore::new(open(name), points));
    let engine = start(&store);
    let observer: Arc<dyn Store> = open(name);
    for workflow in workflows() {
        retry(|| engine.register(registration(&engine, &workflow, &observer)));
    }
    let follower = follow(&engine);
    let id = execute(&engine);
    let waits = wait_for_signals(&engine, &*store, &*observer);
    let items = map_a_task(&engine, &*store);
    let family = run_a_family(&engine);
    add_schedules(&engine);
    until("the trigger has fired", || has_fired(&engine, follower));
    wait_for_periodic_work(&engine, &store);
    let end = FinalState {
        items,
        family: Some(family),
        waits: Some(waits),
        ..inspect(&engine, id)
    };
    engine.stop(Duration::from_secs(5));
    end
}

fn start(store: &Arc<dyn Store>) -> EngineHandle {
    let config = RunnerConfig {
        poll_interval: Duration::from_millis(10),
        heartbeat_interval: Duration::from_millis(20),
        lease_ttl: Duration::from_secs(5),
        ..RunnerConfig::default()
    };
    retry(|| {
        let options = OpenOptions {
            begin: cloacina::runner::Begin::AtOnce,
            config: config.clone(),
            ..OpenOptions::default()
        };
        EngineHandle::start(Arc::clone(store), Arc::new(SystemClock), options)
    })
}

/// Repeats `attempt` until it succeeds.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Submits an execution of the workflow `life` and waits for its end.
fn execute(engine: &EngineHandle) -> ExecutionId {
    let id = submit_once(engine, "life", "only");
    end_of(engine, id);
    id
}

/// Submits an execution under a key, so that a repeated request does not submit a second execution.
pub fn submit_once(engine: &EngineHandle, workflow: &str, key: &str) -> ExecutionId {
    let request = || SubmitRequest {
        id: ExecutionId::generate(),
        workflow: workflow.into(),
        input: Arc::new(Context::new()),
        key: Some(key.into()),
        priority: 0,
        start_at: None,
        timeout: Some(3_600_000_000),
        labels: Labels::default(),
        trace: None,
    };
    retry(|| engine.submit(vec![request()]))[0]
}

/// Waits for the end of an execution.
pub fn end_of(engine: &EngineHandle, id: ExecutionId) {
    let ended = OneShot::default();
    retry(|| {
        let slot = ended.clone();
        let is_first = AtomicBool::new(true);
        engine.when_ended(id, move |result| {
            if is_first.swap(false, Ordering::SeqCst) {
                slot.set(result);
            }
        })
    });
    ended.wait(PATIENCE).expect("the execution ends").unwrap();
}

/// Registers a trigger that starts `ticked` after the end of `life`.
fn follow(engine: &EngineHandle) -> ScheduleId {
    retry(|| {
        let trigger = NewTrigger {
            name: "follow".into(),
            workflow: "ticked".into(),
            interval: None,
            expression: None,
            timezone: "UTC".into(),
            allow_concurrent: true,
            after: Some(After {
                workflow: "life".into(),
                statuses: vec![ExecutionStatus::Completed, ExecutionStatus::Failed],
            }),
        };
        let answer = engine.begin_register_follower(trigger);
        answer.wait(PATIENCE).expect("the runner answers")
    })
}

/// Returns whether the trigger has started its execution and this execution has ended.
fn has_fired(engine: &EngineHandle, trigger: ScheduleId) -> bool {
    let ticks = retry(|| engine.inspector().schedule_history(trigger, 10, 0));
    // If a request fails, a failed tick without an execution is recorded, and the runner handles the end of `life`
    // again.
    let mut started = ticks.iter().filter_map(|tick| tick.execution);
    let (started, second) = (started.next(), started.next());
    assert_eq!(second, None, "{ticks:?}");
    started.is_some_and(|id| retry(|| engine.inspector().status(id)).is_terminal())
}

/// Registers, changes and deletes a schedule, and registers a trigger.
fn add_schedules(engine: &EngineHandle) {
    let yearly = NewSchedule::new("ticked", "0 0 1 1 *", "UTC");
    let schedule = retry(|| engine.register_schedule(&yearly)).id;
    retry(|| engine.update_schedule(schedule, None, Some("UTC")));
    retry(|| engine.set_schedule_enabled(schedule, false));
    assert!(!retry(|| engine.inspector().schedule(schedule)).enabled);
    retry(|| match engine.delete_schedule(schedule) {
        // An earlier attempt deleted the schedule, but the answer was lost.
        Err(error) if error.code == ErrorCode::ScheduleNotFound => Ok(()),
        other => other.map(drop),
    });
    retry(|| {
        let trigger = NewTrigger {
            name: "watch".into(),
            workflow: "ticked".into(),
            interval: Some(3_600_000_000),
            expression: None,
            timezone: "UTC".into(),
            allow_concurrent: false,
            after: None,
        };
        let answer = engine.begin_register_trigger(trigger, 1);
        answer.wait(PATIENCE).expect("the runner answers")
    });
    assert!(retry(|| engine.inspector().trigger("watch")).is_some());
}

/// Waits for periodic work, because a fast run ends before this work is due.
fn wait_for_periodic_work(engine: &EngineHandle, store: &Arc<dyn Store>) {
    until("the old execution is pruned", || {
        !executions(engine).contains(&"old".to_owned())
    });
    // A runner announces a workflow's final tasks as a second workflow.
    let all = workflows().into_iter();
    let announced: usize = all
        .map(|workflow| 1 + usize::from(workflow.finals().is_some()))
        .sum();
    until(
        "the dead runner is retired and the live runner is announced",
        || {
            let runners = retry(|| engine.inspector().runners());
            runners.len() == 1 && runners[0].workflows.len() == announced
        },
    );
    until("the executions of the missed ticks have ended", || {
        let ticks = ticks(engine);
        ticks.len() == TICKS && ticks.iter().all(|(_, status)| status.is_terminal())
    });
    for _ in 0..2 {
        let last = last_heartbeat(store);
        until("a heartbeat is written", || last_heartbeat(store) > last);
    }
}

fn last_heartbeat(store: &Arc<dyn Store>) -> Option<Timestamp> {
    let runners = retry(|| Ok(store.runners()?));
    runners.iter().map(|runner| runner.heartbeat_at).max()
}

fn executions(engine: &EngineHandle) -> Vec<String> {
    let page = retry(|| {
        engine.inspector().list(&ListFilter {
            limit: 20,
            ..ListFilter::default()
        })
    });
    let names = page.items.iter().map(|item| item.workflow().name());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names
}

fn ticks(engine: &EngineHandle) -> Vec<(TickOutcome, ExecutionStatus)> {
    let schedules = retry(|| {
        engine
            .inspector()
            .schedules(ScheduleKind::Cron, false, 10, 0)
    });
    let missed = schedules.iter().find(|known| known.spec.instance == MISSED);
    let missed = missed.expect("the schedule with missed ticks exists").id;
    let ticks = retry(|| engine.inspector().schedule_history(missed, 10, 0));
    let end = Timestamp(i64::MAX);
    let newest = retry(|| {
        engine
            .inspector()
            .schedule_history_from(missed, end, false, 10)
    });
    assert_eq!(newest.len(), ticks.len());
    ticks
        .iter()
        .filter_map(|tick| {
            let execution = tick.execution?;
            Some((tick.outcome, retry(|| engine.inspector().status(execution))))
        })
        .collect()
}

/// Reads the final state through the inspector.
fn inspect(engine: &EngineHandle, id: ExecutionId) -> FinalState {
    let inspector = engine.inspector();
    let execution = retry(|| engine.inspector().execution(id));
    assert_eq!(retry(|| inspector.outline(id)).record().id, id);
    assert!(!retry(|| engine.inspector().history(id)).1.is_empty());
    assert!(!retry(|| engine.explain(id)).is_empty());
    assert_eq!(retry(|| inspector.backlog(10)), 0);
    assert_eq!(retry(|| inspector.count_waits(WaitKind::Signal, 10)), 0);
    assert!(retry(|| inspector.ready_executions(10, 10)).is_empty());
    assert_eq!(retry(|| inspector.count_prunable(Timestamp(0), 10)), 0);
    let schedules = retry(|| {
        engine
            .inspector()
            .schedules(ScheduleKind::Cron, false, 10, 0)
    })
    .into_iter();
    let triggers = retry(|| {
        engine
            .inspector()
            .schedules(ScheduleKind::Trigger, false, 10, 0)
    })
    .into_iter();
    assert!(!retry(|| inspector.workflows()).is_empty());
    let (_, progress) = retry(|| inspector.progress(id));
    let (_, logs) = retry(|| inspector.logs(id));
    FinalState {
        status: execution.record().status,
        tasks: execution
            .record()
            .tasks
            .iter()
            .map(|task| task.status.to_string())
            .collect(),
        context: execution.final_context().to_json(),
        executions: executions(engine),
        schedules: schedules
            .chain(triggers)
            .map(|known| (known.identity, known.enabled))
            .collect(),
        ticks: ticks(engine),
        fired: retry(|| {
            engine
                .inspector()
                .count_ticks(ScheduleKind::Cron, Timestamp(0))
        })
        .fired,
        progress: progress
            .iter()
            .map(|report| format!("{} of {} {:?}", report.done, report.total, report.message))
            .collect(),
        steps: retry(|| inspector.steps(id))
            .into_iter()
            .map(|(task, step)| (task, step.key))
            .collect(),
        logs: logs
            .iter()
            .flat_map(|chunk| &chunk.lines)
            .map(|line| line.message.clone())
            .collect(),
        problems: retry(|| inspector.check()).problems,
        overview: overview(inspector, id),
        items: Items::new(),
        family: None,
        waits: None,
    }
}
