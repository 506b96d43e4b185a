//! The stores against each other: random histories of batches and verbs must give the same answers everywhere.

use std::sync::Arc;

use cloacina::store::memory::MemoryStore;
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::store::{
    Advance, Batch, ClaimClass, ClaimRequest, ListQuery, QueueId, Store, StoreError, Submit,
    TaskWrite,
};
use cloacina::types::{
    Claim, Context, DefinitionId, Delta, ExecutionId, ExecutionRecord, ExecutionStatus, Failure,
    FailureKind, HistoryEvent, Json, Ordinal, RunnerId, Skip, SkipCause, TaskRecord, TaskStatus,
    Timestamp,
};
use cloacina::workflow::TaskKind;
use fastrand::Rng;

use crate::world::{NOW, history, record_of, runner_row, workflow};

const NAMES: [&str; 3] = ["etl", "other", "third"];
const TASKS: usize = 4;

struct Pair {
    rng: Rng,
    memory: MemoryStore,
    sqlite: SqliteStore,
    now: Timestamp,
    definitions: Vec<(DefinitionId, &'static str)>,
    runners: Vec<RunnerId>,
    executions: Vec<ExecutionId>,
}

/// Errors compare by their kind: the words differ.
fn kind<T>(result: Result<T, StoreError>) -> Result<T, &'static str> {
    result.map_err(|error| match error {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Failed(_) => "failed",
        StoreError::Refused(_) => "refused",
        StoreError::TooLarge(_) => "too large",
        StoreError::Corrupt(_) => "corrupt",
        StoreError::Migration(_) => "migration",
        StoreError::RunnerLost => "runner lost",
    })
}

impl Pair {
    fn new(seed: u64) -> Self {
        let memory = MemoryStore::new();
        let sqlite = SqliteStore::open(&SqliteOptions::memory()).unwrap();
        let mut pair = Self {
            rng: Rng::with_seed(seed),
            memory,
            sqlite,
            now: NOW,
            definitions: Vec::new(),
            runners: Vec::new(),
            executions: Vec::new(),
        };
        for name in NAMES {
            let workflow = workflow(name, TASKS);
            let id = pair
                .both(|store| store.put_definition(&workflow, NOW))
                .unwrap();
            pair.definitions.push((id, name));
        }
        pair.register();
        pair.register();
        pair
    }

    fn both<T: PartialEq + std::fmt::Debug>(
        &self,
        verb: impl Fn(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, &'static str> {
        let (one, two) = (kind(verb(&self.memory)), kind(verb(&self.sqlite)));
        assert_eq!(one, two, "memory left, SQLite right");
        one
    }

    fn register(&mut self) {
        let row = runner_row(RunnerId::generate());
        self.both(|store| store.register_runner(&row)).unwrap();
        self.runners.push(row.id);
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())]
    }

    fn runner(&mut self) -> RunnerId {
        let runners = self.runners.clone();
        self.pick(&runners)
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.rng.bool().then(|| self.now + self.rng.i64(-50..50))
    }

    fn queue_of(&mut self, definition: DefinitionId) -> QueueId {
        let kind = self.pick(&[TaskKind::Sync, TaskKind::Async]);
        QueueId::new(definition, kind)
    }

    fn task(&mut self, old: &TaskRecord, runner: RunnerId) -> TaskRecord {
        let status = self.pick(TaskStatus::ALL);
        let failed = Failure::engine(FailureKind::TaskTimeout, "é\u{0}\"");
        let delta = format!(r#"{{"s":{{"k{}":1e400}}}}"#, self.rng.u8(..));
        TaskRecord {
            status,
            attempt: old.attempt + u32::from(status == TaskStatus::Running),
            uncounted: self.rng.u32(0..3),
            rescues: self.rng.u32(0..3),
            runner: (status == TaskStatus::Running || self.rng.bool()).then_some(runner),
            ready_at: self.time(),
            started_at: self.time(),
            ended_at: self.time(),
            delta: self
                .rng
                .bool()
                .then(|| Arc::new(Delta::from_json(&delta).unwrap())),
            error: self.rng.bool().then_some(failed),
            skip: self.rng.bool().then(|| Skip {
                cause: SkipCause::Ended,
                reason: "r".to_owned(),
            }),
            stored: old.stored,
        }
    }

    fn new_execution(
        &mut self,
        runner: RunnerId,
    ) -> (ExecutionRecord, &'static str, Vec<TaskWrite>) {
        let definitions = self.definitions.clone();
        let (definition, name) = self.pick(&definitions);
        let mut record = record_of(definition, TASKS);
        record.created_at = self.now;
        record.priority = self.pick(&[0, 0, 0, 5, -5]);
        record.status = self.pick(&[ExecutionStatus::Pending, ExecutionStatus::Running]);
        record.deadline = self.time();
        record.key = (self.rng.u8(..) < 80).then(|| format!("key{}", self.rng.u8(0..6)));
        if self.rng.bool() {
            record.input =
                Arc::new(Context::from_json(r#"{"a":12345678901234567890123}"#).unwrap());
        }
        let mut writes = Vec::new();
        for ordinal in 0..TASKS {
            if self.rng.bool() {
                record.tasks[ordinal] = self.task(&TaskRecord::pending(), runner);
                writes.push(self.write(definition, ordinal, true, None, record.priority));
            }
        }
        self.settle(&mut record);
        (record, name, writes)
    }

    fn write(
        &mut self,
        definition: DefinitionId,
        ordinal: usize,
        insert: bool,
        fence: Option<Claim>,
        priority: i16,
    ) -> TaskWrite {
        let queue = self.queue_of(definition);
        TaskWrite {
            ordinal: Ordinal::try_from(ordinal).unwrap(),
            insert,
            fence,
            queue,
            priority,
        }
    }

    /// Keeps what the engine keeps: a task is ready only in an open execution that is not paused, it runs only in one that
    /// runs or is paused, and what has ended has an end.
    fn settle(&mut self, record: &mut ExecutionRecord) {
        let has = |status| record.tasks.iter().any(|task| task.status == status);
        let other = match (has(TaskStatus::Ready), has(TaskStatus::Running)) {
            (true, true) => ExecutionStatus::Running,
            (true, false) => ExecutionStatus::Pending,
            (false, true) => ExecutionStatus::Paused,
            (false, false) => record.status,
        };
        if has(TaskStatus::Ready) || has(TaskStatus::Running) {
            record.status = self.pick(&[ExecutionStatus::Running, other]);
        }
        record.ended_at = record.status.is_terminal().then_some(self.now);
    }

    /// A decision about an execution: mostly a sound one.
    fn decision(&mut self, runner: RunnerId) -> Option<(ExecutionRecord, i64, Vec<TaskWrite>)> {
        let ids = self.executions.clone();
        let id = if ids.is_empty() {
            return None;
        } else {
            self.pick(&ids)
        };
        let mut record = self.memory.load(&[id]).unwrap().pop()?;
        let expected = record.revision - i64::from(self.rng.u8(..) < 20);
        record.revision += 1;
        record.status = self.pick(ExecutionStatus::ALL);
        record.started_at = self.time();
        record.deadline = self.time();
        record.paused_at = self.time();
        record.error = self.rng.bool().then(|| {
            (
                self.time().map(|_| 1),
                Failure::engine(FailureKind::Rule, "x"),
            )
        });
        let mut writes = Vec::new();
        for ordinal in 0..TASKS {
            if !self.rng.bool() {
                continue;
            }
            let old = record.tasks[ordinal].clone();
            record.tasks[ordinal] = self.task(&old, runner);
            let mut fence = old.claim();
            let mut insert = !old.stored;
            if self.rng.u8(..) < 8 {
                insert = !insert;
            }
            if self.rng.u8(..) < 8 {
                fence = Some(Claim { runner, attempt: 1 });
            }
            let priority = record.priority;
            writes.push(self.write(record.definition, ordinal, insert, fence, priority));
        }
        self.settle(&mut record);
        Some((record, expected, writes))
    }

    fn classes(&mut self) -> Vec<ClaimClass> {
        let count = self.rng.usize(0..3);
        let definitions = self.definitions.clone();
        (0..count)
            .map(|_| {
                let queues = (0..self.rng.usize(0..4))
                    .map(|_| {
                        let (definition, _) = self.pick(&definitions);
                        self.queue_of(definition)
                    })
                    .collect::<Vec<_>>();
                let excluded = queues
                    .iter()
                    .filter(|_| self.rng.u8(..) < 60)
                    .map(|queue| (*queue, 1))
                    .collect();
                ClaimClass {
                    queues,
                    excluded,
                    limit: self.rng.usize(0..5),
                }
            })
            .collect()
    }

    fn events(&mut self, runner: RunnerId) -> Vec<HistoryEvent> {
        let full = HistoryEvent {
            task: Some(self.rng.u32(..)),
            attempt: Some(1),
            runner: Some(runner),
            data: Json::parse("[1.10]").ok(),
            ..history("task_retrying")
        };
        self.pick(&[0_u8, 1, 2])
            .checked_sub(1)
            .map_or_else(Vec::new, |rest| {
                let mut events = vec![full];
                events.resize(1 + usize::from(rest), history("paused"));
                events
            })
    }

    fn batch(&mut self) {
        let runner = self.runner();
        let new: Vec<_> = (0..self.rng.usize(0..3))
            .map(|_| self.new_execution(runner))
            .collect();
        let decided: Vec<_> = (0..self.rng.usize(0..3))
            .filter_map(|_| self.decision(runner))
            .collect();
        let events = self.events(runner);
        let classes = self.classes();
        let make = || Batch {
            runner,
            now: self.now,
            schedules: vec![],
            submits: new
                .iter()
                .map(|(record, workflow, tasks)| Submit {
                    record,
                    workflow,
                    tasks: tasks.clone(),
                    history: &events,
                })
                .collect(),
            advances: decided
                .iter()
                .map(|(record, expected, tasks)| Advance {
                    record,
                    expected: *expected,
                    tasks: tasks.clone(),
                    history: &events,
                })
                .collect(),
            claim: ClaimRequest {
                classes: classes.clone(),
            },
        };
        // The outcome may be an error: it must be the same one, and leave the same behind.
        let _ = self.both(|store| store.commit(&make()));
        self.executions
            .extend(new.iter().map(|(record, _, _)| record.id));
    }

    fn other_verb(&mut self) {
        let runner = self.runner();
        let (now, lease) = (self.now, runner_row(runner).lease_until);
        match self.rng.u8(0..6) {
            0 => drop(self.both(|store| store.heartbeat(runner, now, lease))),
            1 => drop(self.both(|store| store.declare_dead(runner, lease, now))),
            2 => drop(self.both(|store| store.retire_runner(runner))),
            3 => {
                let limit = self.rng.usize(0..4);
                let before = self.now + self.rng.i64(-30..5);
                let _ = self.both(|store| store.prune(before, limit));
            }
            _ => self.register(),
        }
    }

    fn compare(&mut self) {
        let (ids, runners, now) = (self.executions.clone(), self.runners.clone(), self.now);
        self.both(|store| store.load(&ids)).unwrap();
        self.both(|store| store.statuses(&ids)).unwrap();
        self.both(|store| store.overdue(now))
            .map(|mut due| due.executions.sort_unstable())
            .unwrap();
        self.both(|store| store.runners()).unwrap();
        self.both(|store| store.dead_runners()).unwrap();
        for id in ids.iter().rev().take(3) {
            self.both(|store| store.history(*id)).unwrap();
        }
        for runner in runners {
            self.both(|store| store.claims_of(runner)).unwrap();
        }
        let query = ListQuery {
            workflow: self.rng.bool().then(|| self.pick(&NAMES).to_owned()),
            statuses: ExecutionStatus::ALL
                .iter()
                .copied()
                .filter(|_| self.rng.u8(..) < 60)
                .collect(),
            definitions: self.rng.bool().then(|| {
                self.definitions[..self.rng.usize(0..3)]
                    .iter()
                    .map(|(id, _)| *id)
                    .collect()
            }),
            since: self.rng.bool().then(|| self.now + self.rng.i64(-60..5)),
            before: if self.rng.bool() && !ids.is_empty() {
                Some(self.pick(&ids))
            } else {
                None
            },
            limit: self.rng.usize(0..8),
        };
        self.both(|store| store.list(&query)).unwrap();
    }
}

#[test]
fn random_histories_give_the_same_answers() {
    let seeds = std::env::var("STORE_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(60);
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| {
            let mut pair = Pair::new(seed);
            for _ in 0..80 {
                pair.now = pair.now + pair.rng.i64(0..4);
                if pair.rng.u8(..) < 200 {
                    pair.batch();
                } else {
                    pair.other_verb();
                }
                pair.compare();
            }
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}
