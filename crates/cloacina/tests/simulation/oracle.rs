//! Checks the engine's invariants after every transaction, without using the engine's decisions. It calls the engine only to
//! compute the due times of schedules.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cloacina::engine::schedule::cron_of;
use cloacina::runtime::RunnerConfig;
use cloacina::store::TickWrite;
use cloacina::types::{
    Claim, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, Micros,
    Ordinal, Park, RunnerId, ScheduleId, ScheduleRecord, Skip, SkipCause, TaskRecord, TaskStatus,
    TickOutcome, TickRecord, Timestamp,
};
use cloacina::workflow::{TriggerRule, Workflow};

use super::children::Family;
pub use super::coverage::Coverage;
use super::finals::Finals;
use super::map_rules::MapMirror;
use super::waits::Signals;

/// An execution and one of its tasks.
pub type TaskKey = (ExecutionId, Ordinal);

/// The failures and the due time of one task.
#[derive(Default)]
struct TaskTally {
    /// The number of attempts that failed since the last `retry_execution`.
    failures: u32,
    /// The due time of the task, if it is ready and does not wait.
    ready_since: Option<Timestamp>,
}

/// Checks every transaction of a simulation.
pub struct Oracle {
    pub workflows: HashMap<DefinitionId, Arc<Workflow>>,
    /// The executions, as the last transaction that changed them has written them.
    pub mirror: BTreeMap<ExecutionId, ExecutionRecord>,
    pub coverage: BTreeMap<Coverage, u64>,
    /// The first violation, if there is one.
    pub broken: Option<String>,
    pub acknowledged: BTreeSet<ExecutionId>,
    /// The acknowledged execution of each workflow and key.
    keys: HashMap<(String, String), ExecutionId>,
    /// The claims that have been durable, except those of attempts that snoozed, were released or began to wait: the next
    /// attempt has the same number, and can have the same claim.
    pub(super) claims: HashSet<(ExecutionId, Ordinal, Claim)>,
    /// The time at which each attempt's function was called.
    pub(super) started: HashMap<(ExecutionId, Ordinal, Claim), Timestamp>,
    /// The result of each attempt whose function returned while its runner believed that it had the claim.
    pub(super) returned: HashMap<(ExecutionId, Ordinal, Claim), String>,
    /// The attempts whose functions are running.
    running: HashSet<(ExecutionId, Ordinal, Claim)>,
    /// The running attempts of items that existed before their map expanded again. The claim of a new item can equal the
    /// claim of such an attempt.
    former: HashSet<(ExecutionId, Ordinal, Claim)>,
    tallies: HashMap<TaskKey, TaskTally>,
    /// The recorded steps of each task: the position and the value of each key.
    pub steps: HashMap<TaskKey, BTreeMap<String, (u32, String)>>,
    /// For each task, the last question of its function whether a sleep or wait is over: the claim of the attempt
    /// that asked, and the sleep or wait.
    pub(super) asked: HashMap<TaskKey, (Claim, Park)>,
    /// The sleeps and waits whose ends the current transaction records, and which were already over when the function
    /// asked. Such a function keeps running.
    pub(super) ended_at_once: HashMap<TaskKey, Park>,
    /// The stored signals.
    pub signals: Signals,
    /// The approval that each person decided.
    pub decisions: HashMap<String, TaskKey>,
    /// The maps that have expanded.
    pub maps: BTreeMap<TaskKey, MapMirror>,
    /// The nodes that run child executions, and their children.
    pub family: Family,
    /// The executions of final tasks.
    pub finals: Finals,
    /// The open claims of each runner, with their priorities.
    held: HashMap<RunnerId, HashMap<(ExecutionId, Ordinal), i16>>,
    /// The execution that each fired tick started.
    fired: BTreeMap<(ScheduleId, Timestamp), ExecutionId>,
    pub(super) max_rescues: u32,
    /// The maximum number of claims of one runner. `None` in scenarios with faults.
    pub claim_limit: Option<usize>,
    /// The maximum time that a due task may wait for its claim. `World::heal` sets it, if the scenario has no faults and
    /// has a slot for every task.
    pub max_wait: Option<Micros>,
    /// The shortest default timeout of tasks among all runners.
    pub task_timeout: Option<Micros>,
    /// The task whose results the database refuses.
    pub unstorable: Option<(String, Ordinal)>,
    /// An upper bound for the deviation of a wall clock from the simulated time.
    pub skew: Micros,
    /// The lines of the trace about executions. `None` if no trace is requested.
    pub log: Option<Vec<String>>,
}

impl Oracle {
    pub fn new(skew: Micros) -> Self {
        Self {
            workflows: HashMap::new(),
            mirror: BTreeMap::new(),
            coverage: BTreeMap::new(),
            broken: None,
            acknowledged: BTreeSet::new(),
            keys: HashMap::new(),
            claims: HashSet::new(),
            started: HashMap::new(),
            returned: HashMap::new(),
            running: HashSet::new(),
            former: HashSet::new(),
            tallies: HashMap::new(),
            steps: HashMap::new(),
            asked: HashMap::new(),
            ended_at_once: HashMap::new(),
            signals: Signals::default(),
            decisions: HashMap::new(),
            maps: BTreeMap::new(),
            family: Family::default(),
            finals: Finals::default(),
            held: HashMap::new(),
            fired: BTreeMap::new(),
            max_rescues: RunnerConfig::default().max_rescues,
            claim_limit: None,
            max_wait: None,
            task_timeout: None,
            unstorable: None,
            skew,
            log: None,
        }
    }

    /// Adds a line to the trace, if a trace was requested.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(line());
        }
    }

    /// Counts an event of this kind.
    pub fn cover(&mut self, covered: Coverage) {
        *self.coverage.entry(covered).or_default() += 1;
    }

    /// Records a violation if `fact` is false. Only the first violation is kept.
    pub fn check(&mut self, fact: bool, otherwise: impl FnOnce() -> String) {
        if !fact && self.broken.is_none() {
            self.broken = Some(otherwise());
        }
    }

    /// Notes that a submission was acknowledged to a caller, and checks that it is stored.
    pub fn acknowledge(&mut self, ids: &[ExecutionId], workflow: &str, key: Option<&str>) {
        for id in ids {
            self.acknowledged.insert(*id);
            let known = self.mirror.contains_key(id);
            self.check(known, || {
                format!("execution {id} was acknowledged but is not stored")
            });
        }
        if let (Some(key), [id]) = (key, ids) {
            let place = (workflow.to_owned(), key.to_owned());
            let first = *self.keys.entry(place).or_insert(*id);
            self.check(first == *id, || {
                format!("key {key} of {workflow} returned two executions: {first} and {id}")
            });
        }
    }

    /// Checks an execution whose cancellation was acknowledged to a caller.
    pub fn acknowledge_cancel(&mut self, id: ExecutionId) {
        let status = self.mirror.get(&id).map(|record| record.status);
        self.check(status == Some(ExecutionStatus::Cancelled), || {
            format!("the cancellation of {id} was acknowledged, but its status is {status:?}")
        });
    }

    /// Notes that a worker calls a function, and checks its claim.
    pub fn start(&mut self, id: ExecutionId, task: Ordinal, claim: Claim, now: Timestamp) {
        self.note(|| format!("    task {task} of {id} starts under {claim:?}"));
        let durable = self.claims.contains(&(id, task, claim));
        self.check(durable, || {
            format!("task {task} of {id} started under {claim:?}, but this claim is not durable")
        });
        let key = (id, task, claim);
        self.running.insert(key);
        let map = self.maps.get(&(id, task));
        if claim.item.is_some() && map.is_some_and(|map| !map.claims.contains(&claim)) {
            self.former.insert(key);
            return;
        }
        let first = self.started.insert(key, now);
        self.check(first.is_none(), || {
            format!("task {task} of {id} started twice under {claim:?}")
        });
    }

    /// Notes that a map expands again. The functions of its earlier items may still be running.
    pub(super) fn begin_generation(&mut self, (id, task): TaskKey) {
        let is_of_map = |key: &(ExecutionId, Ordinal, Claim)| {
            (key.0, key.1) == (id, task) && key.2.item.is_some()
        };
        self.started.retain(|key, _| !is_of_map(key));
        self.returned.retain(|key, _| !is_of_map(key));
        self.former
            .extend(self.running.iter().filter(|key| is_of_map(key)).copied());
    }

    /// Notes the result that a function returned. Its worker may now report this result.
    pub fn returned(&mut self, id: ExecutionId, task: Ordinal, claim: Claim, mark: String) {
        let key = (id, task, claim);
        if !self.former.contains(&key) {
            self.returned.insert(key, mark);
        }
    }

    /// Notes that a function has returned, failed or been stopped.
    pub fn exit(&mut self, key: (ExecutionId, Ordinal, Claim)) {
        self.running.remove(&key);
        self.former.remove(&key);
    }

    /// Notes an execution that a transaction has written, and checks the change.
    pub fn write(
        &mut self,
        writer: RunnerId,
        after: ExecutionRecord,
        history: &[HistoryEvent],
        now: Timestamp,
    ) {
        let id = after.id;
        let Some(workflow) = self.workflows.get(&after.definition).map(Arc::clone) else {
            return self.check(false, || {
                format!("execution {id} has an unknown definition")
            });
        };
        let before = self.mirror.remove(&id);
        let has = |kind: &str| history.iter().any(|event| event.kind == kind);
        let retried = has("retried");
        if let Some(before) = &before {
            self.check(after.revision > before.revision, || {
                format!(
                    "the revision of {id} went from {} to {}",
                    before.revision, after.revision
                )
            });
            // A second request to cancel may write the same record again.
            let same = before.status == after.status && before.tasks == after.tasks;
            self.check(!before.status.is_terminal() || retried || same, || {
                format!("{id} had ended as {}, but was changed", before.status)
            });
        }
        self.note_actions(history);
        let absent = TaskRecord::pending();
        for (ordinal, task) in (0..).zip(&after.tasks) {
            let old = before
                .as_ref()
                .map_or(&absent, |before| &before.tasks[ordinal as usize]);
            let events: Vec<&str> = history
                .iter()
                .filter(|event| event.task == Some(ordinal))
                .map(|event| event.kind.as_str())
                .collect();
            // One transaction may both record that the task's last attempt failed and retry the execution.
            let reset = old.status.is_terminal() || task.uncounted > old.uncounted;
            if retried && reset && task.uncounted == old.attempt {
                self.tallies.insert((id, ordinal), TaskTally::default());
            }
            self.count(id, ordinal, &workflow, (old, task), &events, now);
            if old.claim() != task.claim() {
                self.lost_claim(writer, id, ordinal, (old, task));
                self.gained_claim(writer, &workflow, &after, ordinal, now);
            } else if old.status != task.status {
                self.check(!old.status.is_terminal() || retried, || {
                    format!(
                        "task {ordinal} of {id} went from {} to {}",
                        old.status, task.status
                    )
                });
                let definition = workflow.task(ordinal);
                let has_no_claim = definition.is_node() || definition.over.is_some();
                let recorded = has_no_claim || task.status != TaskStatus::Completed;
                self.check(recorded, || {
                    format!("task {ordinal} of {id} was recorded as completed but did not run")
                });
            }
            self.check_beginning(&workflow, &after, ordinal, old);
            let is_without = self.check_wait(&workflow, &after, ordinal, old, history, now);
            self.note_wait(id, ordinal, task, now);
            let skipped = task.status == TaskStatus::Skipped && old.status != TaskStatus::Skipped;
            // When an execution of final tasks is submitted, the tasks that do not apply to the way in which the
            // forward execution ended are already skipped.
            let is_left_out = before.is_none() && workflow.definition().final_of.is_some();
            if skipped && !is_without && !is_left_out {
                self.cover(Coverage::SkippedTask);
                let ended = task
                    .skip
                    .as_ref()
                    .is_some_and(|skip| skip.cause == SkipCause::Ended);
                let judged = !ended && dependencies_ended(&workflow, &after, ordinal);
                let wrong = judged && holds(&workflow, &after, ordinal);
                self.check(ended || (judged && !wrong), || {
                    format!("task {ordinal} of {id} was skipped, but its rule holds or cannot be decided yet")
                });
            }
        }
        self.note(|| {
            let tasks = after.tasks.iter();
            let tasks = tasks.map(|task| format!("{}/{}", task.status, task.attempt));
            let kinds = history.iter().map(|event| event.kind.as_str());
            let (tasks, kinds) = (tasks.collect::<Vec<_>>(), kinds.collect::<Vec<_>>());
            format!(
                "    {writer} writes {id} r{} {} {tasks:?} {kinds:?}",
                after.revision, after.status
            )
        });
        if after.status.is_terminal() {
            self.check_end(&workflow, &after);
            self.check_stopped(&after, now);
        }
        self.note_family(&workflow, before.as_ref(), &after);
        self.note_finals(&workflow, before.as_ref(), &after, retried);
        self.mirror.insert(id, after);
    }

    /// C1: checks that a task begins to wait only when its rule holds. A map waits for its items, and a node for its child.
    fn check_beginning(
        &mut self,
        workflow: &Workflow,
        after: &ExecutionRecord,
        ordinal: Ordinal,
        old: &TaskRecord,
    ) {
        let id = after.id;
        let begins = after.tasks[ordinal as usize].is_waiting() && !old.is_waiting();
        let allowed = follows(workflow, after, ordinal)
            || (dependencies_ended(workflow, after, ordinal) && holds(workflow, after, ordinal));
        self.check(!begins || allowed, || {
            format!("task {ordinal} of {id} began to wait before its rule held")
        });
    }

    fn note_actions(&mut self, history: &[HistoryEvent]) {
        for event in history {
            let covered = match event.kind.as_str() {
                "cancelled" => Coverage::CancelledExecution,
                "paused" => Coverage::PausedExecution,
                "resumed" => Coverage::ResumedExecution,
                "retried" => Coverage::RetriedExecution,
                "timed_out" => Coverage::TimedOutExecution,
                "task_retrying" => Coverage::RetriedTask,
                "task_snoozed" => Coverage::Snoozed,
                "task_released" => Coverage::Released,
                "task_rescued" => Coverage::Rescued,
                _ => continue,
            };
            self.cover(covered);
        }
    }

    /// Checks that attempts and rescues stay within their limits.
    fn count(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        workflow: &Workflow,
        (old, task): (&TaskRecord, &TaskRecord),
        events: &[&str],
        now: Timestamp,
    ) {
        let times = |kind: &str| events.iter().filter(|event| **event == kind).count();
        let rescued = u32::try_from(times("task_rescued")).expect("the count is small");
        let mut failed = u32::try_from(times("task_retrying")).expect("the count is small");
        let ended = task.status == TaskStatus::Failed && old.status != TaskStatus::Failed;
        if ended {
            self.cover(Coverage::FailedTask);
            failed += u32::from(rescued == 0 && old.status == TaskStatus::Running);
        }
        let timed_out = task
            .error
            .as_ref()
            .is_some_and(|error| error.kind == "TaskTimeoutError");
        let refused = task
            .error
            .as_ref()
            .is_some_and(|error| error.kind == "ContextError");
        if failed > 0 && timed_out {
            self.cover(Coverage::TimedOutTask);
            self.check_timeout(id, ordinal, workflow, old, now);
        }
        if failed > 0 && refused {
            self.cover(Coverage::RefusedResult);
            let expected = self.unstorable.as_ref() == Some(&(workflow.name().to_owned(), ordinal));
            self.check(expected, || {
                format!("task {ordinal} of {id} failed because of the result of another task")
            });
        }
        if rescued > 0 && ended {
            self.cover(Coverage::RescuedTooOften);
        }
        let tally = self.tallies.entry((id, ordinal)).or_default();
        tally.failures += failed;
        let failures = tally.failures;
        let limit = workflow.task(ordinal).retry.max_attempts;
        self.check(failures <= limit, || {
            format!("task {ordinal} of {id} failed {failures} times, but max_attempts is {limit}")
        });
        let (rescues, most) = (task.rescues, self.max_rescues);
        let over = rescues > most + 1 || (rescues == most + 1 && task.status == TaskStatus::Ready);
        self.check(!over, || {
            format!(
                "task {ordinal} of {id} lost its runner {rescues} times, but max_rescues is {most}"
            )
        });
        if times("task_snoozed") + times("task_released") + times("waiting") > 0
            && let Some(claim) = old.claim()
        {
            // The next attempt has the same number.
            self.started.remove(&(id, ordinal, claim));
            if task.claim() != Some(claim) {
                self.claims.remove(&(id, ordinal, claim));
            }
        }
    }

    /// Checks that an attempt that timed out has run for at least its timeout in simulated time, whatever a wall clock shows.
    fn check_timeout(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        workflow: &Workflow,
        old: &TaskRecord,
        now: Timestamp,
    ) {
        let timeout = workflow.task(ordinal).timeout.or(self.task_timeout);
        let started = old
            .claim()
            .and_then(|claim| self.started.get(&(id, ordinal, claim)));
        if let (Some(timeout), Some(started)) = (timeout, started) {
            let ran = now.since(*started);
            self.check(ran >= timeout, || {
                format!("task {ordinal} of {id} timed out after {ran} us, but its timeout is {timeout} us")
            });
        }
    }

    /// Checks the change of a task whose claim has changed. If the task has completed, it must have the result that its
    /// function returned under the earlier claim.
    fn lost_claim(
        &mut self,
        writer: RunnerId,
        id: ExecutionId,
        ordinal: Ordinal,
        (old, task): (&TaskRecord, &TaskRecord),
    ) {
        let Some(claim) = old.claim() else {
            let fresh = task.status == TaskStatus::Running || task.status == TaskStatus::Ready;
            return self.check(fresh, || {
                format!(
                    "task {ordinal} of {id} went from {} to {}",
                    old.status, task.status
                )
            });
        };
        let held = self.held.entry(claim.runner).or_default();
        held.remove(&(id, ordinal));
        if task.status != TaskStatus::Completed {
            return;
        }
        self.cover(Coverage::Completed);
        self.check(writer == claim.runner, || {
            format!("task {ordinal} of {id} ran under {claim:?} but was recorded by {writer}")
        });
        // The result is removed, so this check fails if the same attempt is recorded twice.
        let mark = self.returned.remove(&(id, ordinal, claim));
        let key = format!("t{ordinal}");
        let written = task
            .delta
            .as_ref()
            .and_then(|delta| delta.set.get(key.as_str()))
            .map(|value| value.as_str().to_owned());
        self.check(mark.is_some() && mark == written, || {
            format!(
                "task {ordinal} of {id} was recorded as completed under {claim:?} with {written:?}; \
                 the function had returned {mark:?}"
            )
        });
    }

    /// Checks the new claim of a task whose claim has changed, if there is one.
    fn gained_claim(
        &mut self,
        writer: RunnerId,
        workflow: &Workflow,
        after: &ExecutionRecord,
        ordinal: Ordinal,
        now: Timestamp,
    ) {
        let id = after.id;
        let Some(claim) = after.tasks[ordinal as usize].claim() else {
            return;
        };
        self.cover(Coverage::Claimed);
        self.check(claim.runner == writer, || {
            format!("task {ordinal} of {id} has the claim {claim:?}, but {writer} wrote this claim")
        });
        let fresh = self.claims.insert((id, ordinal, claim));
        self.check(fresh, || {
            format!("task {ordinal} of {id} was claimed twice as {claim:?}")
        });
        self.check(after.status == ExecutionStatus::Running, || {
            format!(
                "task {ordinal} of {id} was claimed while it is {}",
                after.status
            )
        });
        let skew = self.skew;
        let early = after.start_at.is_some_and(|at| at > now + skew);
        self.check(!early, || format!("{id} started before its start time"));
        let allowed = follows(workflow, after, ordinal)
            || (dependencies_ended(workflow, after, ordinal) && holds(workflow, after, ordinal));
        self.check(allowed, || {
            let statuses: Vec<&str> = after.tasks.iter().map(|task| task.status.name()).collect();
            format!("task {ordinal} of {id} was claimed before its rule held: {statuses:?}")
        });
        if let Some(since) = self
            .tallies
            .get(&(id, ordinal))
            .and_then(|tally| tally.ready_since)
        {
            self.check(since <= now + skew, || {
                format!(
                    "task {ordinal} of {id} was claimed {} us early",
                    since.since(now)
                )
            });
            let waited = now.since(since);
            let late = self.max_wait.is_some_and(|max_wait| waited > max_wait);
            self.check(!late, || {
                format!("task {ordinal} of {id} was due but waited {waited} us for its claim")
            });
        }
        let task = workflow.task(ordinal);
        let priority = task.priority.unwrap_or(after.priority);
        let held = self.held.entry(writer).or_default();
        held.insert((id, ordinal), priority);
        // Urgent tasks may exceed the limit, so only the claims of the lowest priority count.
        let priorities: Vec<i16> = held.values().copied().collect();
        let lowest = priorities.iter().min().copied().unwrap_or(priority);
        let held = priorities.iter().filter(|held| **held == lowest).count();
        let limit = self.claim_limit;
        self.check(limit.is_none_or(|limit| held <= limit), || {
            format!(
                "runner {writer} holds {held} claims, more than {}",
                limit.unwrap_or_default()
            )
        });
    }

    /// Notes the due time of a ready task.
    fn note_wait(&mut self, id: ExecutionId, ordinal: Ordinal, task: &TaskRecord, now: Timestamp) {
        let tally = self.tallies.entry((id, ordinal)).or_default();
        if task.status == TaskStatus::Ready && !task.is_waiting() {
            let due = task.ready_at.unwrap_or(now);
            tally.ready_since.get_or_insert(due);
        } else {
            tally.ready_since = None;
        }
    }

    /// C3: checks the final status of an execution.
    fn check_end(&mut self, workflow: &Workflow, record: &ExecutionRecord) {
        let id = record.id;
        let open = record
            .tasks
            .iter()
            .position(|task| !task.status.is_terminal());
        self.check(open.is_none(), || {
            format!(
                "{id} ended as {} although task {} is open",
                record.status,
                open.unwrap_or_default()
            )
        });
        let timed_out = record
            .error
            .as_ref()
            .is_some_and(|(_, failure)| failure.kind == "WorkflowTimeoutError");
        let unhandled = (0..).zip(&record.tasks).any(|(ordinal, task)| {
            task.status == TaskStatus::Failed && !is_handled(workflow, record, ordinal)
        });
        let expected = match record.status {
            ExecutionStatus::Cancelled => ExecutionStatus::Cancelled,
            _ if timed_out || unhandled => ExecutionStatus::Failed,
            _ => ExecutionStatus::Completed,
        };
        self.check(record.status == expected, || {
            format!("{id} ended as {} instead of {expected}", record.status)
        });
    }

    /// Notes the ticks that a transaction recorded for a schedule, and checks that no tick fires twice.
    pub fn ticked(&mut self, schedule: ScheduleId, ticks: &[TickWrite]) {
        for tick in ticks {
            self.cover(match tick.outcome {
                TickOutcome::Fired => Coverage::TickFired,
                TickOutcome::Missed => Coverage::TickMissed,
                TickOutcome::Overlapped => Coverage::TickOverlapped,
                TickOutcome::Queued => Coverage::TickQueued,
                TickOutcome::Skipped | TickOutcome::Failed => continue,
            });
            let Some(execution) = tick.execution else {
                continue;
            };
            let due = tick.due_at;
            let stored = self.mirror.contains_key(&execution);
            self.check(stored, || {
                format!("the tick {due} of {schedule} fired {execution}, but this execution is not stored")
            });
            let first = self.fired.insert((schedule, due), execution).is_none();
            self.check(first, || {
                format!("the tick {due} of {schedule} fired twice")
            });
        }
    }

    /// Checks at the end of the simulation that a schedule's history has exactly the ticks of its expression.
    pub fn check_ticks(&mut self, schedule: &ScheduleRecord, ticks: &[TickRecord]) {
        let id = schedule.id;
        let cron = cron_of(schedule).expect("the expression was valid before");
        let end = schedule.spec.end_at.expect("every schedule ends");
        let due: Vec<Timestamp> = cron
            .preview(schedule.created_at, 100)
            .into_iter()
            .map(|time| time.at)
            .take_while(|at| *at <= end)
            .collect();
        let mut recorded: Vec<Timestamp> = ticks.iter().map(|tick| tick.due_at).collect();
        recorded.sort_unstable();
        self.check(due == recorded, || {
            format!("{id} has the ticks {recorded:?}, but these ticks were due: {due:?}")
        });
        for tick in ticks {
            let fired = self.fired.get(&(id, tick.due_at)).copied();
            self.check(fired == tick.execution, || {
                format!("{tick:?} is recorded, but the tick started {fired:?}")
            });
            self.check(tick.outcome != TickOutcome::Queued, || {
                format!("{tick:?} is still queued")
            });
        }
        let name = format!("\"{id}\"");
        let of_schedule = self.mirror.values().filter(|record| {
            let from = record.input.get("schedule_id");
            record.parent.is_none() && from.is_some_and(|from| from.as_str() == name)
        });
        let executions: BTreeSet<ExecutionId> = of_schedule.map(|record| record.id).collect();
        let fired = self.fired.iter().filter(|((of, _), _)| *of == id);
        let fired: BTreeSet<ExecutionId> = fired.map(|(_, execution)| *execution).collect();
        self.check(executions == fired, || {
            format!("{id} has the executions {executions:?}, but its ticks started {fired:?}")
        });
    }

    /// Checks at the end of the simulation that all executions have ended.
    pub fn check_at_rest(&mut self) {
        let acknowledged: Vec<ExecutionId> = self.acknowledged.iter().copied().collect();
        for id in acknowledged {
            let status = self.mirror.get(&id).map(|record| record.status);
            let ended = status.is_some_and(ExecutionStatus::is_terminal);
            self.check(ended, || {
                format!("execution {id} was acknowledged but has not ended: {status:?}")
            });
        }
        let open = self
            .mirror
            .values()
            .find(|record| !record.status.is_terminal());
        let open = open.map(|record| {
            let tasks: Vec<String> = record
                .tasks
                .iter()
                .map(|task| {
                    format!(
                        "{} by {:?} at {:?}",
                        task.status, task.runner, task.ready_at
                    )
                })
                .collect();
            format!(
                "execution {} has not ended: {} {tasks:?}",
                record.id, record.status
            )
        });
        self.check(open.is_none(), || open.unwrap_or_default());
    }
}

/// Returns whether all dependencies of a task have ended.
fn dependencies_ended(workflow: &Workflow, record: &ExecutionRecord, ordinal: Ordinal) -> bool {
    let dependencies = workflow.graph().dependencies(ordinal);
    let ended = |task: &Ordinal| record.tasks[*task as usize].status.is_terminal();
    dependencies.iter().all(ended)
}

/// Returns whether an aligned map may start while its source runs. The source must have expanded. Every other dependency must
/// have completed. With the rule `NoneFailed`, such a dependency may also have been skipped, but not because of a failure.
fn follows(workflow: &Workflow, record: &ExecutionRecord, ordinal: Ordinal) -> bool {
    let dependencies = workflow.graph().dependencies(ordinal);
    workflow.source_of(ordinal).is_some_and(|source| {
        let map = record.tasks[source as usize].wait.as_ref();
        let has_expanded = map.is_some_and(|wait| wait.map.is_some_and(|map| map.width.is_some()));
        let admits_skipped = workflow.task(ordinal).rule == TriggerRule::NoneFailed;
        let allows = |task: &Ordinal| {
            let task = &record.tasks[*task as usize];
            let by_rule = |skip: &Skip| skip.cause != SkipCause::Failure;
            task.status == TaskStatus::Completed
                || (admits_skipped && task.skip.as_ref().is_some_and(by_rule))
        };
        let mut others = dependencies.iter().filter(|task| **task != source);
        has_expanded && others.all(allows)
    })
}

/// Returns whether a task's trigger rule holds.
fn holds(workflow: &Workflow, record: &ExecutionRecord, ordinal: Ordinal) -> bool {
    rule_holds(&workflow.task(ordinal).rule, workflow, record, ordinal)
}

/// Evaluates a trigger rule directly by the text of rules C1 and C2 in `docs/reference/semantics.md`.
fn rule_holds(
    rule: &TriggerRule,
    workflow: &Workflow,
    record: &ExecutionRecord,
    ordinal: Ordinal,
) -> bool {
    let dependencies: Vec<&TaskRecord> = workflow
        .graph()
        .dependencies(ordinal)
        .iter()
        .map(|task| &record.tasks[*task as usize])
        .collect();
    let is = |name: &str, status: TaskStatus| {
        let place = workflow
            .definition()
            .tasks
            .iter()
            .position(|task| task.id == name);
        place.is_some_and(|place| record.tasks[place].status == status)
    };
    let every = |status| dependencies.iter().all(|task| task.status == status);
    let some = |status| dependencies.iter().any(|task| task.status == status);
    let each = |rule: &TriggerRule| rule_holds(rule, workflow, record, ordinal);
    match rule {
        TriggerRule::AllSuccess => every(TaskStatus::Completed),
        TriggerRule::AllFailed => every(TaskStatus::Failed),
        TriggerRule::AllDone | TriggerRule::Always => true,
        TriggerRule::OneSuccess => some(TaskStatus::Completed),
        TriggerRule::OneFailed => some(TaskStatus::Failed),
        TriggerRule::NoneFailed => !dependencies.iter().any(|task| {
            let cause = task.skip.as_ref().map(|skip| skip.cause);
            task.status == TaskStatus::Failed || cause == Some(SkipCause::Failure)
        }),
        TriggerRule::TaskSuccess { task } => is(task, TaskStatus::Completed),
        TriggerRule::TaskFailed { task } => is(task, TaskStatus::Failed),
        TriggerRule::TaskSkipped { task } => is(task, TaskStatus::Skipped),
        // A scenario's rules use only keys that a dependency writes when it completes. A map writes no key. The input of a child
        // has the keys of its parent's context.
        TriggerRule::ContextValue { key, operator, .. } => {
            let wanted = *operator == cloacina::workflow::Operator::Exists;
            let mut tasks = workflow.definition().tasks.iter();
            let is_map = tasks.any(|task| task.id == *key && task.over.is_some());
            let is_there = record.input.get(key).is_some();
            (is_there || (is(key, TaskStatus::Completed) && !is_map)) == wanted
        }
        TriggerRule::AllOf { conditions } => conditions.iter().all(each),
        TriggerRule::AnyOf { conditions } => conditions.iter().any(each),
        TriggerRule::NoneOf { conditions } => !conditions.iter().any(each),
    }
}

/// C3: returns whether a failure is handled: a dependent has completed, and its rule names the failed task or tests for failures.
fn is_handled(workflow: &Workflow, record: &ExecutionRecord, failed: Ordinal) -> bool {
    let id = workflow.task(failed).id.as_str();
    (0..).zip(&record.tasks).any(|(ordinal, task)| {
        let rule = &workflow.task(ordinal).rule;
        let depends = workflow.graph().dependencies(ordinal).contains(&failed);
        let asks = rule.asks_for_failure() || rule.named_tasks().contains(&id);
        task.status == TaskStatus::Completed && depends && asks
    })
}
