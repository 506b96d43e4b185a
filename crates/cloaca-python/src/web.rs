//! `WebService`: the HTTP API for the ASGI and WSGI adapters. `WebServer`: the same on a port.

use std::net::IpAddr;

use cloacina::types::{Error, ErrorCode};
use cloacina_web::adapter::{Adapter, Exchange, Head, Notify, Part};
use cloacina_web::{Access, Database, Listening, Permission, Web};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::call;
use crate::errors::Raise;
use crate::loop_waker::LoopWaker;
use crate::process_guard::{ProcessGuard, ProcessOwned};

/// The names and values of headers.
type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// How a database is served.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WebOptions {
    read_only: bool,
    hide_payloads: bool,
    redact: Vec<String>,
    /// `None`: any host.
    allowed_hosts: Option<Vec<String>>,
    trust_proxy: bool,
    trace_url: Option<String>,
}

#[pymethods]
impl WebOptions {
    #[new]
    #[pyo3(signature = (read_only, hide_payloads, redact, allowed_hosts, trust_proxy, trace_url=None))]
    const fn new(
        read_only: bool,
        hide_payloads: bool,
        redact: Vec<String>,
        allowed_hosts: Option<Vec<String>>,
        trust_proxy: bool,
        trace_url: Option<String>,
    ) -> Self {
        Self {
            read_only,
            hide_payloads,
            redact,
            allowed_hosts,
            trust_proxy,
            trace_url,
        }
    }
}

impl WebOptions {
    fn open(&self, url: &str, schema: Option<&str>) -> Result<Database, Error> {
        if self.read_only {
            Database::open_read_only(url, schema)
        } else {
            Database::open(url, schema)
        }
    }

    fn apply(&self, web: Web) -> Web {
        let mut web = web.redact(self.redact.iter().map(String::as_str));
        web = match &self.allowed_hosts {
            Some(hosts) => web.allowed_hosts(hosts.iter().map(String::as_str)),
            None => web.any_host(),
        };
        if self.read_only {
            web = web.read_only();
        }
        if self.hide_payloads {
            web = web.hide_payloads();
        }
        if self.trust_proxy {
            web = web.trust_proxy();
        }
        if let Some(template) = &self.trace_url {
            web = web.trace_url(template.as_str());
        }
        web
    }
}

fn permission(name: &str) -> Result<Permission, Error> {
    Permission::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Permission::ALL.iter().map(|known| known.name()).collect();
        Error::new(
            ErrorCode::Configuration,
            format!("'{name}' is not a permission"),
        )
        .with_hint(format!("a permission is one of {}", names.join(", ")))
    })
}

/// The access of an authenticated caller.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WebAccess {
    access: Access,
}

#[pymethods]
impl WebAccess {
    /// Raises `ConfigurationError` for an unknown permission.
    #[new]
    fn new(
        py: Python<'_>,
        user: &str,
        permissions: Vec<String>,
        tenants: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let permissions: Result<Vec<Permission>, Error> = permissions
            .into_iter()
            .map(|name| permission(&name))
            .collect();
        let mut access = Access::new(user, permissions.raise(py)?);
        if let Some(tenants) = tenants {
            access = access.tenants(tenants);
        }
        Ok(Self { access })
    }
}

/// The HTTP API of a database, without a socket.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WebService {
    adapter: ProcessOwned<Adapter>,
}

#[pymethods]
impl WebService {
    /// Opens a database that exists.
    #[new]
    fn new(
        py: Python<'_>,
        database_url: &str,
        schema: Option<&str>,
        options: &Bound<'_, WebOptions>,
    ) -> PyResult<Self> {
        let guard = ProcessGuard::here();
        let options = options.get();
        let adapter = call::detached(py, guard, || {
            let database = options.open(database_url, schema)?;
            Adapter::start(options.apply(Web::for_adapter(database)))
        })?;
        Ok(Self {
            adapter: ProcessOwned::new(adapter, guard),
        })
    }

    /// Returns whether a request passes the checks that come before authentication.
    fn admits(
        &self,
        py: Python<'_>,
        method: String,
        target: String,
        headers: Headers,
    ) -> PyResult<bool> {
        self.adapter.guard().check(py)?;
        Ok(self.adapter.admits(&Head {
            method,
            target,
            headers,
        }))
    }

    /// Begins to answer a request. `waker` wakes an event loop when a part of the answer has arrived.
    #[expect(clippy::too_many_arguments, reason = "a request has that many parts")]
    fn begin(
        &self,
        py: Python<'_>,
        method: String,
        target: String,
        headers: Headers,
        body: Vec<u8>,
        access: Option<&Bound<'_, WebAccess>>,
        waker: Option<&Bound<'_, LoopWaker>>,
    ) -> PyResult<WebExchange> {
        self.adapter.guard().check(py)?;
        let head = Head {
            method,
            target,
            headers,
        };
        let access = access.map(|access| access.get().access.clone());
        let notify = waker.map(|waker| {
            let handle = waker.get().handle();
            Box::new(move || handle.wake()) as Notify
        });
        let exchange = self.adapter.begin(&head, body, access, notify);
        Ok(WebExchange {
            exchange: ProcessOwned::new(exchange, self.adapter.guard()),
        })
    }
}

/// A request whose answer is being made.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WebExchange {
    exchange: ProcessOwned<Exchange>,
}

fn object(py: Python<'_>, part: Part) -> PyResult<Py<PyAny>> {
    let bytes = |bytes: &[u8]| PyBytes::new(py, bytes).unbind();
    match part {
        Part::Head(status, headers) => {
            let headers: Vec<_> = (headers.iter())
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect();
            Ok((status, headers).into_pyobject(py)?.into_any().unbind())
        }
        Part::Body(body) => Ok(bytes(&body).into_any()),
        Part::End => Ok(bytes(b"").into_any()),
    }
}

#[pymethods]
impl WebExchange {
    /// Returns the next part of the answer, or `None` if there is none yet: first the status and the headers, then parts of
    /// the body, and at the end an empty one.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.exchange
            .take()
            .map(|part| object(py, part))
            .transpose()
    }

    /// Waits for the next part of the answer.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.exchange.guard().check(py)?;
        let part = call::wait(py, None, |patience| self.exchange.wait(patience))?;
        object(py, part.unwrap_or(Part::End))
    }
}

/// The HTTP API of a database on a port. It ends when it is closed.
#[pyclass(module = "cloaca._core")]
pub struct WebServer {
    listening: Option<ProcessOwned<Listening>>,
    port: u16,
}

#[pymethods]
impl WebServer {
    /// Opens a database that exists, and listens. `token`: `None` lets in every caller on this machine.
    #[new]
    fn new(
        py: Python<'_>,
        database_url: &str,
        schema: Option<&str>,
        options: &Bound<'_, WebOptions>,
        host: &str,
        port: u16,
        token: Option<String>,
    ) -> PyResult<Self> {
        let guard = ProcessGuard::here();
        let options = options.get();
        let host: Result<IpAddr, Error> = host.parse().map_err(|_| {
            Error::new(
                ErrorCode::Configuration,
                format!("the host '{host}' is not an IP address"),
            )
            .with_hint("127.0.0.1 is this machine, 0.0.0.0 every address of it")
        });
        let address = (host.raise(py)?, port).into();
        let listening = call::detached(py, guard, || {
            let database = options.open(database_url, schema)?;
            let web = match token {
                Some(token) => Web::with_token(database, token),
                None => Web::without_token(database),
            };
            Listening::start(options.apply(web), address)
        })?;
        Ok(Self {
            port: listening.address().port(),
            listening: Some(ProcessOwned::new(listening, guard)),
        })
    }

    /// The port.
    #[getter]
    const fn port(&self) -> u16 {
        self.port
    }

    /// Stops listening, and closes all connections.
    fn close(&mut self) {
        self.listening = None;
    }
}
