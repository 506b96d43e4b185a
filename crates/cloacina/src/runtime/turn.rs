//! One turn: decides the effects of messages and duties, commits these effects in one transaction, and splits a batch
//! that the database refuses.
//!
//! See docs/explanation/decisions/031-failures-stay-with-their-item.md

use super::Message;
use super::duties::{self, Duties};
use super::refused_batch::RefusedBatch;
use super::shutdown::Shutdown;
use super::step::{Signal, Step};
use crate::engine::Outcome;
use crate::store::StoreError;
use crate::types::{Error, Failure, FailureKind, Micros};

/// The error of a failed turn, and the messages that must be decided again.
pub(super) type Failed = (StoreError, Vec<Message>);

/// The text with which a failure's message begins if the failure replaces an attempt's result that the database
/// refused.
const NOT_STORABLE: &str = "the database cannot store the end of this attempt";

/// Pause, in microseconds, before the runner claims tasks again after the database has refused a batch with a claim.
const CLAIM_PAUSE: Micros = 1_000_000;

/// Maximum number of times that a turn is decided again because a workflow version was pruned or because another writer
/// changed a map.
const MAX_RESTORES: u32 = 100;

/// A turn of the coordinator, with the state that the turn reads and changes.
pub(super) struct Turn {
    pub(super) step: Step,
    pub(super) duties: Duties,
    pub(super) shutdown: Option<Shutdown>,
    /// The number of times that this turn has been decided again for the reasons given at [`MAX_RESTORES`].
    restores: u32,
    /// Whether the refusal of claims has been logged.
    is_claim_reported: bool,
}

impl Turn {
    pub(super) fn new(step: Step) -> Self {
        Self {
            duties: Duties::new(&step),
            step,
            shutdown: None,
            restores: 0,
            is_claim_reported: false,
        }
    }

    /// Runs one turn: decides the effects of messages and due duties, and commits these effects.
    pub(super) fn run(
        &mut self,
        mut messages: Vec<Message>,
        in_outage: bool,
    ) -> Result<(), Failed> {
        self.restores = 0;
        messages.extend(self.step.overdue_messages());
        self.step.capacity.check_due(self.step.now);
        self.step.note_ends(&messages);
        let prepared = self.duties.prepare(&mut self.step, in_outage);
        if let Err(error) = prepared {
            return Err((error, messages));
        }
        if in_outage {
            // If the reply to an earlier commit was lost, its submissions may be stored. In that case, they must not be
            // submitted again.
            let submitted = submitted(&messages);
            if let Err(error) = self.step.load(&submitted) {
                return Err((error, messages));
            }
        }
        self.decide(messages, true)
    }

    /// Decides the effects of messages, and of duties if `with_duties` is set. Commits all decisions.
    fn decide(&mut self, messages: Vec<Message>, with_duties: bool) -> Result<(), Failed> {
        if let Err(error) = self.step.load_for(&messages) {
            return Err((error, messages));
        }
        let mut decided = Ok(());
        for message in messages {
            decided = self.handle(message).and(decided);
        }
        decided = self.step.send_signals().and(decided);
        if with_duties {
            decided = self.duties.decide(&mut self.step).and(decided);
        }
        decided = self.step.advance_quarantine().and(decided);
        self.step.settle_maps();
        let mut started = Ok(());
        loop {
            self.step.expand_maps();
            started = self.step.start_children().and(started);
            // New children may have maps, which are expanded in another round. An empty map ends at once, so further
            // tasks may become ready.
            if self.step.has_unexpanded() {
                continue;
            }
            // After a refused batch (`with_duties` is false), the ends of children reach their parents only as messages
            // in the inbox.
            let told = with_duties && self.step.tell_parents();
            if !told {
                break;
            }
        }
        let committed = match started {
            // Q1: the end of an execution must not be written unless its final tasks are submitted in the same batch.
            Err(error) if self.step.lacks_finale() => {
                let batch = std::mem::take(&mut self.step.batch);
                Err(Box::new(self.step.undo(batch, error)))
            }
            started => {
                decided = started.and(decided);
                self.step.claim_direct();
                self.step.commit()
            }
        };
        match committed {
            Ok(schedules) => self.duties.apply_results(&mut self.step, schedules),
            Err(refused) => self.split(*refused)?,
        }
        decided.map_err(|error| (error, Vec::new()))
    }

    /// Splits a refused batch into halves until the item that causes the refusal is alone. This item fails, and the
    /// other items are written.
    fn split(&mut self, refused: RefusedBatch) -> Result<(), Failed> {
        if matches!(refused.error, StoreError::DefinitionGone(_)) && self.restores < MAX_RESTORES {
            return self.decide_with_restored_versions(refused);
        }
        if let StoreError::MapMoved(lost) = &refused.error
            && self.restores < MAX_RESTORES
        {
            // K6: another writer has changed the counters of the map. The messages are decided again with the current counters.
            self.restores += 1;
            if let Err(error) = self.step.refresh_maps(&refused.messages, lost) {
                return Err((error, refused.messages));
            }
            // The database would refuse the children of lost items again, so the messages that start these children are
            // dropped. The reconciler then handles the lost items whose claims this runner still has.
            let mut messages = refused.messages;
            let is_lost = |message: &Message| {
                matches!(message, Message::StartItem { execution, task, item, .. }
                    if lost.contains(&(*execution, *task, item.item)))
            };
            if messages.iter().any(is_lost) {
                messages.retain(|message| !is_lost(message));
                self.step.signals.raise(Signal::Reconcile);
            }
            return self.decide(messages, false);
        }
        if !refused.error.is_of_item() {
            return Err((refused.error, refused.messages));
        }
        self.hold_claims(&refused);
        self.duties.note_refused(&mut self.step, &refused);
        let is_single = refused.is_single();
        let mut messages = refused.messages;
        if is_single && let Some(message) = messages.pop() {
            return self.fail_item(message, refused.error);
        }
        if messages.len() > 1 {
            let second = messages.split_off(messages.len() / 2);
            if let Err((error, mut first)) = self.decide(messages, false) {
                first.extend(second);
                return Err((error, first));
            }
            messages = second;
        }
        if messages.is_empty() {
            return Ok(());
        }
        self.decide(messages, false)
    }

    /// Pauses claim requests if the refused batch contained one, because the request may be the cause of the refusal.
    fn hold_claims(&mut self, refused: &RefusedBatch) {
        if !refused.has_claim {
            return;
        }
        let step = &mut self.step;
        self.is_claim_reported &= step.claims_resume_at.is_some();
        if refused.is_claim() && !std::mem::replace(&mut self.is_claim_reported, true) {
            tracing::error!(error = %refused.error, "the database refuses the claims of this runner; the runner tries to claim again every second");
        }
        step.claims_resume_at = Some(step.monotonic + CLAIM_PAUSE);
    }

    /// E8: restores versions of workflows and decides the messages of a refused batch again, because a version that a
    /// submission needs was pruned.
    fn decide_with_restored_versions(&mut self, refused: RefusedBatch) -> Result<(), Failed> {
        self.restores += 1;
        if let Err(error) = self.step.restore_definitions() {
            return Err((error, refused.messages));
        }
        self.decide(refused.messages, false)
    }

    /// Drops the single item that the database refuses, and answers its caller with the error. If the item is the
    /// result of an attempt, replaces this result with a failure. If the database refuses the failure too, marks the
    /// execution as unreadable.
    fn fail_item(&mut self, message: Message, error: StoreError) -> Result<(), Failed> {
        // This item caused the refusal, not a claim, so claims are allowed again.
        self.step.claims_resume_at = None;
        let Message::Finished {
            execution,
            mut finish,
            executor,
            ran,
        } = message
        else {
            tracing::error!(%error, "the database refuses a change, which is dropped");
            message.refuse(&Error::from(error));
            return Ok(());
        };
        let is_refused_again = matches!(&finish.outcome, Outcome::Failed(failure) if failure.message.starts_with(NOT_STORABLE));
        if is_refused_again {
            self.step.set_unreadable(
                execution,
                "the database refuses to store any result of one of its attempts",
            );
            return Ok(());
        }
        let reason = error.to_string().escape_default().to_string();
        let text = format!("{NOT_STORABLE}: {reason}");
        finish.outcome = Outcome::Failed(Failure::engine(FailureKind::NotStorable, text));
        let message = Message::Finished {
            execution,
            finish,
            executor,
            ran,
        };
        self.decide(vec![message], false)
    }

    fn handle(&mut self, message: Message) -> Result<(), StoreError> {
        let (step, duties) = (&mut self.step, &mut self.duties);
        match message {
            Message::Submit {
                requests,
                give_up,
                reply,
            } => return step.submit(requests, give_up, reply),
            Message::Finished {
                execution,
                finish,
                executor,
                ran,
            } => {
                return step.finish(execution, finish, executor, ran);
            }
            Message::StartItem {
                execution,
                task,
                generation,
                item,
            } => return step.start_item(execution, task, generation, &item),
            Message::EndMap {
                execution,
                task,
                generation,
            } => step.end_skipped_map((execution, task), generation),
            Message::Started {
                execution,
                task,
                claim,
                at,
            } => {
                step.note_start(execution, task, claim, at);
            }
            Message::RecordStep { .. } | Message::EndWait { .. } | Message::LoadSteps { .. } => {
                return step.answer_attempt(message);
            }
            Message::Overdue {
                attempt,
                timeout,
                is_counted,
            } => step.overdue(attempt, timeout, is_counted),
            Message::Deadline { execution } => step.deadline(execution),
            Message::Control {
                execution,
                action,
                give_up,
                reply,
            } => {
                step.control(execution, action, give_up, reply);
            }
            Message::Register {
                registration,
                reply,
            } => return step.register(registration, reply),
            Message::Serve { service, reply } => return step.serve(service, reply),
            Message::RegisterTrigger {
                trigger,
                handler,
                reply,
            } => {
                duties.triggers.duty.register(step, trigger, handler, reply);
            }
            Message::Polled { token, outcome } => {
                return duties.triggers.duty.end_poll(step, token, outcome);
            }
            Message::RunNow {
                schedule,
                give_up,
                reply,
            } => {
                duties::run_now(step, schedule, give_up, reply);
            }
            Message::Deferred {
                execution,
                task,
                claim,
                released,
            } => {
                step.note_deferral(execution, task, claim, released);
            }
            Message::Send {
                signals,
                give_up,
                reply,
            } => step.collect_send(signals, give_up, reply),
            Message::Rescheduled => step.signals.raise_schedules(),
            Message::Watch => step.signals.raise(Signal::PollChanges),
            Message::Stop { grace, reply } => {
                Shutdown::begin(&mut self.shutdown, step, grace, reply);
            }
            Message::Begin => step.capacity.hold(None),
            Message::Poke => {}
        }
        Ok(())
    }
}

/// Returns the ids of the executions that the messages submit.
fn submitted(messages: &[Message]) -> Vec<crate::types::ExecutionId> {
    let requests = messages.iter().filter_map(|message| match message {
        Message::Submit { requests, .. } => Some(requests),
        _ => None,
    });
    requests.flatten().map(|request| request.id).collect()
}
