//! What the connections of a store have in common: settings, schema, and the checks of a new connection.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use diesel::deserialize::FromSqlRow;
use diesel::pg::Pg;
use sha2::{Digest, Sha256};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Config, SimpleQueryMessage};

use super::driver::{self, Connection, Statement, Step};
use super::error::Fault;
use super::url::{PostgresOptions, Wanted};
use crate::store::StoreError;

/// Plans that do not depend on what the statistics say of a young table (see `ARCHITECTURE.md`), no transaction that outlives
/// its client, and no statement that works on for long after its client gave it up.
const SETTINGS: [(&str, &str); 9] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("max_parallel_workers_per_gather", "0"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("statement_timeout", "60s"),
];

/// Settings of every session, without those that the URL's `options` give.
fn settings(options: &PostgresOptions) -> Vec<(&'static str, String)> {
    // Before the client gives the connection up: an error leaves it usable.
    let lock_timeout = options.patience.mul_f64(0.8).as_millis();
    let given = options.options.as_deref().unwrap_or_default();
    SETTINGS
        .map(|(name, value)| (name, value.to_owned()))
        .into_iter()
        .chain([("lock_timeout", format!("{lock_timeout}ms"))])
        .filter(|(name, _)| !given.contains(name))
        .collect()
}

/// What every connection of a store has in common.
pub(super) struct Session {
    pub(super) options: PostgresOptions,
    pub(super) location: String,
    /// Between this program and the server is a transaction pooler.
    pub(super) pooled: bool,
    begin: String,
    /// The schema in which every connection has to find itself, once it is known to be there.
    home: OnceLock<String>,
    /// The server's process that listens for this store.
    listener_pid: AtomicI32,
}

/// Where a new connection finds itself. `current_schema` is null for a schema that is not there or that the role may not use.
pub(super) const WHEREABOUTS: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_schema(), \
    pg_catalog.current_setting('search_path'), (SELECT n.nspname FROM pg_catalog.pg_class AS c \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE c.oid = pg_catalog.to_regclass('cloacina_executions'))";

/// What the server says of a connection.
pub(super) struct Whereabouts {
    pub(super) pid: i32,
    schema: Option<String>,
    search_path: String,
    /// The schema in which the engine's tables are found.
    tables: Option<String>,
}

impl Whereabouts {
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
        }
        let begin = begin.join("; ");
        Self {
            location: options.location(),
            pooled: options.pooled,
            begin,
            home: OnceLock::new(),
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
    pub(super) fn check_pin(&self, found: &Whereabouts) -> Result<(), StoreError> {
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

    /// Lets the statements of the open transaction take any time, unless the URL says how long.
    pub(super) fn unhurried(&self) -> String {
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

    /// Starts a transaction; behind a pooler with the settings that elsewhere belong to the session.
    pub(super) fn begin(&self) -> &str {
        &self.begin
    }

    /// Runs a statement in a transaction of its own and returns the rows of its answer.
    pub(super) async fn fetch<S: Statement, T: FromSqlRow<S::Row, Pg>>(
        &self,
        connection: &Connection,
        statement: S,
    ) -> Result<Vec<T>, Fault> {
        if !self.pooled {
            return statement.load(connection).await;
        }
        let request = connection.prepare(&statement).await?;
        let control = |text| -> Step<'_, Vec<T>> {
            Box::pin(async move {
                connection.batch_execute(text).await?;
                Ok(Vec::new())
            })
        };
        let steps = vec![
            control(self.begin()),
            Box::pin(request.load()),
            control("COMMIT"),
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
        // Within the lease: a connection into nowhere must end while there is time for another one.
        config.keepalives_idle(Duration::from_secs(4));
        config.keepalives_interval(Duration::from_secs(2));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(10));
        if options.wanted == Wanted::ReadWrite {
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

    /// The channel of the schema: notifications are for a whole database.
    pub(super) fn channel(&self) -> String {
        // Not what was asked for: a role's sessions may begin in its schema without being told.
        let digest = Sha256::digest(self.home().unwrap_or_default().as_bytes());
        let short = (digest.iter().take(8)).fold(0, |short, byte| short << 8 | u64::from(*byte));
        format!("cloacina_{short:016x}")
    }

    pub(super) fn note_listener(&self, pid: i32) {
        self.listener_pid.store(pid, Ordering::Release);
    }

    /// The server's process that listens for this store, if there is one.
    pub(super) fn listener_pid(&self) -> Option<i32> {
        Some(AtomicI32::load(&self.listener_pid, Ordering::Acquire)).filter(|pid| *pid != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::Surroundings;

    fn settings_of(url: &str) -> String {
        let around = Surroundings {
            variable: &|_| None,
            pass_file: &|_| None,
        };
        let mut options = PostgresOptions::read(url, &around).unwrap();
        options.patience = Duration::from_secs(5);
        let config = Session::new(options).config();
        config.get_options().unwrap_or_default().to_owned()
    }

    #[test]
    fn b16_sessions_wait_for_locks_less_than_their_client() {
        let settings = settings_of("postgresql://u@h/d");
        assert!(settings.contains("-c lock_timeout=4000ms"), "{settings}");
        assert!(settings.contains("-c statement_timeout=60s"), "{settings}");
    }

    #[test]
    fn b16_options_of_the_url_win() {
        let settings = settings_of("postgresql://u@h/d?options=-c%20lock_timeout%3D9s");
        assert_eq!(settings.matches("lock_timeout").count(), 1, "{settings}");
        assert!(settings.contains("-c lock_timeout=9s"), "{settings}");
    }
}
