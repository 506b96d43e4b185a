//! Opens connections: TLS, login, and the check that a session uses the right schema.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use super::blocking_connection::OpenConnection;
use super::driver::Connection;
use super::error::{connecting, with_causes};
use super::session::{SESSION_INFO, Session, SessionInfo};
use super::tls;
use super::url::TlsMode;
use crate::store::{Report, StoreError};

/// Lower bound for `answer_timeout` when a connection is opened. A shorter `answer_timeout` is raised to this value,
/// because opening takes several round trips.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl Session {
    /// Opens a connection. The time limit is the shorter of `connect_timeout` and `answer_timeout`, but an
    /// `answer_timeout` below `MIN_CONNECT_TIMEOUT` is raised to that minimum.
    pub(super) async fn connect(
        &self,
        answer_timeout: Duration,
    ) -> Result<OpenConnection, StoreError> {
        let limit = self
            .options
            .connect_timeout
            .min(answer_timeout.max(MIN_CONNECT_TIMEOUT));
        match tokio::time::timeout(limit, self.open_session()).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable(Report::hinted(
                format!(
                    "the database {} did not answer within {} s",
                    self.location,
                    limit.as_secs()
                ),
                "check that the server runs there, or raise \
                 connect_timeout",
            ))),
        }
    }

    async fn open_session(&self) -> Result<OpenConnection, StoreError> {
        let closed = Arc::new(OnceLock::new());
        let client = self.dial(&closed).await?;
        let store_error = |error: tokio_postgres::Error| connecting(&error, &self.location);
        // Behind a pooler, a transaction is used so that all statements run in one session.
        let text = if self.pooled {
            format!("{}; {SESSION_INFO}; COMMIT", self.begin())
        } else {
            SESSION_INFO.to_owned()
        };
        let answer = client.simple_query(&text).await.map_err(store_error)?;
        let Some(info) = SessionInfo::read(&answer) else {
            return Err(StoreError::Unavailable(
                format!(
                    "the database {} did not return the session's schema",
                    self.location
                )
                .into(),
            ));
        };
        self.verify_schema(&info)?;
        // A prepared statement belongs to one session, but a pooler can run the next transaction in another session.
        let connection = Connection::new(client, !self.pooled);
        Ok(OpenConnection {
            connection,
            pid: Some(info.pid).filter(|_| !self.pooled),
            closed,
            used_at: Instant::now(),
        })
    }

    /// Opens a client whose I/O runs on the current Tokio runtime. Tries connections with and without TLS as `sslmode`
    /// requires.
    async fn dial(&self, closed: &Arc<OnceLock<String>>) -> Result<Client, StoreError> {
        let store_error = |error: tokio_postgres::Error| connecting(&error, &self.location);
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
            return self
                .connect_plain(&config, closed)
                .await
                .map_err(store_error);
        }
        if mode == TlsMode::Allow {
            config.ssl_mode(SslMode::Disable);
            let first = match self.connect_plain(&config, closed).await {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            config.ssl_mode(SslMode::Require);
            return self
                .connect_tls(&config, closed)
                .await
                .map_err(|_| store_error(first));
        }
        config.ssl_mode(if mode == TlsMode::Prefer {
            SslMode::Prefer
        } else {
            SslMode::Require
        });
        let first = match self.connect_tls(&config, closed).await {
            Ok(client) => return Ok(client),
            Err(TlsConnectError::Store(error)) => return Err(error),
            Err(TlsConnectError::Client(error)) => error,
        };
        // Without TLS, a wrong password (28P01) or a missing database (3D000) would fail again.
        if mode == TlsMode::Prefer && !matches!(sqlstate(&first), Some("28P01" | "3D000")) {
            config.ssl_mode(SslMode::Disable);
            return self
                .connect_plain(&config, closed)
                .await
                .map_err(|_| store_error(first));
        }
        Err(store_error(first))
    }

    async fn connect_plain(
        &self,
        config: &Config,
        closed: &Arc<OnceLock<String>>,
    ) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let closed = Arc::clone(closed);
        tokio::spawn(async move { note_end(connection.await, &closed) });
        Ok(client)
    }

    async fn connect_tls(
        &self,
        config: &Config,
        closed: &Arc<OnceLock<String>>,
    ) -> Result<Client, TlsConnectError> {
        let connector = tls::connector(&self.options).map_err(TlsConnectError::Store)?;
        let (client, connection) = config
            .connect(connector)
            .await
            .map_err(TlsConnectError::Client)?;
        let closed = Arc::clone(closed);
        tokio::spawn(async move { note_end(connection.await, &closed) });
        Ok(client)
    }

    /// Opens a client for the listener, and a channel for the notifications that the client receives.
    pub(super) async fn listen(&self) -> Result<ListenerClient, StoreError> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let store_error = |error: tokio_postgres::Error| connecting(&error, &self.location);
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
                let (client, connection) = config
                    .connect(NoTls)
                    .await
                    .map_err(|_| store_error(error))?;
                tokio::spawn(forward(connection, sender));
                self.verify_listener(&client).await?;
                return Ok((client, receiver));
            }
            result => result.map_err(store_error)?,
        };
        tokio::spawn(forward(connection, sender));
        self.verify_listener(&client).await?;
        Ok((client, receiver))
    }

    /// Verifies the schema of the listener's session, and stores the session's process id.
    async fn verify_listener(&self, client: &Client) -> Result<(), StoreError> {
        let store_error = |error: tokio_postgres::Error| connecting(&error, &self.location);
        let answer = client
            .simple_query(SESSION_INFO)
            .await
            .map_err(store_error)?;
        if let Some(info) = SessionInfo::read(&answer) {
            self.verify_schema(&info)?;
            self.note_listener(info.pid);
        }
        Ok(())
    }
}

/// A client, and the channel with the notifications that it receives.
pub(super) type ListenerClient = (
    Client,
    tokio::sync::mpsc::UnboundedReceiver<tokio_postgres::Notification>,
);

/// Runs the I/O of the connection and forwards its notifications. The channel closes when the connection ends.
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

enum TlsConnectError {
    Store(StoreError),
    Client(tokio_postgres::Error),
}

fn sqlstate(error: &tokio_postgres::Error) -> Option<&str> {
    error.code().map(tokio_postgres::error::SqlState::code)
}

/// Stores the reason why a connection has ended.
fn note_end(end: Result<(), tokio_postgres::Error>, closed: &OnceLock<String>) {
    let why = match end {
        Ok(()) => "the connection was closed".to_owned(),
        Err(error) => with_causes(&error),
    };
    drop(closed.set(why));
}
