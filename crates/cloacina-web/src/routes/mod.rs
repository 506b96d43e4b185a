//! The routes of the API, with one file for each group of routes.

mod bulk;
mod compare;
mod control;
mod executions;
mod export;
mod graph;
mod history;
mod maps;
mod open;
mod overdue;
mod overview;
mod payloads;
mod rerun;
mod schedule_changes;
mod schedule_guard;
mod schedules;
mod server;
mod start;
mod tasks;
mod traces;
mod waits;
mod workflows;

use crate::operation::{Operation, Parameter};

/// Returns every route of the API.
#[must_use]
pub fn operations() -> Vec<Operation> {
    let groups = [
        server::operations(),
        executions::operations(),
        tasks::operations(),
        maps::operations(),
        payloads::operations(),
        history::operations(),
        start::operations(),
        rerun::operations(),
        overview::operations(),
        control::operations(),
        waits::operations(),
        bulk::operations(),
        compare::operations(),
        export::operations(),
        workflows::operations(),
        graph::operations(),
        schedules::operations(),
        schedule_changes::operations(),
    ];
    let all = groups.into_iter().flatten();
    all.map(|operation| operation.with([TENANT])).collect()
}

/// A parameter of every route: the tenant.
const TENANT: Parameter = Parameter::text(
    "tenant",
    "The schema of the tenant to use; if omitted, the default schema is used.",
);

/// Maximum number of items on a page.
const MAX_PAGE: usize = 200;

/// A parameter of lists: the maximum number of items on the page.
const LIMIT: Parameter = Parameter::number(
    "limit",
    1,
    MAX_PAGE,
    "Maximum number of items on the page; default: 50.",
);

/// A parameter of lists: the cursor of the page.
const CURSOR: Parameter =
    Parameter::text("cursor", "A page's `next` or `prev`, with the same filter.");

/// A parameter of lists whose items have indexes: the index after which the page begins.
const AFTER: Parameter = Parameter::number(
    "after",
    0,
    u32::MAX as usize,
    "Only items with a higher index than this.",
);
