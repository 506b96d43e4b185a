//! Opening connections: encryption, login, and the check that a session is where it has to be.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use super::driver::Connection;
use super::error::{connecting, with_causes};
use super::session::{Session, WHEREABOUTS, Whereabouts};
use super::tls;
use super::url::TlsMode;
use super::write_connection::Link;
use crate::store::StoreError;

/// Opening a connection takes a few round trips, whatever the patience with a statement.
const LEAST_CONNECT: Duration = Duration::from_secs(3);

impl Session {
    /// Opens a connection within `connect_timeout`, and within `patience` as far as that leaves time enough.
    pub(super) async fn connect(&self, patience: Duration) -> Result<Link, StoreError> {
        let limit = self
            .options
            .connect_timeout
            .min(patience.max(LEAST_CONNECT));
        match tokio::time::timeout(limit, self.set_up()).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable(format!(
                "the database {} did not answer within {} s; check that the server runs there, or raise \
                 connect_timeout",
                self.location,
                limit.as_secs()
            ))),
        }
    }

    async fn set_up(&self) -> Result<Link, StoreError> {
        let closed = Arc::new(OnceLock::new());
        let client = self.dial(&closed).await?;
        let told = |error: tokio_postgres::Error| connecting(&error, &self.location);
        // Behind a pooler in one transaction, so that one server connection sees all of it.
        let text = if self.pooled {
            format!("{}; {WHEREABOUTS}; COMMIT", self.begin())
        } else {
            WHEREABOUTS.to_owned()
        };
        let answer = client.simple_query(&text).await.map_err(told)?;
        let Some(found) = Whereabouts::read(&answer) else {
            return Err(StoreError::Unavailable(format!(
                "the database {} does not say where a connection is",
                self.location
            )));
        };
        self.check_pin(&found)?;
        // A prepared statement lives in one session, and a pooler gives the next transaction another one.
        let connection = Connection::new(client, !self.pooled);
        Ok(Link {
            connection,
            pid: Some(found.pid).filter(|_| !self.pooled),
            closed,
            used: Instant::now(),
        })
    }

    /// A client whose connection is driven by the current runtime.
    async fn dial(&self, closed: &Arc<OnceLock<String>>) -> Result<Client, StoreError> {
        let told = |error: tokio_postgres::Error| connecting(&error, &self.location);
        let mut config = self.config();
        let mode = self.options.tls;
        if mode == TlsMode::Disable
            || self
                .options
                .hosts
                .iter()
                .all(|host| host.name.starts_with('/'))
        {
            config.ssl_mode(SslMode::Disable);
            return self.plain(&config, closed).await.map_err(told);
        }
        if mode == TlsMode::Allow {
            config.ssl_mode(SslMode::Disable);
            let first = match self.plain(&config, closed).await {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            config.ssl_mode(SslMode::Require);
            return self
                .protected(&config, closed)
                .await
                .map_err(|_| told(first));
        }
        config.ssl_mode(if mode == TlsMode::Prefer {
            SslMode::Prefer
        } else {
            SslMode::Require
        });
        let first = match self.protected(&config, closed).await {
            Ok(client) => return Ok(client),
            Err(Trouble::Store(error)) => return Err(error),
            Err(Trouble::Client(error)) => error,
        };
        if mode == TlsMode::Prefer && !matches!(told_code(&first), Some("28P01" | "3D000")) {
            config.ssl_mode(SslMode::Disable);
            return self.plain(&config, closed).await.map_err(|_| told(first));
        }
        Err(told(first))
    }

    async fn plain(
        &self,
        config: &Config,
        closed: &Arc<OnceLock<String>>,
    ) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let closed = Arc::clone(closed);
        tokio::spawn(async move { note_end(connection.await, &closed) });
        Ok(client)
    }

    async fn protected(
        &self,
        config: &Config,
        closed: &Arc<OnceLock<String>>,
    ) -> Result<Client, Trouble> {
        let connector = tls::connector(&self.options).map_err(Trouble::Store)?;
        let (client, connection) = config.connect(connector).await.map_err(Trouble::Client)?;
        let closed = Arc::clone(closed);
        tokio::spawn(async move { note_end(connection.await, &closed) });
        Ok(client)
    }

    /// A client for the listener, with the messages that the server sends unasked.
    pub(super) async fn listen(&self) -> Result<Heard, StoreError> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let told = |error: tokio_postgres::Error| connecting(&error, &self.location);
        let mut config = self.config();
        let local = self
            .options
            .hosts
            .iter()
            .all(|host| host.name.starts_with('/'));
        if self.options.tls == TlsMode::Disable || local {
            config.ssl_mode(SslMode::Disable);
        } else if self.options.tls > TlsMode::Prefer {
            config.ssl_mode(SslMode::Require);
        }
        let connector = tls::connector(&self.options)?;
        let attempt = config.connect(connector).await;
        let (client, connection) = match attempt {
            Err(error) if matches!(self.options.tls, TlsMode::Prefer | TlsMode::Allow) => {
                config.ssl_mode(SslMode::Disable);
                let (client, connection) = config.connect(NoTls).await.map_err(|_| told(error))?;
                tokio::spawn(forward(connection, sender));
                self.verify(&client).await?;
                return Ok((client, receiver));
            }
            result => result.map_err(told)?,
        };
        tokio::spawn(forward(connection, sender));
        self.verify(&client).await?;
        Ok((client, receiver))
    }

    /// Checks the listener's connection like any other one.
    async fn verify(&self, client: &Client) -> Result<(), StoreError> {
        let told = |error: tokio_postgres::Error| connecting(&error, &self.location);
        let answer = client.simple_query(WHEREABOUTS).await.map_err(told)?;
        if let Some(found) = Whereabouts::read(&answer) {
            self.check_pin(&found)?;
            self.note_listener(found.pid);
        }
        Ok(())
    }
}

/// A client, and what others notify.
pub(super) type Heard = (
    Client,
    tokio::sync::mpsc::UnboundedReceiver<tokio_postgres::Notification>,
);

/// Sends what others notify; ends with the connection, and the receiver learns it.
async fn forward<S>(
    mut connection: tokio_postgres::Connection<tokio_postgres::Socket, S>,
    sender: tokio::sync::mpsc::UnboundedSender<tokio_postgres::Notification>,
) where
    S: tokio_postgres::tls::TlsStream + Unpin,
{
    loop {
        match std::future::poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(tokio_postgres::AsyncMessage::Notification(notification))) => {
                if sender.send(notification).is_err() {
                    return;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

enum Trouble {
    Store(StoreError),
    Client(tokio_postgres::Error),
}

fn told_code(error: &tokio_postgres::Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}

fn note_end(end: Result<(), tokio_postgres::Error>, closed: &OnceLock<String>) {
    let why = match end {
        Ok(()) => "the connection was closed".to_owned(),
        Err(error) => with_causes(&error),
    };
    drop(closed.set(why));
}
