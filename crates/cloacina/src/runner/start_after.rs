//! Triggers that start a workflow after the executions of another workflow end (semantics G4).

use super::DefaultRunner;
use crate::engine::trigger::NewTrigger;
use crate::runtime::Message;
use crate::types::{After, Error, ErrorCode, ExecutionStatus, ScheduleId};

/// A trigger that starts a workflow each time an execution of another workflow ends.
///
/// The input of the started execution has the keys `ended_execution_id`, `ended_workflow`, `ended_status` and `ended_output`.
/// `ended_output` is the output of the ended execution if it completed, and null otherwise.
///
/// # Examples
///
/// ```
/// use cloacina::{ExecutionStatus, StartAfter};
///
/// let trigger = StartAfter::new("extract", "load");
/// let alarm = StartAfter::new("extract", "alarm")
///     .name("alarm on failure")
///     .statuses([ExecutionStatus::Failed, ExecutionStatus::Cancelled]);
/// ```
///
/// Since 1.0.
#[derive(Clone, Debug)]
#[must_use = "pass it to `start_after`"]
pub struct StartAfter {
    name: Option<String>,
    workflow: String,
    after: After,
}

impl StartAfter {
    /// Creates a trigger that starts `workflow` each time an execution of `after` completes. The name of the trigger is
    /// `after -> workflow`.
    ///
    /// Since 1.0.
    pub fn new(after: impl AsRef<str>, workflow: impl AsRef<str>) -> Self {
        Self {
            name: None,
            workflow: workflow.as_ref().to_owned(),
            after: After {
                workflow: after.as_ref().to_owned(),
                statuses: vec![ExecutionStatus::Completed],
            },
        }
    }

    /// Sets the trigger's name, which must be unique in the database. If a trigger of this name exists, the
    /// registration changes that trigger's workflow and options.
    ///
    /// Since 1.0.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the final states after which the trigger fires.
    ///
    /// Since 1.0.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = ExecutionStatus>) -> Self {
        self.after.statuses = statuses.into_iter().collect();
        self
    }

    fn trigger(self) -> NewTrigger {
        let default = || format!("{} -> {}", self.after.workflow, self.workflow);
        NewTrigger {
            name: self.name.clone().unwrap_or_else(default),
            workflow: self.workflow,
            interval: None,
            expression: None,
            timezone: "UTC".to_owned(),
            allow_concurrent: true,
            after: Some(self.after),
        }
    }
}

impl DefaultRunner {
    /// Registers a trigger that starts a workflow after executions of another workflow, and returns the id of the trigger.
    /// The trigger fires once for each execution that ends in one of the chosen states, whichever program ran it. It does
    /// not fire for executions that ended before the registration.
    ///
    /// # Errors
    /// `ScheduleInvalid` for an invalid name, workflow or status; `Database` or `Connection`; `RunnerClosed`.
    ///
    /// # Examples
    ///
    #[cfg_attr(feature = "sqlite", doc = "```")]
    #[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloacina::Error> {
    /// use cloacina::StartAfter;
    ///
    /// let runner = cloacina::DefaultRunner::new(":memory:").await?;
    /// runner.start_after(StartAfter::new("extract", "load")).await?;
    /// # runner.shutdown().await
    /// # }
    /// ```
    ///
    /// Since 1.0.
    pub async fn start_after(&self, trigger: StartAfter) -> Result<ScheduleId, Error> {
        let new = trigger.trigger();
        if crate::workflow::name_problem("workflow name", &new.workflow).is_some() {
            let message = format!(
                "trigger '{}' starts a workflow with an invalid name: '{}'",
                new.name, new.workflow
            );
            return Err(Error::new(ErrorCode::ScheduleInvalid, message));
        }
        self.engine().register_new_definitions().await?;
        self.engine()
            .ask(|reply| Message::RegisterTrigger {
                trigger: new,
                handler: None,
                reply,
            })
            .await
    }
}
