//! Tests random interleavings of two runners and several callers on one execution that waits (semantics L3, L5–L8, L11).
//!
//! A case is one execution with two waiting tasks: a wait for a signal, and an approval. Both have a timeout. The
//! actors of a case are two runners, senders, people who decide, the clock, and sometimes callers who pause or cancel.
//! Each actor stops before each of its database requests except polls for changes. A seeded random choice then selects
//! the actor that continues, so any order of the requests can occur. The oracle checks each transaction, and this file
//! checks the end of each case.
//!
//! `CLOACINA_INTERLEAVINGS=n` sets the number of cases: 10,000 in `make simulate`, 100,000 in `make soak`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex as StdMutex};
use std::thread;

use cloacina::engine::{Finish, Outcome};
use cloacina::runner::Inspector;
use cloacina::runtime::{
    Control, Coordinator, Executor, Handler, Message, Registration, RunnerConfig, SubmitRequest,
    Subscriptions, Work, WorkQueues,
};
use cloacina::store::Store;
use cloacina::store::failpoint::{Failpoint, FailpointStore, Failpoints, Moment, Verb};
use cloacina::types::sync::Mutex;
use cloacina::types::{
    Approval, Clock, Condition, Context, Delta, Error, ErrorCode, ExecutionId, ExecutionStatus,
    Json, Labels, Micros, Monotonic, NewSignal, TaskStatus, Timestamp, WaitEnd,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};
use fastrand::Rng;

use super::from_environment;
use super::observed::{Mutant, ObservedStore};
use super::oracle::Oracle;
use super::scenario::SECOND;
use super::world::EPOCH;

/// The default number of cases. An unoptimised build runs them in seconds.
const CASES: u64 = 1_000;
/// The number of cases that use the same database.
const CASES_PER_DATABASE: u64 = 250;
/// The number of cases within which a mutant must be detected.
const MUTANT_CASES: u64 = 2_000;
/// The timeout of both waits.
const TIMEOUT: Micros = 10 * SECOND;
/// The index of the wait for a signal in the workflow.
const GO: usize = 1;
/// The index of the approval in the workflow.
const OK: usize = 2;

thread_local! {
    /// The stage of this thread's actor, and the actor's number.
    static ACTOR: RefCell<Option<(Arc<Stage>, usize)>> = const { RefCell::new(None) };
}

/// The scheduler of a case. Only the actor whose turn it is runs; the others wait.
struct Stage {
    state: StdMutex<StageState>,
    turns: Vec<Condvar>,
}

struct StageState {
    rng: Rng,
    turn: usize,
    /// The actors that have not ended.
    remaining: Vec<usize>,
    /// The actor of each turn so far.
    order: Vec<usize>,
}

impl Stage {
    fn new(actors: usize, mut rng: Rng) -> Self {
        let turn = rng.usize(0..actors);
        Self {
            state: StdMutex::new(StageState {
                rng,
                turn,
                remaining: (0..actors).collect(),
                order: vec![turn],
            }),
            turns: (0..actors).map(|_| Condvar::new()).collect(),
        }
    }

    /// Waits until it is the actor's turn for the first time.
    fn enter(&self, actor: usize) {
        let state = self
            .state
            .lock()
            .expect("no actor panics while it holds the lock");
        drop(self.turns[actor].wait_while(state, |state| state.turn != actor));
    }

    /// Gives the turn to a random actor, and waits for the next turn of the calling actor.
    fn pass(&self, actor: usize) {
        let mut state = self
            .state
            .lock()
            .expect("no actor panics while it holds the lock");
        if state.choose() != actor {
            self.turns[state.turn].notify_one();
            drop(self.turns[actor].wait_while(state, |state| state.turn != actor));
        }
    }

    /// Removes an actor, and gives the turn to another one.
    fn leave(&self, actor: usize) {
        let mut state = self
            .state
            .lock()
            .expect("no actor panics while it holds the lock");
        state.remaining.retain(|other| *other != actor);
        if !state.remaining.is_empty() {
            let next = state.choose();
            self.turns[next].notify_one();
        }
    }
}

impl StageState {
    fn choose(&mut self) -> usize {
        self.turn = self.remaining[self.rng.usize(0..self.remaining.len())];
        self.order.push(self.turn);
        self.turn
    }
}

/// Registers an actor with its stage. Dropping the guard removes the actor, even if the actor panics.
struct ActorGuard(Arc<Stage>, usize);

impl ActorGuard {
    fn enter(stage: &Arc<Stage>, actor: usize) -> Self {
        stage.enter(actor);
        ACTOR.set(Some((Arc::clone(stage), actor)));
        Self(Arc::clone(stage), actor)
    }
}

impl Drop for ActorGuard {
    fn drop(&mut self) {
        ACTOR.set(None);
        self.0.leave(self.1);
    }
}

/// The transactions of a case, numbered in their order.
#[derive(Default)]
struct CaseLog {
    execution: Option<ExecutionId>,
    count: u64,
    /// The numbers of the transactions that stored a signal.
    sent: Vec<u64>,
    /// The number of the transaction that ended each task, and the task's status.
    ended: BTreeMap<usize, (u64, TaskStatus)>,
    cancelled: bool,
}

/// The failpoints of all actors. They pass the turn on before each request except `changes`, and log each transaction.
struct StagePoints {
    log: Arc<Mutex<CaseLog>>,
    store: ObservedStore,
}

/// The function of one actor. Its arguments are the stage and the actor's number.
type Actor<'a> = Box<dyn FnOnce(&Stage, usize) + Send + 'a>;

impl Failpoints for StagePoints {
    fn reach(&self, point: Failpoint) -> Result<(), cloacina::store::StoreError> {
        if point.moment == Moment::Before {
            let current = ACTOR.with_borrow(Clone::clone);
            if let Some((stage, actor)) = current
                && point.verb != Verb::Changes
            {
                stage.pass(actor);
            }
            return Ok(());
        }
        let mut log = self.log.lock();
        let Some(id) = log.execution else {
            return Ok(());
        };
        match point.verb {
            Verb::Send => {
                log.count += 1;
                let count = log.count;
                log.sent.push(count);
            }
            Verb::Commit => {
                log.count += 1;
                let count = log.count;
                let Some(record) = self.store.load(&[id])?.pop() else {
                    return Ok(());
                };
                log.cancelled |= record.status == ExecutionStatus::Cancelled;
                for (number, task) in record.tasks.iter().enumerate() {
                    if task.status.is_terminal() {
                        log.ended.entry(number).or_insert((count, task.status));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

struct CaseClock(Arc<AtomicI64>);

impl Clock for CaseClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.load(Ordering::Relaxed))
    }
}

/// A runner without threads: an actor steps its coordinator.
struct Runner {
    coordinator: Coordinator,
    queues: WorkQueues,
}

/// A database that many cases use, with its runners and clients.
struct CaseDatabase {
    now: Arc<AtomicI64>,
    oracle: Arc<Mutex<Oracle>>,
    log: Arc<Mutex<CaseLog>>,
    runners: [Runner; 2],
    clients: Vec<Inspector>,
}

fn workflow() -> Arc<Workflow> {
    let first = TaskDefinition {
        id: "t0".into(),
        kind: TaskKind::Sync,
        ..TaskDefinition::default()
    };
    let node = |id: &str| TaskDefinition {
        id: id.into(),
        dependencies: vec!["t0".into()],
        kind: TaskKind::Engine,
        wait_timeout: Some(TIMEOUT),
        ..TaskDefinition::default()
    };
    let go = TaskDefinition {
        wait_for: Some(Condition::signal("go", None)),
        ..node("go")
    };
    let ok = TaskDefinition {
        approval: Some(Approval {
            on_reject: WaitEnd::Continue,
            ..Approval::default()
        }),
        on_timeout: WaitEnd::Skip,
        ..node("ok")
    };
    let definition = WorkflowDefinition {
        name: "waits".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![first, go, ok],
        ..WorkflowDefinition::default()
    };
    Arc::new(Workflow::new(definition).expect("the workflow is valid"))
}

/// The result of a case.
struct CaseEnd {
    /// The actor of each turn.
    order: Vec<usize>,
    /// The event that ended the wait, and the event that ended the approval.
    ends: (String, String),
}

impl CaseDatabase {
    fn new(mutant: Option<Mutant>) -> Self {
        let now = Arc::new(AtomicI64::new(EPOCH));
        let oracle = Arc::new(Mutex::new(Oracle::new(SECOND / 10)));
        let workflow = workflow();
        let workflows = vec![Arc::clone(&workflow)];
        let store = ObservedStore::new(Arc::clone(&oracle), Arc::clone(&now), workflows, mutant);
        let log = Arc::new(Mutex::new(CaseLog::default()));
        let open = || {
            let points = StagePoints {
                log: Arc::clone(&log),
                store: store.share(),
            };
            Arc::new(FailpointStore::new(
                Arc::new(store.share()),
                Arc::new(points),
            ))
        };
        let clock = || Arc::new(CaseClock(Arc::clone(&now)));
        let runner = |seed| {
            let queues = WorkQueues::default();
            let config = RunnerConfig {
                heartbeat_interval: std::time::Duration::from_mins(1),
                lease_ttl: std::time::Duration::from_hours(1),
                ..RunnerConfig::default()
            };
            let started = Coordinator::start(
                open(),
                clock(),
                config,
                queues.clone(),
                Arc::new(Subscriptions::default()),
                seed,
            );
            let mut coordinator = started.expect("this store has no faults");
            let handler = Handler {
                executor: Executor::Threads,
                token: 0,
                on_success: false,
                on_failure: false,
            };
            coordinator.step(vec![Message::Register {
                registration: Registration {
                    workflow: Arc::clone(&workflow),
                    handlers: BTreeMap::from([("t0".to_owned(), handler)]),
                },
                reply: Box::new(|registered| registered.expect("the registration is valid")),
            }]);
            Runner {
                coordinator,
                queues,
            }
        };
        Self {
            runners: [runner(1), runner(2)],
            clients: (0..6).map(|_| Inspector::new(open(), clock())).collect(),
            now,
            oracle,
            log,
        }
    }

    fn clock(&self) -> CaseClock {
        CaseClock(Arc::clone(&self.now))
    }

    /// Submits the execution of a case and runs its first task. Returns the message that reports the end of this task.
    fn begin(&mut self, rng: &mut Rng) -> Result<(ExecutionId, Message), String> {
        let now = self.now.fetch_add(SECOND, Ordering::Relaxed) + SECOND;
        let mut bits = [0; 10];
        rng.fill(&mut bits);
        let id = ExecutionId::from_parts(Timestamp(now), bits);
        *self.log.lock() = CaseLog {
            execution: Some(id),
            ..CaseLog::default()
        };
        let clock = self.clock();
        let runner = &mut self.runners[0];
        runner.coordinator.step(vec![Message::Submit {
            requests: vec![SubmitRequest {
                id,
                workflow: "waits".into(),
                input: Arc::new(Context::new()),
                key: None,
                priority: 0,
                start_at: None,
                timeout: None,
                labels: Labels::default(),
                trace: None,
            }],
            give_up: Monotonic(now + SECOND),
            reply: Box::new(|answer| drop(answer.expect("this store has no faults"))),
        }]);
        let queue = runner.queues.of(Executor::Threads);
        let taken = queue
            .try_take(1, &clock)
            .ok_or("the first task did not start")?;
        let Work::Task(token, assignment) = taken.work else {
            return Err("a callback was dispatched instead of a task".to_owned());
        };
        drop(queue.complete(token));
        let (task, claim) = (assignment.task, assignment.claim);
        let mut oracle = self.oracle.lock();
        oracle.start(id, task, claim, Timestamp(now));
        oracle.returned(id, task, claim, "0".to_owned());
        drop(oracle);
        let mut delta = Delta::default();
        let mark = Json::parse("0").map_err(|error| error.to_string())?;
        delta.set.insert("t0".into(), mark);
        let finish = Finish {
            task,
            claim,
            started_at: Some(Timestamp(now)),
            outcome: Outcome::Completed(Arc::new(delta)),
        };
        let finished = Message::Finished {
            execution: id,
            finish,
            executor: Executor::Threads,
            ran: 1,
        };
        Ok((id, finished))
    }

    /// Runs a case.
    fn run(&mut self, seed: u64) -> Result<CaseEnd, String> {
        let mut rng = Rng::with_seed(seed);
        let (id, finished) = self.begin(&mut rng)?;
        let begins_early = rng.u8(0..4) == 0;
        let mut first = Some(finished);
        if begins_early {
            // The wait and the approval are registered before the actors start.
            self.runners[0]
                .coordinator
                .step(first.take().into_iter().collect());
        }
        let answers = Mutex::new(Vec::<(&str, Result<(), Error>)>::new());
        let decide = |client: &Inspector, name: &'static str, approves: bool| {
            // The name contains the number of the case, because the oracle needs unique names on this database.
            let by = Some(format!("{name} of case {seed}"));
            let null = Json::from_encoder("null");
            let action = if approves {
                Control::approve("ok", null, by)
            } else {
                Control::reject("ok", None, by)
            };
            let answer = client.control(id, &action).map(drop);
            answers.lock().push((name, answer));
        };
        let now = Arc::clone(&self.now);
        let [one, two] = &mut self.runners;
        let clients = &self.clients;
        let watch = || vec![Message::Watch];
        let mut actors: Vec<Actor<'_>> = vec![
            Box::new(move |_, _| {
                one.coordinator.step(first.into_iter().collect());
                one.coordinator.step(watch());
            }),
            Box::new(move |_, _| {
                two.coordinator.step(watch());
                two.coordinator.step(watch());
            }),
            Box::new(|stage, actor| {
                for _ in 0..2 {
                    stage.pass(actor);
                    now.fetch_add(TIMEOUT * 2 / 3, Ordering::Relaxed);
                }
            }),
            Box::new(|_, _| send(&clients[0], id, 1)),
            Box::new(|_, _| decide(&clients[1], "ann", true)),
        ];
        if rng.bool() {
            actors.push(Box::new(|_, _| decide(&clients[2], "bob", false)));
        }
        if rng.u8(0..4) == 0 {
            actors.push(Box::new(|_, _| send(&clients[3], id, 2)));
        }
        if rng.u8(0..4) == 0 {
            actors.push(Box::new(|_, _| {
                // Both calls fail if the execution has already ended.
                drop(clients[4].control(id, &Control::Pause));
                drop(clients[4].control(id, &Control::Resume));
            }));
        }
        if rng.u8(0..8) == 0 {
            actors.push(Box::new(|_, _| {
                drop(clients[5].control(id, &Control::CancelOpen));
            }));
        }
        // Each actor first passes some turns on. Otherwise actors with few requests almost always finish first.
        let idle: Vec<u8> = actors.iter().map(|_| rng.u8(0..16)).collect();
        let stage = Arc::new(Stage::new(actors.len(), rng));
        thread::scope(|scope| {
            for ((number, actor), idle) in actors.into_iter().enumerate().zip(idle) {
                let stage = &stage;
                scope.spawn(move || {
                    let guard = ActorGuard::enter(stage, number);
                    for _ in 0..idle {
                        stage.pass(number);
                    }
                    actor(stage, number);
                    drop(guard);
                });
            }
        });
        let answers = std::mem::take(&mut *answers.lock());
        let order = std::mem::take(&mut stage.state.lock().expect("all actors have ended").order);
        self.run_to_end(id)?;
        let ends = self.check_ends(id, &answers);
        let ends = ends.map_err(|problem| format!("{problem}; the order was {order:?}"))?;
        Ok(CaseEnd { order, ends })
    }

    /// Steps both runners until the execution has ended.
    fn run_to_end(&mut self, id: ExecutionId) -> Result<(), String> {
        for _ in 0..40 {
            for runner in &mut self.runners {
                runner.coordinator.step(vec![Message::Watch]);
            }
            let client = &self.clients[0];
            let status = client.status(id).map_err(|error| error.to_string())?;
            if status.is_terminal() {
                return Ok(());
            }
            if status == ExecutionStatus::Paused {
                drop(client.control(id, &Control::Resume));
            }
            self.now.fetch_add(TIMEOUT / 4, Ordering::Relaxed);
        }
        Err(format!(
            "the execution has not ended: {:?}",
            self.clients[0].execution(id)
        ))
    }

    /// Checks how the wait and the approval ended, and returns the events that ended them.
    fn check_ends(
        &self,
        id: ExecutionId,
        answers: &[(&str, Result<(), Error>)],
    ) -> Result<(String, String), String> {
        let log = std::mem::take(&mut *self.log.lock());
        let (_, history) = self.clients[0]
            .history(id)
            .map_err(|error| error.to_string())?;
        let count = |task: usize, kind: &str| {
            let events = history.iter().filter(|event| {
                event.task.is_some_and(|of| of as usize == task) && event.kind.as_str() == kind
            });
            events.count()
        };
        let fail = |problem: &str| {
            let kinds: Vec<_> = history
                .iter()
                .map(|event| (event.task, event.kind.as_str()))
                .collect();
            Err(format!(
                "{problem}: events {kinds:?}, answers {answers:?}, signals sent in transactions {:?}, tasks ended {:?}",
                log.sent, log.ended
            ))
        };
        let (Some((go_at, go)), Some((_, ok))) = (log.ended.get(&GO), log.ended.get(&OK)) else {
            return fail("a task has not ended");
        };
        let (signalled, timed_out) = (count(GO, "signalled"), count(GO, "wait_timed_out"));
        let is_sent_before = log.sent.first().is_some_and(|at| at < go_at);
        let go_end = match go {
            TaskStatus::Completed if (signalled, timed_out, is_sent_before) == (1, 0, true) => {
                "signal"
            }
            // L7: the timeout may win only if no signal was stored before it.
            TaskStatus::Failed if (signalled, timed_out, is_sent_before) == (0, 1, false) => {
                "timeout"
            }
            _ if log.cancelled && signalled + timed_out == 0 => "cancel",
            _ => return fail("the wait ended in the wrong way"),
        };
        let won = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
        let (decided, timed_out) = (count(OK, "decided"), count(OK, "wait_timed_out"));
        let refused = answers
            .iter()
            .filter_map(|(_, answer)| answer.as_ref().err());
        let refused: BTreeSet<ErrorCode> = refused.map(|error| error.code).collect();
        let is_already_decided = refused.contains(&ErrorCode::AlreadyDecided);
        let ok_end = match ok {
            TaskStatus::Completed if (won, decided, timed_out) == (1, 1, 0) => "decision",
            TaskStatus::Skipped
                if (won, decided, timed_out, is_already_decided) == (0, 0, 1, false) =>
            {
                "timeout"
            }
            _ if log.cancelled
                && (won, decided, timed_out, is_already_decided) == (0, 0, 0, false) =>
            {
                "cancel"
            }
            _ => return fail("the approval ended in the wrong way"),
        };
        let oracle = self.oracle.lock();
        match &oracle.broken {
            Some(problem) => fail(problem),
            None => Ok((go_end.to_owned(), ok_end.to_owned())),
        }
    }
}

fn send(client: &Inspector, to: ExecutionId, data: u8) {
    let signal = NewSignal {
        name: "go".into(),
        key: None,
        to: Some(to),
        data: Json::from_encoder(data.to_string()),
        id: None,
        sender: None,
    };
    client.send(&[signal]).expect("this store has no faults");
}

/// The number of cases with each combination of ending events (see `CaseEnd::ends`), and the distinct orders of turns.
type CaseStatistics = (BTreeMap<(String, String), u64>, BTreeSet<Vec<usize>>);

/// Runs cases on two threads until a case fails. Returns the lowest failing case with its error, and the statistics.
fn explore(cases: u64, mutant: Option<Mutant>) -> (Option<(u64, String)>, CaseStatistics) {
    let next = AtomicU64::new(0);
    let end = AtomicU64::new(cases);
    let work = || {
        let (mut statistics, mut broken): (CaseStatistics, _) = (CaseStatistics::default(), None);
        loop {
            let begin = next.fetch_add(CASES_PER_DATABASE, Ordering::Relaxed);
            if begin >= end.load(Ordering::Relaxed) {
                return (broken, statistics);
            }
            let mut database = CaseDatabase::new(mutant);
            for seed in begin..(begin + CASES_PER_DATABASE).min(cases) {
                match database.run(seed) {
                    Ok(case) => {
                        *statistics.0.entry(case.ends).or_default() += 1;
                        statistics.1.insert(case.order);
                    }
                    Err(problem) => {
                        end.fetch_min(seed, Ordering::Relaxed);
                        broken = Some((seed, problem));
                        break;
                    }
                }
            }
        }
    };
    let parts: Vec<_> = thread::scope(|scope| {
        let handles: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().expect("a case does not panic"))
            .collect()
    });
    let (mut statistics, mut broken) = (CaseStatistics::default(), Vec::new());
    for (part, (ends, orders)) in parts {
        broken.extend(part);
        statistics.1.extend(orders);
        for (ends, times) in ends {
            *statistics.0.entry(ends).or_default() += times;
        }
    }
    (broken.into_iter().min(), statistics)
}

#[test]
fn random_interleavings_of_a_wait_end_correctly() {
    let cases = from_environment("CLOACINA_INTERLEAVINGS").unwrap_or(CASES);
    let (broken, (ends, orders)) = explore(cases, None);
    println!("{cases} cases, {} distinct orders: {ends:?}", orders.len());
    if let Some((case, problem)) = broken {
        panic!("case {case}: {problem}");
    }
    if cases >= CASES {
        assert!(
            orders.len() as u64 > cases * 9 / 10,
            "only {} distinct orders of turns in {cases} cases",
            orders.len()
        );
        for end in ["signal", "timeout", "cancel"] {
            assert!(
                ends.keys().any(|(go, _)| go == end),
                "no wait was ended by a {end}"
            );
        }
        for end in ["decision", "timeout", "cancel"] {
            assert!(
                ends.keys().any(|(_, ok)| ok == end),
                "no approval was ended by a {end}"
            );
        }
    }
}

#[test]
fn every_mutant_of_waits_is_detected() {
    for mutant in [
        Mutant::LoseWakeUp,
        Mutant::TimeOutFirst,
        Mutant::TakeNewest,
        Mutant::DecideTwice,
    ] {
        match explore(MUTANT_CASES, Some(mutant)).0 {
            Some((case, problem)) => println!("{mutant:?}: case {case}: {problem}"),
            None => panic!("{mutant:?} was not detected within {MUTANT_CASES} cases"),
        }
    }
}
