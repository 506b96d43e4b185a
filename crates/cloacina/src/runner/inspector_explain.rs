//! Explains, without a runner, why an execution waits or why a schedule does not fire.

use std::collections::{BTreeSet, HashMap};

use super::Inspector;
use crate::engine::{DiagnosisInput, Execution, Reason, RunningTask, explain};
use crate::types::{
    Error, ErrorCode, ExecutionId, ExecutionStatus, Offer, Presence, RunnerId, ScheduleId,
    TaskRecord, TaskStatus,
};

/// Maximum number of executions that are read to find the tasks that are running on a runner. The oldest executions with
/// claims of this runner are read.
const MAX_CLAIMS: usize = 1_000;

/// An execution with the reasons why it waits or has ended.
#[derive(Clone, Debug)]
pub struct ExplainedExecution {
    /// The execution.
    pub id: ExecutionId,
    /// The name of its workflow.
    pub workflow: String,
    /// The reasons.
    pub reasons: Vec<Reason>,
}

impl Inspector {
    /// Returns the reasons why each of these executions waits or has ended, in the order of `ids`. Executions that do not
    /// exist or cannot be read are left out.
    ///
    /// To keep the cost low, the reasons have less detail than those of [`explain`](Self::explain): they do not name the tasks
    /// that occupy the workers of a runner, and do not count signals that were sent with other keys.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn explain_many(&self, ids: &[ExecutionId]) -> Result<Vec<ExplainedExecution>, Error> {
        let runners = self.runners()?.into_iter();
        let runners: Vec<Presence> = runners.map(|view| view.presence).collect();
        let mut offers: HashMap<String, Vec<Offer>> = HashMap::new();
        let mut explained = Vec::new();
        for record in self.store.outlines(ids)? {
            let Some(execution) = self.restore(vec![record]).unwrap_or_default().pop() else {
                continue;
            };
            let workflow = execution.workflow().name();
            if !offers.contains_key(workflow) {
                offers.insert(workflow.to_owned(), self.store.offers(workflow)?);
            }
            let input = DiagnosisInput {
                runners: &runners,
                offers: offers.get(workflow).map(Vec::as_slice).unwrap_or_default(),
                running: &[],
                maps: &self.maps_of(&execution)?,
                now: self.now(),
            };
            explained.push(ExplainedExecution {
                id: execution.record().id,
                workflow: workflow.to_owned(),
                reasons: explain(&execution, &input),
            });
        }
        Ok(explained)
    }

    /// Returns at most `limit` executions that have due tasks or maps with due items. Reads the first `per_queue` due tasks
    /// of each queue and the first `per_queue` such maps. Because each queue has its own limit, executions of a workflow that no
    /// runner knows are found even if many other executions are open.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn ready_executions(
        &self,
        per_queue: usize,
        limit: usize,
    ) -> Result<Vec<ExecutionId>, Error> {
        Ok(self.store.ready_executions(self.now(), per_queue, limit)?)
    }

    /// Returns the reasons why an execution waits or has ended: see [`explain`](crate::engine::explain).
    ///
    /// `own`: the handlers of this process. They may not be stored in the database yet.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn explain(&self, id: ExecutionId, own: &[Offer]) -> Result<Vec<Reason>, Error> {
        let execution = self.execution(id)?;
        let runners = self.runners()?;
        let mut offers = self.store.offers(execution.workflow().name())?;
        let workflow = execution.workflow().name();
        for offer in own.iter().filter(|offer| offer.workflow == workflow) {
            offers.retain(|stored| stored.runner != offer.runner);
            offers.push(offer.clone());
        }
        let maps = self.maps_of(&execution)?;
        let presences: Vec<Presence> = runners.into_iter().map(|view| view.presence).collect();
        let input = DiagnosisInput {
            runners: &presences,
            offers: &offers,
            running: &[],
            maps: &maps,
            now: self.now(),
        };
        let mut reasons = explain(&execution, &input);
        self.count_other_signals(&mut reasons)?;
        let running = self.running_on(&reasons)?;
        if !running.is_empty() {
            let input = DiagnosisInput {
                running: &running,
                ..input
            };
            reasons = explain(&execution, &input);
        }
        reasons.extend(self.final_tasks(&execution)?);
        reasons.extend(self.schedule_off(&execution)?);
        Ok(reasons)
    }

    /// Q4: if the final tasks of the execution have not completed, returns the reason that reports this.
    fn final_tasks(&self, execution: &Execution) -> Result<Option<Reason>, Error> {
        let link = execution.record().finale.as_deref();
        let Some(id) = link.and_then(|link| Some(link.finale.as_ref()?.id)) else {
            return Ok(None);
        };
        let Some(finale) = self.restore(self.store.outlines(&[id])?)?.pop() else {
            return Ok(None);
        };
        let record = finale.record();
        let error = record.error.as_ref().map(|(task, failure)| {
            let task = task.map(|task| finale.workflow().task(task).id.clone());
            (task, failure.clone())
        });
        let is_done = record.status == ExecutionStatus::Completed;
        Ok((!is_done).then_some(Reason::FinalTasks {
            execution: id,
            status: record.status,
            error,
        }))
    }

    /// Returns the attempts that occupy the workers for which a task waits.
    fn running_on(&self, reasons: &[Reason]) -> Result<Vec<RunningTask>, Error> {
        let awaited = reasons.iter().filter_map(Reason::waits_for_worker_of);
        let mut running = Vec::new();
        for runner in awaited.collect::<BTreeSet<RunnerId>>() {
            let mut ids = self.store.claims_of(runner)?;
            ids.sort_unstable();
            ids.truncate(MAX_CLAIMS);
            for record in self.store.outlines(&ids)? {
                // An execution that cannot be read is left out.
                let restored = self.restore(vec![record]).unwrap_or_default();
                running.extend(restored.iter().flat_map(|found| running_in(found, runner)));
            }
        }
        Ok(running)
    }

    /// Explains, in sentences, the execution, schedule or trigger that has this id.
    ///
    /// # Errors
    /// `ExecutionNotFound` if no execution, schedule or trigger has the id; `Database` or `Connection`.
    pub fn explain_id(&self, id: ExecutionId, own: &[Offer]) -> Result<Vec<String>, Error> {
        let unknown = match self.explain(id, own) {
            Err(error) if error.code == ErrorCode::ExecutionNotFound => error,
            answer => {
                let now = self.now();
                return Ok(answer?.iter().map(|reason| reason.sentence(now)).collect());
            }
        };
        let workflows: Vec<String> = own.iter().map(|offer| offer.workflow.clone()).collect();
        let of_schedule = self.explain_schedule(ScheduleId::from(id.uuid()), &workflows)?;
        let now = self.now();
        let sentences =
            of_schedule.map(|reasons| reasons.iter().map(|reason| reason.sentence(now)).collect());
        sentences.ok_or(unknown)
    }

    /// If a schedule started the execution and is now disabled or deleted, returns the reason that reports this.
    fn schedule_off(&self, execution: &Execution) -> Result<Option<Reason>, Error> {
        let input = &execution.record().input;
        let Some(id) = input
            .get("schedule_id")
            .and_then(|id| serde_json::from_str::<String>(id.as_str()).ok())
            .and_then(|id| id.parse::<ScheduleId>().ok())
        else {
            return Ok(None);
        };
        let schedule = self
            .store
            .schedule(id)?
            .filter(|schedule| !schedule.enabled);
        Ok(schedule.map(|schedule| Reason::ScheduleOff {
            schedule: id,
            deleted: schedule.deleted_at.is_some(),
        }))
    }
}

/// Returns the tasks of an execution that workers of a runner are running.
fn running_in(execution: &Execution, runner: RunnerId) -> impl Iterator<Item = RunningTask> {
    let workflow = execution.workflow();
    let tasks = execution
        .record()
        .tasks
        .iter()
        .zip(&workflow.definition().tasks);
    let is_running =
        move |task: &TaskRecord| task.status == TaskStatus::Running && task.runner == Some(runner);
    let running = tasks.filter(move |(task, _)| is_running(task));
    running.map(move |(_, definition)| RunningTask {
        runner,
        workflow: workflow.name().to_owned(),
        task: definition.id.clone(),
        kind: definition.kind,
    })
}
