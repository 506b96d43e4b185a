//! PostgreSQL URLs as libpq reads them: the same parameters, environment variables and pass file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::url::invalid;
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

/// A place where the server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or the folder of a socket (with a leading `/`).
    pub name: String,
    /// An address that saves looking the name up.
    pub address: Option<std::net::IpAddr>,
    /// The port.
    pub port: u16,
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

/// Where defaults come from.
pub struct Surroundings<'a> {
    /// Environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Contents of a file that only its owner may read.
    pub pass_file: &'a dyn Fn(&Path) -> Option<String>,
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
        let tls = match or_variable("sslmode", "PGSSLMODE") {
            None => TlsMode::default(),
            Some(mode) => tls_mode(&mode)?,
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
            root_certificates: or_variable("sslrootcert", "PGSSLROOTCERT").map(PathBuf::from),
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

/// Replaces `%20` and the like. The text itself is not shown: it may be a password.
fn decode(text: &str, what: &str) -> Result<String, Error> {
    let wrong = || {
        invalid(format!(
            "the PostgreSQL URL has a malformed % sequence in its {what}"
        ))
        .with_hint("write a percent sign as %25")
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .ok_or_else(wrong)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) || digits == "00" {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

type Lookup<'a> = dyn Fn(&str, &str) -> Option<String> + 'a;

fn hosts(host_part: &str, lookup: &Lookup) -> Result<Vec<Host>, Error> {
    let port_of = |text: &str| -> Result<Option<u16>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .map(Some)
            .ok_or_else(|| {
                invalid(format!("'{text}' is no port"))
                    .with_hint("a port is a number from 1 to 65535, usually 5432")
            })
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in host_part.split(',').filter(|host| !host.is_empty()) {
        let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((address, port))) => (address, port.strip_prefix(':').unwrap_or(port)),
            Some(None) => {
                return Err(invalid(format!("the host '{host}' has no closing ']'"))
                    .with_hint("write an IPv6 address as [::1]"));
            }
            None => host.rsplit_once(':').unwrap_or((host, "")),
        };
        names.push(decode(name, "host")?);
        ports.push(port_of(port)?);
    }
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<String>>();
    // `postgresql://:5433/db` names a port and leaves the host open.
    if names.iter().all(String::is_empty) {
        let given = lookup("host", "PGHOST").map(list);
        let known = given.unwrap_or_else(|| match lookup("hostaddr", "PGHOSTADDR") {
            Some(addresses) => list(addresses),
            None => vec![default_host()],
        });
        let port = ports.first().copied().flatten();
        ports = vec![port; known.len()];
        names = known;
    } else if lookup("host", "").is_some() {
        names = list(lookup("host", "").unwrap_or_default());
        ports = vec![None; names.len()];
    }
    let addresses = lookup("hostaddr", "PGHOSTADDR")
        .map(list)
        .unwrap_or_default();
    if !addresses.is_empty() && addresses.len() != names.len() {
        return Err(invalid(format!(
            "{} hosts and {} addresses are given",
            names.len(),
            addresses.len()
        ))
        .with_hint("give hostaddr one address for each host"));
    }
    let defaults = lookup("port", "PGPORT").map(list).unwrap_or_default();
    if defaults.len() > 1 && defaults.len() != names.len() {
        return Err(invalid(format!(
            "{} hosts and {} ports are given",
            names.len(),
            defaults.len()
        ))
        .with_hint("give one port for all hosts, or one for each"));
    }
    let mut hosts = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let default = defaults
            .get(index)
            .or_else(|| defaults.first())
            .map_or("", String::as_str);
        let port = match ports.get(index).copied().flatten() {
            Some(port) => port,
            None => port_of(default)?.unwrap_or(5432),
        };
        let address = match addresses.get(index).filter(|address| !address.is_empty()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                invalid(format!("hostaddr '{text}' is no IP address"))
                    .with_hint("use host for a name")
            })?),
        };
        let name = if name.is_empty() {
            default_host()
        } else {
            name
        };
        hosts.push(Host {
            name,
            address,
            port,
        });
    }
    Ok(hosts)
}

/// Where libpq looks on this kind of system.
fn default_host() -> String {
    let folders = ["/var/run/postgresql", "/tmp"];
    let has_socket = |folder: &&str| Path::new(folder).join(".s.PGSQL.5432").exists();
    folders
        .into_iter()
        .find(has_socket)
        .unwrap_or("localhost")
        .to_owned()
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

/// The first line of the pass file that fits.
fn from_pass_file(
    around: &Surroundings,
    named: Option<String>,
    hosts: &[Host],
    database: &str,
    user: &str,
) -> Option<String> {
    let named = named
        .or_else(|| (around.variable)("PGPASSFILE"))
        .map(PathBuf::from);
    let path =
        named.or_else(|| (around.variable)("HOME").map(|home| Path::new(&home).join(".pgpass")))?;
    let text = (around.pass_file)(&path)?;
    hosts.iter().find_map(|host| {
        // libpq's word for every local socket.
        let name = if host.name.starts_with('/') {
            "localhost"
        } else {
            &host.name
        };
        let wanted = [name, &host.port.to_string(), database, user];
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| {
                let fields = pass_fields(line);
                let (secret, keys) = fields.split_last().filter(|(_, keys)| keys.len() == 4)?;
                let fits = keys
                    .iter()
                    .zip(wanted)
                    .all(|(key, wanted)| key == "*" || key == wanted);
                fits.then(|| secret.clone())
            })
    })
}

/// The fields of a line; `\:` and `\\` stand for the characters themselves. The fifth holds the rest.
fn pass_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.trim_end_matches('\r').chars();
    while let Some(character) = characters.next() {
        match character {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields
                .last_mut()
                .expect("there is a first field")
                .extend(characters.next()),
            other => fields
                .last_mut()
                .expect("there is a first field")
                .push(other),
        }
    }
    fields
}

/// As libpq, a file that others may read is not used.
fn read_pass_file(path: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        if metadata.mode() & 0o077 != 0 {
            tracing::warn!(file = %path.display(), "the pass file is not used: others may read it; run chmod 0600 on it");
            return None;
        }
    }
    std::fs::read_to_string(path).ok()
}
