//! The routes for the tasks of an execution, their attempts and their steps.

use cloacina::TaskStatus;
use cloacina::runtime::Ended;
use cloacina::workflow::TaskDefinition;

use crate::access::Permission::View;
use crate::call::{Call, Reply};
use crate::cursor::{IndexedPage, PagePosition, first_index};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::query::shown;
use crate::redact::Redactor;
use crate::views::Page;
use crate::views::execution::{AttemptView, StatesView, TaskView};
use crate::views::history::{EventView, StepView};

use super::{AFTER, CURSOR, LIMIT, MAX_PAGE};

/// The names of the states of a task.
const STATES: &[&str] = &[
    "Pending",
    "Ready",
    "Waiting",
    "Running",
    "Completed",
    "Failed",
    "Skipped",
    "Cancelled",
];

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/executions/{id}/tasks",
            View,
            "listTasks",
            "List the tasks of an execution",
            list,
        )
        .about("The tasks are in the order of their declaration, without inputs and results.")
        .with([
            Parameter::words("state", STATES, "Only tasks in one of these states.").repeated(),
            Parameter::text("after", "Only tasks declared after the task with this id."),
            Parameter::number(
                "limit",
                1,
                MAX_PAGE,
                "Maximum number of tasks on the page; default: 200.",
            ),
            CURSOR,
        ])
        .returns_page::<TaskView>("The tasks."),
        Operation::get(
            "/executions/{id}/tasks/{task}",
            View,
            "getTask",
            "Show a task",
            show,
        )
        .returns::<TaskView>(200, "The task."),
        Operation::get("/executions/{id}/tasks/{task}/attempts", View, "listAttempts", "List the attempts of a task", attempts)
            .about("Each attempt contains its events from the history. The oldest attempt and event come first.")
            .returns_page::<AttemptView>("The attempts."),
        Operation::get("/executions/{id}/tasks/{task}/steps", View, "listSteps", "List the recorded steps of a task", steps)
            .about("The steps are in the order in which they were recorded. Their values are shown only with `view_payloads`.")
            .with([AFTER, LIMIT, CURSOR])
            .returns_page::<StepView>("The steps."),
        Operation::get("/executions/{id}/states", View, "getStates", "Show the states of all tasks as one text", states)
            .about(
                "The text has a character for each task, in the order of the declaration: p(ending), r(eady), w(aiting), \
                 R(unning), C(ompleted), F(ailed), S(kipped), X (cancelled).",
            )
            .returns::<StatesView>(200, "The states."),
    ]
}

/// Returns a redactor that also knows the secrets in an execution's input and in the writes of its tasks. It masks
/// these secrets in texts for people, such as errors and log lines.
pub(super) fn redactor(call: &Call<'_>, execution: &Ended) -> Redactor {
    let texts = texts(execution);
    call.redactor()
        .with_secrets_of(texts.iter().map(String::as_str))
}

/// Returns an execution's input, and the writes of its tasks, as JSON texts.
pub(super) fn texts(execution: &Ended) -> Vec<String> {
    let record = execution.record();
    let written = record.tasks.iter().filter_map(|task| task.delta.as_ref());
    let mut texts = vec![record.input.to_json()];
    texts.extend(written.map(|delta| delta.to_json()));
    texts
}

/// Returns the ordinal of the task that the path names.
pub(super) fn ordinal(call: &Call<'_>, execution: &Ended) -> Result<u32, Problem> {
    let name = call.part("task")?;
    execution.workflow().ordinal(name).ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        let workflow = execution.workflow().name();
        Problem::new(
            "not_found",
            format!("workflow '{workflow}' has no task '{shown}'"),
        )
    })
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let limit = call.query.number("limit", MAX_PAGE, 1..=MAX_PAGE)?;
    let states: Vec<&str> = call.query.all("state").collect();
    if let Some(wrong) = states.iter().find(|state| !STATES.contains(state)) {
        let detail = format!("'{wrong}' is not one of {}", STATES.join(", "));
        return Err(Problem::invalid("state", detail));
    }
    let execution = call.inspector.execution(call.execution_id()?)?;
    let (record, workflow) = (execution.record(), execution.workflow());
    let place = PagePosition::of(&call.query)?;
    let first = match call.query.get("after") {
        Some(name) => {
            let ordinal = workflow.ordinal(name);
            let refused = || {
                let detail = format!("the workflow has no task '{}'", shown(name));
                Problem::invalid("after", detail)
            };
            ordinal.ok_or_else(refused)? as usize + 1
        }
        None => 0,
    };
    let rows = workflow.definition().tasks.iter().zip(&record.tasks);
    let rows = rows.enumerate().skip(first);
    let rows =
        rows.filter(|(_, (_, task))| states.is_empty() || states.contains(&task.status.name()));
    let page = IndexedPage::of(rows, place, limit).into_page(&call.query);
    let maps = super::maps::rows(call, &execution)?;
    let map_of = |definition: &TaskDefinition| {
        let ordinal = workflow.ordinal(&definition.id);
        maps.iter().find(|row| Some(row.task) == ordinal)
    };
    let items = page.items.iter();
    let answer = Page {
        items: items
            .map(|(definition, task)| TaskView::new(definition, task, map_of(definition), false))
            .collect(),
        next: page.next,
        prev: page.prev,
    };
    let reply = Reply::page(call, &answer)?;
    Ok(reply.redacted_by(redactor(call, &execution)))
}

fn show(call: &Call<'_>) -> Result<Reply, Problem> {
    let execution = call.inspector.execution(call.execution_id()?)?;
    let ordinal = ordinal(call, &execution)?;
    let (definition, task) = (execution.workflow().task(ordinal), execution.task(ordinal));
    let maps = super::maps::rows(call, &execution)?;
    let map = maps.iter().find(|row| row.task == ordinal);
    let reply = Reply::json(&TaskView::new(definition, task, map, true))?;
    Ok(reply.redacted_by(redactor(call, &execution)))
}

fn attempts(call: &Call<'_>) -> Result<Reply, Problem> {
    let (execution, events) = call.inspector.history(call.execution_id()?)?;
    let ordinal = ordinal(call, &execution)?;
    let mut items: Vec<AttemptView> = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        let (Some(task), Some(attempt)) = (event.task, event.attempt) else {
            continue;
        };
        if task != ordinal {
            continue;
        }
        let event = EventView::new(index, event, &execution, call.may_view_payloads())?;
        match items.iter_mut().find(|known| known.attempt == attempt) {
            Some(known) => known.events.push(event),
            None => items.push(AttemptView {
                attempt,
                events: vec![event],
            }),
        }
    }
    let reply = Reply::json(&Page::whole(items))?;
    Ok(reply.redacted_by(redactor(call, &execution)))
}

fn steps(call: &Call<'_>) -> Result<Reply, Problem> {
    let (place, first) = (PagePosition::of(&call.query)?, first_index(&call.query)?);
    let limit = call.query.number("limit", 50, 1..=MAX_PAGE)?;
    let execution = call.inspector.execution(call.execution_id()?)?;
    let task = ordinal(call, &execution)?;
    let task = &execution.workflow().task(task).id;
    let steps = call.inspector.steps(execution.record().id)?;
    let own = steps.into_iter().filter(|(of, _)| of == task);
    let own = own.map(|(_, step)| step).enumerate().skip(first);
    let page = IndexedPage::of(own, place, limit).into_page(&call.query);
    let shows_values = call.may_view_payloads();
    let items = page
        .items
        .iter()
        .map(|step| StepView::new(step, shows_values));
    let answer = Page {
        items: items.collect::<Result<Vec<_>, _>>()?,
        next: page.next,
        prev: page.prev,
    };
    let reply = Reply::page(call, &answer)?;
    Ok(reply.redacted_by(redactor(call, &execution)))
}

fn states(call: &Call<'_>) -> Result<Reply, Problem> {
    let execution = call.inspector.outline(call.execution_id()?)?;
    let record = execution.record();
    let states = record.tasks.iter().map(|task| match task.status {
        TaskStatus::Pending => 'p',
        TaskStatus::Ready => 'r',
        TaskStatus::Running => 'R',
        TaskStatus::Completed => 'C',
        TaskStatus::Failed => 'F',
        TaskStatus::Skipped => 'S',
        TaskStatus::Cancelled => 'X',
        TaskStatus::Waiting => 'w',
    });
    let view = StatesView {
        revision: record.revision,
        states: states.collect(),
    };
    Ok(Reply::json(&view)?
        .etag(record.revision)
        .hashed_if(!record.status.is_terminal()))
}
