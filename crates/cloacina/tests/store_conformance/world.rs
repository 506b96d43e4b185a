//! Helpers for all cases: a store with a runner and a workflow, and methods that write batches.

use std::any::Any;
use std::sync::Arc;

use cloacina::store::{
    Advance, Batch, ClaimClass, ClaimRequest, Claimed, Committed, QueueId, Store, StoreError,
    Submit, SubmitOutcome, TaskWrite,
};
use cloacina::types::{
    Claim, DefinitionId, Delta, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent,
    Labels, Ordinal, RunnerId, TaskStatus, Timestamp,
};
use cloacina::workflow::Workflow;

pub use super::records::{NOW, SECOND, record_of, runner_row, workflow};

/// A store to test, with a value (its folder) that must live as long as the store.
pub struct Subject {
    pub store: Arc<dyn Store>,
    pub keep: Option<Box<dyn Any>>,
}

/// A store with a runner and a workflow named `etl`.
pub struct World {
    pub store: Arc<dyn Store>,
    pub runner: RunnerId,
    pub workflow: Workflow,
    pub definition: DefinitionId,
    _keep: Option<Box<dyn Any>>,
}

/// Registers a new runner and returns its id.
pub fn register(store: &dyn Store) -> RunnerId {
    let id = RunnerId::generate();
    store.register_runner(&runner_row(id, NOW)).unwrap();
    id
}

/// Returns an event of this kind at `NOW`.
pub fn history(kind: &str) -> HistoryEvent {
    HistoryEvent {
        time: NOW,
        kind: kind.to_owned(),
        task: None,
        attempt: None,
        runner: None,
        data: None,
    }
}

impl World {
    pub fn new(subject: Subject, tasks: usize) -> Self {
        let Subject { store, keep } = subject;
        let workflow = workflow("etl", tasks);
        let definition = store.put_definition(&workflow, NOW).unwrap();
        let runner = register(&*store);
        Self {
            store,
            runner,
            workflow,
            definition,
            _keep: keep,
        }
    }

    /// Returns the queue of the workflow's tasks.
    pub fn queue(&self) -> QueueId {
        QueueId(self.definition.0)
    }

    pub fn record(&self) -> ExecutionRecord {
        record_of(self.definition, self.workflow.len(), NOW)
    }

    /// Returns an execution in which these tasks are ready.
    pub fn ready(&self, ordinals: &[Ordinal]) -> ExecutionRecord {
        let mut record = self.record();
        for ordinal in ordinals {
            record.tasks[*ordinal as usize].status = TaskStatus::Ready;
        }
        record
    }

    /// Returns a running execution whose first task is claimed by `self.runner`.
    pub fn running(&self) -> ExecutionRecord {
        let mut record = self.record();
        record.status = ExecutionStatus::Running;
        record.started_at = Some(NOW);
        let task = &mut record.tasks[0];
        task.status = TaskStatus::Running;
        task.attempt = 1;
        task.runner = Some(self.runner);
        task.started_at = Some(NOW);
        record
    }

    /// Returns the write that inserts the row of a task.
    pub fn insert(&self, ordinal: Ordinal) -> TaskWrite {
        TaskWrite {
            ordinal,
            insert: true,
            fence: None,
            queue: self.queue(),
            priority: 0,
        }
    }

    /// Returns the write that updates the row of a task without checking its claim.
    pub fn update(&self, ordinal: Ordinal) -> TaskWrite {
        TaskWrite {
            insert: false,
            ..self.insert(ordinal)
        }
    }

    /// Returns the write that updates the row of a task only if the task has this claim.
    pub fn fenced(&self, ordinal: Ordinal, runner: RunnerId, attempt: u32) -> TaskWrite {
        TaskWrite {
            fence: Some(Claim {
                runner,
                attempt,
                item: None,
            }),
            ..self.update(ordinal)
        }
    }

    /// Returns an empty batch of `self.runner` at `NOW`.
    pub fn batch<'a>(&self) -> Batch<'a> {
        Batch {
            runner: self.runner,
            now: NOW,
            schedules: vec![],
            flow: cloacina::store::FlowWrites::default(),
            submits: Vec::new(),
            advances: Vec::new(),
            claim: ClaimRequest::default(),
        }
    }

    /// Returns a submission with rows for all tasks that are not pending.
    pub fn submission<'a>(&'a self, record: &'a ExecutionRecord) -> Submit<'a> {
        let tasks = (0..)
            .zip(&record.tasks)
            .filter(|(_, task)| task.status != TaskStatus::Pending);
        let tasks = tasks.map(|(ordinal, _)| TaskWrite {
            priority: record.priority,
            ..self.insert(ordinal)
        });
        Submit {
            record,
            workflow: self.workflow.name(),
            labels: const { &Labels::NONE },
            tasks: tasks.collect(),
            history: &[],
        }
    }

    pub fn submit(&self, record: &ExecutionRecord) -> SubmitOutcome {
        let batch = Batch {
            submits: vec![self.submission(record)],
            ..self.batch()
        };
        self.store.commit(&batch).unwrap().submits[0]
    }

    /// Commits a change of an execution. Returns whether the change was applied.
    pub fn try_advance(
        &self,
        record: &ExecutionRecord,
        expected: i64,
        tasks: Vec<TaskWrite>,
    ) -> Result<bool, StoreError> {
        let advance = Advance {
            record,
            expected,
            tasks,
            history: &[],
            requires: &[],
            steps: None,
        };
        let committed = self.store.commit(&Batch {
            advances: vec![advance],
            ..self.batch()
        })?;
        Ok(committed.advances[0])
    }

    /// Increases the record's revision and writes the record. Returns whether the change was applied.
    pub fn advance(&self, record: &mut ExecutionRecord, tasks: Vec<TaskWrite>) -> bool {
        let expected = record.revision;
        record.revision += 1;
        self.try_advance(record, expected, tasks).unwrap()
    }

    /// Returns a request for at most `limit` tasks of the workflow.
    pub fn class(&self, limit: usize) -> ClaimClass {
        ClaimClass {
            queues: vec![self.queue()],
            excluded: Vec::new(),
            limit,
        }
    }

    /// Commits a batch that only requests claims for these classes.
    pub fn request(&self, classes: Vec<ClaimClass>, now: Timestamp) -> Committed {
        self.store
            .commit(&Batch {
                now,
                claim: ClaimRequest { classes },
                ..self.batch()
            })
            .unwrap()
    }

    /// Claims at most `limit` tasks of the workflow at `NOW`.
    pub fn claim(&self, limit: usize) -> Vec<Claimed> {
        self.request(vec![self.class(limit)], NOW).claimed
    }

    pub fn load(&self, id: ExecutionId) -> ExecutionRecord {
        let mut records = self.store.load(&[id]).unwrap();
        assert_eq!(records.len(), 1);
        records.remove(0)
    }

    /// Completes the first task and ends the execution with this status. Returns whether the change was applied.
    pub fn finish(
        &self,
        record: &mut ExecutionRecord,
        status: ExecutionStatus,
        at: Timestamp,
    ) -> bool {
        let task = &mut record.tasks[0];
        let attempt = task.attempt;
        task.status = TaskStatus::Completed;
        task.ended_at = Some(at);
        task.delta = Some(Arc::new(Delta::default()));
        record.status = status;
        record.ended_at = Some(at);
        let write = self.fenced(0, self.runner, attempt);
        self.advance(record, vec![write])
    }

    /// Submits an execution, ends it, and returns its record.
    pub fn ended(&self, status: ExecutionStatus, at: Timestamp) -> ExecutionRecord {
        let mut record = self.running();
        self.submit(&record);
        assert!(self.finish(&mut record, status, at));
        record
    }
}

/// Returns a record as `load` returns it: `stored` is set for tasks with rows.
pub fn as_stored(record: &ExecutionRecord) -> ExecutionRecord {
    let mut record = record.clone();
    for task in &mut record.tasks {
        task.stored = task.status != TaskStatus::Pending;
    }
    record
}
