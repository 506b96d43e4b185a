//! Views of runners, tenants, the database and the server.

use cloacina::Timestamp;
use cloacina::runner::{RunnerView as Registered, Tenant};
use cloacina::store::Health;
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// A runner that has not been declared dead.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Runner)]
pub(crate) struct RunnerView {
    /// The id.
    pub(crate) id: String,
    /// The machine.
    host: String,
    /// The process id on that machine.
    pid: i64,
    /// Whether the runner is alive: its lease has not ended, and its process is not known to be gone.
    is_alive: bool,
    /// When the runner started.
    #[schema(format = DateTime)]
    started_at: String,
    /// When the runner last sent a heartbeat.
    #[schema(format = DateTime)]
    heartbeat_at: String,
    /// When the runner's lease ends.
    #[schema(format = DateTime)]
    lease_until: String,
    /// The workflows for which the runner has handlers.
    workflows: Vec<String>,
}

impl RunnerView {
    pub(crate) fn new(runner: Registered, now: Timestamp) -> Self {
        let is_alive = runner.is_alive(now);
        Self {
            id: runner.presence.id.to_string(),
            host: runner.presence.host,
            pid: runner.presence.pid,
            is_alive,
            started_at: time(runner.presence.started_at),
            heartbeat_at: time(runner.presence.heartbeat_at),
            lease_until: time(runner.presence.lease_until),
            workflows: runner.workflows,
        }
    }
}

/// A tenant of a PostgreSQL database.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(crate) struct TenantView {
    /// The tenant's schema. Requests select the tenant by passing this name in the query parameter `tenant`.
    schema: String,
    /// The database role of the tenant.
    username: Option<String>,
}

impl TenantView {
    pub(crate) fn new(tenant: Tenant) -> Self {
        Self {
            schema: tenant.schema_name,
            username: tenant.username,
        }
    }
}

/// The size and the health of a database.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Database)]
pub(crate) struct DatabaseView {
    /// The location of the database, without a password.
    location: String,
    /// The kind of the database: sqlite or postgres.
    backend: &'static str,
    /// The size of the database on disk, in bytes.
    size_bytes: u64,
    /// The unused part of `size_bytes`, in bytes; on PostgreSQL an estimate.
    free_bytes: u64,
    /// The problems that were found; empty if the database is sound.
    problems: Vec<String>,
    /// Recommendations for reclaiming unused space.
    advice: Vec<String>,
    /// The version of the database's schema: the newest migration that was applied.
    schema_version: String,
}

impl DatabaseView {
    pub(crate) fn new(location: String, health: Health) -> Self {
        Self {
            backend: backend_of(&location),
            location,
            size_bytes: health.size,
            free_bytes: health.free,
            problems: health.problems,
            advice: health.advice,
            schema_version: health.schema_version,
        }
    }
}

/// Returns the kind of a database, from its location.
pub(crate) fn backend_of(location: &str) -> &'static str {
    if location.starts_with("postgres") {
        "postgres"
    } else {
        "sqlite"
    }
}

/// The server, and the permissions of the caller.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Meta {
    /// The version of the program.
    pub(crate) version: &'static str,
    /// The kind of the database: sqlite or postgres.
    pub(crate) backend: &'static str,
    /// The location of the database, without a password.
    pub(crate) location: String,
    /// The time on the server's clock.
    #[schema(format = DateTime)]
    pub(crate) time: String,
    /// The name of the caller.
    pub(crate) user: String,
    /// The permissions that the caller can use.
    pub(crate) permissions: Vec<&'static str>,
    /// Whether the server refuses changes.
    pub(crate) read_only: bool,
    /// Whether inputs and results are hidden from everybody.
    pub(crate) payloads_hidden: bool,
    /// How the page follows changes of the database: `stream` means `GET /stream`. `poll` means `GET /changes?after=` every
    /// few seconds, for a server where each stream occupies a thread.
    pub(crate) live: &'static str,
    /// The tenant that the answer is about; null for the default schema.
    pub(crate) tenant: Option<String>,
}

/// The change marker of a database.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangesView {
    /// The marker: a text that differs from an earlier marker if the database may have changed in between.
    pub(crate) marker: String,
    /// Whether the database may have changed since the marker in `after`; true without a marker.
    pub(crate) changed: bool,
}

/// The number of executions that were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pruned {
    /// The number of deleted executions; in a dry run, the number that would be deleted.
    pub(crate) deleted: usize,
    /// Whether more executions may remain, because the limit was reached.
    pub(crate) more: bool,
    /// Whether this was a dry run, which deleted nothing.
    pub(crate) dry_run: bool,
}
