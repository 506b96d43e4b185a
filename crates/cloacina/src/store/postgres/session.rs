//! The settings and the schema of a store's sessions, and the check of a new connection.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use diesel::deserialize::FromSqlRow;
use diesel::pg::Pg;
use sha2::{Digest, Sha256};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Config, SimpleQueryMessage};

use super::driver::{self, Connection, Statement, Step};
use super::error::Fault;
use super::url::{PostgresOptions, TargetSession};
use crate::store::{Report, StoreError};

/// Settings of every session. The planner settings make query plans independent of table statistics, which a new table
/// does not have (see decision 011). The timeout ends a transaction whose client has vanished.
const SETTINGS: [(&str, &str); 8] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("max_parallel_workers_per_gather", "0"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// Returns the settings of a session, except settings that are in the URL's `options`.
fn settings(options: &PostgresOptions) -> Vec<(&'static str, String)> {
    // The lock timeout is shorter than the client's timeout, so that the server reports the error first. The connection
    // then stays usable.
    let lock_timeout = options.answer_timeout.mul_f64(0.8).as_millis();
    let statement_timeout = options.statement_timeout.as_millis();
    let given = options.options.as_deref().unwrap_or_default();
    SETTINGS
        .map(|(name, value)| (name, value.to_owned()))
        .into_iter()
        .chain([
            ("lock_timeout", format!("{lock_timeout}ms")),
            // Also ends a statement whose client has vanished.
            ("statement_timeout", format!("{statement_timeout}ms")),
        ])
        .filter(|(name, _)| !given.contains(name))
        .chain((options.read_only).then(|| ("default_transaction_read_only", "on".to_owned())))
        .collect()
}

/// Options and checks that apply to all connections of a store.
pub(super) struct Session {
    pub(super) options: PostgresOptions,
    pub(super) location: String,
    /// Whether a transaction pooler is in front of the server.
    pub(super) pooled: bool,
    begin: String,
    /// The schema that every connection must use, once it is known to exist.
    schema: OnceLock<String>,
    /// Process id of the last LISTEN session that was opened with these options; 0 before the first one.
    listener_pid: AtomicI32,
    /// Whether any trigger fires at the end of executions, as far as this store knows.
    pub(super) has_followers: AtomicBool,
}

/// Query for the process id and the schema of a new session. `current_schema` is null if the schema does not exist or
/// if the role is not allowed to use it.
pub(super) const SESSION_INFO: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_schema(), \
    pg_catalog.current_setting('search_path'), (SELECT n.nspname FROM pg_catalog.pg_class AS c \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE c.oid = pg_catalog.to_regclass('cloacina_executions'))";

/// The process id and the schema of a session.
pub(super) struct SessionInfo {
    pub(super) pid: i32,
    schema: Option<String>,
    search_path: String,
    /// The schema in which unqualified names of the engine's tables are found.
    tables: Option<String>,
}

impl SessionInfo {
    pub(super) fn read(messages: &[SimpleQueryMessage]) -> Option<Self> {
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
            let settings = settings(&options).into_iter();
            begin.extend(settings.map(|(name, value)| format!("SET LOCAL {name} = '{value}'")));
            let pin = |schema: &String| format!("SET LOCAL search_path = \"{schema}\"");
            begin.extend(options.schema.as_ref().map(pin));
            begin.extend(
                options
                    .read_only
                    .then(|| "SET TRANSACTION READ ONLY".to_owned()),
            );
        }
        let begin = begin.join("; ");
        Self {
            location: options.location(),
            pooled: options.pooled,
            begin,
            schema: OnceLock::new(),
            listener_pid: AtomicI32::new(0),
            has_followers: AtomicBool::new(false),
            options,
        }
    }

    /// Sets the schema that every later connection must use.
    pub(super) fn set_schema(&self, schema: String) {
        // A second call sets the same schema, because later connections are checked against the schema of the first call.
        let _ = self.schema.set(schema);
    }

    /// Returns the schema of all connections; `None` before the first connection was opened.
    pub(super) fn schema(&self) -> Option<&str> {
        self.schema.get().map(String::as_str)
    }

    /// Refuses a connection that does not use the store's schema (H1).
    pub(super) fn verify_schema(&self, info: &SessionInfo) -> Result<(), StoreError> {
        let refuse = |what: Report| {
            let of_session = |what: &str| {
                let location = &self.location;
                format!(
                    "the connection is refused: the database {location} opened a session that {what}"
                )
            };
            Err(StoreError::Failed(what.map(of_session)))
        };
        if let Some(schema) = &self.options.schema {
            let pinned = [format!("\"{schema}\""), schema.clone()];
            if !pinned.contains(&info.search_path) {
                return refuse(Report::hinted(
                    format!(
                        "is not pinned to the schema '{schema}' but to {}, because a proxy drops the options of connections",
                        info.search_path
                    ),
                    "if the proxy is a transaction pooler, add pgbouncer=true to the URL",
                ));
            }
        }
        let Some(expected) = self.schema.get() else {
            return Ok(());
        };
        if info.schema.as_ref() != Some(expected) {
            let actual = match &info.schema {
                Some(schema) => format!("the schema '{schema}'"),
                None => "no schema".to_owned(),
            };
            return refuse(format!(
                "is in {actual}; the schema '{expected}' no longer exists, or the role is no longer allowed to use it"
            ).into());
        }
        match &info.tables {
            Some(tables) if tables == expected => Ok(()),
            Some(tables) => refuse(
                format!(
                    "finds the engine's tables in the schema '{tables}' instead of '{expected}'"
                )
                .into(),
            ),
            None => refuse(format!("finds none of the engine's tables in '{expected}'").into()),
        }
    }

    /// Returns SQL that disables the lock timeout and the statement timeout in the open transaction. Leaves out a
    /// timeout that is set in the URL's `options`.
    pub(super) fn without_timeouts(&self) -> String {
        let given = self.options.options.as_deref().unwrap_or_default();
        [
            ("lock_timeout", "SET LOCAL lock_timeout = 0; "),
            ("statement_timeout", "SET LOCAL statement_timeout = 0; "),
        ]
        .into_iter()
        .filter(|(name, _)| !given.contains(name))
        .map(|(_, text)| text)
        .collect()
    }

    /// Returns the SQL that starts a transaction, including the session's settings behind a pooler.
    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    /// Runs a statement in a separate transaction, and returns the rows of its answer.
    pub(super) async fn fetch<S: Statement, T: FromSqlRow<S::Row, Pg>>(
        &self,
        connection: &Connection,
        statement: S,
    ) -> Result<Vec<T>, Fault> {
        if !self.pooled {
            return statement.load(connection).await;
        }
        let request = connection.prepare(&statement).await?;
        let steps: Vec<Step<Vec<T>>> = vec![
            driver::control(connection, self.begin()),
            Box::pin(request.load()),
            driver::control(connection, "COMMIT"),
        ];
        Ok(driver::pipeline(steps)
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    pub(super) fn config(&self) -> Config {
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
        // These times are shorter than a lease, so that a runner can open another connection before its lease ends.
        config.keepalives_idle(Duration::from_secs(4));
        config.keepalives_interval(Duration::from_secs(2));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(10));
        if options.target_session == TargetSession::ReadWrite {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if !self.pooled {
            let mut texts: Vec<String> = options.options.clone().into_iter().collect();
            let settings = settings(options).into_iter();
            texts.extend(settings.map(|(name, value)| format!("-c {name}={value}")));
            let pin = |schema: &String| format!("-c search_path=\"{schema}\"");
            texts.extend(options.schema.as_ref().map(pin));
            config.options(texts.join(" "));
        } else if let Some(settings) = &options.options {
            config.options(settings);
        }
        config
    }

    /// Returns the name of the schema's notification channel. Each schema needs a separate channel, because a channel
    /// belongs to the whole database.
    pub(super) fn channel(&self) -> String {
        // The options need not contain a schema. The server then uses the role's `search_path`, so the name is computed
        // from the schema that the session really uses.
        let digest = Sha256::digest(self.schema().unwrap_or_default().as_bytes());
        let short = (digest.iter().take(8)).fold(0, |short, byte| short << 8 | u64::from(*byte));
        format!("cloacina_{short:016x}")
    }

    pub(super) fn note_listener(&self, pid: i32) {
        self.listener_pid.store(pid, Ordering::Release);
    }

    /// Returns the process id of the last LISTEN session that was opened with these options; `None` before the first
    /// one.
    pub(super) fn listener_pid(&self) -> Option<i32> {
        Some(AtomicI32::load(&self.listener_pid, Ordering::Acquire)).filter(|pid| *pid != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::Environment;

    fn settings_of(url: &str) -> String {
        let environment = Environment {
            variable: &|_| None,
            pass_file: &|_| None,
        };
        let mut options = PostgresOptions::read(url, &environment).unwrap();
        options.answer_timeout = Duration::from_secs(5);
        let config = Session::new(options).config();
        config.get_options().unwrap_or_default().to_owned()
    }

    #[test]
    fn lock_timeout_is_shorter_than_client_timeout() {
        let settings = settings_of("postgresql://u@h/d");
        assert!(settings.contains("-c lock_timeout=4000ms"), "{settings}");
        assert!(
            settings.contains("-c statement_timeout=60000ms"),
            "{settings}"
        );
    }

    #[test]
    fn options_of_the_url_override_settings() {
        let settings = settings_of("postgresql://u@h/d?options=-c%20lock_timeout%3D9s");
        assert_eq!(settings.matches("lock_timeout").count(), 1, "{settings}");
        assert!(settings.contains("-c lock_timeout=9s"), "{settings}");
    }
}
