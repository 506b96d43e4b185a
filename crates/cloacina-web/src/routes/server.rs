//! The routes for the server, and for the runners, tenants and state of its database.

use cloacina::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::access::Permission::{self, Delete, View};
use crate::call::{Call, Reply};
use crate::operation::{Answer, Operation, Parameter};
use crate::problem::Problem;
use crate::query::shown;
use crate::views::Page;
use crate::views::server::{
    ChangesView, DatabaseView, Meta, Pruned, RunnerView, TenantView, backend_of,
};
use crate::views::time;

/// The committed `OpenAPI` document. A test compares it with the routes.
const DOCUMENT: &str = include_str!("../../openapi.json");

/// Maximum number of executions that one request deletes.
const MAX_PRUNED: usize = 10_000;

pub(super) fn operations() -> Vec<Operation> {
    let stream = Operation::new(
        axum::http::Method::GET,
        "/stream",
        View,
        "streamChanges",
        "Follow changes of the database",
        Answer::Changes,
    );
    vec![
        Operation::get("/meta", View, "getMeta", "Show information about the server and the caller's permissions", meta)
            .returns::<Meta>(200, "The server."),
        Operation::get("/changes", View, "getChanges", "Check whether anything has changed", changes)
            .about("A client that cannot follow the stream asks every few seconds, and reloads its data after a change.")
            .with([Parameter::text("after", "The marker of an earlier answer.")])
            .returns::<ChangesView>(200, "The marker."),
        stream
            .about(
                "Sends the server-sent event `changed` when anything may have changed, at most twice a second, with the \
                 marker as its id. A client then reloads its data. After a lost connection, the client sends the last marker \
                 in the header Last-Event-ID.",
            )
            .media_type("text/event-stream")
            .returns::<String>(200, "The events."),
        Operation::get("/openapi.json", View, "getOpenApi", "Show the OpenAPI document", document)
            .returns::<serde_json::Value>(200, "The OpenAPI document."),
        Operation::get("/runners", View, "listRunners", "List the runners of the database", runners)
            .returns_page::<RunnerView>("The runners in the order of their start."),
        Operation::get("/runners/{id}", View, "getRunner", "Show a runner", runner)
            .returns::<RunnerView>(200, "The runner."),
        Operation::get("/tenants", View, "listTenants", "List the tenants of a PostgreSQL database", tenants)
            .of_all_tenants()
            .about("A caller who may use only some tenants can list them without naming one.")
            .returns_page::<TenantView>("The tenants that the caller may use; none on SQLite."),
        Operation::get("/database", View, "getDatabase", "Check the database", database)
            .returns::<DatabaseView>(200, "The size and the health of the database."),
        Operation::post("/database/prune", Delete, "pruneDatabase", "Delete executions that ended long ago", prune)
            .about(
                "A request deletes at most 10,000 executions, the oldest first, with their children. A dry run counts the \
                 executions that the request would delete, without their children, and deletes nothing.",
            )
            .takes::<Prune>()
            .returns::<Pruned>(200, "The number of executions that were deleted, or would be deleted."),
    ]
}

fn meta(call: &Call<'_>) -> Result<Reply, Problem> {
    let location = call.inspector.location();
    let usable = call.web.usable(call.access);
    Reply::json(&Meta {
        version: env!("CARGO_PKG_VERSION"),
        backend: backend_of(&location),
        location,
        time: time(call.inspector.now()),
        user: call.access.user().to_owned(),
        permissions: usable.into_iter().map(Permission::name).collect(),
        read_only: call.web.is_read_only(),
        payloads_hidden: call.web.hides_payloads(),
        live: call.web.updates().name(),
        tenant: call.tenant.clone(),
    })
}

fn changes(call: &Call<'_>) -> Result<Reply, Problem> {
    let watcher = call.web.database.watcher(call.tenant.as_deref())?;
    let marker = watcher.marker()?;
    let changed = call.query.get("after") != Some(marker.as_str());
    Reply::json(&ChangesView { marker, changed })
}

#[expect(clippy::unnecessary_wraps, reason = "the type of a handler")]
fn document(_: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::text(DOCUMENT, "application/json; charset=utf-8"))
}

fn runners(call: &Call<'_>) -> Result<Reply, Problem> {
    let now = call.inspector.now();
    let runners = call.inspector.runners()?.into_iter();
    Reply::json(&Page::whole(
        runners.map(|runner| RunnerView::new(runner, now)).collect(),
    ))
}

fn runner(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.part("id")?;
    let now = call.inspector.now();
    let mut runners = call
        .inspector
        .runners()?
        .into_iter()
        .map(|runner| RunnerView::new(runner, now));
    let found = runners.find(|runner| runner.id.eq_ignore_ascii_case(id));
    let shown: String = id.chars().take(80).collect();
    let missing = || {
        Problem::new(
            "not_found",
            format!("runner '{shown}' is not known in this database"),
        )
    };
    Reply::json(&found.ok_or_else(missing)?)
}

fn tenants(call: &Call<'_>) -> Result<Reply, Problem> {
    let tenants = call.web.database.tenants()?.into_iter();
    let allowed = tenants.filter(|tenant| call.access.allows_tenant(Some(&tenant.schema_name)));
    Reply::json(&Page::whole(allowed.map(TenantView::new).collect()))
}

fn database(call: &Call<'_>) -> Result<Reply, Problem> {
    let health = call.inspector.check()?;
    Reply::json(&DatabaseView::new(call.inspector.location(), health))
}

/// A request to delete old executions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Prune {
    /// Executions that ended before this time are deleted: a time like 2026-01-31T12:00:00Z, or a span before now like 30d.
    older_than: String,
    /// Whether to count the executions that would be deleted, and to delete nothing.
    #[serde(default)]
    dry_run: bool,
}

fn prune(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: Prune = call.decode()?;
    let now = call.inspector.now();
    let before = crate::time::parse(&request.older_than, now).filter(|before| *before <= now);
    let refused = || {
        let text = shown(&request.older_than);
        let detail = format!("'{text}' is neither a time in the past nor a span like 30d");
        Problem::invalid("/older_than", detail)
    };
    let before: Timestamp = before.ok_or_else(refused)?;
    let deleted = if request.dry_run {
        call.inspector.count_prunable(before, MAX_PRUNED)?
    } else {
        call.inspector.prune(before, MAX_PRUNED)?
    };
    if deleted > 0 && !request.dry_run {
        call.note_change("prune", &request.older_than);
    }
    Reply::json(&Pruned {
        deleted,
        more: deleted == MAX_PRUNED,
        dry_run: request.dry_run,
    })
}
