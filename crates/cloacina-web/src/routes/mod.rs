//! The routes of the API, one file for each group.

mod bulk;
mod compare;
mod control;
mod executions;
mod export;
mod graph;
mod history;
mod maps;
mod overdue;
mod overview;
mod payloads;
mod rerun;
mod schedule_changes;
mod schedules;
mod server;
mod start;
mod tasks;
mod traces;
mod waits;
mod workflows;

use crate::operation::{Operation, Parameter};

/// Every route of the API.
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

/// The parameter that every route has.
const TENANT: Parameter = Parameter::text(
    "tenant",
    "The schema of a tenant; default: the database itself.",
);

/// Maximum number of items of a page.
const MAX_PAGE: usize = 200;

/// The maximum number of items on a page.
const LIMIT: Parameter = Parameter::number(
    "limit",
    1,
    MAX_PAGE,
    "Maximum number of items; default: 50.",
);

/// The cursor of a page.
const CURSOR: Parameter =
    Parameter::text("cursor", "A page's `next` or `prev`, with the same filter.");

/// A position in a list.
const AFTER: Parameter = Parameter::number(
    "after",
    0,
    u32::MAX as usize,
    "Only items with a higher index than this.",
);
