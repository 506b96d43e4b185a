//! The scheduled events of a simulation, and the state of its processes without their coordinators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloacina::engine::Outcome;
use cloacina::runtime::{Executor, Message, Subscriptions, WorkQueues};
use cloacina::types::sync::Mutex;
use cloacina::types::{Claim, ExecutionId, Micros, Ordinal, StepRecord, Timestamp};
use fastrand::Rng;

pub enum Event {
    /// The coordinator thread of a runner wakes up.
    Step(usize),
    Message(usize, Message),
    /// A function reaches its next step.
    Call(usize, Executor, u64),
    /// A function returns.
    Return(usize, Executor, u64),
    Submit(usize),
    Control(usize),
    /// A caller sends a signal.
    Send(usize),
    /// A person decides an approval.
    Decide(usize),
    /// A caller changes how many items of a map may run at a time.
    SetMap(usize),
    /// A caller acts on a child or a parent.
    ControlFamily(usize),
    Kill(usize),
    Start(usize),
    Stop(usize),
    Pause(usize, bool),
    Outage(Option<bool>),
    /// The wall clock of a runner's machine jumps.
    ClockStep(usize, Micros),
    Heal,
    ResumeAll,
}

impl Event {
    /// Returns the runner whose process handles the event, or `None` if no process handles it.
    pub fn process(&self) -> Option<usize> {
        match self {
            Self::Step(runner)
            | Self::Message(runner, _)
            | Self::Call(runner, ..)
            | Self::Return(runner, ..)
            | Self::Stop(runner) => Some(*runner),
            _ => None,
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Self::Step(runner) => format!("step {runner}"),
            Self::Message(runner, _) => format!("message {runner}"),
            Self::Call(runner, executor, token) => {
                format!("call {runner} {executor:?} {token}")
            }
            Self::Return(runner, executor, token) => {
                format!("return {runner} {executor:?} {token}")
            }
            Self::Submit(number) => format!("submit {number}"),
            Self::Control(number) => format!("control {number}"),
            Self::Send(number) => format!("send {number}"),
            Self::Decide(number) => format!("decide {number}"),
            Self::SetMap(number) => format!("set map {number}"),
            Self::ControlFamily(number) => format!("control family {number}"),
            Self::Kill(runner) => format!("kill {runner}"),
            Self::Start(runner) => format!("start {runner}"),
            Self::Stop(runner) => format!("stop {runner}"),
            Self::Pause(runner, paused) => format!("pause {runner} {paused}"),
            Self::Outage(outage) => format!("outage {outage:?}"),
            Self::ClockStep(runner, by) => format!("clock step {runner} {by}"),
            Self::Heal => "heal".to_owned(),
            Self::ResumeAll => "resume all".to_owned(),
        }
    }
}

/// A running function.
pub struct Running {
    /// The outcome of the function, or `None` if the function crashes its process.
    pub outcome: Option<Outcome>,
    pub holds_slot: bool,
    /// The steps of the function, if it has any.
    pub steps: Option<FunctionSteps>,
    /// The attempt: its execution, task and claim.
    pub claim: (ExecutionId, Ordinal, Claim),
}

/// The answer to a function that asks whether its next sleep or wait is over.
pub enum WaitAnswer {
    /// The sleep or wait is over, and its end is recorded.
    Over,
    /// The sleep or wait is not over, so the function must return and its task must wait.
    NotOver,
}

/// The progress of a function through its steps.
pub struct FunctionSteps {
    /// The number of the workflow in the scenario.
    pub workflow: usize,
    /// The number of steps of the function.
    pub count: u8,
    /// The number of the next step.
    pub next: u8,
    /// The recorded steps, or `None` until the runner has read them.
    pub loaded: Arc<Mutex<Option<Vec<StepRecord>>>>,
    /// The number of steps that this attempt has recorded.
    pub recorded: u32,
    /// Whether the runner has answered the function's last message: a step to record, or the question whether a sleep or wait
    /// is over.
    pub is_answered: Arc<AtomicBool>,
    /// The answer to the question whether the function's next sleep or wait is over. Without an answer, the function asks.
    pub answer: Arc<Mutex<Option<WaitAnswer>>>,
    /// Set when the runner has refused a message of the function. The function then calls no further step.
    pub is_refused: Arc<AtomicBool>,
    /// How many more times the function may check for an answer.
    pub patience: u8,
}

/// The state of a process without its coordinator.
pub struct Process {
    pub queues: WorkQueues,
    pub subscriptions: Arc<Subscriptions>,
    pub inbox: Vec<Message>,
    pub functions: BTreeMap<(usize, u64), Running>,
    pub next_wake: Micros,
    /// Cleared when the process dies. Later answers of the process are ignored.
    pub alive: Arc<AtomicBool>,
}

/// An event and the incarnation of the process that must handle it. `None` if any incarnation may handle it.
pub type Planned = (Option<u64>, Event);

/// The changing state of a simulation.
pub struct WorldState {
    pub rng: Rng,
    pub events: BTreeMap<(Micros, u64), Planned>,
    pub sequence: u64,
    pub handled: u64,
    pub depth: u8,
    pub processes: Vec<Option<Process>>,
    /// The incarnation of each runner, which increases when its process starts or is removed. Events for an earlier incarnation
    /// are ignored.
    pub incarnations: Vec<u64>,
    pub paused: Vec<bool>,
    /// The events of each runner that wait until the runner is no longer paused or in a step.
    pub deferred: Vec<Vec<Planned>>,
    pub crashing: Vec<bool>,
    /// The current outage: `Some(true)` if the disk of the database is full, `Some(false)` if the database does not answer.
    pub outage: Option<bool>,
    pub healed: bool,
    pub acknowledged: Vec<ExecutionId>,
    pub marks: u64,
    pub last_changes: u64,
    pub trace: Option<Vec<String>>,
}

impl WorldState {
    pub fn new(rng: Rng, runners: usize, traced: bool) -> Self {
        Self {
            rng,
            events: BTreeMap::new(),
            sequence: 0,
            handled: 0,
            depth: 0,
            processes: (0..runners).map(|_| None).collect(),
            incarnations: vec![0; runners],
            paused: vec![false; runners],
            deferred: (0..runners).map(|_| Vec::new()).collect(),
            crashing: vec![false; runners],
            outage: None,
            healed: false,
            acknowledged: Vec::new(),
            marks: 0,
            last_changes: 0,
            trace: traced.then(Vec::new),
        }
    }

    /// Schedules an event. If `incarnation` is set, only this incarnation of the process handles the event.
    pub fn schedule(&mut self, at: Micros, incarnation: Option<u64>, event: Event) {
        self.sequence += 1;
        self.events
            .insert((at, self.sequence), (incarnation, event));
    }

    /// Schedules an event for the current process of a runner.
    pub fn schedule_for(&mut self, runner: usize, at: Micros, event: Event) {
        self.schedule(at, Some(self.incarnations[runner]), event);
    }

    /// Wakes a runner's coordinator thread if its inbox has a message. The thread reads the inbox a little later.
    pub fn wake(&mut self, runner: usize, now: Micros) {
        let waits = |process: &Process| !process.inbox.is_empty();
        if self.processes[runner].as_ref().is_some_and(waits) {
            let at = now + self.rng.i64(0..500);
            self.schedule_for(runner, at, Event::Step(runner));
        }
    }

    pub fn send(&mut self, runner: usize, message: Message) {
        if let Some(process) = &mut self.processes[runner] {
            process.inbox.push(message);
        }
    }

    /// Crashes a process. Later answers of the process are ignored.
    pub fn crash(&mut self, runner: usize) {
        self.crashing[runner] = true;
        if let Some(process) = &self.processes[runner] {
            process.alive.store(false, Ordering::Relaxed);
        }
    }

    /// Removes a dead process.
    pub fn remove_process(&mut self, runner: usize) {
        self.crash(runner);
        self.processes[runner] = None;
        self.deferred[runner].clear();
        self.incarnations[runner] += 1;
    }

    pub fn execution_id(&mut self, now: Micros) -> ExecutionId {
        let mut bits = [0; 10];
        self.rng.fill(&mut bits);
        ExecutionId::from_parts(Timestamp(now), bits)
    }

    /// Returns a running function.
    pub fn function(&mut self, runner: usize, executor: usize, token: u64) -> Option<&mut Running> {
        let process = self.processes[runner].as_mut()?;
        process.functions.get_mut(&(executor, token))
    }

    /// Returns the number of functions that occupy a worker, or `usize::MAX` if the runner has no process.
    pub fn busy(&self, runner: usize, executor: usize) -> usize {
        let Some(process) = &self.processes[runner] else {
            return usize::MAX;
        };
        let functions = process.functions.iter();
        functions
            .filter(|((index, _), running)| *index == executor && running.holds_slot)
            .count()
    }

    pub fn note(&mut self, line: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }
}
