//! Simulated runners on one database with one virtual clock. A seed determines all events and their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use cloacina::runtime::{Coordinator, Message};
use cloacina::store::{PutOutcome, Store};
use cloacina::types::sync::Mutex;
use cloacina::types::{Clock, ExecutionId, Micros, Monotonic, Ordinal, Timestamp};
use fastrand::Rng;

use super::callers::Acknowledgement;
use super::observed::{Mutant, ObservedStore};
use super::oracle::{Coverage, Oracle};
use super::scenario::{MILLISECOND, SECOND, Scenario};
use super::timeline::{Event, WorldState};

/// The time at which a simulation starts.
pub const EPOCH: Micros = 1_800_000_000 * SECOND;
/// The maximum time from the end of the faults to the end of all executions.
const MAX_RECOVERY: Micros = 3 * 3600 * SECOND;
/// The maximum number of events. A simulation with more events counts as an endless loop.
const MAX_EVENTS: u64 = 1_500_000;

/// The clocks of a runner's machine.
#[derive(Clone)]
pub struct VirtualClock {
    now: Arc<AtomicI64>,
    /// The deviation of the wall clock from the simulated time.
    skew: Arc<AtomicI64>,
    /// Whether the monotonic clock jumps with the wall clock. Only a mutant sets this.
    jumps: bool,
}

impl VirtualClock {
    /// Makes the wall clock jump.
    fn step(&self, by: Micros) {
        self.skew.fetch_add(by, Ordering::Relaxed);
    }

    /// Returns the deviation of the wall clock from the simulated time.
    pub fn skew(&self) -> Micros {
        self.skew.load(Ordering::Relaxed)
    }

    /// Returns the simulated time at which the monotonic clock shows `at`.
    fn world_time(&self, at: Monotonic) -> Micros {
        at.0.saturating_sub(if self.jumps { self.skew() } else { 0 })
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed) + self.skew())
    }

    fn monotonic(&self) -> Monotonic {
        let now = self.now.load(Ordering::Relaxed);
        Monotonic(now + if self.jumps { self.skew() } else { 0 })
    }
}

pub struct World {
    pub scenario: Scenario,
    pub mutant: Option<Mutant>,
    pub clock: Arc<AtomicI64>,
    /// The clock of each runner.
    pub clocks: Vec<VirtualClock>,
    pub store: Arc<ObservedStore>,
    pub oracle: Arc<Mutex<Oracle>>,
    /// The coordinator of each runner. A coordinator is taken out while it runs a step; other coordinators can run meanwhile.
    pub coordinators: Vec<Mutex<Option<Box<Coordinator>>>>,
    pub state: Mutex<WorldState>,
    /// The new acknowledgements of submissions. They are processed after each step.
    pub acknowledgements: Arc<Mutex<Vec<Acknowledgement>>>,
    /// The callers whose executions have ended: the runner and the execution.
    pub ends: Arc<Mutex<BTreeSet<(usize, ExecutionId)>>>,
    /// The callers that wait: the runner, whether its process is alive, and the execution.
    pub awaited: Mutex<Vec<(usize, Arc<AtomicBool>, ExecutionId)>>,
    pub me: Weak<World>,
}

/// The result of a simulation.
pub struct Report {
    pub broken: Option<String>,
    pub coverage: BTreeMap<Coverage, u64>,
    /// All events, if a trace was requested. Equal seeds have equal traces.
    pub trace: Vec<String>,
}

impl World {
    pub fn run(seed: u64, mutant: Option<Mutant>, traced: bool) -> Report {
        let mut scenario = Scenario::of_seed(seed);
        if mutant == Some(Mutant::RecordWithoutFence) {
            // With more steps, an attempt loses its claim more often while it records steps.
            scenario
                .steps
                .iter_mut()
                .flatten()
                .for_each(|count| *count = 20);
        }
        let world = Self::new(scenario, mutant, traced);
        world.run_to_end();
        let mut state = world.state.lock();
        let mut oracle = world.oracle.lock();
        Report {
            broken: oracle.broken.take(),
            coverage: std::mem::take(&mut oracle.coverage),
            trace: state.trace.take().unwrap_or_default(),
        }
    }

    fn new(scenario: Scenario, mutant: Option<Mutant>, traced: bool) -> Arc<Self> {
        let count = scenario.runners.len();
        let skews = scenario.runners.iter().map(|plan| plan.skew.abs());
        let steps = &scenario.faults.clock_steps;
        let steps: Micros = steps.iter().map(|(_, _, by)| by.abs()).sum();
        let mut oracle = Oracle::new(skews.max().unwrap_or(0) + steps + SECOND / 10);
        let timeouts = scenario.runners.iter();
        let timeouts = timeouts.filter_map(|plan| plan.config.task_timeout);
        oracle.task_timeout = timeouts
            .min()
            .map(|timeout| Micros::try_from(timeout.as_micros()).expect("the timeout fits in i64"));
        oracle.unstorable = scenario.unstorable.map(|(workflow, task)| {
            let name = scenario.workflows[workflow].name().to_owned();
            (
                name,
                Ordinal::try_from(task).expect("a task number fits in an ordinal"),
            )
        });
        if scenario.faults.is_fault_free() {
            let limits = scenario.runners.iter().map(|plan| {
                plan.config.max_concurrent_tasks + plan.config.max_concurrent_async_tasks
            });
            // Functions take at least a millisecond. For tasks of this duration, the prefetch window is at most three times
            // the number of slots.
            oracle.claim_limit = limits.max().map(|limit| limit * 4);
        }
        oracle.log = traced.then(Vec::new);
        let clock = Arc::new(AtomicI64::new(EPOCH));
        let clocks = scenario.runners.iter().map(|plan| VirtualClock {
            now: Arc::clone(&clock),
            skew: Arc::new(AtomicI64::new(plan.skew)),
            jumps: mutant == Some(Mutant::WallClockTimers),
        });
        let clocks = clocks.collect();
        let oracle = Arc::new(Mutex::new(oracle));
        let workflows = scenario.workflows.clone();
        let store = ObservedStore::new(Arc::clone(&oracle), Arc::clone(&clock), workflows, mutant);
        let rng = Rng::with_seed(scenario.seed ^ 0x9e37_79b9_7f4a_7c15);
        Arc::new_cyclic(|me| Self {
            scenario,
            mutant,
            clock,
            clocks,
            store: Arc::new(store),
            oracle,
            coordinators: (0..count).map(|_| Mutex::new(None)).collect(),
            state: Mutex::new(WorldState::new(rng, count, traced)),
            acknowledgements: Arc::default(),
            ends: Arc::default(),
            awaited: Mutex::default(),
            me: Weak::clone(me),
        })
    }

    pub fn now(&self) -> Micros {
        self.clock.load(Ordering::Relaxed)
    }

    fn run_to_end(&self) {
        self.plan();
        let end = EPOCH + self.scenario.heals_at + MAX_RECOVERY;
        while !self.is_over() && self.handle_next(end) {}
        if self.state.lock().handled >= MAX_EVENTS {
            let what = format!("not over after {MAX_EVENTS} events: {}", self.open());
            self.oracle.lock().check(false, || what);
        }
        self.oracle.lock().check_at_rest();
        self.check_ticks();
        self.check_callers();
        self.check_nothing_waits();
        self.check_maps();
    }

    /// Handles all events until `end` and advances the clock to `end`, while one of the runners is running a step.
    pub fn run_until(&self, end: Micros) {
        while self.handle_next(end) {}
        self.clock.fetch_max(end, Ordering::Relaxed);
    }

    /// Returns whether the simulation is over: a check has failed, `MAX_EVENTS` events were handled, or all planned work has
    /// ended. All of this except the number of events is checked only at every 32nd event.
    fn is_over(&self) -> bool {
        let state = self.state.lock();
        if state.handled >= MAX_EVENTS {
            return true;
        }
        if !state.handled.is_multiple_of(32) {
            return false;
        }
        if self.oracle.lock().broken.is_some() {
            return true;
        }
        state.healed
            && !state.events.values().any(|(_, event)| {
                matches!(
                    event,
                    Event::Submit(_)
                        | Event::Control(_)
                        | Event::Send(_)
                        | Event::SetMap(_)
                        | Event::ControlFamily(_)
                        | Event::Decide(_)
                )
            })
            && self.open_executions().is_empty()
            && self.unanswered_callers().is_empty()
            && self.has_no_message()
            && self.schedules_are_over()
    }

    /// Describes what has not ended.
    fn open(&self) -> String {
        let (executions, callers) = (self.open_executions(), self.unanswered_callers());
        let (messages, schedules) = (!self.has_no_message(), !self.schedules_are_over());
        format!(
            "executions {executions:?}, callers {callers:?}, messages {messages}, schedules {schedules}"
        )
    }

    fn open_executions(&self) -> Vec<ExecutionId> {
        let oracle = self.oracle.lock();
        let open = oracle
            .mirror
            .iter()
            .filter(|(_, record)| !record.status.is_terminal());
        open.map(|(id, _)| *id).collect()
    }

    /// Returns whether no schedule has a future or queued tick.
    fn schedules_are_over(&self) -> bool {
        self.scenario.schedules.iter().all(|plan| {
            let found = self.store.schedule(plan.id).ok().flatten();
            found.is_some_and(|record| record.wake_at.is_none())
        })
    }

    /// Checks that the history of each schedule has each tick once, and that the fired ticks started the schedule's executions.
    fn check_ticks(&self) {
        let mut oracle = self.oracle.lock();
        for plan in &self.scenario.schedules {
            let ticks = self.store.ticks(plan.id, usize::MAX, 0);
            let ticks = ticks.expect("this store has no faults");
            oracle.check_ticks(plan, &ticks);
        }
    }

    /// Returns the runner and the execution of each caller that has not been answered.
    fn unanswered_callers(&self) -> Vec<(usize, ExecutionId)> {
        let ends = self.ends.lock();
        let awaited = self.awaited.lock();
        let missing = awaited.iter().filter(|(runner, alive, id)| {
            alive.load(Ordering::Relaxed) && !ends.contains(&(*runner, *id))
        });
        missing.map(|(runner, _, id)| (*runner, *id)).collect()
    }

    fn check_callers(&self) {
        let missing = self.unanswered_callers();
        self.oracle.lock().check(missing.is_empty(), || {
            format!("callers still wait for executions that have ended: {missing:?}")
        });
    }

    fn plan(&self) {
        let plan = &self.scenario;
        for record in &plan.schedules {
            let put = self.store.put_schedule(record, None);
            assert_eq!(
                put,
                Ok(PutOutcome::Written),
                "the store is empty and has no faults"
            );
        }
        let mut state = self.state.lock();
        let mut at = |time: Micros, event: Event| state.schedule(EPOCH + time, None, event);
        for runner in 0..plan.runners.len() {
            at(0, Event::Start(runner));
        }
        for (number, submission) in plan.submissions.iter().enumerate() {
            at(submission.at, Event::Submit(number));
        }
        for (number, control) in plan.controls.iter().enumerate() {
            at(control.at, Event::Control(number));
        }
        for (number, send) in plan.sends.iter().enumerate() {
            at(send.at, Event::Send(number));
        }
        for (number, decision) in plan.decisions.iter().enumerate() {
            at(decision.at, Event::Decide(number));
        }
        for (number, set) in plan.set_maps.iter().enumerate() {
            at(set.at, Event::SetMap(number));
        }
        for (number, control) in plan.family_controls.iter().enumerate() {
            at(control.at, Event::ControlFamily(number));
        }
        for (from, until, full) in &plan.faults.outages {
            at(*from, Event::Outage(Some(*full)));
            at(*until, Event::Outage(None));
        }
        for (from, until, runner) in &plan.faults.pauses {
            at(*from, Event::Pause(*runner, true));
            at(*until, Event::Pause(*runner, false));
        }
        for (time, runner) in &plan.faults.kills {
            at(*time, Event::Kill(*runner));
        }
        for (time, runner) in &plan.faults.stops {
            at(*time, Event::Stop(*runner));
        }
        for (time, runner, by) in &plan.faults.clock_steps {
            at(*time, Event::ClockStep(*runner, *by));
        }
        at(plan.heals_at, Event::Heal);
    }

    /// Handles the next event. Returns `false` if no event is scheduled at or before `end`.
    fn handle_next(&self, end: Micros) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state
            .events
            .first_entry()
            .filter(|entry| entry.key().0 <= end)
        else {
            return false;
        };
        let ((time, _), (incarnation, event)) = entry.remove_entry();
        self.clock.fetch_max(time, Ordering::Relaxed);
        state.handled += 1;
        if let Some(runner) = event.process() {
            if incarnation.is_some_and(|born| state.incarnations[runner] != born) {
                return true;
            }
            let exists = state.processes[runner].is_some();
            let busy = exists && self.coordinators[runner].lock().is_none();
            if state.paused[runner] || busy {
                state.deferred[runner].push((incarnation, event));
                return true;
            }
        }
        if state.trace.is_some() {
            let line = format!("{} {}", time - EPOCH, event.describe());
            state.note(line);
        }
        drop(state);
        self.handle(event);
        self.copy_oracle_log();
        true
    }

    /// Moves the lines of the oracle's log into the trace.
    pub fn copy_oracle_log(&self) {
        let lines = match &mut self.oracle.lock().log {
            Some(log) => std::mem::take(log),
            None => return,
        };
        let mut state = self.state.lock();
        for line in lines {
            state.note(line);
        }
    }

    fn handle(&self, event: Event) {
        match event {
            Event::Step(runner) => self.step_if_due(runner),
            Event::Message(runner, message) => {
                if let Some(process) = &mut self.state.lock().processes[runner] {
                    process.inbox.push(message);
                }
                self.step(runner);
            }
            Event::Call(runner, executor, token) => {
                self.function_calls_step(runner, executor, token);
                self.wake(runner);
            }
            Event::Return(runner, executor, token) => {
                self.function_returns(runner, executor, token);
                self.wake(runner);
            }
            Event::Submit(number) => self.submit(number),
            Event::Control(number) => self.control(number),
            Event::Send(number) => self.send(number),
            Event::Decide(number) => self.decide(number),
            Event::SetMap(number) => self.set_map(number),
            Event::ControlFamily(number) => self.control_family(number),
            Event::Kill(runner) => self.kill(runner),
            Event::Start(runner) => self.start(runner),
            Event::Stop(runner) => self.stop(runner),
            Event::Pause(runner, paused) => self.pause(runner, paused),
            Event::Outage(outage) => self.state.lock().outage = outage,
            Event::ClockStep(runner, by) => {
                self.clocks[runner].step(by);
                self.oracle.lock().cover(Coverage::ClockStepped);
            }
            Event::Heal => self.heal(),
            Event::ResumeAll => self.resume_all(),
        }
    }

    pub fn wake(&self, runner: usize) {
        let now = self.now();
        self.state.lock().wake(runner, now);
    }

    fn step_if_due(&self, runner: usize) {
        let due = {
            let state = self.state.lock();
            let process = state.processes[runner].as_ref();
            process
                .is_some_and(|process| !process.inbox.is_empty() || process.next_wake <= self.now())
        };
        if due {
            self.step(runner);
        }
    }

    /// Runs one step of a runner's coordinator, and applies the effects of the step.
    pub fn step(&self, runner: usize) {
        let Some(mut coordinator) = self.coordinators[runner].lock().take() else {
            return;
        };
        let inbox = {
            let mut state = self.state.lock();
            let Some(process) = &mut state.processes[runner] else {
                return;
            };
            std::mem::take(&mut process.inbox)
        };
        let due = self.clocks[runner].world_time(coordinator.step(inbox));
        let (idle, limit) = (
            coordinator.idle_bytes(),
            self.scenario.runners[runner].config.cache_bytes,
        );
        self.oracle.lock().check(idle <= limit, || {
            format!("runner {runner} keeps {idle} bytes of idle executions, more than {limit}")
        });
        let mut state = self.state.lock();
        if state.crashing[runner] {
            self.oracle.lock().cover(Coverage::Crashed);
            state.remove_process(runner);
            let again = self.now() + state.rng.i64(0..20_000) * MILLISECOND;
            state.schedule(again, None, Event::Start(runner));
            return;
        }
        if coordinator.is_finished() {
            state.remove_process(runner);
            let again = self.now() + state.rng.i64(0..5_000) * MILLISECOND;
            state.schedule(again, None, Event::Start(runner));
            drop(state);
            return self.await_acknowledged();
        }
        *self.coordinators[runner].lock() = Some(coordinator);
        let due = if self.mutant == Some(Mutant::ForgetTimers) {
            EPOCH + 100 * MAX_RECOVERY
        } else {
            due.max(self.now())
        };
        if let Some(process) = &mut state.processes[runner] {
            process.next_wake = due;
        }
        // A thread wakes up a little later than its timer.
        let late = state.rng.i64(0..MILLISECOND);
        state.schedule_for(runner, due + late, Event::Step(runner));
        self.reschedule_deferred(&mut state, runner);
        drop(state);
        self.feed_workers(runner);
        self.wake_others(runner);
        self.await_acknowledged();
    }

    /// Notifies all runners of a change that was not made by a runner.
    pub fn wake_all(&self) {
        let now = self.now();
        let mut state = self.state.lock();
        for runner in 0..state.processes.len() {
            state.schedule_for(runner, now, Event::Message(runner, Message::Watch));
        }
    }

    /// Notifies the other runners of a change. Some notifications get lost, and some are repeated.
    fn wake_others(&self, runner: usize) {
        let changes = self.store.changes.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.last_changes, changes) == changes {
            return;
        }
        let faults = &self.scenario.faults;
        for other in (0..state.processes.len()).filter(|other| *other != runner) {
            if !state.healed && state.rng.f64() < faults.loses_wake_ups {
                continue;
            }
            let times = 1 + u8::from(state.rng.f64() < faults.repeats_wake_ups);
            for _ in 0..times {
                let at = self.now() + state.rng.i64(0..10 * MILLISECOND);
                state.schedule_for(other, at, Event::Message(other, Message::Watch));
            }
        }
    }
}
