//! Reports of running tasks (progress and log lines), and announcements that executions have ended.

use std::sync::Arc;

use cloacina::runner::EngineHandle;
use cloacina::runtime::Message;
use cloacina::types::{Error, ExecutionId, LogChunk, LogLine, Progress, Timestamp};

use crate::events::{SupervisorEvent, SupervisorQueue};
use crate::work::Work;

/// Adds the progress of an attempt to the progress buffer. Does nothing for a callback.
pub fn note_progress(
    engine: &EngineHandle,
    work: &Work,
    done: f64,
    total: f64,
    message: Option<String>,
) {
    if let Some(assignment) = work.assignment() {
        let first = assignment.insight.note_progress(Progress {
            execution: assignment.execution,
            task: assignment.task,
            attempt: assignment.claim.attempt,
            done,
            total,
            // PostgreSQL refuses NUL characters in text.
            message: message.map(|message| message.replace('\0', "\u{fffd}")),
            time: engine.now(),
        });
        poke(engine, work, first);
    }
}

/// Adds log lines of an attempt to the progress buffer. Does nothing for a callback.
pub fn note_logs(engine: &EngineHandle, work: &Work, lines: Vec<(i64, i64, String, String)>) {
    if let Some(assignment) = work.assignment() {
        let lines = lines
            .into_iter()
            .map(|(time, level, logger, message)| LogLine {
                time: Timestamp(time),
                level,
                logger,
                message,
            });
        let first = assignment.insight.note_logs(LogChunk {
            execution: assignment.execution,
            task: assignment.task,
            attempt: assignment.claim.attempt,
            lines: lines.collect(),
        });
        poke(engine, work, first);
    }
}

/// Wakes the coordinator of the work's runner if this is the `first` report in the progress buffer.
fn poke(engine: &EngineHandle, work: &Work, first: bool) {
    if first {
        match work.slot() {
            Some(slot) => slot.report(Message::Poke),
            None => engine.report(Message::Poke),
        }
    }
}

/// Sends the supervisor thread an event when an execution ends, or at once if it has ended already.
pub fn announce_end(
    engine: &EngineHandle,
    id: ExecutionId,
    supervisor: Arc<SupervisorQueue>,
) -> Result<(), Error> {
    engine.when_ended(id, move |ended| {
        // An error means that the runner has shut down.
        if let Ok(execution) = ended {
            let record = execution.record();
            supervisor.push(SupervisorEvent::Ended {
                execution: id.to_string(),
                status: record.status.name(),
                ended_at_us: record.ended_at.map(|at| at.0),
                error: record
                    .error
                    .as_ref()
                    .map(|(_, failure)| format!("{}: {}", failure.kind, failure.message)),
            });
        }
    })?;
    Ok(())
}
