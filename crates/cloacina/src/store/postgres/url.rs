//! PostgreSQL URLs as libpq reads them: the same parameters, environment variables and pass file.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::hosts::{Host, decode, hosts};
use super::pass_file::{Surroundings, from_pass_file, read_pass_file};
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

/// How a connection is protected, in libpq's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Only if the server refuses anything else.
    Allow,
    /// If the server can; its certificate is not checked.
    #[default]
    Prefer,
    /// Always; the certificate is checked only if `sslrootcert` is given.
    Require,
    /// Always, with a certificate that a known authority signed.
    VerifyCa,
    /// The same, and the certificate must be for the host's name.
    VerifyFull,
}

impl TlsMode {
    /// libpq's word for it.
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

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which sessions are wanted, among several hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The first that answers.
    #[default]
    Any,
    /// The first that can be written.
    ReadWrite,
}

/// How to reach a PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Where the server may be; the first that answers is taken.
    pub hosts: Vec<Host>,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// The name under which the server lists the sessions.
    pub application_name: String,
    /// How long opening a connection may take in all.
    pub connect_timeout: Duration,
    /// How long the server may say nothing before a connection is given up. Shorter than a third of a lease, so that a
    /// heartbeat can be sent over another connection in time.
    pub patience: Duration,
    /// Settings for the server, as it takes them on its command line.
    pub options: Option<String>,
    /// Protection of the connection.
    pub tls: TlsMode,
    /// File of trusted authorities, or `system`.
    pub root_certificates: Option<PathBuf>,
    /// Client's certificate and key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Which sessions are wanted.
    pub wanted: Wanted,
    /// Whether other runners' changes are learnt by LISTEN.
    pub listen: bool,
    /// Whether a transaction pooler is between: no state of the session is relied on.
    pub pooled: bool,
    /// The schema to live in; none means the first of the role's search path.
    pub schema: Option<String>,
    /// Whether opening migrates.
    pub auto_migrate: bool,
}

impl PostgresOptions {
    /// Reads a URL, and what it leaves open from the process's surroundings.
    ///
    /// # Errors
    /// `UrlInvalid`, with the part and what it may be; never with a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        Self::read(
            url,
            &Surroundings {
                variable: &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
                pass_file: &read_pass_file,
            },
        )
    }

    /// Reads a URL in given surroundings.
    ///
    /// # Errors
    /// As for [`Self::from_url`].
    pub fn read(url: &str, around: &Surroundings) -> Result<Self, Error> {
        let (authority, path, parameters) = cut(url)?;
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
        let or_variable =
            |name: &str, variable: &str| parameter(name).or_else(|| (around.variable)(variable));
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
            .or_else(|| (around.variable)("USER"))
            .or_else(|| (around.variable)("LOGNAME"))
            .unwrap_or_else(|| "postgres".to_owned());
        let database = parameter("dbname")
            .or(Some(decode(path, "database")?).filter(|name| !name.is_empty()))
            .or_else(|| (around.variable)("PGDATABASE"))
            .unwrap_or_else(|| user.clone());
        let hosts = hosts(host_part, &or_variable)?;
        let password = parameter("password")
            .or(password)
            .or_else(|| (around.variable)("PGPASSWORD"))
            .or_else(|| from_pass_file(around, parameter("passfile"), &hosts, &database, &user));
        let root_certificates = or_variable("sslrootcert", "PGSSLROOTCERT");
        let tls = or_variable("sslmode", "PGSSLMODE");
        let tls = tls.as_deref().map(tls_mode).transpose()?;
        let tls = if root_certificates.as_deref() == Some("system") {
            full_for_system(tls)?
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
            patience: Duration::from_secs(10),
            options: or_variable("options", "PGOPTIONS"),
            tls,
            root_certificates: root_certificates.map(PathBuf::from),
            client_certificate: certificate
                .map(|(certificate, key)| (certificate.into(), key.into())),
            wanted: wanted(or_variable("target_session_attrs", "PGTARGETSESSIONATTRS").as_deref())?,
            listen: switch("listen", parameter("listen").as_deref(), true)?,
            pooled: switch("pgbouncer", parameter("pgbouncer").as_deref(), false)?,
            schema: None,
            auto_migrate: true,
        })
    }

    /// The same database, pinned to a schema.
    ///
    /// # Errors
    /// `Configuration` for a name that is no `[A-Za-z_][A-Za-z0-9_]{0,62}`, or reserved.
    pub fn with_schema(mut self, schema: &str) -> Result<Self, Error> {
        check_schema_name(schema)?;
        self.schema = Some(schema.to_owned());
        Ok(self)
    }

    /// The database for messages, with the schema.
    #[must_use]
    pub fn location(&self) -> String {
        let schema = self
            .schema
            .as_ref()
            .map_or_else(String::new, |schema| format!(" (schema {schema})"));
        format!("{}{schema}", self.place())
    }

    /// The database for messages.
    #[must_use]
    pub fn place(&self) -> String {
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

type Parameters = Vec<(String, String)>;

/// The parts of a URL: user and hosts, path, parameters.
fn cut(url: &str) -> Result<(&str, &str, Parameters), Error> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (base, query) = rest
        .split_once('?')
        .map_or((rest, ""), |(base, query)| (base, query));
    if query.contains('@') && !base.contains('@') {
        return Err(invalid("the PostgreSQL URL has a '?' before its '@'")
            .with_hint("write special characters of a password in their % form, e.g. ? as %3F and @ as %40"));
    }
    // The last `@` ends the user part: what comes before may hold slashes.
    let host_start = base.rfind('@').map_or(0, |at| at + 1);
    let path_start = base[host_start..].find('/').map(|at| host_start + at);
    let (authority, path) = path_start.map_or((base, ""), |at| (&base[..at], &base[at + 1..]));
    let mut parameters = Parameters::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !PARAMETERS.contains(&name) {
            // A password that holds a '&' goes on here.
            if parameters.iter().any(|(known, _)| known.contains("pass")) {
                return Err(invalid(
                    "the PostgreSQL URL has an unknown parameter after its password",
                )
                .with_hint(
                    "write special characters of a password in their % form, e.g. & as %26",
                ));
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

/// As libpq: with the system's authorities anybody may have a certificate, so that the name in it must be checked.
fn full_for_system(mode: Option<TlsMode>) -> Result<TlsMode, Error> {
    match mode {
        None | Some(TlsMode::VerifyFull) => Ok(TlsMode::VerifyFull),
        Some(weak) => Err(invalid(format!(
            "sslmode '{}' is too weak for sslrootcert=system",
            weak.name()
        ))
        .with_hint("leave sslmode out, or use sslmode=verify-full")),
    }
}

fn wanted(text: Option<&str>) -> Result<Wanted, Error> {
    match text {
        None | Some("any") => Ok(Wanted::Any),
        Some("read-write" | "primary") => Ok(Wanted::ReadWrite),
        Some(other) => Err(wrong_value(
            "target_session_attrs",
            other,
            "any, read-write or primary: a runner has to write",
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
            "a number of seconds, or 0 to wait for ever",
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
    .with_hint(format!("it takes {expected}"))
}
