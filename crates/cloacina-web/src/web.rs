//! `Web`: a database and the settings for serving it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use tracing::Dispatch;

use crate::access::{Access, Permission};
use crate::database::{DEADLINE, Database};
use crate::problem::Problem;
use crate::redact::Redactor;
use crate::token::TokenLogin;

/// A function that identifies a caller by the head of a request. If it returns `None`, the answer has the status 401.
pub type Authorize = Arc<dyn Fn(&Parts) -> Option<Access> + Send + Sync>;

/// The way in which callers are authenticated.
#[derive(Clone)]
pub(crate) enum Authentication {
    /// A function of the program identifies the caller.
    Function(Authorize),
    /// The caller sends a token, in the header `Authorization` or in a cookie.
    Token(Arc<TokenLogin>),
    /// Callers are not authenticated. Every caller has every permission.
    Open,
    /// An adapter identifies the caller, and puts the caller's access into the request's extensions.
    Adapter,
}

/// The hosts that the server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// IP addresses, `localhost`, and these names.
    Named(Vec<String>),
    /// Any host, because the framework that embeds the server checks the host.
    Any,
}

/// How the page follows changes of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Updates {
    /// The page follows the stream (`GET /stream`).
    Stream,
    /// The page requests the change marker every few seconds.
    Poll,
}

impl Updates {
    /// Returns the name in the API.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Poll => "poll",
        }
    }
}

/// A database and the settings for serving it: how callers are authenticated, and which values are hidden.
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
    updates: Updates,
    redactor: Redactor,
    /// The template of the links to traces.
    trace_url: Option<String>,
    /// The `tracing` dispatcher of the service's threads; `None`: the program's global dispatcher.
    dispatch: Option<Dispatch>,
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

    /// Serves a database to callers who send a token, in the header `Authorization` or in a cookie. A link that contains the
    /// token sets the cookie. Since 1.0.
    pub fn with_token(database: impl Into<Database>, token: impl Into<String>) -> Self {
        let login = TokenLogin::new(token.into(), "cloaca".to_owned());
        let authentication = Authentication::Token(Arc::new(login));
        Self::with_authentication(database.into(), authentication)
    }

    /// Names the cookie after the port, because browsers send a host's cookies to all its ports.
    pub(crate) fn on_port(mut self, port: u16) -> Self {
        if let Authentication::Token(login) = &self.authentication {
            let login = login.with_cookie(format!("cloaca-{port}"));
            self.authentication = Authentication::Token(Arc::new(login));
        }
        self
    }

    /// Serves a database to every caller, with every permission. Such a server can listen only on loopback addresses. Since
    /// 1.0.
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
            deadline: DEADLINE,
            is_read_only: false,
            hides_payloads: false,
            updates: Updates::Stream,
            redactor: Redactor::new(&[]),
            trace_url: None,
            dispatch: None,
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

    /// Makes the page poll for changes instead of following the stream, for a server that needs a thread for each open
    /// stream. Since 1.0.
    pub fn polled(mut self) -> Self {
        self.updates = Updates::Poll;
        self
    }

    /// Also redacts the values of keys that contain one of these patterns, ignoring case and separators. Another call
    /// replaces these patterns, but not the default patterns. Since 1.0.
    pub fn redact(mut self, patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        self.redactor = Redactor::new(&patterns);
        self
    }

    /// Allows these host names, besides IP addresses and `localhost`. Since 1.0.
    pub fn allowed_hosts(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(|name| name.into().to_lowercase());
        self.hosts = Hosts::Named(names.collect());
        self
    }

    /// Allows any host name, for a program that checks the host itself. Since 1.0.
    pub fn any_host(mut self) -> Self {
        self.hosts = Hosts::Any;
        self
    }

    /// Trusts the headers `X-Forwarded-Host` and `X-Forwarded-Proto`, which a proxy must set. Since 1.0.
    pub fn trust_proxy(mut self) -> Self {
        self.trusts_proxy = true;
        self
    }

    /// Sets the template of the links from executions to their traces. In the template, `{trace_id}` stands for the trace's id
    /// in hexadecimal, and `{execution_id}` for the execution's id. Only executions that were submitted in a trace get a link.
    /// A template that is not an `http` or `https` URL is ignored. Since 1.0.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), cloacina::Error> {
    /// # use cloacina_web::{Database, Web};
    /// let web = Web::with_token(Database::open("sqlite:///etl.db", None)?, "a long random token");
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

    /// Sets the `tracing` dispatcher of the service's threads. By default, these threads use the program's global
    /// dispatcher. Since 1.0.
    pub fn log_to(mut self, dispatch: Dispatch) -> Self {
        self.dispatch = Some(dispatch);
        self
    }

    /// Returns a function that each thread of the service calls when it starts.
    pub(crate) fn on_thread_start(&self) -> impl Fn() + Send + Sync + 'static {
        let dispatch = self.dispatch.clone();
        move || {
            if let Some(dispatch) = &dispatch {
                // The thread keeps the dispatcher until it ends.
                std::mem::forget(tracing::dispatcher::set_default(dispatch));
            }
        }
    }

    /// Sets the maximum time that a request may take, including its wait for other requests. The default is 10 seconds. A
    /// database that [`Database::open`] has opened ends each query after 10 seconds, so a longer time has no effect on one query.
    ///
    /// Since 1.0.
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

    pub(crate) const fn updates(&self) -> Updates {
        self.updates
    }

    /// The template of the links to traces.
    pub(crate) fn trace_template(&self) -> Option<&str> {
        self.trace_url.as_deref()
    }

    pub(crate) fn redactor(&self) -> Redactor {
        self.redactor.clone()
    }

    /// Returns an error if the caller lacks a permission, or if the permission is for changes and the server refuses changes.
    pub(crate) fn check(&self, access: &Access, permission: Permission) -> Result<(), Problem> {
        if permission.is_write() && self.is_read_only {
            return Err(Problem::new(
                "read_only",
                "the server is in read-only mode and refuses changes",
            ));
        }
        if access.allows(permission) {
            return Ok(());
        }
        let name = permission.name();
        let detail = format!("the caller lacks the permission '{name}', which the route needs");
        Err(Problem::new("forbidden", detail))
    }

    /// Returns the permissions that a caller has and that the server's settings do not disable.
    pub(crate) fn usable(&self, access: &Access) -> Vec<Permission> {
        let is_hidden = |of: Permission| self.hides_payloads && of == Permission::ViewPayloads;
        let usable = |of: &Permission| self.check(access, *of).is_ok() && !is_hidden(*of);
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
