//! Fires the triggers that are called when executions of another workflow end (semantics G4).
//!
//! The transaction that ends an execution also stores a row for each such trigger. A runner that has registered a
//! trigger takes the trigger's lease, and calls the trigger's function, if it has one, for some of these rows. Then
//! one transaction starts executions, records the history and removes the rows.

use super::triggers::TriggerDuty;
use crate::engine::trigger::PollOutcome;
use crate::engine::{Execution, after};
use crate::runtime::assignment::PollToken;
use crate::runtime::batch::{Purpose, ScheduleChange};
use crate::runtime::step::{Signal, Step};
use crate::store::{EndWrite, StoreError, TickWrite};
use crate::types::{PendingEnd, ScheduleRecord, TickOutcome, Timestamp};

/// Maximum number of ended executions that one poll of a trigger handles.
const ENDS: usize = 50;

impl Step {
    /// Wakes the trigger duty if a trigger follows the workflow of an execution that has ended in this process.
    pub(in crate::runtime) fn note_followed(&mut self, ended: &Execution) {
        if !self.followed.is_empty() && self.followed.contains(ended.workflow().name()) {
            self.signals.raise(Signal::TriggersChanged);
        }
    }

    /// Reads the ended executions for which a trigger must be called now.
    pub(super) fn ends_of(&self, record: &ScheduleRecord) -> Result<Vec<PendingEnd>, StoreError> {
        self.store.pending_ends(record.id, self.now, ENDS)
    }

    /// Returns the outcomes for a trigger without a function. The trigger fires for each ended execution. An
    /// execution that was deleted, or that this program cannot read, is skipped. If the database fails, the outcome
    /// is the error.
    pub(super) fn inputs_of(&mut self, ends: &[PendingEnd]) -> Vec<PollOutcome> {
        let mut outcomes = Vec::with_capacity(ends.len());
        for end in ends {
            let is_known = self.ledger.contains(end.execution);
            if let (false, Err(error)) = (is_known, self.load(&[end.execution])) {
                outcomes.push(PollOutcome::Failed(error.to_string()));
                continue;
            }
            let outcome = self.ledger.get(end.execution).map(|execution| {
                PollOutcome::Fire(after::input(execution.workflow(), execution.record()))
            });
            outcomes.push(outcome.unwrap_or(PollOutcome::Skip));
            if !is_known {
                self.ledger.remove(end.execution);
            }
        }
        outcomes
    }
}

impl TriggerDuty {
    /// Decides what happens after a poll that called a trigger for ended executions.
    pub(super) fn decide_ends(
        &mut self,
        step: &mut Step,
        token: PollToken,
        mut record: ScheduleRecord,
        outcomes: Vec<PollOutcome>,
    ) {
        let first_tick = record.last_due.unwrap_or(step.now);
        let (mut ticks, mut ends) = (Vec::new(), Vec::new());
        let mut keys: Vec<String> = Vec::new();
        record.state.last_error = None;
        for (end, outcome) in self.ends_of(token).iter().zip(&outcomes) {
            let before = ticks.len();
            let failure = self.decide_end(step, &mut record, outcome, &mut keys, &mut ticks);
            let again = after::again(end, failure.is_some(), step.now);
            for (tick, place) in ticks[before..].iter_mut().zip((0..).skip(before)) {
                tick.due_at = first_tick + place;
                let cause = format!("after execution {}", end.execution);
                tick.detail = Some(match tick.detail.take() {
                    Some(detail) => format!("{cause}: {detail}"),
                    None => cause,
                });
            }
            if let (true, None, Some(tick)) = (failure.is_some(), again, ticks.last_mut()) {
                let detail = tick.detail.take().unwrap_or_default();
                tick.detail = Some(format!("{detail} (the last of {} calls)", after::MAX_CALLS));
            }
            ends.push(EndWrite {
                execution: end.execution,
                ended_at: end.ended_at,
                again,
            });
            record.state.last_error = failure.or(record.state.last_error.take());
        }
        after::settled(
            &mut record,
            i64::try_from(ticks.len()).unwrap_or_default(),
            step.now,
        );
        let purpose = Purpose::Polled(token, PollOutcome::Ends(outcomes));
        let mut change = ScheduleChange::new(record, ticks, purpose);
        change.ends = ends;
        self.push(step, token, change);
    }

    /// Decides what happens after the call for one ended execution. Returns the failure, if the call failed.
    fn decide_end(
        &mut self,
        step: &mut Step,
        record: &mut ScheduleRecord,
        outcome: &PollOutcome,
        keys: &mut Vec<String>,
        ticks: &mut Vec<TickWrite>,
    ) -> Option<String> {
        let tick = |outcome, detail| TickWrite {
            due_at: Timestamp(0),
            outcome,
            execution: None,
            detail,
        };
        let (fires, state) = match outcome {
            PollOutcome::Skip | PollOutcome::Ends(_) => return None,
            PollOutcome::Failed(error) => {
                ticks.push(tick(TickOutcome::Failed, Some(error.clone())));
                return Some(error.clone());
            }
            PollOutcome::Fire(context) => (vec![(context.clone(), None)], None),
            PollOutcome::Many { fires, state } => (fires.clone(), state.clone()),
        };
        for (context, key) in fires {
            let mut write = tick(TickOutcome::Fired, None);
            if key.as_ref().is_some_and(|key| keys.contains(key)) {
                write.outcome = TickOutcome::Skipped;
                write.detail = Some("the trigger has already fired with this key".to_owned());
                ticks.push(write);
                continue;
            }
            keys.extend(key.clone());
            self.fire(step, record, &mut write, context, key);
            if write.execution.is_none() {
                // The workflow is not known, so nothing was started. The trigger will be called again.
                let missing = write.detail.clone();
                ticks.push(write);
                return missing;
            }
            if write.outcome == TickOutcome::Fired {
                record.state.last_fired_at = record.last_due;
            }
            ticks.push(write);
        }
        record.state.kept = state.or(record.state.kept.take());
        None
    }
}
