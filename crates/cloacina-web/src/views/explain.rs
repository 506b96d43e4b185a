//! Views of the reasons why an execution or a schedule is in its state.

use cloacina::Timestamp;
use cloacina::engine::{Reason, ScheduleReason, SeenRunner};
use serde::Serialize;
use utoipa::ToSchema;

use super::{due, time};

/// A reason why an execution or a schedule is in its state.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ReasonView {
    /// The kind of reason, as a stable name.
    code: &'static str,
    /// The reason, as a sentence.
    sentence: String,
    /// The task that the reason is about.
    task: Option<String>,
    /// The time until which the reason holds, if the time is known.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// The runner that the reason is about.
    runner: Option<String>,
    /// When a runner that could run the execution or the task was last seen; null if none was seen.
    #[schema(format = DateTime)]
    last_seen_at: Option<String>,
    /// The action that removes the reason, if such an action exists.
    remedy: Option<String>,
}

impl ReasonView {
    pub(crate) fn new(reason: &Reason, now: Timestamp) -> Self {
        let view = Self {
            sentence: reason.sentence(now),
            ..Self::default()
        };
        match reason {
            Reason::Ended { .. } => view.code("ended"),
            Reason::FinalTasks { status, .. } if status.is_terminal() => view
                .code("final_tasks")
                .remedy("retry the execution of the final tasks"),
            Reason::FinalTasks { .. } => view.code("final_tasks"),
            Reason::AttemptsOpen { .. } => view.code("attempts_open"),
            Reason::Paused { .. } => view.code("paused").remedy("resume the execution"),
            Reason::Deadline { at, .. } => view.code("deadline").until(*at),
            Reason::Delay { until } => view.code("delay").until(*until),
            Reason::NotCancellable { .. } => view.code("not_cancellable"),
            Reason::LostWrite { kept, .. } => view.code("lost_write").task(kept),
            Reason::WorkflowUnknown { last, .. } => view
                .code("workflow_unknown")
                .last(last.as_ref())
                .remedy("start a runner that has the workflow"),
            Reason::Dependencies { task, .. } => view.code("dependencies").task(task),
            Reason::MoreTasks { .. } => view.code("more_tasks"),
            Reason::Retry { task, until, .. } => view.code("retry").task(task).until(*until),
            Reason::Map { task, .. } => view.code("map").task(task),
            Reason::Timer { task, until } => view.code("timer").task(task).until(*until),
            Reason::NoHandler { task, last, .. } => view
                .code("no_handler")
                .task(task)
                .last(last.as_ref())
                .remedy("start a runner that has the task"),
            Reason::Queued { task, runner, .. } => view
                .code("queued")
                .task(task)
                .runner(&runner.runner)
                .remedy("start more runners, or allow more concurrent tasks"),
            Reason::Waiting { task, deadline, .. } => {
                let view = view.code("waiting").task(task);
                match deadline {
                    Some(deadline) => view.until(*deadline),
                    None => view,
                }
            }
            Reason::Claimed {
                task,
                runner,
                until,
                ..
            } => view
                .code("claimed")
                .task(task)
                .runner(&runner.runner)
                .until(*until),
            Reason::HeldByLive {
                task,
                runner,
                until,
                ..
            } => view
                .code("held_by_live")
                .task(task)
                .runner(&runner.runner)
                .until(*until),
            Reason::HeldByDead {
                task,
                runner,
                until,
                rescuer,
                ..
            } => view
                .code("held_by_dead")
                .task(task)
                .runner(&runner.runner)
                .until(*until)
                .rescue(*rescuer),
            Reason::HeldByGone {
                task,
                runner,
                rescuer,
                ..
            } => view
                .code("held_by_gone")
                .task(task)
                .runner(runner)
                .rescue(*rescuer),
            Reason::ScheduleOff { .. } => view.code("schedule_off"),
            Reason::NeedUnknown { .. } => view
                .code("need_unknown")
                .remedy("start a runner of a newer version"),
        }
    }

    pub(crate) fn of_schedule(reason: &ScheduleReason, now: Timestamp) -> Self {
        let view = Self {
            sentence: reason.sentence(now),
            ..Self::default()
        };
        match reason {
            ScheduleReason::Deleted { .. } => view.code("deleted"),
            ScheduleReason::Disabled { .. } => view.code("disabled").remedy("enable the schedule"),
            ScheduleReason::Over { .. } => view.code("over"),
            ScheduleReason::WorkflowUnknown { .. } => view
                .code("workflow_unknown")
                .remedy("start a program that defines the workflow"),
            ScheduleReason::NoRunner => view.code("no_runner").remedy("start a runner"),
            ScheduleReason::Queued { .. } => view.code("queued"),
            ScheduleReason::PollFailed { .. } => view.code("poll_failed"),
            ScheduleReason::Next { at, .. } => view.code("next").until(*at),
            ScheduleReason::Follows { .. } => view.code("follows"),
        }
    }

    /// Whether another reason has the same kind and is about the same task.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.code == other.code && self.task == other.task
    }

    /// Returns the name of the kind of reason.
    pub(crate) const fn name(&self) -> &'static str {
        self.code
    }

    /// Whether the execution or schedule cannot continue until a person does something.
    pub(crate) fn needs_help(&self) -> bool {
        let blocks = [
            "no_handler",
            "workflow_unknown",
            "need_unknown",
            "no_runner",
            "poll_failed",
        ];
        let is_held = self.code.starts_with("held_by_") && self.remedy.is_some();
        is_held || blocks.contains(&self.code)
    }

    const fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    fn task(mut self, task: &str) -> Self {
        self.task = Some(task.to_owned());
        self
    }

    fn until(mut self, until: Timestamp) -> Self {
        self.until = due(Some(until));
        self
    }

    fn runner(mut self, runner: &cloacina::RunnerId) -> Self {
        self.runner = Some(runner.to_string());
        self
    }

    fn last(mut self, last: Option<&SeenRunner>) -> Self {
        self.last_seen_at = last.map(|last| time(last.at));
        self.runner = last.map(|last| last.runner.to_string());
        self
    }

    fn remedy(mut self, remedy: &str) -> Self {
        self.remedy = Some(remedy.to_owned());
        self
    }

    /// Adds the remedy for a task of a dead runner, unless a live runner (`rescuer`) will rescue the task.
    fn rescue(self, rescuer: bool) -> Self {
        if rescuer {
            self
        } else {
            self.remedy("start a runner, which then rescues the task")
        }
    }
}
