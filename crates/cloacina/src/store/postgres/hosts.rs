//! Reads the hosts of a PostgreSQL URL.

use std::path::Path;

use crate::store::error::invalid;
use crate::store::percent::percent_decoded;
use crate::types::Error;

/// A host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or a socket directory (with a leading `/`).
    pub name: String,
    /// An IP address to use instead of looking up the name.
    pub address: Option<std::net::IpAddr>,
    /// The port.
    pub port: u16,
}

type Lookup<'a> = dyn Fn(&str, &str) -> Option<String> + 'a;

/// Returns the hosts that are named in a URL, its parameters or the environment. `lookup` returns the value of a
/// parameter or of an environment variable.
pub(super) fn hosts(host_part: &str, lookup: &Lookup) -> Result<Vec<Host>, Error> {
    let port_of = |text: &str| -> Result<Option<u16>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .map(Some)
            .ok_or_else(|| {
                // In a URL without an `@`, this text may be part of a password, so it is shown only if it is a number.
                let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
                let shown = if is_number {
                    format!(" '{text}'")
                } else {
                    String::new()
                };
                invalid(format!("the PostgreSQL URL has an invalid port{shown}"))
                    .with_hint("a port is a number from 1 to 65535, usually 5432")
            })
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in host_part.split(',').filter(|host| !host.is_empty()) {
        let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((address, port))) => (address, port.strip_prefix(':').unwrap_or(port)),
            Some(None) => {
                return Err(invalid(
                    "a host of the PostgreSQL URL starts with '[' but has no closing ']'",
                )
                .with_hint("write an IPv6 address as [::1]"));
            }
            None => host.rsplit_once(':').unwrap_or((host, "")),
        };
        names.push(decode(name, "host")?);
        ports.push(port_of(port)?);
    }
    let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<String>>();
    // `postgresql://:5433/db` names a port but no host.
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
            "the PostgreSQL URL gives {} hosts but {} addresses",
            names.len(),
            addresses.len()
        ))
        .with_hint("give one hostaddr for each host"));
    }
    let defaults = lookup("port", "PGPORT").map(list).unwrap_or_default();
    if defaults.len() > 1 && defaults.len() != names.len() {
        return Err(invalid(format!(
            "the PostgreSQL URL gives {} hosts but {} ports",
            names.len(),
            defaults.len()
        ))
        .with_hint("give one port for all hosts, or one for each host"));
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
                invalid(format!("hostaddr '{text}' is not an IP address"))
                    .with_hint("use host for a host name")
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

/// Returns libpq's default host: the directory with the server's socket, or `localhost`.
fn default_host() -> String {
    let folders = ["/var/run/postgresql", "/tmp"];
    let has_socket = |folder: &&str| Path::new(folder).join(".s.PGSQL.5432").exists();
    folders
        .into_iter()
        .find(has_socket)
        .unwrap_or("localhost")
        .to_owned()
}

/// Decodes percent-encoding. Errors do not show the text, because it can be a password.
pub(super) fn decode(text: &str, what: &str) -> Result<String, Error> {
    let wrong = || {
        invalid(format!(
            "the PostgreSQL URL has a malformed % sequence in its {what}"
        ))
        .with_hint("write a percent sign as %25")
    };
    let bytes = percent_decoded(text).ok_or_else(wrong)?;
    String::from_utf8(bytes).map_err(|_| wrong())
}
