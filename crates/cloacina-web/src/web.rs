//! `Web`: a database with the rules under which it is served.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use cloacina::runner::{Access as Opening, DatabaseAdmin, Inspector, Tenant};
use cloacina::types::sync::Mutex;
use cloacina::{Error, ErrorCode};

use crate::access::{Access, Permission};
use crate::problem::Problem;
use crate::redact::Redactor;
use crate::token::TokenLogin;
use crate::watch::Watcher;

/// Decides who a caller is from the head of a request; `None` refuses the caller with status 401.
pub type Authorize = Arc<dyn Fn(&Parts) -> Option<Access> + Send + Sync>;

/// How callers prove who they are.
#[derive(Clone)]
pub(crate) enum Authentication {
    /// A function of the program.
    Function(Authorize),
    /// A token, as a bearer token or in a cookie.
    Token(Arc<TokenLogin>),
    /// Nothing: every caller has every permission.
    Open,
    /// An adapter has asked the program, and has put the access into the request's extensions.
    Adapter,
}

/// The hosts that the server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// IP addresses, `localhost`, and these names.
    Named(Vec<String>),
    /// Any host: the framework that embeds the server checks it.
    Any,
}

/// A database with the rules under which it is served: the access of callers, and the values that are hidden.
///
/// ```no_run
/// use cloacina_web::{Access, Database, Web, router};
///
/// # fn main() -> Result<(), cloacina::Error> {
/// let database = Database::open("sqlite:///etl.db", None)?;
/// let web = Web::new(database, |head| {
///     let is_staff = head.headers.get("x-staff").is_some();
///     is_staff.then(|| Access::full("staff"))
/// });
/// let app: axum::Router = axum::Router::new().nest("/cloaca", router(web.read_only()));
/// # Ok(())
/// # }
/// ```
///
/// Since 1.0.
#[derive(Clone)]
pub struct Web {
    pub(crate) database: Database,
    pub(crate) authentication: Authentication,
    pub(crate) hosts: Hosts,
    pub(crate) trusts_proxy: bool,
    pub(crate) deadline: Duration,
    is_read_only: bool,
    hides_payloads: bool,
    redactor: Redactor,
    /// The template of the links to traces.
    trace_url: Option<String>,
}

impl Web {
    /// Serves a database to callers for whom `authorize` returns an access. Since 1.0.
    pub fn new(
        database: impl Into<Database>,
        authorize: impl Fn(&Parts) -> Option<Access> + Send + Sync + 'static,
    ) -> Self {
        let authentication = Authentication::Function(Arc::new(authorize));
        Self::with_authentication(database.into(), authentication)
    }

    /// Serves a database to callers who have a token, as a bearer token or as the cookie that a link with the token sets.
    /// Since 1.0.
    pub fn with_token(database: impl Into<Database>, token: impl Into<String>) -> Self {
        let login = TokenLogin::new(token.into(), "cloaca".to_owned());
        let authentication = Authentication::Token(Arc::new(login));
        Self::with_authentication(database.into(), authentication)
    }

    /// Names the cookie after the port, because the servers of one host share their cookies.
    pub(crate) fn on_port(mut self, port: u16) -> Self {
        if let Authentication::Token(login) = &self.authentication {
            let login = login.with_cookie(format!("cloaca-{port}"));
            self.authentication = Authentication::Token(Arc::new(login));
        }
        self
    }

    /// Serves a database to every caller, with every permission. Such a server listens on loopback addresses only. Since 1.0.
    pub fn without_token(database: impl Into<Database>) -> Self {
        Self::with_authentication(database.into(), Authentication::Open)
    }

    /// Serves a database for an adapter, which puts the caller's [`Access`] into the request's extensions.
    #[doc(hidden)]
    pub fn for_adapter(database: impl Into<Database>) -> Self {
        Self::with_authentication(database.into(), Authentication::Adapter)
    }

    fn with_authentication(database: Database, authentication: Authentication) -> Self {
        Self {
            database,
            authentication,
            hosts: Hosts::Named(Vec::new()),
            trusts_proxy: false,
            deadline: Duration::from_secs(10),
            is_read_only: false,
            hides_payloads: false,
            redactor: Redactor::new(&[]),
            trace_url: None,
        }
    }

    /// Refuses every change. Since 1.0.
    pub fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// Hides inputs, results and contexts from every caller. Since 1.0.
    pub fn hide_payloads(mut self) -> Self {
        self.hides_payloads = true;
        self
    }

    /// Redacts the values of more keys. A key matches if it contains one of the patterns, ignoring case and separators. Since
    /// 1.0.
    pub fn redact(mut self, patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        self.redactor = Redactor::new(&patterns);
        self
    }

    /// Answers for these host names too, besides IP addresses and `localhost`. Since 1.0.
    pub fn allowed_hosts(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(|name| name.into().to_lowercase());
        self.hosts = Hosts::Named(names.collect());
        self
    }

    /// Answers for any host, because the program that embeds the server checks it. Since 1.0.
    pub fn any_host(mut self) -> Self {
        self.hosts = Hosts::Any;
        self
    }

    /// Believes the headers `X-Forwarded-Host` and `X-Forwarded-Proto`, which a proxy must set. Since 1.0.
    pub fn trust_proxy(mut self) -> Self {
        self.trusts_proxy = true;
        self
    }

    /// Links executions that were submitted in a trace to the page of the trace: the template's `{trace_id}` is replaced by the
    /// trace's id in hexadecimal, and `{execution_id}` by the execution's id. A template that is not an `http` or `https` URL
    /// is ignored. Since 1.0.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), cloacina::Error> {
    /// # use cloacina_web::{Database, Web};
    /// let web = Web::with_token(Database::open("sqlite:///etl.db", None)?, "a token of 16 characters");
    /// let web = web.trace_url("https://jaeger.example.com/trace/{trace_id}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn trace_url(mut self, template: impl Into<String>) -> Self {
        let template = template.into();
        let is_link = template.starts_with("https://") || template.starts_with("http://");
        self.trace_url = is_link.then_some(template);
        self
    }

    /// Sets the maximum time that the database may take for a request. Since 1.0.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub(crate) const fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(crate) const fn hides_payloads(&self) -> bool {
        self.hides_payloads
    }

    /// The template of the links to traces.
    pub(crate) fn trace_template(&self) -> Option<&str> {
        self.trace_url.as_deref()
    }

    pub(crate) fn redactor(&self) -> Redactor {
        self.redactor.clone()
    }

    /// Refuses a caller without a permission, and every change in read-only mode.
    pub(crate) fn check(&self, access: &Access, permission: Permission) -> Result<(), Problem> {
        if permission.is_write() && self.is_read_only {
            return Err(Problem::new("read_only", "the server is in read-only mode"));
        }
        if access.allows(permission) {
            return Ok(());
        }
        let name = permission.name();
        let detail = format!("the route needs the permission '{name}'");
        Err(Problem::new("forbidden", detail))
    }

    /// The permissions that a caller can use, in their order.
    pub(crate) fn usable(&self, access: &Access) -> Vec<Permission> {
        let usable = |permission: &Permission| self.check(access, *permission).is_ok();
        access.permissions().filter(usable).collect()
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web")
            .field("database", &self.database)
            .field("is_read_only", &self.is_read_only)
            .finish_non_exhaustive()
    }
}

/// Maximum number of tenants whose connections are kept open.
const MAX_TENANTS: usize = 32;

struct OpenDatabase {
    inspector: Inspector,
    watcher: Arc<Watcher>,
}

struct Shared {
    /// The URL, from which tenants are opened. `None` if no tenants are served.
    url: Option<String>,
    /// The access with which the connections are opened.
    opening: Opening,
    own: OpenDatabase,
    tenants: Mutex<HashMap<String, OpenDatabase>>,
}

/// A database that is served, with its tenants.
///
/// Since 1.0.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

impl Database {
    /// Opens an existing database of this program's version. `schema`: serves only this PostgreSQL schema; if omitted, the
    /// tenants of the database are served too.
    ///
    /// # Errors
    /// `UrlInvalid`; `Configuration` for an invalid schema; `Database`, `Connection` or `Migration` when the database does
    /// not exist, cannot be opened or has another schema version.
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
        let inspector = Inspector::open(url, schema, opening)?;
        let url = schema.is_none().then(|| url.to_owned());
        Ok(Self::with(inspector, url, opening))
    }

    fn with(inspector: Inspector, url: Option<String>, opening: Opening) -> Self {
        let shared = Shared {
            url: url.filter(|url| url.starts_with("postgres")),
            opening,
            own: OpenDatabase::new(inspector),
            tenants: Mutex::new(HashMap::new()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The database, or the schema of one of its tenants.
    pub(crate) fn inspector(&self, tenant: Option<&str>) -> Result<Inspector, Error> {
        self.opened(tenant, |open| open.inspector.clone())
    }

    /// The watcher of the database, or of one of its tenants.
    pub(crate) fn watcher(&self, tenant: Option<&str>) -> Result<Arc<Watcher>, Error> {
        self.opened(tenant, |open| Arc::clone(&open.watcher))
    }

    /// The tenants of the database, in the order of their schemas; none on SQLite.
    pub(crate) fn tenants(&self) -> Result<Vec<Tenant>, Error> {
        match &self.shared.url {
            Some(url) => DatabaseAdmin::new(url)?.list_tenants(),
            None => Ok(Vec::new()),
        }
    }

    fn opened<T>(
        &self,
        tenant: Option<&str>,
        read: impl Fn(&OpenDatabase) -> T,
    ) -> Result<T, Error> {
        let Some(tenant) = tenant else {
            return Ok(read(&self.shared.own));
        };
        if let Some(open) = self.shared.tenants.lock().get(tenant) {
            return Ok(read(open));
        }
        let known = self.tenants()?;
        let Some(url) = (self.shared.url.as_ref())
            .filter(|_| known.iter().any(|known| known.schema_name == tenant))
        else {
            let shown: String = tenant.chars().take(80).collect();
            let message = format!("tenant '{shown}' is not known in this database");
            let error = Error::new(ErrorCode::Configuration, message);
            return Err(error.with_hint("GET tenants lists the tenants of a PostgreSQL database"));
        };
        let inspector = Inspector::open(url, Some(tenant), self.shared.opening)?;
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

impl OpenDatabase {
    fn new(inspector: Inspector) -> Self {
        let watcher = Arc::new(Watcher::new(inspector.clone()));
        Self { inspector, watcher }
    }
}

impl From<Inspector> for Database {
    fn from(inspector: Inspector) -> Self {
        Self::with(inspector, None, Opening::Existing)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = self.shared.own.inspector.location();
        f.debug_tuple("Database").field(&location).finish()
    }
}
