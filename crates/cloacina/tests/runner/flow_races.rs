//! Tests of races about maps and children, between two runners on one database (semantics K6, K7, M3, M4, M6).
//!
//! `CLOACINA_RACES` sets the number of rounds of each race.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cloacina::runner::{EngineHandle, Inspector};
use cloacina::runtime::{Control, RunnerConfig, SubmitRequest};
use cloacina::store::{ItemQuery, Store, WaitQuery};
use cloacina::types::{
    ChildSpec, ExecutionId, ExecutionStatus, ItemRecord, MapSpec, MapState, ParentEnd, SystemClock,
    TaskStatus, Timestamp, WaitKind,
};
use cloacina::workflow::{TaskDefinition, TaskKind};

use super::support::{
    Body, Counter, body, config, done, on_each_database, start, task, until, wait,
};
use super::waits::{define, with_input};

/// Returns the number of rounds of each race on each database.
fn rounds() -> usize {
    let text = std::env::var("CLOACINA_RACES");
    text.map_or(100, |text| text.parse().unwrap())
}

/// Makes the threads of a race meet, so that they continue at the same instant.
#[derive(Clone, Default)]
struct Meeting {
    arrived: Arc<Mutex<HashMap<ExecutionId, usize>>>,
    met: Counter,
}

impl Meeting {
    /// Waits until `threads` threads have arrived, but at most 30 ms.
    fn arrive(&self, id: ExecutionId, threads: usize) {
        *self.arrived.lock().unwrap().entry(id).or_default() += 1;
        let end = Instant::now() + Duration::from_millis(30);
        while self.arrived.lock().unwrap()[&id] < threads {
            if Instant::now() > end {
                return;
            }
            std::thread::yield_now();
        }
        self.met.hit();
    }
}

/// Counts the calls of a function in each execution.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<HashMap<ExecutionId, usize>>>);

impl Calls {
    fn of(&self, id: ExecutionId) -> usize {
        self.0.lock().unwrap().get(&id).copied().unwrap_or_default()
    }

    fn body(&self) -> Body {
        let calls = self.clone();
        body(move |assignment| {
            *calls
                .0
                .lock()
                .unwrap()
                .entry(assignment.execution)
                .or_default() += 1;
            done()
        })
    }
}

/// The settings of a runner that runs one task at a time. Two runners with these settings share the items of a map.
fn one_task_at_a_time() -> RunnerConfig {
    RunnerConfig {
        max_concurrent_async_tasks: 1,
        ..config()
    }
}

fn map(id: &str) -> TaskDefinition {
    TaskDefinition {
        over: Some(MapSpec {
            lists: BTreeMap::from([("row".to_owned(), "rows".to_owned())]),
            ..MapSpec::default()
        }),
        ..task(id, &[])
    }
}

fn child(id: &str, workflow: &str, on_parent_end: ParentEnd) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Engine,
        child: Some(ChildSpec {
            workflow: workflow.to_owned(),
            on_parent_end,
            ..ChildSpec::default()
        }),
        ..task(id, &[])
    }
}

fn items(store: &dyn Store, id: ExecutionId) -> Vec<ItemRecord> {
    let query = ItemQuery {
        execution: id,
        task: 0,
        status: None,
        from: 0,
        limit: 100,
    };
    store.items(&query).unwrap()
}

/// The callers of a race: a client without a runner, and the two runners.
struct Callers<'a> {
    outside: Inspector,
    runners: [&'a EngineHandle; 2],
}

impl Callers<'_> {
    /// Sends an action to an execution from one of the three callers. Returns whether the action was accepted.
    fn control(&self, round: usize, id: ExecutionId, action: &Control) -> bool {
        let answer = match round % 3 {
            2 => self.outside.control(id, action),
            number => self.runners[number].control(id, action.clone()),
        };
        answer.is_ok()
    }

    fn status(&self, id: ExecutionId) -> ExecutionStatus {
        self.outside.status(id).unwrap()
    }
}

/// Waits until the database has no open wait and no inbox message.
fn wait_until_idle(store: &dyn Store) {
    let query = WaitQuery {
        kinds: vec![WaitKind::Timer, WaitKind::Child],
        limit: 10,
        ..WaitQuery::default()
    };
    until("no inbox message and no wait is left", || {
        let due = store.due_waits(Timestamp(i64::MAX - 1), 10).unwrap();
        due.inbox.is_empty() && due.executions.is_empty() && store.waits(&query).unwrap().is_empty()
    });
}

/// Runs a race on each database, with two runners that have the same functions.
fn race(
    settings: fn() -> RunnerConfig,
    set_up: impl Fn(&EngineHandle, &Meeting, &Calls),
    round: impl Fn(usize, &Callers<'_>, &dyn Store, &Meeting, &Calls),
) {
    on_each_database(|open| {
        let (first, second) = (start(open(), settings()), start(open(), settings()));
        let (meeting, calls) = (Meeting::default(), Calls::default());
        for runner in [&first, &second] {
            set_up(runner, &meeting, &calls);
        }
        let callers = Callers {
            outside: Inspector::new(open(), Arc::new(SystemClock)),
            runners: [&first, &second],
        };
        let store = open();
        for number in 0..rounds() {
            round(number, &callers, &*store, &meeting, &calls);
        }
        assert!(meeting.met.get() > 0, "the threads of the race never met");
        wait_until_idle(&*store);
        first.stop(Duration::from_secs(1));
        second.stop(Duration::from_secs(1));
    });
}

fn submit(engine: &EngineHandle, workflow: &str) -> ExecutionId {
    engine
        .submit(vec![with_input(workflow, r#"{"rows":[1,2]}"#)])
        .unwrap()[0]
}

#[test]
fn k6_one_of_two_concurrent_last_items_ends_the_map() {
    race(
        one_task_at_a_time,
        |runner, meeting, calls| {
            let meeting = meeting.clone();
            let item = body(move |assignment| {
                meeting.arrive(assignment.execution, 2);
                done()
            });
            let tasks = vec![
                (map("items"), Some(item)),
                (task("after", &["items"]), Some(calls.body())),
            ];
            define(runner, "mapped", tasks, vec![]);
        },
        |round, callers, store, _, calls| {
            let runner = callers.runners[round % 2];
            let id = submit(runner, "mapped");
            let end = wait(runner, id);
            assert_eq!(end.record().status, ExecutionStatus::Completed);
            assert_eq!(calls.of(id), 1);
            let items = items(store, id);
            let completed =
                |item: &ItemRecord| item.status == TaskStatus::Completed && item.attempt == 1;
            assert!(items.len() == 2 && items.iter().all(completed), "{items:?}");
            let row = store.maps(&[id]).unwrap().remove(0);
            assert_eq!((row.state, row.done, row.running), (MapState::Ended, 2, 0));
        },
    );
}

#[test]
fn k7_either_a_cancel_or_the_last_item_ends_a_map() {
    race(
        config,
        |runner, meeting, calls| {
            let meeting = meeting.clone();
            let item = body(move |assignment| {
                meeting.arrive(assignment.execution, 3);
                done()
            });
            let tasks = vec![
                (map("items"), Some(item)),
                (task("after", &["items"]), Some(calls.body())),
            ];
            define(runner, "mapped", tasks, vec![]);
        },
        |round, callers, store, meeting, calls| {
            let runner = callers.runners[round % 2];
            let id = submit(runner, "mapped");
            meeting.arrive(id, 3);
            let is_cancelled = callers.control(round, id, &Control::Cancel);
            let end = wait(runner, id);
            let expected = if is_cancelled {
                ExecutionStatus::Cancelled
            } else {
                ExecutionStatus::Completed
            };
            assert_eq!(end.record().status, expected);
            let row = store.maps(&[id]).unwrap().remove(0);
            assert_eq!((row.state, row.running), (MapState::Ended, 0));
            let items = items(store, id);
            assert!(
                items.iter().all(|item| item.status.is_terminal()),
                "{items:?}"
            );
            let done = items
                .iter()
                .filter(|item| item.status == TaskStatus::Completed);
            assert_eq!(row.done as usize, done.count());
            assert!(calls.of(id) <= 1);
            assert!(is_cancelled || calls.of(id) == 1);
        },
    );
}

/// Returns the key under which the threads of a round meet. The key is made from the number of the round, because the child
/// does not know its parent's id.
fn meeting_key(round: usize) -> ExecutionId {
    ExecutionId::from_bytes((round as u128).to_be_bytes())
}

#[test]
fn m4_either_the_parents_cancel_or_the_childs_end_counts() {
    race(
        config,
        |runner, meeting, calls| {
            let meeting = meeting.clone();
            let inner = body(move |assignment| {
                let round = assignment.context.get("round").unwrap();
                meeting.arrive(meeting_key(round.decode().unwrap()), 2);
                done()
            });
            define(runner, "inner", vec![(task("a", &[]), Some(inner))], vec![]);
            let tasks = vec![
                (child("c", "inner", ParentEnd::Cancel), None),
                (task("after", &["c"]), Some(calls.body())),
            ];
            define(runner, "outer", tasks, vec![]);
        },
        |round, callers, _, meeting, calls| {
            let runner = callers.runners[round % 2];
            let request = with_input("outer", &format!(r#"{{"round":{round}}}"#));
            let id = runner.submit(vec![request]).unwrap()[0];
            let inner = callers.outside.execution(id).unwrap();
            let inner = inner.node_child(0).unwrap().id;
            meeting.arrive(meeting_key(round), 2);
            let is_cancelled = callers.control(round, id, &Control::Cancel);
            let end = wait(runner, id);
            let expected = if is_cancelled {
                ExecutionStatus::Cancelled
            } else {
                ExecutionStatus::Completed
            };
            assert_eq!(end.record().status, expected);
            assert!(is_cancelled || calls.of(id) == 1);
            until("the child has ended", || {
                callers.status(inner).is_terminal()
            });
        },
    );
}

#[test]
fn m6_parent_retried_at_the_end_of_its_child_still_ends() {
    race(
        config,
        |runner, meeting, calls| {
            let (meeting, seen) = (meeting.clone(), Counter::default());
            // The child runs for about as long as the timeout of its parent. The parent times out, unless the child completes
            // first. The child itself has no timeout.
            let inner = body(move |_| {
                seen.hit();
                let spent =
                    Instant::now() + Duration::from_micros(7_000 + 311 * (seen.get() as u64 % 17));
                while Instant::now() < spent {
                    std::thread::yield_now();
                }
                meeting.met.hit();
                done()
            });
            define(runner, "inner", vec![(task("a", &[]), Some(inner))], vec![]);
            let tasks = vec![
                (child("c", "inner", ParentEnd::Abandon), None),
                (task("after", &["c"]), Some(calls.body())),
            ];
            define(runner, "outer", tasks, vec![]);
        },
        |round, callers, _, _, calls| {
            let runner = callers.runners[round % 2];
            let request = SubmitRequest {
                timeout: Some(10_000),
                ..with_input("outer", "{}")
            };
            let id = runner.submit(vec![request]).unwrap()[0];
            // `status` reads the database. A runner's answer can be stale: it can report an end that a caller's retry has
            // undone.
            let ended = || until("the parent has ended", || callers.status(id).is_terminal());
            for attempt in 0..3 {
                ended();
                if callers.status(id) == ExecutionStatus::Completed {
                    assert!(calls.of(id) >= 1);
                    return;
                }
                let retry = Control::Retry { from_task: None };
                assert!(callers.control(round + attempt, id, &retry));
            }
            ended();
        },
    );
}
