//! Builds the URL with which a tenant connects to the administrator's database.

use std::fmt::Write as _;

use super::url::{PostgresOptions, Secret, TargetSession, TlsMode};

impl PostgresOptions {
    /// Returns a URL for another role on the same hosts, ports and database. Leaves out the parts that belong to the
    /// administrator: the client certificate, the server settings and the application name.
    #[must_use]
    pub fn url_for(&self, user: &str, password: &Secret) -> String {
        let mut parameters: Vec<(&str, String)> = Vec::new();
        // A socket directory cannot be the host of a URL, but every client supports the parameter `host`.
        let is_plain = self.hosts.iter().all(|host| !host.name.starts_with('/'));
        let mut hosts = String::new();
        if is_plain {
            let named = self.hosts.iter().map(|host| {
                if host.name.contains(':') {
                    format!("[{}]:{}", host.name, host.port)
                } else {
                    format!("{}:{}", encode(&host.name), host.port)
                }
            });
            hosts = named.collect::<Vec<_>>().join(",");
        } else {
            let join = |part: fn(&super::Host) -> String| {
                self.hosts.iter().map(part).collect::<Vec<_>>().join(",")
            };
            parameters.push(("host", join(|host| host.name.clone())));
            parameters.push(("port", join(|host| host.port.to_string())));
        }
        if self.hosts.iter().any(|host| host.address.is_some()) {
            let addresses = self.hosts.iter().map(|host| {
                host.address
                    .map_or_else(String::new, |address| address.to_string())
            });
            parameters.push(("hostaddr", addresses.collect::<Vec<_>>().join(",")));
        }
        if self.tls != TlsMode::default() {
            parameters.push(("sslmode", self.tls.name().to_owned()));
        }
        if let Some(path) = &self.root_certificates {
            parameters.push(("sslrootcert", path.display().to_string()));
        }
        if self.target_session == TargetSession::ReadWrite {
            parameters.push(("target_session_attrs", "read-write".to_owned()));
        }
        if !self.listen {
            parameters.push(("listen", "off".to_owned()));
        }
        if self.pooled {
            parameters.push(("pgbouncer", "true".to_owned()));
        }
        let parameters: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let query = if parameters.is_empty() {
            String::new()
        } else {
            format!("?{}", parameters.join("&"))
        };
        format!(
            "postgresql://{}:{}@{hosts}/{}{query}",
            encode(user),
            encode(&password.0),
            encode(&self.database)
        )
    }
}

/// Percent-encodes all characters except the unreserved characters of a URL.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::Environment;

    fn read(url: &str) -> PostgresOptions {
        let nothing = Environment {
            variable: &|_| None,
            pass_file: &|_| None,
        };
        PostgresOptions::read(url, &nothing).unwrap()
    }

    #[test]
    fn h2_credential_url_keeps_the_server_for_any_password() {
        let printable: String = (' '..='~').chain("äß€😀".chars()).collect();
        let secret = Secret(printable);
        for url in [
            "postgresql://root:x@db.example:6543/app",
            "postgresql://root:x@[::1]:6543/app",
            "postgresql://root:x@a:1,b:2/app?target_session_attrs=read-write&sslmode=verify-full&sslrootcert=/a b.crt",
            "postgresql://root:x@/app?host=/var/run/my%20socket&port=6543",
            "postgresql://root:x@h:6543/app?hostaddr=10.0.0.7&listen=off&pgbouncer=true",
            "postgresql://root:x@h:6543/my%20%2F%25db?options=-c%20work_mem=1MB&application_name=admin",
        ] {
            let admin = read(url);
            let tenant = read(&admin.url_for("acme_user", &secret));
            let expected = PostgresOptions {
                user: "acme_user".to_owned(),
                password: Some(secret.clone()),
                options: None,
                application_name: "cloaca".to_owned(),
                ..admin
            };
            assert_eq!(tenant, expected, "{url}");
        }
    }
}
