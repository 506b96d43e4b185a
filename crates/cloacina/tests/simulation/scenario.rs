//! The scenario of a seed: random workflows, runners, callers and faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina::engine::schedule::NewSchedule;
use cloacina::runtime::RunnerConfig;
use cloacina::types::{
    Backoff, Catchup, Context, Json, Micros, Overlap, RetryCondition, RetryPolicy, ScheduleId,
    ScheduleRecord, Timestamp,
};
use cloacina::workflow::{
    Operator, TaskDefinition, TaskKind, TriggerRule, Workflow, WorkflowDefinition,
};
use fastrand::Rng;

use super::approvals::{self, DecisionPlan};
use super::children;
use super::finals;
use super::maps::{self, SetMapPlan};
use super::parking::{self, ParkPlace, ParkPlan};
use super::waits::{self, SendPlan};
use super::world::EPOCH;

pub const MILLISECOND: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// The scenario of one simulation. The seed determines all of it.
pub struct Scenario {
    pub seed: u64,
    pub workflows: Vec<Arc<Workflow>>,
    pub runners: Vec<RunnerPlan>,
    pub submissions: Vec<SubmissionPlan>,
    pub controls: Vec<ControlPlan>,
    pub faults: Faults,
    /// The schedules. They exist from the start, and end at most ten seconds after the faults.
    pub schedules: Vec<ScheduleRecord>,
    /// A task that crashes every process that runs it: the number of its workflow, and its number in the workflow.
    pub poison: Option<(usize, usize)>,
    /// A task whose results the database refuses: the number of its workflow, and its number in the workflow.
    pub unstorable: Option<(usize, usize)>,
    /// For each task of each workflow, the number of steps that its function records.
    pub steps: Vec<Vec<u8>>,
    /// The signals that callers send.
    pub sends: Vec<SendPlan>,
    /// The decisions that people make about approvals.
    pub decisions: Vec<DecisionPlan>,
    /// The sleeps and waits that functions call.
    pub parks: BTreeMap<ParkPlace, ParkPlan>,
    /// Changes to the maps' limits on concurrent items.
    pub set_maps: Vec<SetMapPlan>,
    /// The actions of callers on children and their parents.
    pub family_controls: Vec<ControlPlan>,
    /// The time at which the faults end. Every execution that is still open at this time must end afterwards.
    pub heals_at: Micros,
}

pub struct RunnerPlan {
    pub config: RunnerConfig,
    /// The deviation of the runner's wall clock from the simulated time.
    pub skew: Micros,
    /// For each workflow, whether the runner registers it at startup. After the faults, the runner registers all workflows.
    pub knows: Vec<bool>,
}

#[derive(Clone)]
pub struct SubmissionPlan {
    pub at: Micros,
    pub workflow: usize,
    pub runner: usize,
    pub key: Option<String>,
    pub priority: i16,
    pub delay: Option<Micros>,
    pub timeout: Option<Micros>,
    /// The number of executions in the submission.
    pub count: usize,
    /// The input, or `None` for an empty input.
    pub input: Option<Context>,
}

#[derive(Clone, Copy, Debug)]
pub enum ActionPlan {
    Cancel,
    Pause,
    Resume,
    Retry,
    RetryFrom(usize),
}

pub struct ControlPlan {
    pub at: Micros,
    pub runner: usize,
    /// Selects the execution: `target % n` is its index among the `n` known executions.
    pub target: usize,
    pub action: ActionPlan,
}

/// The faults of a scenario: probabilities for store requests and wake-ups, and times for the database, processes and
/// clocks.
#[derive(Default)]
pub struct Faults {
    /// The probability that a request fails before it is applied.
    pub fails_before: f64,
    /// The probability that a request fails after it was applied.
    pub fails_after: f64,
    /// The probability that the runner's process dies at a request.
    pub crashes: f64,
    /// The probability that another runner runs a step during a request.
    pub interleaves: f64,
    /// The probability that a wake-up gets lost.
    pub loses_wake_ups: f64,
    /// The probability that a wake-up is repeated.
    pub repeats_wake_ups: f64,
    /// Outages of the database: start, end, and whether its disk is full.
    pub outages: Vec<(Micros, Micros, bool)>,
    /// Suspensions of a runner's process: start, end, and runner.
    pub pauses: Vec<(Micros, Micros, usize)>,
    /// Kills of a runner's process: time and runner. The process is started again up to 20 seconds later.
    pub kills: Vec<(Micros, usize)>,
    /// Shutdowns of a runner: time and runner. The runner is started again afterwards.
    pub stops: Vec<(Micros, usize)>,
    /// Jumps of a runner's wall clock: time, runner, and the size of the jump.
    pub clock_steps: Vec<(Micros, usize, Micros)>,
}

impl Faults {
    /// Returns whether no request fails, no wake-up gets lost, the database has no outage, no runner is paused, killed
    /// or stopped, and no clock jumps.
    pub fn is_fault_free(&self) -> bool {
        self.fails_before + self.fails_after + self.crashes + self.loses_wake_ups == 0.0
            && self.outages.is_empty()
            && self.pauses.is_empty()
            && self.kills.is_empty()
            && self.stops.is_empty()
            && self.clock_steps.is_empty()
    }
}

impl Scenario {
    /// Returns the scenario of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let heals_at = rng.i64(2..60) * SECOND;
        let workflows: Vec<Arc<Workflow>> = (0..rng.usize(1..4))
            .map(|number| Arc::new(workflow(&mut rng, number)))
            .collect();
        let calm = rng.u8(0..5) == 0;
        let skewed = !calm && rng.u8(0..3) == 0;
        let count = rng.usize(1..5);
        let mut runners: Vec<RunnerPlan> = (0..count)
            .map(|_| RunnerPlan {
                config: config(&mut rng),
                skew: match (skewed, rng.u8(0..5)) {
                    (false, _) => 0,
                    (true, 0) => rng.i64(-40..40) * SECOND,
                    (true, _) => rng.i64(-2_000..2_000) * MILLISECOND,
                },
                knows: workflows.iter().map(|_| calm || rng.u8(0..4) > 0).collect(),
            })
            .collect();
        let roomy = calm && rng.bool();
        for plan in runners.iter_mut().filter(|_| roomy) {
            plan.config.max_concurrent_tasks = 500;
            plan.config.max_concurrent_async_tasks = 500;
        }
        let submissions = (0..rng.usize(1..6))
            .map(|_| submission(&mut rng, workflows.len(), count, heals_at))
            .collect();
        let controls = (0..rng.usize(0..7).saturating_sub(2))
            .map(|_| ControlPlan {
                at: rng.i64(0..heals_at + 20 * SECOND),
                runner: rng.usize(..),
                target: rng.usize(..),
                action: action(&mut rng),
            })
            .collect();
        let mut faults = if calm {
            Faults {
                interleaves: 0.05,
                ..Faults::default()
            }
        } else {
            faults(&mut rng, count, heals_at)
        };
        let poison = (!calm && rng.u8(0..10) == 0).then(|| {
            let workflow = rng.usize(0..workflows.len());
            (workflow, rng.usize(0..workflows[workflow].len()))
        });
        // Features that were added later draw their random numbers last, so that older parts of a seed's scenario do not change.
        let schedules = (0..rng.u8(0..5).saturating_sub(2))
            .map(|number| schedule(&mut rng, number, workflows.len(), heals_at))
            .collect();
        let unstorable = (!calm && rng.u8(0..6) == 0).then(|| {
            let workflow = rng.usize(0..workflows.len());
            (workflow, rng.usize(0..workflows[workflow].len()))
        });
        if !calm && rng.u8(0..4) == 0 {
            let steps = 0..rng.usize(1..3);
            faults.clock_steps = steps
                .map(|_| clock_step(&mut rng, count, heals_at))
                .collect();
        }
        for plan in &mut runners {
            plan.config.cache_bytes = [64 << 20, 5_000, 0][rng.usize(0..3)];
        }
        let steps = workflows.iter().map(|workflow| {
            let tasks = 0..workflow.len();
            let of_task = |_| if rng.u8(0..3) == 0 { rng.u8(1..4) } else { 0 };
            tasks.map(of_task).collect()
        });
        let steps = steps.collect();
        let mut scenario = Self {
            seed,
            workflows,
            runners,
            submissions,
            controls,
            faults,
            schedules,
            poison,
            unstorable,
            steps,
            sends: Vec::new(),
            decisions: Vec::new(),
            parks: BTreeMap::new(),
            set_maps: Vec::new(),
            family_controls: Vec::new(),
            heals_at,
        };
        scenario.add_flow(&mut rng, calm);
        scenario
    }

    /// Adds waits, maps, children and final tasks, each with its own probability.
    fn add_flow(&mut self, rng: &mut Rng, calm: bool) {
        let heals_at = self.heals_at;
        if rng.u8(0..3) == 0 {
            for workflow in &mut self.workflows {
                *workflow = Arc::new(waits::with_waits(rng, workflow));
            }
            self.sends = waits::sends(rng, heals_at);
            self.decisions = approvals::decisions(rng, heals_at);
            self.parks = parking::parks(rng, &self.steps);
        }
        let has_maps = rng.u8(0..5) == 0;
        if has_maps {
            for workflow in &mut self.workflows {
                *workflow = Arc::new(maps::with_maps(rng, workflow));
            }
            for plan in &mut self.submissions {
                plan.input = Some(maps::input(rng));
            }
            self.set_maps = maps::set_maps(rng, heals_at);
        }
        if rng.u8(0..6) == 0 {
            children::add_children(rng, &mut self.workflows);
            let parent = self.workflows.len() - 1;
            self.steps.push(vec![0; self.workflows[parent].len()]);
            for plan in &mut self.runners {
                plan.knows.push(calm || rng.u8(0..4) > 0);
            }
            for _ in 0..rng.usize(1..4) {
                self.submissions.push(SubmissionPlan {
                    workflow: parent,
                    count: 1,
                    key: None,
                    input: has_maps.then(|| maps::input(rng)),
                    ..submission(rng, self.workflows.len(), self.runners.len(), heals_at)
                });
            }
            self.family_controls = children::controls(rng, heals_at);
        }
        if rng.u8(0..8) == 0 {
            for workflow in &mut self.workflows {
                *workflow = Arc::new(finals::with_finals(rng, workflow));
            }
            self.family_controls
                .extend(children::controls(rng, heals_at));
        }
    }

    /// Returns whether a workflow has maps, children or final tasks. These add items and executions that are not in
    /// `SubmissionPlan::count`.
    pub fn has_more_tasks(&self) -> bool {
        let mut tasks = self
            .workflows
            .iter()
            .flat_map(|workflow| &workflow.definition().tasks);
        tasks.any(|task| task.over.is_some() || task.child.is_some())
            || self
                .workflows
                .iter()
                .any(|workflow| workflow.finals().is_some())
    }
}

pub fn action(rng: &mut Rng) -> ActionPlan {
    match rng.u8(0..8) {
        0..=1 => ActionPlan::Cancel,
        2..=3 => ActionPlan::Pause,
        4 => ActionPlan::Resume,
        5 => ActionPlan::RetryFrom(rng.usize(..)),
        _ => ActionPlan::Retry,
    }
}

fn workflow(rng: &mut Rng, number: usize) -> Workflow {
    let count = rng.usize(1..8);
    let tasks = (0..count).map(|index| {
        let mut dependencies: Vec<usize> = (0..index).filter(|_| rng.u8(0..3) == 0).collect();
        dependencies.truncate(4);
        let named = dependencies.first().map(|task| format!("t{task}"));
        TaskDefinition {
            id: format!("t{index}"),
            dependencies: dependencies.iter().map(|task| format!("t{task}")).collect(),
            rule: rule(rng, named, 0),
            retry: RetryPolicy {
                max_attempts: rng.u32(1..5),
                backoff: match rng.u8(0..3) {
                    0 => Backoff::Fixed,
                    1 => Backoff::Linear { multiplier: 1.0 },
                    _ => Backoff::Exponential {
                        base: 2.0,
                        multiplier: 1.0,
                    },
                },
                initial_delay: rng.i64(0..5) * 500 * MILLISECOND,
                max_delay: 20 * SECOND,
                condition: if rng.u8(0..6) == 0 {
                    RetryCondition::Transient
                } else {
                    RetryCondition::All
                },
                ..RetryPolicy::default()
            },
            timeout: (rng.u8(0..3) == 0).then(|| rng.i64(1..40) * 100 * MILLISECOND),
            priority: (rng.u8(0..4) == 0).then(|| rng.i16(-3..4)),
            kind: if rng.bool() {
                TaskKind::Sync
            } else {
                TaskKind::Async
            },
            ..TaskDefinition::default()
        }
    });
    let definition = WorkflowDefinition {
        name: format!("w{number}"),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: tasks.collect(),
        ..WorkflowDefinition::default()
    };
    Workflow::new(definition).expect("generated workflows are valid")
}

fn rule(rng: &mut Rng, named: Option<String>, depth: u8) -> TriggerRule {
    let Some(task) = named else {
        return TriggerRule::default();
    };
    match rng.u8(0..if depth == 0 { 20 } else { 10 }) {
        0 => TriggerRule::AllSuccess,
        1 => TriggerRule::AllDone,
        2 => TriggerRule::OneSuccess,
        3 => TriggerRule::OneFailed,
        4 => TriggerRule::AllFailed,
        5 => TriggerRule::Always,
        6 => TriggerRule::TaskSuccess { task },
        7 => TriggerRule::TaskFailed { task },
        8 => TriggerRule::TaskSkipped { task },
        // Every completed task except a map writes a key that is equal to its id.
        9 => TriggerRule::ContextValue {
            key: task,
            operator: if rng.bool() {
                Operator::Exists
            } else {
                Operator::NotExists
            },
            value: Json::parse("null").expect("null is JSON"),
        },
        10..=11 => {
            let conditions = (0..rng.usize(1..4))
                .map(|_| rule(rng, Some(task.clone()), depth + 1))
                .collect();
            match rng.u8(0..3) {
                0 => TriggerRule::AllOf { conditions },
                1 => TriggerRule::AnyOf { conditions },
                _ => TriggerRule::NoneOf { conditions },
            }
        }
        _ => TriggerRule::NoneFailed,
    }
}

fn config(rng: &mut Rng) -> RunnerConfig {
    RunnerConfig {
        max_concurrent_tasks: rng.usize(1..5),
        max_concurrent_async_tasks: rng.usize(1..9),
        poll_interval: Duration::from_millis([100, 500, 2_000][rng.usize(0..3)]),
        task_timeout: (rng.u8(0..2) == 0).then(|| Duration::from_secs(rng.u64(5..60))),
        workflow_timeout: (rng.u8(0..8) == 0).then(|| Duration::from_secs(rng.u64(5..60))),
        enable_recovery: true,
        heartbeat_interval: Duration::from_secs(5),
        lease_ttl: Duration::from_secs(15),
        db_timeout: Duration::from_secs(5),
        // The default retention is long, so acknowledged executions still exist at the end of the simulation.
        ..RunnerConfig::default()
    }
}

fn submission(rng: &mut Rng, workflows: usize, runners: usize, heals_at: Micros) -> SubmissionPlan {
    SubmissionPlan {
        at: rng.i64(0..heals_at),
        workflow: rng.usize(0..workflows),
        runner: rng.usize(0..runners),
        key: (rng.u8(0..4) == 0).then(|| format!("key{}", rng.u8(0..2))),
        priority: if rng.bool() { 0 } else { rng.i16(-5..6) },
        delay: (rng.u8(0..5) == 0).then(|| rng.i64(0..20) * SECOND),
        timeout: (rng.u8(0..5) == 0).then(|| rng.i64(1..30) * SECOND),
        count: if rng.u8(0..4) == 0 {
            rng.usize(2..10)
        } else {
            1
        },
        input: None,
    }
}

fn schedule(rng: &mut Rng, number: u8, workflows: usize, heals_at: Micros) -> ScheduleRecord {
    let expressions = [
        "*/3 * * * * *",
        "*/7 * * * * *",
        "*/20 * * * * *",
        "* * * * *",
    ];
    let workflow = format!("w{}", rng.usize(0..workflows));
    let new = NewSchedule {
        instance: Some(format!("s{number}")),
        catchup: [Catchup::Skip, Catchup::Latest, Catchup::All][rng.usize(0..3)],
        max_catchup: rng.bool().then(|| rng.u32(1..6)),
        overlap: [Overlap::Allow, Overlap::Skip, Overlap::Queue][rng.usize(0..3)],
        end_at: Some(Timestamp(EPOCH + heals_at + rng.i64(0..10) * SECOND)),
        jitter: if rng.bool() {
            0
        } else {
            rng.i64(0..2_000) * MILLISECOND
        },
        ..NewSchedule::new(workflow, expressions[rng.usize(0..4)], "UTC")
    };
    let id = ScheduleId::from_bytes([number + 1; 16]);
    new.record(id, Timestamp(EPOCH))
        .expect("generated schedules are valid")
}

/// Returns a jump of a clock: by up to a second, up to a minute, or up to the longest jump. The longest jump is an hour
/// back or ten minutes forward. A timer that a runner with a fast clock writes is due late on the clocks of the runner's
/// peers. Until the timer is due, every poll is an event of the simulation, so longer jumps forward would cost too many
/// events.
fn clock_step(rng: &mut Rng, runners: usize, heals_at: Micros) -> (Micros, usize, Micros) {
    let forward = rng.bool();
    let longest = if forward { 600 } else { 3_600 };
    let most = [1, 60, longest][rng.usize(0..3)] * SECOND;
    let by = rng.i64(most / 2..=most);
    let by = if forward { by } else { -by };
    (rng.i64(0..heals_at), rng.usize(0..runners), by)
}

fn faults(rng: &mut Rng, runners: usize, heals_at: Micros) -> Faults {
    let mut rate = |share: u8, most: f64| {
        if rng.u8(0..100) < share {
            rng.f64() * most
        } else {
            0.0
        }
    };
    let mut faults = Faults {
        fails_before: rate(40, 0.05),
        fails_after: rate(50, 0.05),
        crashes: rate(40, 0.01),
        interleaves: rate(70, 0.2),
        loses_wake_ups: rate(50, 1.0),
        repeats_wake_ups: rate(50, 0.5),
        ..Faults::default()
    };
    let mut times = |most: usize| -> Vec<Micros> {
        let count = rng.usize(0..=most);
        (0..count).map(|_| rng.i64(0..heals_at)).collect()
    };
    let (outages, pauses, kills, stops) = (times(1), times(2), times(2), times(1));
    for from in outages {
        let until = from + rng.i64(100..15_000) * MILLISECOND;
        faults.outages.push((from, until, rng.u8(0..4) == 0));
    }
    for from in pauses {
        let until = from + rng.i64(1..45) * SECOND;
        faults.pauses.push((from, until, rng.usize(0..runners)));
    }
    for at in kills {
        faults.kills.push((at, rng.usize(0..runners)));
    }
    for at in stops {
        faults.stops.push((at, rng.usize(0..runners)));
    }
    faults
}
