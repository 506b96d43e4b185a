//! `GET /stream`: server-sent events that tell clients that the database may have changed. Clients then reload their data.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use cloacina::types::sync::Mutex;
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::access::Access;
use crate::problem::Problem;
use crate::router::Server;
use crate::watch::Watcher;

/// Maximum number of open streams of one user.
const MAX_STREAMS: usize = 8;
/// The pause between the opening of a stream and its first poll of the change marker. While nothing changes, each further pause
/// is longer, up to `LONGEST_PAUSE`.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// Maximum pause between two polls. The stream also pauses this long after it has sent an event.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Time between two comments that keep the connection alive, because some proxies close silent connections.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The number of open streams by user.
#[derive(Clone, Default)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<String, usize>>>,
}

/// The registration of an open stream in the user's count. Dropping it decreases the count.
struct OpenStream {
    streams: Streams,
    user: String,
}

impl Streams {
    fn enter(&self, user: &str) -> Result<OpenStream, Problem> {
        let mut open = self.open.lock();
        let count = open.entry(user.to_owned()).or_default();
        if *count >= MAX_STREAMS {
            let detail = format!("{MAX_STREAMS} streams of this user are open already");
            return Err(Problem::new("too_many_requests", detail)
                .hint("close a stream, or request GET /changes?after= every few seconds"));
        }
        *count += 1;
        Ok(OpenStream {
            streams: self.clone(),
            user: user.to_owned(),
        })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

/// The events of a stream, as the body of a response.
struct Events(mpsc::Receiver<Bytes>);

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|event| event.map(Ok))
    }
}

/// Opens a stream of changes.
pub(crate) async fn open(
    server: Arc<Server>,
    head: &Parts,
    access: &Access,
    tenant: Option<String>,
) -> Result<Response, Problem> {
    let place = server.streams.enter(access.user())?;
    let database = server.web.database.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let watcher = database.watcher(tenant.as_deref())?;
        let marker = watcher.marker();
        let marker =
            marker.map_err(|error| database.unless_removed(tenant.as_deref(), error.into()))?;
        Ok::<_, Problem>((watcher, marker))
    });
    let opened = opening.await;
    let (watcher, marker) = opened.map_err(|error| Problem::of_work(&error))??;
    let last = head.headers.get("last-event-id");
    let seen = last.and_then(|value| value.to_str().ok());
    // A client that reconnects gets the event `changed` at once if it has missed a change.
    let is_news = seen.is_some_and(|seen| seen != marker);
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        follow(&watcher, marker, is_news, &sender).await;
        drop(place);
    });
    let mut response = Response::new(Body::from_stream(Events(receiver)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // This header makes nginx pass events on without buffering.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn event(name: &str, marker: &str) -> Bytes {
    Bytes::from(format!(
        "id: {marker}\nevent: {name}\ndata: {{\"marker\":\"{marker}\"}}\n\n"
    ))
}

/// Sends an event for each change, until the client disconnects. The first event is `changed` if `is_news`, otherwise `open`.
async fn follow(
    watcher: &Arc<Watcher>,
    mut marker: String,
    is_news: bool,
    sender: &mpsc::Sender<Bytes>,
) {
    let first = if is_news { "changed" } else { "open" };
    let mut events = b"retry: 2000\n".to_vec();
    events.extend_from_slice(&event(first, &marker));
    if sender.send(events.into()).await.is_err() {
        return;
    }
    let mut pause = SHORTEST_PAUSE;
    let mut sent_at = Instant::now();
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let asked = Arc::clone(watcher);
        let answer = tokio::task::spawn_blocking(move || asked.marker()).await;
        // While the database does not answer, the stream stays open without events.
        let now = answer
            .ok()
            .and_then(Result::ok)
            .unwrap_or_else(|| marker.clone());
        let message = if now != marker {
            marker = now;
            event("changed", &marker)
        } else if sent_at.elapsed() >= HEARTBEAT {
            Bytes::from_static(b": alive\n\n")
        } else {
            pause = (pause + SHORTEST_PAUSE / 5).min(LONGEST_PAUSE);
            continue;
        };
        pause = LONGEST_PAUSE;
        sent_at = Instant::now();
        if sender.send(message).await.is_err() {
            return;
        }
    }
}
