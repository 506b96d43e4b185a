//! Measures the store alone, with executions of one task: `cargo run --release -p cloacina --example store_timing`.
//!
//! Prints the time of the fastest of several rounds, in microseconds per execution; for idle claims, in microseconds per commit.
//! On a busy machine, other processes affect the fastest round least. The first argument selects one store. The second argument
//! names a database file, for example a file with many executions or with another schema; each file store that is
//! measured starts as a copy of this file.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the program prints its results, and a failure may end it"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloacina::store::sqlite::{SqliteOptions, SqliteStore, Synchronous};
use cloacina::store::{
    Advance, Batch, ClaimClass, ClaimRequest, QueueId, RunnerRow, Store, Submit, TaskWrite,
};
use cloacina::types::{
    Claim, Context, DefinitionId, Delta, ExecutionId, ExecutionRecord, ExecutionStatus, RunnerId,
    TaskRecord, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

/// The number of executions that one commit submits or claims.
const BATCH: usize = 100;
/// The number of rounds of each measurement.
const ROUNDS: usize = 5;
/// The minimum duration of a round.
const ROUND: Duration = Duration::from_millis(600);
const NOW: Timestamp = Timestamp(1_750_000_000_000_000);

type MakeStore = Box<dyn Fn() -> Arc<dyn Store>>;

/// A store in which a workflow and a runner are registered.
struct Bench {
    store: Arc<dyn Store>,
    runner: RunnerId,
    definition: DefinitionId,
}

impl Bench {
    fn new(store: Arc<dyn Store>) -> Self {
        let workflow = Workflow::new(WorkflowDefinition {
            name: "benchmark.workflow".to_owned(),
            tenant: "public".to_owned(),
            package: "embedded".to_owned(),
            tasks: vec![TaskDefinition {
                id: "task".to_owned(),
                ..TaskDefinition::default()
            }],
            ..WorkflowDefinition::default()
        })
        .unwrap();
        let definition = store.put_definition(&workflow, NOW).unwrap();
        let runner = RunnerId::generate();
        let row = RunnerRow {
            id: runner,
            host: "host".to_owned(),
            pid: 1,
            pid_started: 1,
            started_at: NOW,
            heartbeat_at: NOW,
            lease_until: NOW,
            workflows: vec![],
        };
        store.register_runner(&row).unwrap();
        Self {
            store,
            runner,
            definition,
        }
    }

    fn queue(&self) -> QueueId {
        QueueId(self.definition.0)
    }

    fn new_record(&self, claimed: bool) -> ExecutionRecord {
        let mut task = TaskRecord::pending();
        task.status = TaskStatus::Ready;
        if claimed {
            task.status = TaskStatus::Running;
            task.attempt = 1;
            task.runner = Some(self.runner);
            task.started_at = Some(NOW);
        }
        ExecutionRecord {
            id: ExecutionId::generate(),
            definition: self.definition,
            revision: 1,
            status: if claimed {
                ExecutionStatus::Running
            } else {
                ExecutionStatus::Pending
            },
            priority: 0,
            key: None,
            input: Arc::new(Context::new()),
            created_at: NOW,
            start_at: None,
            started_at: claimed.then_some(NOW),
            ended_at: None,
            timeout: None,
            deadline: None,
            paused_at: None,
            parent: None,
            finale: None,
            error: None,
            tasks: vec![task],
        }
    }

    fn write(&self, insert: bool, attempt: Option<u32>) -> TaskWrite {
        let fence = attempt.map(|attempt| Claim {
            runner: self.runner,
            attempt,
            item: None,
        });
        TaskWrite {
            ordinal: 0,
            insert,
            fence,
            queue: self.queue(),
            priority: 0,
        }
    }

    fn submit<'a>(&self, record: &'a ExecutionRecord) -> Submit<'a> {
        Submit {
            record,
            workflow: "benchmark.workflow",
            labels: &cloacina::types::Labels::NONE,
            tasks: vec![self.write(true, None)],
            history: &[],
        }
    }

    fn end(record: &mut ExecutionRecord) {
        record.revision += 1;
        record.status = ExecutionStatus::Completed;
        record.ended_at = Some(NOW + 1);
        let task = &mut record.tasks[0];
        task.status = TaskStatus::Completed;
        task.ended_at = Some(NOW + 1);
        task.delta = Some(Arc::new(Delta::default()));
    }

    fn commit(
        &self,
        submits: &[ExecutionRecord],
        ended: &[ExecutionRecord],
        claim: usize,
    ) -> Vec<ExecutionId> {
        let classes = vec![ClaimClass {
            queues: vec![self.queue()],
            excluded: vec![],
            limit: claim,
        }];
        let batch = Batch {
            runner: self.runner,
            now: NOW,
            schedules: vec![],
            flow: cloacina::store::FlowWrites::default(),
            submits: submits.iter().map(|record| self.submit(record)).collect(),
            advances: ended
                .iter()
                .map(|record| Advance {
                    record,
                    expected: record.revision - 1,
                    tasks: vec![self.write(false, Some(1))],
                    history: &[],
                    requires: &[],
                    steps: None,
                })
                .collect(),
            claim: ClaimRequest {
                classes: if claim > 0 { classes } else { vec![] },
            },
        };
        let committed = self.store.commit(&batch).unwrap();
        assert!(committed.advances.iter().all(|applied| *applied));
        committed
            .claimed
            .iter()
            .map(|claim| claim.execution)
            .collect()
    }

    /// Measures commits that each submit a batch with claimed tasks and complete the previous batch.
    fn submit_claimed(&self) -> f64 {
        let mut previous: Vec<ExecutionRecord> = Vec::new();
        per_execution(|| {
            let fresh: Vec<ExecutionRecord> = (0..BATCH).map(|_| self.new_record(true)).collect();
            self.commit(&fresh, &previous, 0);
            previous = fresh;
            previous.iter_mut().for_each(Self::end);
        })
    }

    /// Measures commits that each submit a batch, complete the executions that the previous commit claimed, and claim
    /// new executions. The claimed executions are then loaded.
    fn submit_unclaimed(&self) -> f64 {
        let mut claimed: Vec<ExecutionRecord> = Vec::new();
        per_execution(|| {
            let fresh: Vec<ExecutionRecord> = (0..BATCH).map(|_| self.new_record(false)).collect();
            let ids = self.commit(&fresh, &claimed, BATCH);
            claimed = self.store.load(&ids).unwrap();
            claimed.iter_mut().for_each(Self::end);
        })
    }

    /// Measures one execution at a time: one commit submits and claims it, a second commit completes it.
    fn one_by_one(&self) -> f64 {
        per_execution(|| {
            let mut record = [self.new_record(true)];
            self.commit(&record, &[], 0);
            Self::end(&mut record[0]);
            self.commit(&[], &record, 0);
        }) * f64::from(u32::try_from(BATCH).unwrap())
    }

    /// Measures commits that try to claim work although no task is ready. Returns microseconds per commit.
    fn idle_claim(&self) -> f64 {
        per_execution(|| {
            self.commit(&[], &[], BATCH);
        }) * f64::from(u32::try_from(BATCH).unwrap())
    }
}

/// Returns the time of the fastest round, in microseconds per execution, if each call of `commit` handles `BATCH` executions.
#[expect(clippy::cast_precision_loss, reason = "the figures are rounded anyway")]
fn per_execution(mut commit: impl FnMut()) -> f64 {
    for _ in 0..3 {
        commit();
    }
    let rounds = (0..ROUNDS).map(|_| {
        let (start, mut commits) = (Instant::now(), 0);
        while start.elapsed() < ROUND {
            commit();
            commits += 1;
        }
        start.elapsed().as_secs_f64() * 1e6 / (commits * BATCH) as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

fn main() {
    let only: Option<String> = std::env::args().nth(1);
    let template: Option<String> = std::env::args().nth(2);
    let folder = tempfile::tempdir_in(".").unwrap();
    let mut makers: HashMap<&str, MakeStore> = HashMap::new();
    makers.insert(
        "sqlite :memory:",
        Box::new(|| Arc::new(SqliteStore::open(&SqliteOptions::memory()).unwrap())),
    );
    for (name, synchronous) in [
        ("sqlite full", Synchronous::Full),
        ("sqlite normal", Synchronous::Normal),
    ] {
        let (folder, template) = (folder.path().to_owned(), template.clone());
        makers.insert(
            name,
            Box::new(move || {
                let path = folder.join(ExecutionId::generate().to_string());
                if let Some(template) = &template {
                    std::fs::copy(template, &path).unwrap();
                }
                let options = SqliteOptions {
                    synchronous,
                    ..SqliteOptions::file(path)
                };
                Arc::new(SqliteStore::open(&options).unwrap())
            }),
        );
    }
    let mut names: Vec<&str> = makers.keys().copied().collect();
    names.sort_unstable();
    println!(
        "{:<18}{:>16}{:>18}{:>10}{:>14}",
        "µs per execution", "submit claimed", "submit, claim", "one by one", "idle claim"
    );
    for name in names
        .into_iter()
        .filter(|name| only.as_deref().is_none_or(|only| only == *name))
    {
        let claimed = Bench::new(makers[name]()).submit_claimed();
        let unclaimed = Bench::new(makers[name]()).submit_unclaimed();
        let bench = Bench::new(makers[name]());
        println!(
            "{name:<18}{claimed:>16.1}{unclaimed:>18.1}{:>10.1}{:>14.1}",
            bench.one_by_one(),
            bench.idle_claim()
        );
    }
}
