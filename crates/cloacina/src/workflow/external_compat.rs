//! Checks that the options of an external task agree with the workflow, which another program defines.
//!
//! The program that defines the workflow decides the options. The program that runs the external task needs to declare only
//! the task's id. If it declares other options, their values must be equal to the values in the definition.
//!
//! See docs/explanation/decisions/072-external-tasks.md

use std::collections::BTreeSet;

use super::{TaskDefinition, TaskKind, TriggerRule, Workflow};
use crate::types::{Error, ErrorCode, Json, RetryPolicy, nearest};

/// Checks that a program's declaration of an external task agrees with the workflow's definition.
///
/// # Errors
/// Returns `TaskInvalid` if the workflow has no such task, if the task is not external, or if an option contradicts the
/// definition.
pub fn check_external(workflow: &Workflow, declared: &TaskDefinition) -> Result<(), Error> {
    let name = workflow.name();
    let id = &declared.id;
    let Some(ordinal) = workflow.graph().ordinal(id) else {
        let error = Error::new(
            ErrorCode::TaskInvalid,
            format!("workflow '{name}' has no external task '{id}'"),
        );
        let tasks = workflow.definition().tasks.iter();
        let external = tasks.filter(|task| task.kind == TaskKind::External);
        let near = nearest(id, external.map(|task| task.id.as_str()));
        return Err(error.with_hint(near.map_or_else(
            || {
                format!(
                    "version {} of the workflow must declare it: external_task(\"{id}\")",
                    workflow.version()
                )
            },
            |near| format!("did you mean '{near}'?"),
        )));
    };
    let governing = workflow.task(ordinal);
    if governing.kind != TaskKind::External {
        return Err(Error::new(
            ErrorCode::TaskInvalid,
            format!("task '{id}' of workflow '{name}' is not an external task"),
        )
        .with_hint("the program that defines the workflow runs this task; to run it here, declare it there with external_task"));
    }
    match contradiction(governing, declared) {
        None => Ok(()),
        Some((what, governs, declares)) => Err(Error::new(
            ErrorCode::TaskInvalid,
            format!(
                "task '{id}' of workflow '{name}' has {what} {governs} in version {}, but is declared with {declares} here",
                workflow.version()
            ),
        )
        .with_hint("leave the option out here, because the program that defines the workflow decides it")),
    }
}

/// Returns the first option whose declared value differs from the value in the definition: its name, the value in the
/// definition, and the declared value.
fn contradiction(
    governing: &TaskDefinition,
    declared: &TaskDefinition,
) -> Option<(&'static str, String, String)> {
    let ids =
        |task: &TaskDefinition| -> BTreeSet<String> { task.dependencies.iter().cloned().collect() };
    if !declared.dependencies.is_empty() && ids(governing) != ids(declared) {
        let list = |task: &TaskDefinition| format!("[{}]", task.dependencies.join(", "));
        return Some(("dependencies", list(governing), list(declared)));
    }
    if declared.rule != TriggerRule::default() && declared.rule != governing.rule {
        let (governs, declares) = (as_json(&governing.rule), as_json(&declared.rule));
        return Some(("trigger rule", governs, declares));
    }
    if declared.retry != RetryPolicy::default() && declared.retry != governing.retry {
        let (governs, declares) = (as_json(&governing.retry), as_json(&declared.retry));
        return Some(("retry policy", governs, declares));
    }
    let numbers = [
        ("timeout (us)", governing.timeout, declared.timeout),
        (
            "priority",
            governing.priority.map(i64::from),
            declared.priority.map(i64::from),
        ),
        (
            "max_context_bytes",
            governing.max_context_bytes.map(u64::cast_signed),
            declared.max_context_bytes.map(u64::cast_signed),
        ),
    ];
    let text = |number: Option<i64>| number.map_or_else(|| "none".to_owned(), |n| n.to_string());
    numbers
        .into_iter()
        .find(|(_, governs, declares)| declares.is_some() && governs != declares)
        .map(|(what, governs, declares)| (what, text(governs), text(declares)))
}

fn as_json<T: serde::Serialize>(value: &T) -> String {
    Json::encode(value).map_or_else(|error| error.to_string(), |json| json.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::WorkflowDefinition;

    fn governing(task: TaskDefinition) -> Workflow {
        let root = |id: &str| TaskDefinition {
            id: id.into(),
            ..TaskDefinition::default()
        };
        Workflow::new(WorkflowDefinition {
            name: "etl".into(),
            tenant: "public".into(),
            package: "embedded".into(),
            tasks: vec![root("a"), root("b"), task],
            ..WorkflowDefinition::default()
        })
        .unwrap()
    }

    fn resize() -> TaskDefinition {
        TaskDefinition {
            id: "resize".into(),
            dependencies: vec!["a".into(), "b".into()],
            kind: TaskKind::External,
            timeout: Some(5),
            retry: RetryPolicy {
                max_attempts: 7,
                ..RetryPolicy::default()
            },
            ..TaskDefinition::default()
        }
    }

    fn declared(change: impl FnOnce(&mut TaskDefinition)) -> TaskDefinition {
        let mut task = TaskDefinition {
            id: "resize".into(),
            kind: TaskKind::Async,
            fingerprint: "mine".into(),
            ..TaskDefinition::default()
        };
        change(&mut task);
        task
    }

    #[test]
    fn declaration_without_options_or_with_equal_options_is_accepted() {
        let workflow = governing(resize());
        let same = |task: &mut TaskDefinition| {
            *task = TaskDefinition {
                dependencies: vec!["b".into(), "a".into()],
                kind: TaskKind::Async,
                ..resize()
            };
        };
        assert_eq!(check_external(&workflow, &declared(|_| {})), Ok(()));
        assert_eq!(check_external(&workflow, &declared(same)), Ok(()));
    }

    #[test]
    fn contradiction_names_the_option_and_the_defined_value() {
        type Change = fn(&mut TaskDefinition);
        let workflow = governing(resize());
        let cases: [(Change, &str); 5] = [
            (
                |task| task.dependencies = vec!["a".into()],
                "dependencies [a, b]",
            ),
            (|task| task.timeout = Some(6), "timeout (us) 5"),
            (|task| task.priority = Some(1), "priority none"),
            (
                |task| task.retry.max_attempts = 2,
                "retry policy {\"max_attempts\":7",
            ),
            (
                |task| task.rule = TriggerRule::Always,
                "trigger rule \"none_failed\"",
            ),
        ];
        for (change, expected) in cases {
            let error = check_external(&workflow, &declared(change)).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
            assert!(error.message.contains("declared with"), "{}", error.message);
        }
    }

    #[test]
    fn task_that_is_unknown_or_not_external_is_refused() {
        let workflow = governing(resize());
        let typo = check_external(&workflow, &declared(|task| task.id = "rezise".into()));
        assert_eq!(
            typo.unwrap_err().hint.as_deref(),
            Some("did you mean 'resize'?")
        );
        let own = check_external(&workflow, &declared(|task| task.id = "a".into()));
        assert!(own.unwrap_err().message.contains("is not an external task"));
    }
}
