//! One connection that listens for many tenants: channels are a database's, and each tenant has its own (semantics H4).

use std::pin::Pin;
use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_postgres::{Client, Notification};

use crate::store::StoreError;
use crate::types::sync::Mutex;

type Routes = Mutex<FxHashMap<String, UnboundedSender<Notification>>>;

/// A connection that listens, and what it receives.
type Listening = (Arc<Client>, UnboundedReceiver<Notification>);

/// Opens a connection that listens; `None` once the store that it belongs to is gone.
pub(super) type Dial = Box<
    dyn Fn() -> Option<Pin<Box<dyn Future<Output = Result<Listening, StoreError>> + Send>>>
        + Send
        + Sync,
>;

/// The connection that the listeners of many stores share. It is opened again by the first one that misses it.
pub(super) struct Switchboard {
    /// Opens the connection of the store that shared its connections first.
    dial: Dial,
    /// Drives the connection: who opens it may end before the others.
    runtime: Option<Runtime>,
    line: tokio::sync::Mutex<Option<Line>>,
}

struct Line {
    client: Arc<Client>,
    routes: Arc<Routes>,
}

impl Switchboard {
    pub(super) fn start(dial: Dial) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cloacina-listen")
            .enable_all()
            .build()
            .map_err(|error| {
                StoreError::Failed(format!(
                    "the system gives no thread to listen to the database: {error}"
                ))
            })?;
        Ok(Self {
            dial,
            runtime: Some(runtime),
            line: tokio::sync::Mutex::default(),
        })
    }

    /// Ends the connection once no store listens on it any more.
    pub(super) fn hang_up(&self) {
        let is_unused = |line: &Line| line.routes.lock().values().all(UnboundedSender::is_closed);
        if let Ok(mut line) = self.line.try_lock()
            && line.as_ref().is_some_and(is_unused)
        {
            *line = None;
        }
    }

    /// The shared connection, and what is said on one of its channels. The caller says LISTEN.
    pub(super) async fn join(&self, channel: &str) -> Result<Listening, StoreError> {
        let mut line = self.line.lock().await;
        let (sender, receiver) = unbounded_channel();
        if let Some(line) = line.as_ref().filter(|line| !line.client.is_closed()) {
            line.routes.lock().insert(channel.to_owned(), sender);
            return Ok((Arc::clone(&line.client), receiver));
        }
        *line = None;
        let (Some(opening), Some(runtime)) = ((self.dial)(), &self.runtime) else {
            return Err(StoreError::Unavailable(
                "the runner whose connection listened is gone".to_owned(),
            ));
        };
        let (client, notifications) = match runtime.spawn(opening).await {
            Ok(opened) => opened?,
            Err(error) => {
                return Err(StoreError::Unavailable(format!(
                    "the listener's connection could not be opened: {error}"
                )));
            }
        };
        let routes = Arc::new(Routes::default());
        routes.lock().insert(channel.to_owned(), sender);
        runtime.spawn(route(
            Arc::downgrade(&client),
            notifications,
            Arc::clone(&routes),
        ));
        *line = Some(Line {
            client: Arc::clone(&client),
            routes,
        });
        Ok((client, receiver))
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would panic in a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Passes notifications on by their channel. Who listened on one hears nothing more once the connection has ended.
async fn route(
    client: Weak<Client>,
    mut notifications: UnboundedReceiver<Notification>,
    routes: Arc<Routes>,
) {
    while let Some(notification) = notifications.recv().await {
        let channel = notification.channel().to_owned();
        let sent = match routes.lock().get(&channel) {
            Some(route) => route.send(notification).is_ok(),
            None => true,
        };
        if !sent {
            routes.lock().remove(&channel);
            if let Some(client) = client.upgrade() {
                // An error means that the connection ends, and the channel with it.
                drop(
                    client
                        .batch_execute(&format!("UNLISTEN \"{channel}\""))
                        .await,
                );
            }
        }
    }
    routes.lock().clear();
}
