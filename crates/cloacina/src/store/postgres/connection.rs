//! Connections: one that writes, a few that read, each driven by the thread that uses it.
//!
//! A lane is a connection with a small runtime of its own. The calling thread runs both its query and the connection's
//! input and output, so an answer wakes no second thread on its way. A lane that is not in use reads nothing.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::types::sync::{Condvar, Mutex, MutexGuard};
use diesel::connection::CacheSize;
use diesel::pg::Pg;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel_async::methods::LoadQuery;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::error::{Fault, connecting, with_causes};
use super::switchboard::Switchboard;
use super::tls;
use super::url::{PostgresOptions, TlsMode, Wanted};
use crate::store::StoreError;

/// Readers at the same time; they are opened when they are first needed.
const READERS: usize = 3;

/// A connection that nobody used for so long is looked at before it is used: the server may have closed it.
const IDLE: Duration = Duration::from_millis(50);

/// Plans that do not depend on what the statistics say of a young table (see `ARCHITECTURE.md`), and no transaction that
/// outlives its client.
const SETTINGS: [(&str, &str); 8] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("max_parallel_workers_per_gather", "0"),
    ("idle_in_transaction_session_timeout", "20s"),
];

/// What every connection of a store has in common.
pub(super) struct Session {
    pub(super) options: PostgresOptions,
    pub(super) location: String,
    /// Between this program and the server is a transaction pooler.
    pub(super) pooled: bool,
    begin: String,
    /// The schema in which every connection has to find itself, once it is known to be there.
    home: OnceLock<String>,
    /// The connection that listens for this store among others.
    switchboard: OnceLock<Arc<Switchboard>>,
    /// The server's process that listens for this store alone.
    listener_pid: AtomicI32,
}

/// Where a new connection finds itself; the first statement is best effort, for the texts of errors.
///
/// `current_schema` is null for a schema that is not there or that the role may not use.
const ARRIVAL: &str = "DO $$BEGIN SET lc_messages = 'C'; EXCEPTION WHEN OTHERS THEN NULL; END$$; ";
const WHEREABOUTS: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_schema(), \
    pg_catalog.current_setting('search_path'), (SELECT n.nspname FROM pg_catalog.pg_class AS c \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE c.oid = pg_catalog.to_regclass('cloacina_executions'))";

/// What the server says of a connection.
struct Whereabouts {
    pid: i32,
    schema: Option<String>,
    search_path: String,
    /// The schema in which the engine's tables are found.
    tables: Option<String>,
}

impl Whereabouts {
    fn read(messages: &[SimpleQueryMessage]) -> Option<Self> {
        messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(Self {
                pid: row.get(0)?.parse().ok()?,
                schema: row.get(1).map(str::to_owned),
                search_path: row.get(2)?.to_owned(),
                tables: row.get(3).map(str::to_owned),
            }),
            _ => None,
        })
    }
}

impl Session {
    pub(super) fn new(options: PostgresOptions) -> Self {
        let mut begin = vec!["BEGIN".to_owned()];
        if options.pooled {
            begin.extend(SETTINGS.map(|(name, value)| format!("SET LOCAL {name} = '{value}'")));
            let pin = |schema: &String| format!("SET LOCAL search_path = \"{schema}\"");
            begin.extend(options.schema.as_ref().map(pin));
        }
        let begin = begin.join("; ");
        Self {
            location: options.location(),
            pooled: options.pooled,
            begin,
            home: OnceLock::new(),
            switchboard: OnceLock::new(),
            listener_pid: AtomicI32::new(0),
            options,
        }
    }

    /// From now on every connection must be in this schema.
    pub(super) fn settle(&self, schema: String) {
        // Settled twice, it was the same one: the first connection was checked against it.
        let _ = self.home.set(schema);
    }

    /// The schema in which all connections are, once one was opened.
    pub(super) fn home(&self) -> Option<&str> {
        self.home.get().map(String::as_str)
    }

    /// H1: a connection that is not pinned to its schema is not used.
    fn check_pin(&self, found: &Whereabouts) -> Result<(), StoreError> {
        let refuse = |what: String| {
            Err(StoreError::Failed(format!(
                "the database {} gave a connection that {what}; the connection is refused",
                self.location
            )))
        };
        if let Some(schema) = &self.options.schema {
            let pinned = [format!("\"{schema}\""), schema.clone()];
            if !pinned.contains(&found.search_path) {
                return refuse(format!(
                    "is not pinned to the schema '{schema}' but to {}: something between drops the options of \
                     connections; add pgbouncer=true to the URL if it is a transaction pooler",
                    found.search_path
                ));
            }
        }
        let Some(home) = self.home.get() else {
            return Ok(());
        };
        let place = found.schema.as_deref().unwrap_or("none");
        if place != home {
            return refuse(format!(
                "is in the schema '{place}' and not in '{home}': the schema is gone, or the role lost the right to use it"
            ));
        }
        match &found.tables {
            Some(tables) if tables == home => Ok(()),
            Some(tables) => refuse(format!(
                "finds the engine's tables in the schema '{tables}' and not in '{home}'"
            )),
            None => refuse(format!("finds no tables of the engine in '{home}'")),
        }
    }

    /// Starts a transaction; behind a pooler with the settings that elsewhere belong to the session.
    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    /// Runs a statement that only reads.
    pub(super) async fn read<Q, T>(
        &self,
        connection: &AsyncPgConnection,
        statement: Q,
    ) -> Result<Vec<T>, Fault>
    where
        T: Send,
        Q: Query
            + QueryFragment<Pg>
            + QueryId
            + Send
            + for<'c> LoadQuery<'static, &'c AsyncPgConnection, T>
            + 'static,
    {
        let mut shared = connection;
        if !self.pooled {
            return Ok(statement.load(&mut shared).await?);
        }
        shared.batch_execute(self.begin()).await?;
        let rows = statement.load(&mut shared).await?;
        shared.batch_execute("COMMIT").await?;
        Ok(rows)
    }

    fn config(&self) -> Config {
        let options = &self.options;
        let mut config = Config::new();
        for host in &options.hosts {
            config.host(&host.name).port(host.port);
        }
        if options.hosts.iter().any(|host| host.address.is_some()) {
            for address in options.hosts.iter().filter_map(|host| host.address) {
                config.hostaddr(address);
            }
        }
        config
            .dbname(&options.database)
            .user(&options.user)
            .application_name(&options.application_name);
        if let Some(password) = &options.password {
            config.password(&password.0);
        }
        config.connect_timeout(options.connect_timeout);
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(3));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(15));
        if options.wanted == Wanted::ReadWrite {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if !self.pooled {
            let mut settings: Vec<String> = options.options.clone().into_iter().collect();
            settings.extend(SETTINGS.map(|(name, value)| format!("-c {name}={value}")));
            let pin = |schema: &String| format!("-c search_path=\"{schema}\"");
            settings.extend(options.schema.as_ref().map(pin));
            config.options(settings.join(" "));
        } else if let Some(settings) = &options.options {
            config.options(settings);
        }
        config
    }

    /// Opens a connection within `connect_timeout`.
    pub(super) async fn connect(&self) -> Result<Link, StoreError> {
        let limit = self.options.connect_timeout;
        match tokio::time::timeout(limit, self.set_up()).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable(format!(
                "the database {} did not answer within {} s (connect_timeout); check that the server runs there",
                self.location,
                limit.as_secs()
            ))),
        }
    }

    async fn set_up(&self) -> Result<Link, StoreError> {
        let closed = Arc::new(OnceLock::new());
        let client = self.dial(&closed).await?;
        let told = |error: tokio_postgres::Error| connecting(&error, &self.location);
        let text = if self.pooled {
            // In one transaction, so that one server connection sees all of it.
            format!("{}; {WHEREABOUTS}", self.begin)
        } else {
            format!("{ARRIVAL}{WHEREABOUTS}")
        };
        let answer = client.simple_query(&text).await.map_err(told)?;
        let Some(found) = Whereabouts::read(&answer) else {
            return Err(StoreError::Unavailable(format!(
                "the database {} does not say where a connection is",
                self.location
            )));
        };
        self.check_pin(&found)?;
        let mut connection = AsyncPgConnection::try_from(client).await.map_err(|error| {
            StoreError::Unavailable(format!(
                "the database {} cannot be used: {error}",
                self.location
            ))
        })?;
        if self.pooled {
            connection
                .batch_execute("COMMIT")
                .await
                .map_err(|error| Fault::from(error).at(&self.location))?;
            // A prepared statement lives in one server connection, and the next transaction may get another.
            connection.set_prepared_statement_cache_size(CacheSize::Disabled);
        }
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

    /// The channel of the schema: notifications are for a whole database.
    pub(super) fn channel(&self) -> String {
        // Not what was asked for: a role's sessions may begin in its schema without being told.
        let digest = Sha256::digest(self.home().unwrap_or_default().as_bytes());
        let short = (digest.iter().take(8)).fold(0, |short, byte| short << 8 | u64::from(*byte));
        format!("cloacina_{short:016x}")
    }

    /// From now on the store listens through a connection that others share.
    pub(super) fn listen_through(&self, switchboard: Arc<Switchboard>) {
        let _ = self.switchboard.set(switchboard);
    }

    pub(super) fn switchboard(&self) -> Option<&Arc<Switchboard>> {
        self.switchboard.get()
    }

    /// The server's process that listens for this store alone, if there is one.
    pub(super) fn listener_pid(&self) -> Option<i32> {
        Some(AtomicI32::load(&self.listener_pid, Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// A client for the listener, with the messages that the server sends unasked.
    pub(super) async fn listen(&self) -> Result<Heard, StoreError> {
        match self.switchboard.get() {
            Some(switchboard) => switchboard.join(&self.channel()).await,
            None => self.listen_alone().await,
        }
    }

    /// The same over a connection of its own.
    pub(super) async fn listen_alone(&self) -> Result<Heard, StoreError> {
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
                return Ok((Arc::new(client), receiver));
            }
            result => result.map_err(told)?,
        };
        tokio::spawn(forward(connection, sender));
        self.verify(&client).await?;
        Ok((Arc::new(client), receiver))
    }

    /// Checks the listener's connection like any other one.
    async fn verify(&self, client: &Client) -> Result<(), StoreError> {
        let told = |error: tokio_postgres::Error| connecting(&error, &self.location);
        let answer = client.simple_query(WHEREABOUTS).await.map_err(told)?;
        if let Some(found) = Whereabouts::read(&answer) {
            self.check_pin(&found)?;
            self.listener_pid.store(found.pid, Ordering::Release);
        }
        Ok(())
    }
}

/// A client, and what others notify.
pub(super) type Heard = (
    Arc<Client>,
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

/// An open connection.
pub(super) struct Link {
    pub(super) connection: AsyncPgConnection,
    /// The server's process; none behind a pooler, which changes it.
    pid: Option<i32>,
    /// Why it ended, once it has.
    closed: Arc<OnceLock<String>>,
    used: Instant,
}

/// A place for a connection, with the runtime that drives it.
pub(super) struct Lane {
    runtime: Option<Runtime>,
    link: Option<Link>,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            runtime: None,
            link: None,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// The server's process, where there is one for the connection's whole life.
    pub(super) fn pid(&self) -> Option<i32> {
        self.link.as_ref().and_then(|link| link.pid)
    }

    /// Ends the connection; the server's process that ends with it.
    fn close(&mut self) -> Option<i32> {
        let pid = self.pid();
        drop(std::mem::replace(self, Self::new()));
        pid
    }

    /// Runs `work` on the lane's connection, which is opened first if there is none.
    pub(super) fn run<T: Send>(
        &mut self,
        session: &Session,
        work: impl AsyncFnOnce(&AsyncPgConnection, &Session) -> Result<T, Fault> + Send,
    ) -> Result<T, StoreError> {
        outside(|| self.run_here(session, work))
    }

    fn run_here<T>(
        &mut self,
        session: &Session,
        work: impl AsyncFnOnce(&AsyncPgConnection, &Session) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let runtime = match &self.runtime {
            Some(runtime) => runtime,
            None => {
                self.runtime
                    .insert(Builder::new_current_thread().enable_all().build().map_err(
                        |error| {
                            StoreError::Failed(format!(
                                "the system gives no way to wait for the network: {error}"
                            ))
                        },
                    )?)
            }
        };
        // Taken out: work that panics leaves no half-done transaction behind.
        let link = self.link.take();
        let (link, result) = runtime.block_on(async {
            let link = match usable(link).await {
                Some(link) => link,
                None => match session.connect().await {
                    Ok(link) => link,
                    Err(error) => return (None, Err(error)),
                },
            };
            match work(&link.connection, session).await {
                Ok(value) => (Some(link), Ok(value)),
                Err(fault) => recover(link, fault, session).await,
            }
        });
        self.link = link.map(|link| Link {
            used: Instant::now(),
            ..link
        });
        result
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        drop(self.link.take());
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would panic in a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A connection that the server has not closed, as far as this side can know.
async fn usable(link: Option<Link>) -> Option<Link> {
    let link = link?;
    if link.used.elapsed() >= IDLE {
        // Gives the connection's own task its turn to read what came in the meantime.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    link.closed.get().is_none().then_some(link)
}

/// Ends the transaction that failed. If that is not possible either, the connection is what failed.
async fn recover<T>(
    link: Link,
    fault: Fault,
    session: &Session,
) -> (Option<Link>, Result<T, StoreError>) {
    let mut shared = &link.connection;
    let undone =
        tokio::time::timeout(Duration::from_secs(10), shared.batch_execute("ROLLBACK")).await;
    if matches!(undone, Ok(Ok(()))) && link.closed.get().is_none() {
        return (Some(link), Err(fault.at(&session.location)));
    }
    let why = link.closed.get().cloned();
    let fault = match fault {
        Fault::Sql(error) => Fault::Lost(match why {
            Some(why) => format!("{error}; {why}"),
            None => error.to_string(),
        }),
        other => other,
    };
    (None, Err(fault.at(&session.location)))
}

/// Runs `work` where no runtime is running: a caller may well be a task of its own.
fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if tokio::runtime::Handle::try_current().is_err() {
        return work();
    }
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The lane that writes; writers of this process queue at the mutex.
pub(super) struct Writer(Mutex<Lane>);

impl Writer {
    pub(super) fn new(lane: Lane) -> Self {
        Self(Mutex::new(lane))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Lane> {
        self.0.lock()
    }
}

/// Ends the connection of a writer that is held; the server's process that ends with it.
pub(super) fn close(lane: &mut MutexGuard<'_, Lane>) -> Option<i32> {
    lane.close()
}

/// Lanes that only read.
pub(super) struct Readers {
    limit: usize,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Lane>,
    open: usize,
    closed: bool,
}

impl Readers {
    /// At most so many; none may be enough.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(READERS),
            pool: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Lends a lane; waits while all are lent. `None`: there are none.
    pub(super) fn borrow(&self) -> Option<Loan<'_>> {
        let mut pool = self.pool.lock();
        loop {
            if pool.closed || self.limit == 0 {
                return None;
            }
            let lane = match pool.idle.pop() {
                Some(lane) => lane,
                None if pool.open < self.limit => {
                    pool.open += 1;
                    Lane::new()
                }
                None => {
                    self.returned.wait(&mut pool);
                    continue;
                }
            };
            return Some(Loan {
                readers: self,
                lane: Some(lane),
            });
        }
    }

    /// Ends all connections and lends none any more; the server's processes that end with them.
    pub(super) fn close(&self) -> Vec<i32> {
        let mut pool = self.pool.lock();
        pool.closed = true;
        let mut pids = Vec::new();
        loop {
            let idle = std::mem::take(&mut pool.idle);
            pool.open -= idle.len();
            pids.extend(idle.iter().filter_map(Lane::pid));
            self.returned.notify_all();
            if pool.open == 0 {
                return pids;
            }
            self.returned.wait(&mut pool);
        }
    }
}

/// A lane's place in the pool; it goes back when the loan ends, however it ends.
pub(super) struct Loan<'a> {
    readers: &'a Readers,
    lane: Option<Lane>,
}

impl Loan<'_> {
    pub(super) fn lane(&mut self) -> &mut Lane {
        self.lane.get_or_insert_with(Lane::new)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool.lock();
        match self.lane.take() {
            Some(lane) => pool.idle.push(lane),
            None => pool.open -= 1,
        }
        // Not one: who closes waits here too.
        self.readers.returned.notify_all();
    }
}
