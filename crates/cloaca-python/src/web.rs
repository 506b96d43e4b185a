//! `WebService`: the HTTP API for the ASGI and WSGI adapters. `WebServer`: the HTTP API on a port.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use cloacina::types::{Error, ErrorCode};
use cloacina_web::adapter::{self, Adapter, Exchange, Head, Notify, Part};
use cloacina_web::{Access, Database, Listening, Permission, Web};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::call;
use crate::errors::Raise;
use crate::event_classes::event_object;
use crate::events::SupervisorQueue;
use crate::logs::{self, LogQueue, Threshold};
use crate::loop_waker::LoopWaker;
use crate::process_guard::{ProcessGuard, ProcessOwned};

/// The names and values of headers.
type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// The options of a web service.
#[expect(clippy::struct_excessive_bools, reason = "each option is independent")]
#[pyclass(frozen, module = "cloaca._core")]
pub struct WebOptions {
    read_only: bool,
    hide_payloads: bool,
    redact: Vec<String>,
    /// The host names that the service answers for; `None` allows any host.
    allowed_hosts: Option<Vec<String>>,
    trust_proxy: bool,
    trace_url: Option<String>,
    /// Whether the page polls for changes instead of following the stream.
    polled: bool,
}

#[pymethods]
impl WebOptions {
    #[new]
    #[expect(
        clippy::fn_params_excessive_bools,
        reason = "each option is an argument"
    )]
    #[pyo3(signature = (read_only, hide_payloads, redact, allowed_hosts, trust_proxy, trace_url=None, polled=false))]
    const fn new(
        read_only: bool,
        hide_payloads: bool,
        redact: Vec<String>,
        allowed_hosts: Option<Vec<String>>,
        trust_proxy: bool,
        trace_url: Option<String>,
        polled: bool,
    ) -> Self {
        Self {
            read_only,
            hide_payloads,
            redact,
            allowed_hosts,
            trust_proxy,
            trace_url,
            polled,
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
        if self.polled {
            web = web.polled();
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

/// The log records of a web service's threads.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WebLog {
    queue: Arc<SupervisorQueue>,
}

#[pymethods]
impl WebLog {
    /// Waits for records, and returns them. Returns an empty list once the service has ended.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let events = call::wait(py, None, |patience| self.queue.wait(patience))?;
        let events = events.unwrap_or_default().into_iter();
        events.map(|event| event_object(py, event)).collect()
    }
}

/// The queue of a service's log records. It ends when the service is dropped.
#[derive(Default)]
struct LogSource(Arc<SupervisorQueue>);

impl LogSource {
    fn dispatch(&self) -> tracing::Dispatch {
        logs::dispatch(LogQueue::new(Arc::clone(&self.0), Threshold::info()))
    }

    fn reader(&self) -> WebLog {
        WebLog {
            queue: Arc::clone(&self.0),
        }
    }
}

impl Drop for LogSource {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The HTTP API of a database, without a socket.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WebService {
    adapter: ProcessOwned<Adapter>,
    log: LogSource,
}

#[pymethods]
impl WebService {
    /// Opens an existing database.
    #[new]
    fn new(
        py: Python<'_>,
        database_url: &str,
        schema: Option<&str>,
        options: &Bound<'_, WebOptions>,
    ) -> PyResult<Self> {
        let guard = ProcessGuard::here();
        let options = options.get();
        let log = LogSource::default();
        let adapter = call::detached(py, guard, || {
            let database = options.open(database_url, schema)?;
            let web = Web::for_adapter(database).log_to(log.dispatch());
            Adapter::start(options.apply(web))
        })?;
        Ok(Self {
            adapter: ProcessOwned::new(adapter, guard),
            log,
        })
    }

    /// The security headers of every answer, for answers that the service does not make.
    #[staticmethod]
    fn security_headers(py: Python<'_>) -> Vec<(Py<PyBytes>, Py<PyBytes>)> {
        let bytes = |bytes: &[u8]| PyBytes::new(py, bytes).unbind();
        let headers = adapter::security_headers().into_iter();
        headers
            .map(|(name, value)| (bytes(&name), bytes(&value)))
            .collect()
    }

    /// The log records of the service's threads.
    #[getter]
    fn log(&self) -> WebLog {
        self.log.reader()
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

    /// Begins to answer a request. `waker` wakes an event loop when a part of the answer can be taken.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the request")]
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

/// A request that is being answered.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WebExchange {
    exchange: ProcessOwned<Exchange>,
}

/// Returns a part of an answer as the object that `WebExchange.take` describes.
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
    /// Returns the next part of the answer, or `None` if it has not arrived yet. The first part is a tuple of the status and
    /// the headers. The other parts are bytes of the body; empty bytes mean the end.
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

/// A server that offers the HTTP API of a database on a port until the server is closed.
#[pyclass(module = "cloaca._core")]
pub struct WebServer {
    listening: Option<ProcessOwned<Listening>>,
    /// 0 if the server listens on a Unix socket.
    port: u16,
    log: LogSource,
}

#[pymethods]
impl WebServer {
    /// Opens an existing database, and listens, on the Unix socket `uds` if it is given. Callers must send `token`; `None`
    /// admits every caller, and then `host` must be a loopback address.
    #[new]
    #[pyo3(signature = (database_url, schema, options, host, port, token, uds=None))]
    #[expect(clippy::too_many_arguments, reason = "each is an option")]
    fn new(
        py: Python<'_>,
        database_url: &str,
        schema: Option<&str>,
        options: &Bound<'_, WebOptions>,
        host: &str,
        port: u16,
        token: Option<String>,
        uds: Option<PathBuf>,
    ) -> PyResult<Self> {
        let guard = ProcessGuard::here();
        let options = options.get();
        let host: Result<IpAddr, Error> = host.parse().map_err(|_| {
            Error::new(
                ErrorCode::Configuration,
                format!("cannot listen on host '{host}': it is not an IP address"),
            )
            .with_hint(
                "use 127.0.0.1 for this machine only, or 0.0.0.0 for all its network addresses",
            )
        });
        let address = (host.raise(py)?, port).into();
        let log = LogSource::default();
        let listening = call::detached(py, guard, || {
            let database = options.open(database_url, schema)?;
            let web = match token {
                Some(token) => Web::with_token(database, token),
                None => Web::without_token(database),
            };
            let web = options.apply(web.log_to(log.dispatch()));
            match uds {
                Some(path) => Listening::start_unix(web, &path),
                None => Listening::start(web, address),
            }
        })?;
        Ok(Self {
            port: listening.address().port(),
            listening: Some(ProcessOwned::new(listening, guard)),
            log,
        })
    }

    /// The log records of the server's threads.
    #[getter]
    fn log(&self) -> WebLog {
        self.log.reader()
    }

    /// The port; 0 for a Unix socket.
    #[getter]
    const fn port(&self) -> u16 {
        self.port
    }

    /// Stops listening, and closes all connections.
    fn close(&mut self) {
        self.listening = None;
        self.log.0.end();
    }
}
