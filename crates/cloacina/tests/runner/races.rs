//! Tests of races about waits, between two runners and two clients on real databases (semantics L5, L7, L11).
//!
//! `CLOACINA_RACES=10000` sets the number of rounds. The runners pause at random between store requests, so one runner can
//! write between another runner's read and the write that depends on that read.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use cloacina::runner::{EngineHandle, Inspector, WaitFilter};
use cloacina::runtime::{Control, RunnerConfig};
use cloacina::store::failpoint::{Failpoint, FailpointStore, Failpoints, Verb};
use cloacina::store::{Store, StoreError};
use cloacina::types::sync::Mutex;
use cloacina::types::{
    Approval, Condition, Error, ErrorCode, ExecutionId, ExecutionStatus, Json, NewSignal, Since,
    SystemClock, TaskStatus, Timestamp, WaitEnd, WaitKind,
};
use cloacina::workflow::{TaskDefinition, TaskKind};

use super::support::{Body, Open, body, config, done, on_each_database, start, task, until, wait};
use super::waits::{define, new_signal, node, signal, waits, with_input};

/// The number of rounds of each race, unless `CLOACINA_RACES` is set.
const ROUNDS: usize = 300;
/// The number of executions in a group. The executions of a group race at the same time.
const GROUP: usize = 20;

/// Returns the numbers of the groups of a race. Together the groups have at least the requested number of rounds.
pub fn groups() -> std::ops::Range<usize> {
    let rounds = std::env::var("CLOACINA_RACES").map_or(ROUNDS, |text| text.parse().unwrap());
    0..rounds.div_ceil(GROUP)
}

/// Returns whether there are enough rounds for every outcome of a race to occur.
fn is_long() -> bool {
    groups().len() * GROUP >= 2_000
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pauses of a race do not wait for an event"
)]
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// Pauses a runner at random before and after its store requests.
pub struct Gaps(Mutex<fastrand::Rng>);

impl Gaps {
    pub fn with_seed(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Failpoints for Gaps {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        let is_between = matches!(
            point.verb,
            Verb::Commit | Verb::Signals | Verb::Load | Verb::DueWaits | Verb::Send | Verb::Steps
        );
        let span = {
            let mut rng = self.0.lock();
            match rng.u8(0..8) {
                0 => rng.u64(0..1_000),
                1 => rng.u64(0..100),
                _ => 0,
            }
        };
        if is_between && span > 0 {
            pause(Duration::from_micros(span));
        }
        Ok(())
    }
}

/// Two runners and two clients of one database.
pub struct Racers {
    pub runners: Vec<EngineHandle>,
    pub clients: Vec<Inspector>,
    pub store: Arc<dyn Store>,
}

impl Racers {
    pub fn start(open: Open<'_>, config: &RunnerConfig) -> Self {
        let runner = |seed| {
            let store: Arc<dyn Store> =
                Arc::new(FailpointStore::new(open(), Arc::new(Gaps::with_seed(seed))));
            start(store, config.clone())
        };
        let client = || Inspector::new(open(), Arc::new(SystemClock));
        Self {
            runners: vec![runner(1), runner(2)],
            clients: vec![client(), client()],
            store: open(),
        }
    }

    fn define(&self, name: &str, tasks: &dyn Fn() -> Vec<(TaskDefinition, Option<Body>)>) {
        for runner in &self.runners {
            define(runner, name, tasks(), vec![]);
        }
    }

    /// Submits an execution for each key on one of the runners.
    fn submit(&self, group: usize, workflow: &str, keys: &[String]) -> Vec<ExecutionId> {
        let requests = keys
            .iter()
            .map(|key| with_input(workflow, &format!(r#"{{"key":"{key}"}}"#)));
        self.runners[group % 2].submit(requests.collect()).unwrap()
    }

    /// Checks that no wait is open and that the inbox is empty. Stops the runners.
    pub fn finish(self) {
        for kind in WaitKind::ALL {
            let filter = WaitFilter {
                kind: Some(*kind),
                ..WaitFilter::default()
            };
            let left = self.clients[0].waits(&filter).unwrap().items;
            assert!(left.is_empty(), "these waits are still open: {left:?}");
        }
        let due = || self.store.due_waits(Timestamp(i64::MAX - 1), 10).unwrap();
        until("the inbox is empty", || due().inbox.is_empty());
        assert!(due().executions.is_empty());
        for runner in &self.runners {
            runner.stop(Duration::from_secs(5));
        }
    }

    /// Returns the number of events of each kind in the history of an execution.
    fn events(&self, id: ExecutionId) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for event in self.clients[0].history(id).unwrap().1 {
            *counts.entry(event.kind.as_str().to_owned()).or_default() += 1;
        }
        counts
    }

    fn check_event(&self, id: ExecutionId, kind: &str, count: usize) {
        let events = self.events(id);
        assert_eq!(
            events.get(kind).copied().unwrap_or_default(),
            count,
            "{kind} of {id}: {events:?}"
        );
    }
}

/// The timeout of a race. It adapts to the speed of the machine, so the timeout wins about half of the rounds.
struct Timeouts {
    level: usize,
}

impl Timeouts {
    const LEVELS: usize = 8;

    fn define(racers: &Racers, task: impl Fn(Duration) -> TaskDefinition) -> Self {
        for level in 0..Self::LEVELS {
            racers.define(&format!("w{level}"), &|| {
                vec![(task(Self { level }.timeout()), None)]
            });
        }
        Self { level: 2 }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(4 << self.level)
    }

    fn workflow(&self) -> String {
        format!("w{}", self.level)
    }

    /// Chooses the next timeout. `early` is the number of executions of the last group that were faster than the timeout.
    fn adapt(&mut self, early: usize) {
        if early < GROUP / 4 {
            self.level = (self.level + 1).min(Self::LEVELS - 1);
        } else if early > GROUP * 3 / 4 {
            self.level = self.level.saturating_sub(1);
        }
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap()
}

/// Returns a key for each execution of a group.
fn keys(race: &str, group: usize) -> Vec<String> {
    (0..GROUP)
        .map(|number| format!("{race}-{group}-{number}"))
        .collect()
}

fn signal_of(key: &str) -> NewSignal {
    new_signal("go", Some(key), &format!("\"{key}\""))
}

/// The function of a task that copies the payload of the signal `go` to the key `got`.
fn takes_go() -> Body {
    body(|assignment| {
        let go = assignment.context.get("go").map(ToString::to_string);
        super::support::wrote("got", &go.unwrap_or_else(|| "null".to_owned()))
    })
}

#[test]
fn l5_signal_sent_while_its_wait_is_registered_is_not_lost() {
    on_each_database(|open| {
        let racers = Racers::start(open, &config());
        racers.define("late", &|| {
            vec![
                (task("first", &[]), Some(body(|_| done()))),
                (
                    waits("a", &["first"], signal("go", Some("key"))),
                    Some(takes_go()),
                ),
            ]
        });
        let mut ever = signal("go", Some("key"));
        if let Condition::Signal { since, .. } = &mut ever {
            *since = Since::Ever;
        }
        racers.define("at_once", &|| vec![(node("got", &[], ever.clone()), None)]);
        for group in groups() {
            let keys = keys("register", group);
            let (at_once, late) = keys.split_at(GROUP / 2);
            let mut ids = racers.submit(group, "late", late);
            let begin = Barrier::new(3);
            std::thread::scope(|scope| {
                // The first client sends its signals while the tasks before the waits run. The second client sends its
                // signals while executions are submitted.
                for (client, keys) in racers.clients.iter().zip([late, at_once]) {
                    let begin = &begin;
                    scope.spawn(move || {
                        begin.wait();
                        for key in keys {
                            client.send(&[signal_of(key)]).unwrap();
                        }
                    });
                }
                begin.wait();
                for part in at_once.chunks(2) {
                    ids.extend(racers.submit(group + 1, "at_once", part));
                }
            });
            for (id, key) in ids.iter().zip(late.iter().chain(at_once)) {
                let ended = wait(&racers.runners[group % 2], *id);
                assert_eq!(ended.record().status, ExecutionStatus::Completed);
                let got = ended.final_context().get("got").unwrap().to_string();
                assert_eq!(got, format!("\"{key}\""));
                racers.check_event(*id, "waiting", 1);
                racers.check_event(*id, "signalled", 1);
            }
        }
        racers.finish();
    });
}

#[test]
fn l7_signal_stored_before_the_timeout_is_recorded_wins() {
    on_each_database(|open| {
        let racers = Racers::start(open, &config());
        let mut timeouts = Timeouts::define(&racers, |timeout| TaskDefinition {
            wait_timeout: Some(micros(timeout)),
            ..node("go", &[], signal("go", Some("key")))
        });
        let (mut won, mut lost) = (0, 0);
        let mut rng = fastrand::Rng::with_seed(7);
        for group in groups() {
            let keys = keys("timeout", group);
            let (begun, timeout) = (Instant::now(), timeouts.timeout());
            let ids = racers.submit(group, &timeouts.workflow(), &keys);
            let pairs: Vec<(ExecutionId, &String)> = ids.iter().copied().zip(&keys).collect();
            let (one, two) = pairs.split_at(GROUP / 2);
            let most = u64::try_from(micros(timeout)).unwrap();
            let spread = [rng.u64(0..most), rng.u64(0..most)];
            let sent: Vec<(ExecutionId, bool)> = std::thread::scope(|scope| {
                let senders = racers.clients.iter().zip([one, two]).zip(spread);
                let senders = senders.map(|((client, pairs), early)| {
                    scope.spawn(move || {
                        let first = timeout.saturating_sub(Duration::from_micros(early));
                        pause(first.saturating_sub(begun.elapsed()));
                        let send = |(id, key): &(ExecutionId, &String)| {
                            let sent = client.send(&[signal_of(key)]).unwrap()[0];
                            let status = client.execution(*id).unwrap().record().tasks[0].status;
                            // Either the timeout was recorded first, or the wait was open and the signal woke it.
                            let is_lost = status == TaskStatus::Failed;
                            assert!(is_lost || sent.woken == 1, "{sent:?} {status}");
                            (*id, !is_lost)
                        };
                        pairs.iter().map(send).collect::<Vec<_>>()
                    })
                });
                let senders: Vec<_> = senders.collect();
                senders
                    .into_iter()
                    .flat_map(|sender| sender.join().unwrap())
                    .collect()
            });
            timeouts.adapt(sent.iter().filter(|(_, has_won)| *has_won).count());
            for (id, has_won) in sent {
                let ended = wait(&racers.runners[1 - group % 2], id);
                let expected = if has_won {
                    (ExecutionStatus::Completed, 1, 0)
                } else {
                    (ExecutionStatus::Failed, 0, 1)
                };
                assert_eq!(ended.record().status, expected.0);
                racers.check_event(id, "signalled", expected.1);
                racers.check_event(id, "wait_timed_out", expected.2);
                *(if has_won { &mut won } else { &mut lost }) += 1;
            }
        }
        println!("{won} signals won, {lost} signals were too late");
        assert!(!is_long() || (won > 0 && lost > 0));
        racers.finish();
    });
}

/// Returns an approval with `on_reject` and `on_timeout` set to `continue`.
fn approval() -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Engine,
        approval: Some(Approval {
            on_reject: WaitEnd::Continue,
            ..Approval::default()
        }),
        on_timeout: WaitEnd::Continue,
        ..task("ok", &[])
    }
}

/// The name of each decider, with the answer to its decision.
type Answers = Vec<(String, Result<(), Error>)>;

/// Decides the approvals of a group from two runners and two clients at the same time, after a delay. Returns the answers for
/// each execution.
fn decide(racers: &Racers, ids: &[ExecutionId], delay: Duration) -> BTreeMap<ExecutionId, Answers> {
    type Decider<'a> = &'a (dyn Fn(ExecutionId, Control) -> Result<(), Error> + Sync);
    let by_runner = |number: usize| {
        move |id, action: Control| racers.runners[number].control(id, action).map(drop)
    };
    let by_client = |number: usize| {
        move |id, action: Control| racers.clients[number].control(id, &action).map(drop)
    };
    let (one, two, three, four) = (by_runner(0), by_runner(1), by_client(0), by_client(1));
    let deciders: [Decider<'_>; 4] = [&one, &two, &three, &four];
    let begin = Barrier::new(deciders.len());
    let answers = Mutex::new(BTreeMap::<ExecutionId, Vec<_>>::new());
    std::thread::scope(|scope| {
        for (number, decider) in deciders.into_iter().enumerate() {
            let (begin, answers) = (&begin, &answers);
            scope.spawn(move || {
                let name = format!("decider {number}");
                begin.wait();
                pause(delay);
                for id in ids {
                    let action = if number % 2 == 0 {
                        let null = Json::parse("null").unwrap();
                        Control::approve("ok", null, Some(name.clone()))
                    } else {
                        Control::reject("ok", None, Some(name.clone()))
                    };
                    let answer = decider(*id, action);
                    answers
                        .lock()
                        .entry(*id)
                        .or_default()
                        .push((name.clone(), answer));
                }
            });
        }
    });
    std::mem::take(&mut *answers.lock())
}

#[test]
fn l11_one_decision_counts_and_other_deciders_learn_who_made_it() {
    on_each_database(|open| {
        let racers = Racers::start(open, &config());
        racers.define("w", &|| vec![(approval(), None)]);
        let mut winners: BTreeMap<String, usize> = BTreeMap::new();
        for group in groups() {
            let ids = racers.submit(group, "w", &keys("approve", group));
            for (id, answers) in decide(&racers, &ids, Duration::ZERO) {
                let ended = wait(&racers.runners[0], id);
                let result = ended.final_context().get("ok").unwrap().to_string();
                let won: Vec<&String> = answers
                    .iter()
                    .filter_map(|(name, answer)| answer.is_ok().then_some(name))
                    .collect();
                assert_eq!(won.len(), 1, "{answers:?}");
                let winner = won[0];
                assert!(
                    result.contains(&format!(r#""by":"{winner}""#)),
                    "{winner}: {result}"
                );
                for error in answers
                    .iter()
                    .filter_map(|(_, answer)| answer.as_ref().err())
                {
                    assert_eq!(error.code, ErrorCode::AlreadyDecided, "{error}");
                    assert!(error.message.contains(winner.as_str()), "{error}");
                }
                racers.check_event(id, "decided", 1);
                *winners.entry(winner.clone()).or_default() += 1;
            }
        }
        println!("{winners:?}");
        assert!(!is_long() || winners.len() == 4);
        racers.finish();
    });
}

#[test]
fn l11_either_a_decision_or_the_timeout_counts() {
    on_each_database(|open| {
        let racers = Racers::start(open, &config());
        let mut timeouts = Timeouts::define(&racers, |timeout| TaskDefinition {
            wait_timeout: Some(micros(timeout)),
            ..approval()
        });
        let (mut decided, mut timed_out) = (0, 0);
        let mut rng = fastrand::Rng::with_seed(11);
        for group in groups() {
            let most = u64::try_from(micros(timeouts.timeout())).unwrap();
            let ids = racers.submit(group, &timeouts.workflow(), &keys("decide", group));
            let delay = Duration::from_micros(rng.u64(0..most));
            let before = decided;
            for (id, answers) in decide(&racers, &ids, delay) {
                let ended = wait(&racers.runners[0], id);
                assert_eq!(ended.record().status, ExecutionStatus::Completed);
                let won = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
                assert!(won <= 1, "{answers:?}");
                let late = if won == 1 {
                    decided += 1;
                    ErrorCode::AlreadyDecided
                } else {
                    timed_out += 1;
                    ErrorCode::ExecutionState
                };
                for error in answers
                    .iter()
                    .filter_map(|(_, answer)| answer.as_ref().err())
                {
                    assert_eq!(error.code, late, "{error}");
                }
                racers.check_event(id, "decided", won);
                racers.check_event(id, "wait_timed_out", 1 - won);
            }
            timeouts.adapt(decided - before);
        }
        println!("{decided} approvals were decided, {timed_out} timed out");
        assert!(!is_long() || (decided > 0 && timed_out > 0));
        racers.finish();
    });
}
