//! What tasks say of themselves, and what is told of executions, on the way between Python and the engine.

use std::sync::Arc;

use cloacina::runner::EngineHandle;
use cloacina::runtime::Message;
use cloacina::types::{Error, ExecutionId, LogChunk, LogLine, Progress, Timestamp};

use crate::supervision::{Event, Supervision};
use crate::work::Work;

/// Takes note of how far an attempt is. A callback has none.
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
            // PostgreSQL keeps no NUL character in a text.
            message: message.map(|message| message.replace('\0', "\u{fffd}")),
            time: engine.now(),
        });
        poke(engine, work, first);
    }
}

/// Takes log lines of an attempt.
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

/// Tells the coordinator of the runner whose work it is that something waits to be written.
fn poke(engine: &EngineHandle, work: &Work, first: bool) {
    if first {
        match work.slot() {
            Some(slot) => slot.report(Message::Poke),
            None => engine.report(Message::Poke),
        }
    }
}

/// Has the supervisor thread told of the end of an execution.
pub fn announce_end(
    engine: &EngineHandle,
    id: ExecutionId,
    supervision: Arc<Supervision>,
) -> Result<(), Error> {
    engine.when_ended(id, move |ended| {
        // A runner that is gone tells nothing more.
        if let Ok(execution) = ended {
            let record = execution.record();
            supervision.push(Event::Ended {
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
