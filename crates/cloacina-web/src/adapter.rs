//! The web service without a socket. An adapter in another language passes requests to the service, and fetches the answers
//! in parts.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use cloacina::types::sync::{Condvar, Mutex};
use cloacina::{Error, ErrorCode};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use tower_service::Service;

use crate::access::Access;
use crate::gate;
use crate::router::{SECURITY_HEADERS, router};
use crate::web::Web;

/// The head of a request, as an adapter passes it.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The method.
    pub method: String,
    /// The path below the mount, and the query, as the client sent them.
    pub target: String,
    /// The names and values of the headers.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The status and the headers, which come first.
    Head(u16, Vec<(Vec<u8>, Vec<u8>)>),
    /// A part of the body.
    Body(Vec<u8>),
    /// The end of the answer.
    End,
}

/// A function that a thread of the service calls when a part of an answer can be fetched.
pub type Notify = Box<dyn Fn() + Send + Sync>;

/// The web service, which runs on its own threads.
pub struct Adapter {
    runtime: Option<Runtime>,
    router: Router,
    web: Web,
}

impl Adapter {
    /// Starts the service.
    ///
    /// # Errors
    /// `Connection` if the threads cannot be started.
    pub fn start(web: Web) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cloaca-web")
            .on_thread_start(web.on_thread_start())
            .enable_time()
            .build()
            .map_err(|error| {
                let message = format!("cannot start the threads of the web service: {error}");
                Error::new(ErrorCode::Connection, message)
            })?;
        Ok(Self {
            runtime: Some(runtime),
            router: router(web.clone()),
            web,
        })
    }

    /// Whether a request passes the checks that come before authentication. If it does not, `begin` answers with a refusal.
    #[must_use]
    pub fn admits(&self, head: &Head) -> bool {
        parts(head).is_some_and(|parts| gate::check(&self.web, &parts).is_ok())
    }

    /// Begins to answer the request of a caller with `access`. The answer has the status 400 if the head is not valid HTTP.
    /// If `access` is `None`, every route except the health check answers with the status 401.
    #[must_use]
    pub fn begin(
        &self,
        head: &Head,
        body: Vec<u8>,
        access: Option<Access>,
        notify: Option<Notify>,
    ) -> Exchange {
        let answer = Arc::new(Answer {
            state: Mutex::default(),
            arrived: Condvar::default(),
            notify,
        });
        let mut exchange = Exchange {
            answer: Arc::clone(&answer),
            task: None,
        };
        let (Some(mut parts), Some(runtime)) = (parts(head), &self.runtime) else {
            answer.push(Part::Head(400, security_headers()));
            answer.push(Part::End);
            return exchange;
        };
        parts.extensions.extend(
            access
                .map(|access| {
                    let mut extensions = axum::http::Extensions::new();
                    extensions.insert(access);
                    extensions
                })
                .unwrap_or_default(),
        );
        let request = Request::from_parts(parts, Body::from(body));
        let mut router = self.router.clone();
        let task = runtime.spawn(async move {
            // A router never returns an error.
            let Ok(response) = router.call(request).await;
            let (head, mut body) = response.into_parts();
            let headers = head.headers.iter().map(|(name, value)| {
                (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
            });
            answer.push(Part::Head(head.status.as_u16(), headers.collect()));
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(bytes) = frame.into_data() {
                    answer.push(Part::Body(bytes.to_vec()));
                }
            }
            answer.push(Part::End);
        });
        exchange.task = Some(task.abort_handle());
        exchange
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("web", &self.web)
            .finish_non_exhaustive()
    }
}

/// Returns the security headers, for an answer that the router does not make.
#[must_use]
pub fn security_headers() -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = SECURITY_HEADERS.iter();
    let bytes = |text: &str| text.as_bytes().to_vec();
    pairs
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

/// Converts a head to the router's type; returns `None` if it is not valid HTTP.
fn parts(head: &Head) -> Option<Parts> {
    let method = Method::from_bytes(head.method.as_bytes()).ok()?;
    let target = if head.target.starts_with('/') {
        head.target.clone()
    } else {
        format!("/{}", head.target)
    };
    let uri: Uri = target.parse().ok()?;
    let (mut parts, ()) = Request::builder()
        .method(method)
        .uri(uri)
        .body(())
        .ok()?
        .into_parts();
    for (name, value) in &head.headers {
        let name = HeaderName::from_bytes(name).ok()?;
        parts
            .headers
            .append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(parts)
}

struct Answer {
    state: Mutex<VecDeque<Part>>,
    arrived: Condvar,
    notify: Option<Notify>,
}

impl Answer {
    fn push(&self, part: Part) {
        self.state.lock().push_back(part);
        self.arrived.notify_all();
        if let Some(notify) = &self.notify {
            notify();
        }
    }
}

/// A request that is being answered. Dropping this value stops the work on the answer.
pub struct Exchange {
    answer: Arc<Answer>,
    task: Option<AbortHandle>,
}

impl Exchange {
    /// Returns the next part of the answer, or `None` if it has not arrived yet.
    #[must_use]
    pub fn take(&self) -> Option<Part> {
        self.answer.state.lock().pop_front()
    }

    /// Waits for the next part of the answer; returns `None` if no part arrives within `patience`.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> Option<Part> {
        let until = Instant::now().checked_add(patience);
        let mut parts = self.answer.state.lock();
        loop {
            if let Some(part) = parts.pop_front() {
                return Some(part);
            }
            match until {
                Some(until)
                    if self
                        .answer
                        .arrived
                        .wait_until(&mut parts, until)
                        .timed_out() =>
                {
                    return parts.pop_front();
                }
                Some(_) => {}
                None => self.answer.arrived.wait(&mut parts),
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}
