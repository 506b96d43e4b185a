//! Parses PostgreSQL URLs as libpq does. Supports most of libpq's parameters, its environment variables and its
//! password file. Also supports the parameters `listen` and `pgbouncer`, which libpq does not have.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::hosts::{Host, decode, hosts};
use super::pass_file::{Environment, from_pass_file, read_pass_file};
use crate::store::error::invalid;
use crate::types::{Error, check_schema_name, nearest};

const PARAMETERS: [&str; 24] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "connect_timeout",
    "options",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "target_session_attrs",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "listen",
    "pgbouncer",
];

/// How much TLS security a connection requires. The names are those of libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS only if the server refuses a connection without TLS.
    Allow,
    /// TLS if the server supports it. The certificate is not checked.
    #[default]
    Prefer,
    /// TLS is required. The certificate is checked only if `sslrootcert` is given.
    Require,
    /// TLS is required, with a certificate that a trusted CA has signed.
    VerifyCa,
    /// Like `VerifyCa`, but the certificate must also match the host name.
    VerifyFull,
}

impl TlsMode {
    /// Returns the value of `sslmode` for this mode.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// A string that debug output hides, such as a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The kind of server to use. If a URL names several hosts, the first server of this kind is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSession {
    /// The first server that answers.
    #[default]
    Any,
    /// The first server that accepts writes.
    ReadWrite,
}

/// Settings for opening a PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent settings")]
pub struct PostgresOptions {
    /// The hosts, in the order in which they are tried. The first one that answers and fits `target_session` is used.
    pub hosts: Vec<Host>,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The role's password.
    pub password: Option<Secret>,
    /// The application name that the server shows for the sessions.
    pub application_name: String,
    /// Maximum total time for opening a connection.
    pub connect_timeout: Duration,
    /// Maximum time to wait for an answer from the server before the connection is dropped. For a runner, it is at
    /// most a third of a lease, so that a heartbeat can still be sent in time over a new connection.
    pub answer_timeout: Duration,
    /// Maximum time that the server may take for a statement before it ends the statement.
    pub statement_timeout: Duration,
    /// Whether the server must refuse all writes of the sessions.
    pub read_only: bool,
    /// Server settings in command-line form (libpq's `options`).
    pub options: Option<String>,
    /// TLS requirements.
    pub tls: TlsMode,
    /// File with trusted CA certificates, or `system`.
    pub root_certificates: Option<PathBuf>,
    /// The client's certificate file and key file.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The kind of server to use.
    pub target_session: TargetSession,
    /// Whether to use LISTEN to learn of other runners' changes.
    pub listen: bool,
    /// Whether a transaction pooler is in front of the server, so that nothing can be stored in a session.
    pub pooled: bool,
    /// The schema of the tables. `None` means the first schema on the role's search path.
    pub schema: Option<String>,
    /// Whether opening the database applies pending migrations.
    pub auto_migrate: bool,
}

impl PostgresOptions {
    /// Parses a URL. Parts that are missing in the URL are taken from libpq's environment variables and password file.
    ///
    /// # Errors
    /// Returns `UrlInvalid`. The error names the invalid part and the allowed values, but never shows a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        Self::read(
            url,
            &Environment {
                variable: &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
                pass_file: &read_pass_file,
            },
        )
    }

    /// Parses a URL in the given environment.
    ///
    /// # Errors
    /// See [`Self::from_url`].
    pub fn read(url: &str, environment: &Environment) -> Result<Self, Error> {
        let (authority, path, parameters) = split(url)?;
        let (user_part, host_part) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let parameter = |name: &str| {
            parameters
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        let or_variable = |name: &str, variable: &str| {
            parameter(name).or_else(|| (environment.variable)(variable))
        };
        let (mut user, mut password) = (None, None);
        if let Some(part) = user_part {
            let (name, secret) = part
                .split_once(':')
                .map_or((part, None), |(name, secret)| (name, Some(secret)));
            user = Some(decode(name, "user")?).filter(|name| !name.is_empty());
            password = secret
                .map(|secret| decode(secret, "password"))
                .transpose()?;
        }
        let user = or_variable("user", "PGUSER")
            .filter(|_| parameter("user").is_some() || user.is_none())
            .or(user);
        let user = user
            .or_else(|| (environment.variable)("USER"))
            .or_else(|| (environment.variable)("LOGNAME"))
            .unwrap_or_else(|| "postgres".to_owned());
        let database = parameter("dbname")
            .or(Some(decode(path, "database")?).filter(|name| !name.is_empty()))
            .or_else(|| (environment.variable)("PGDATABASE"))
            .unwrap_or_else(|| user.clone());
        let hosts = hosts(host_part, &or_variable)?;
        let password = parameter("password")
            .or(password)
            .or_else(|| (environment.variable)("PGPASSWORD"))
            .or_else(|| {
                from_pass_file(environment, parameter("passfile"), &hosts, &database, &user)
            });
        let root_certificates = or_variable("sslrootcert", "PGSSLROOTCERT");
        let tls = or_variable("sslmode", "PGSSLMODE");
        let tls = tls.as_deref().map(tls_mode).transpose()?;
        let tls = if root_certificates.as_deref() == Some("system") {
            require_verify_full(tls)?
        } else {
            tls.unwrap_or_default()
        };
        let certificate =
            or_variable("sslcert", "PGSSLCERT").zip(or_variable("sslkey", "PGSSLKEY"));
        Ok(Self {
            hosts,
            database,
            user,
            password: password.map(Secret),
            application_name: or_variable("application_name", "PGAPPNAME")
                .or_else(|| parameter("fallback_application_name"))
                .unwrap_or_else(|| "cloaca".to_owned()),
            connect_timeout: timeout(or_variable("connect_timeout", "PGCONNECT_TIMEOUT"))?,
            answer_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_mins(1),
            read_only: false,
            options: or_variable("options", "PGOPTIONS"),
            tls,
            root_certificates: root_certificates.map(PathBuf::from),
            client_certificate: certificate
                .map(|(certificate, key)| (certificate.into(), key.into())),
            target_session: target_session(
                or_variable("target_session_attrs", "PGTARGETSESSIONATTRS").as_deref(),
            )?,
            listen: switch("listen", parameter("listen").as_deref(), true)?,
            pooled: switch("pgbouncer", parameter("pgbouncer").as_deref(), false)?,
            schema: None,
            auto_migrate: true,
        })
    }

    /// Returns options for the same database, pinned to a schema.
    ///
    /// # Errors
    /// Returns `Configuration` if the name does not match `[A-Za-z_][A-Za-z0-9_]{0,62}` or is reserved.
    pub fn with_schema(mut self, schema: &str) -> Result<Self, Error> {
        check_schema_name(schema)?;
        self.schema = Some(schema.to_owned());
        Ok(self)
    }

    /// Returns a description of the database with its schema, for messages.
    #[must_use]
    pub fn location(&self) -> String {
        let schema = self
            .schema
            .as_ref()
            .map_or_else(String::new, |schema| format!(" (schema {schema})"));
        format!("{}{schema}", self.location_without_schema())
    }

    /// Returns a description of the database without its schema, for messages.
    #[must_use]
    pub fn location_without_schema(&self) -> String {
        let host = |host: &Host| {
            if host.name.contains(':') {
                format!("[{}]:{}", host.name, host.port)
            } else {
                format!("{}:{}", host.name, host.port)
            }
        };
        let hosts: Vec<String> = self.hosts.iter().map(host).collect();
        format!(
            "postgresql://{}@{}/{}",
            self.user,
            hosts.join(","),
            self.database
        )
    }
}

/// The names and decoded values of a URL's parameters.
type UrlParameters = Vec<(String, String)>;

/// Splits a URL into authority (user and hosts), path and parameters.
fn split(url: &str) -> Result<(&str, &str, UrlParameters), Error> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (base, query) = rest
        .split_once('?')
        .map_or((rest, ""), |(base, query)| (base, query));
    if query.contains('@') && !base.contains('@') {
        return Err(
            invalid("the PostgreSQL URL has a '?' before its '@'").with_hint(
                "percent-encode special characters in a password, e.g. ? as %3F and @ as %40",
            ),
        );
    }
    // The user part ends at the last `@`. It can contain slashes.
    let host_start = base.rfind('@').map_or(0, |at| at + 1);
    let path_start = base[host_start..].find('/').map(|at| host_start + at);
    let (authority, path) = path_start.map_or((base, ""), |at| (&base[..at], &base[at + 1..]));
    let mut parameters = UrlParameters::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !PARAMETERS.contains(&name) {
            // This may be the rest of a password that contains an unencoded `&`, so it must not be shown.
            if parameters.iter().any(|(known, _)| known.contains("pass")) {
                return Err(invalid(
                    "the PostgreSQL URL has an unknown parameter after its password",
                )
                .with_hint("percent-encode special characters in a password, e.g. & as %26"));
            }
            let near = nearest(name, PARAMETERS)
                .map_or_else(String::new, |near| format!("did you mean '{near}'? "));
            return Err(
                invalid(format!("unknown PostgreSQL parameter '{name}'")).with_hint(format!(
                    "{near}the parameters are {}",
                    PARAMETERS.join(", ")
                )),
            );
        }
        if parameters.iter().any(|(known, _)| known == name) {
            return Err(
                invalid(format!("the PostgreSQL parameter '{name}' is given twice"))
                    .with_hint("give it once"),
            );
        }
        parameters.push((name.to_owned(), decode(value, name)?));
    }
    Ok((authority, path, parameters))
}

fn tls_mode(text: &str) -> Result<TlsMode, Error> {
    Ok(match text {
        "disable" => TlsMode::Disable,
        "allow" => TlsMode::Allow,
        "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => {
            return Err(wrong_value(
                "sslmode",
                text,
                "disable, allow, prefer, require, verify-ca or verify-full",
            ));
        }
    })
}

/// Requires `verify-full` for `sslrootcert=system`, as libpq does. Anyone can get a certificate from one of the
/// system's CAs, so the host name must be checked.
fn require_verify_full(mode: Option<TlsMode>) -> Result<TlsMode, Error> {
    match mode {
        None | Some(TlsMode::VerifyFull) => Ok(TlsMode::VerifyFull),
        Some(weak) => Err(invalid(format!(
            "sslmode '{}' is too weak for sslrootcert=system",
            weak.name()
        ))
        .with_hint("leave sslmode out, or use sslmode=verify-full")),
    }
}

fn target_session(text: Option<&str>) -> Result<TargetSession, Error> {
    match text {
        None | Some("any") => Ok(TargetSession::Any),
        Some("read-write" | "primary") => Ok(TargetSession::ReadWrite),
        Some(other) => Err(wrong_value(
            "target_session_attrs",
            other,
            "read-write, primary or any; a runner cannot use a read-only server",
        )),
    }
}

fn timeout(text: Option<String>) -> Result<Duration, Error> {
    const LONG: Duration = Duration::from_hours(24);
    let Some(text) = text else {
        return Ok(Duration::from_secs(10));
    };
    match text.trim().parse::<u32>() {
        Ok(0) => Ok(LONG),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err(wrong_value(
            "connect_timeout",
            &text,
            "a number of seconds, or 0 for no connection timeout",
        )),
    }
}

fn switch(name: &str, value: Option<&str>, default: bool) -> Result<bool, Error> {
    match value {
        None => Ok(default),
        Some("on" | "true" | "1" | "yes") => Ok(true),
        Some("off" | "false" | "0" | "no") => Ok(false),
        Some(other) => Err(wrong_value(name, other, "on or off")),
    }
}

fn wrong_value(name: &str, value: &str, expected: &str) -> Error {
    invalid(format!(
        "the PostgreSQL parameter {name} cannot be '{value}'"
    ))
    .with_hint(format!("use {expected}"))
}
