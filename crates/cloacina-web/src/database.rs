//! `Database`: the database that is served, with its tenants.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use cloacina::runner::{Access as Opening, DatabaseAdmin, Inspector, Tenant, schema_versions};
use cloacina::types::sync::Mutex;
use cloacina::{Error, ErrorCode};

use crate::problem::Problem;
use crate::watch::Watcher;

/// Default of the maximum time that a request may take. PostgreSQL ends a query after the same time, so that a query whose
/// caller no longer waits holds no locks.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// Minimum time between two attempts to open a default schema that was missing before.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Maximum number of tenants whose connections are kept open. When one more tenant is opened, the connections of all
/// other tenants are released.
const MAX_TENANTS: usize = 32;

struct OpenDatabase {
    inspector: Inspector,
    watcher: Arc<Watcher>,
}

/// The schema of requests that name no tenant.
struct OwnSchema {
    open: OpenDatabase,
    /// When the last attempt to open the schema failed; `None` if the schema is open. If the schema does not exist, its
    /// inspector answers with an error.
    absent_since: Option<Instant>,
}

struct Shared {
    /// The URL of the database, with which tenants are opened. `None` if no tenants are served.
    url: Option<String>,
    /// How the database is opened: for reading, or also for writing.
    opening: Opening,
    own: Mutex<OwnSchema>,
    tenants: Mutex<HashMap<String, OpenDatabase>>,
    /// When the server of the database last answered a check, if the default schema does not exist. Each of these checks
    /// opens a connection, so they run one at a time, and an answer counts for a while.
    answered: Mutex<Option<Instant>>,
}

/// A database to serve, with its tenants.
///
/// Since 1.0.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

impl Database {
    /// Opens an existing database, which must have this program's schema version. If `schema` names a PostgreSQL
    /// schema, only this schema is served. Without `schema`, the tenants of the database are served too. A database that has
    /// tenants, but nothing in its default schema, can be opened, too: requests that name no tenant then get an error.
    ///
    /// # Errors
    /// `UrlInvalid`; `Configuration` for an invalid schema name; `Database`, `Connection` or `Migration` when the
    /// database does not exist, cannot be opened or has another schema version.
    ///
    /// Since 1.0.
    pub fn open(url: &str, schema: Option<&str>) -> Result<Self, Error> {
        Self::open_as(url, schema, Opening::Existing)
    }

    /// Opens a database like [`open`](Self::open), but only for reading: the database itself refuses every change.
    ///
    /// # Errors
    /// See [`open`](Self::open).
    ///
    /// Since 1.0.
    pub fn open_read_only(url: &str, schema: Option<&str>) -> Result<Self, Error> {
        Self::open_as(url, schema, Opening::ReadOnly)
    }

    fn open_as(url: &str, schema: Option<&str>, opening: Opening) -> Result<Self, Error> {
        let (inspector, is_absent) = match open_inspector(url, schema, opening) {
            Ok(inspector) => (inspector, false),
            Err(error) if schema.is_none() && has_only_tenants(url, &error) => {
                let location = DatabaseAdmin::new(url)?.location();
                (Inspector::absent(location, &without_tenant(error)), true)
            }
            Err(error) => return Err(error),
        };
        let url = schema.is_none().then(|| url.to_owned());
        Ok(Self::with(inspector, is_absent, url, opening))
    }

    fn with(inspector: Inspector, is_absent: bool, url: Option<String>, opening: Opening) -> Self {
        let own = OwnSchema {
            open: OpenDatabase::new(inspector),
            absent_since: is_absent.then(Instant::now),
        };
        let shared = Shared {
            url: url.filter(|url| url.starts_with("postgres")),
            opening,
            own: Mutex::new(own),
            tenants: Mutex::new(HashMap::new()),
            answered: Mutex::new(None),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns an inspector of the database, or of the schema of one of its tenants.
    pub(crate) fn inspector(&self, tenant: Option<&str>) -> Result<Inspector, Problem> {
        self.opened(tenant, |open| open.inspector.clone())
    }

    /// Returns the watcher of the database, or of one of its tenants.
    pub(crate) fn watcher(&self, tenant: Option<&str>) -> Result<Arc<Watcher>, Problem> {
        self.opened(tenant, |open| Arc::clone(&open.watcher))
    }

    /// Returns the tenants of the database, in the order of their schemas. Returns none on SQLite, or if no tenants are
    /// served.
    pub(crate) fn tenants(&self) -> Result<Vec<Tenant>, Error> {
        match &self.shared.url {
            Some(url) => DatabaseAdmin::new(url)?.list_tenants(),
            None => Ok(Vec::new()),
        }
    }

    /// Returns the problem that a tenant is not known if the tenant was removed while it was served, and forgets its
    /// connections. Otherwise, returns `problem`, the failure of a request.
    pub(crate) fn unless_removed(&self, tenant: Option<&str>, problem: Problem) -> Problem {
        let Some(tenant) = tenant else {
            return problem;
        };
        // The schema of a removed tenant has no tables, so its requests fail with an error of the database.
        if problem.status != StatusCode::INTERNAL_SERVER_ERROR {
            return problem;
        }
        match self.tenants() {
            Ok(known) if !known.iter().any(|known| known.schema_name == tenant) => {
                self.shared.tenants.lock().remove(tenant);
                unknown_tenant(tenant)
            }
            _ => problem,
        }
    }

    /// Returns an error if the database does not answer.
    pub(crate) fn check_answers(&self) -> Result<(), Problem> {
        let inspector = self.inspector(None)?;
        if self.shared.own.lock().absent_since.is_some() {
            let mut answered = self.shared.answered.lock();
            if answered.is_none_or(|at| at.elapsed() >= RETRY_PAUSE) {
                self.tenants()?;
                *answered = Some(Instant::now());
            }
            return Ok(());
        }
        Ok(inspector.backlog(1).map(drop)?)
    }

    /// Tries again to open a default schema that did not exist before, because it can be created at any time.
    fn open_absent(&self) {
        let Some(url) = &self.shared.url else {
            return;
        };
        let is_due = match &mut self.shared.own.lock().absent_since {
            Some(since) if since.elapsed() >= RETRY_PAUSE => {
                *since = Instant::now();
                true
            }
            _ => false,
        };
        if !is_due {
            return;
        }
        match open_inspector(url, None, self.shared.opening) {
            Ok(inspector) => {
                *self.shared.own.lock() = OwnSchema {
                    open: OpenDatabase::new(inspector),
                    absent_since: None,
                };
            }
            // The schema exists now, but another version of the engine has created it.
            Err(error) if error.code == ErrorCode::Migration && !is_empty(url) => {
                let mut own = self.shared.own.lock();
                let location = own.open.inspector.location();
                own.open = OpenDatabase::new(Inspector::absent(location, &error));
            }
            Err(_) => {}
        }
    }

    fn opened<T>(
        &self,
        tenant: Option<&str>,
        read: impl Fn(&OpenDatabase) -> T,
    ) -> Result<T, Problem> {
        let Some(tenant) = tenant else {
            self.open_absent();
            return Ok(read(&self.shared.own.lock().open));
        };
        if let Some(open) = self.shared.tenants.lock().get(tenant) {
            return Ok(read(open));
        }
        let known = self.tenants()?;
        let Some(url) = (self.shared.url.as_ref())
            .filter(|_| known.iter().any(|known| known.schema_name == tenant))
        else {
            return Err(unknown_tenant(tenant));
        };
        let inspector = open_inspector(url, Some(tenant), self.shared.opening)?;
        let open = OpenDatabase::new(inspector);
        let answer = read(&open);
        let mut tenants = self.shared.tenants.lock();
        if tenants.len() >= MAX_TENANTS {
            tenants.clear();
        }
        tenants.insert(tenant.to_owned(), open);
        Ok(answer)
    }
}

fn open_inspector(url: &str, schema: Option<&str>, opening: Opening) -> Result<Inspector, Error> {
    Inspector::open_within(url, schema, opening, DEADLINE)
}

/// Whether a database could not be opened only because its default schema lacks the engine's tables, but the database has
/// tenants.
fn has_only_tenants(url: &str, error: &Error) -> bool {
    let tenants = || DatabaseAdmin::new(url).and_then(|admin| admin.list_tenants());
    error.code == ErrorCode::Migration
        && is_empty(url)
        && tenants().is_ok_and(|tenants| !tenants.is_empty())
}

/// Whether the default schema lacks the engine's tables.
fn is_empty(url: &str) -> bool {
    schema_versions(url, None).is_ok_and(|versions| versions.current.is_none())
}

/// Returns the error of a request that names no tenant, if only tenants can be served.
fn without_tenant(error: Error) -> Error {
    error.with_hint("name one of the tenants with ?tenant=; GET /tenants lists them")
}

fn unknown_tenant(tenant: &str) -> Problem {
    let shown: String = tenant.chars().take(80).collect();
    let detail = format!("tenant '{shown}' is not known in this database");
    Problem::invalid("tenant", detail)
        .hint("GET /tenants lists the tenants of a PostgreSQL database")
}

impl OpenDatabase {
    fn new(inspector: Inspector) -> Self {
        let watcher = Arc::new(Watcher::new(inspector.clone()));
        Self { inspector, watcher }
    }
}

impl From<Inspector> for Database {
    fn from(inspector: Inspector) -> Self {
        Self::with(inspector, false, None, Opening::Existing)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.shared.own.lock().open.inspector.location();
        f.debug_tuple("Database").field(&location).finish()
    }
}
