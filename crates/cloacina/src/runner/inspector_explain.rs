//! Explains why an execution waits, or why a schedule does not fire, without a runner.

use std::collections::BTreeSet;

use super::Inspector;
use crate::engine::{DiagnosisInput, Execution, Reason, RunningTask, explain};
use crate::types::{
    Error, ErrorCode, ExecutionId, ExecutionStatus, Offer, Presence, RunnerId, ScheduleId,
    TaskRecord, TaskStatus,
};

/// Maximum number of executions with claims of a runner that are read to explain what its workers run, oldest first.
const MAX_CLAIMS: usize = 1_000;

impl Inspector {
    /// Returns the reasons why an execution waits or has ended: see [`explain`](crate::engine::explain).
    ///
    /// `own`: the handlers of this process, which may not be stored in the database yet.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn explain(&self, id: ExecutionId, own: &[Offer]) -> Result<Vec<Reason>, Error> {
        let execution = self.execution(id)?;
        let runners = self.runners()?;
        let mut offers = self.store.offers(execution.workflow().name())?;
        offers.extend(
            own.iter()
                .filter(|offer| offer.workflow == execution.workflow().name())
                .cloned(),
        );
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

    /// The reason that the final tasks of an execution have not completed, if so (Q4).
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

    /// The attempts of the runners whose workers a task waits for.
    fn running_on(&self, reasons: &[Reason]) -> Result<Vec<RunningTask>, Error> {
        let awaited = reasons.iter().filter_map(Reason::waits_for_worker_of);
        let mut running = Vec::new();
        for runner in awaited.collect::<BTreeSet<RunnerId>>() {
            let mut ids = self.store.claims_of(runner)?;
            ids.sort_unstable();
            ids.truncate(MAX_CLAIMS);
            for record in self.store.outlines(&ids)? {
                // One that cannot be read does not matter here.
                let restored = self.restore(vec![record]).unwrap_or_default();
                running.extend(restored.iter().flat_map(|found| running_in(found, runner)));
            }
        }
        Ok(running)
    }

    /// Explains the execution, schedule or trigger with an id, in sentences.
    ///
    /// # Errors
    /// `ExecutionNotFound` when nothing has the id; `Database` or `Connection`.
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

    /// The reason that the schedule which started an execution no longer fires, if so.
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

/// The tasks of an execution that workers of a runner run.
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
