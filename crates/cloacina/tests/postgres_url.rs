//! Tests that the store reads PostgreSQL URLs, environment variables and password files as libpq does.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use cloacina::store::postgres::{Environment, PostgresOptions, TargetSession, TlsMode};
use cloacina::types::{Error, ErrorCode};

const SECRET: &str = "s3cret";

/// Reads a URL with these environment variables and this content of the password file.
fn read(url: &str, variables: &[(&str, &str)], pass_file: &str) -> Result<PostgresOptions, Error> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    PostgresOptions::read(
        url,
        &Environment {
            variable: &|name| variables.get(name).map(|value| (*value).to_owned()),
            pass_file: &|_: &Path| Some(pass_file.to_owned()).filter(|text| !text.is_empty()),
        },
    )
}

/// Reads a valid URL, as the operating system's user `me`.
fn plain(url: &str) -> PostgresOptions {
    read(url, &[("USER", "me")], "").unwrap()
}

fn hosts_and_ports(options: &PostgresOptions) -> Vec<(&str, u16)> {
    let port = |host: &'_ cloacina::store::postgres::Host| host.port;
    let ports = options.hosts.iter().map(port);
    options
        .hosts
        .iter()
        .map(|host| host.name.as_str())
        .zip(ports)
        .collect()
}

#[test]
fn url_gives_hosts_ports_user_and_database() {
    type Case<'a> = (&'a str, &'a [(&'a str, u16)], &'a str, &'a str);
    let cases: [Case; 12] = [
        ("postgresql://h/db", &[("h", 5432)], "me", "db"),
        ("postgres://u:p@h:5433/db", &[("h", 5433)], "u", "db"),
        ("postgresql://u@h", &[("h", 5432)], "u", "u"),
        ("postgresql://h:7/", &[("h", 7)], "me", "me"),
        (
            "postgresql://u@a:1,b,c:3/db",
            &[("a", 1), ("b", 5432), ("c", 3)],
            "u",
            "db",
        ),
        ("postgresql://u@[::1]:5433/db", &[("::1", 5433)], "u", "db"),
        ("postgresql://u@[::1]/db", &[("::1", 5432)], "u", "db"),
        (
            "postgresql://%2Fvar%2Frun/db",
            &[("/var/run", 5432)],
            "me",
            "db",
        ),
        (
            "postgresql:///db?host=/run/pg&port=5434",
            &[("/run/pg", 5434)],
            "me",
            "db",
        ),
        (
            "postgresql:///?host=a,b&port=1,2&dbname=x&user=y",
            &[("a", 1), ("b", 2)],
            "y",
            "x",
        ),
        ("postgresql://u:se@c/ret@h/db", &[("h", 5432)], "u", "db"),
        ("postgresql://a%20b@h/c%2Fd", &[("h", 5432)], "a b", "c/d"),
    ];
    for (url, hosts, user, database) in cases {
        let options = plain(url);
        assert_eq!(hosts_and_ports(&options), hosts, "{url}");
        assert_eq!(
            (options.user.as_str(), options.database.as_str()),
            (user, database),
            "{url}"
        );
    }
    assert_eq!(
        plain("postgresql://u:se@c/ret@h/db").password.unwrap().0,
        "se@c/ret"
    );
    assert_eq!(
        plain("postgresql://u:%3Fx%25@h/db").password.unwrap().0,
        "?x%"
    );
}

#[test]
fn url_parameters_are_read_and_have_defaults() {
    let options = plain("postgresql://h/db");
    assert_eq!(options.application_name, "cloaca");
    assert_eq!(options.connect_timeout, Duration::from_secs(10));
    assert_eq!(options.tls, TlsMode::Prefer);
    assert_eq!((options.listen, options.pooled), (true, false));
    let options = plain(
        "postgresql://h/db?sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=my%20app&connect_timeout=3\
         &options=-c%20statement_timeout%3D5s&target_session_attrs=read-write&pgbouncer=true&listen=off",
    );
    assert_eq!(options.tls, TlsMode::VerifyFull);
    assert_eq!(
        options.root_certificates.as_deref(),
        Some(Path::new("/etc/ca.pem"))
    );
    assert_eq!(options.application_name, "my app");
    assert_eq!(options.connect_timeout, Duration::from_secs(3));
    assert_eq!(options.options.as_deref(), Some("-c statement_timeout=5s"));
    assert_eq!(options.target_session, TargetSession::ReadWrite);
    assert_eq!((options.listen, options.pooled), (false, true));
    for (text, mode) in [
        ("disable", TlsMode::Disable),
        ("allow", TlsMode::Allow),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
    ] {
        assert_eq!(
            plain(&format!("postgresql://h/db?sslmode={text}")).tls,
            mode
        );
    }
}

#[test]
fn environment_variables_supply_missing_parts_of_a_url() {
    let variables = [
        ("PGHOST", "env-host"),
        ("PGPORT", "6000"),
        ("PGDATABASE", "env-db"),
        ("PGUSER", "env-user"),
        ("PGPASSWORD", "env-secret"),
        ("PGSSLMODE", "require"),
        ("PGAPPNAME", "env-app"),
        ("PGCONNECT_TIMEOUT", "4"),
    ];
    let options = read("postgresql://", &variables, "").unwrap();
    assert_eq!(hosts_and_ports(&options), [("env-host", 6000)]);
    assert_eq!(
        (options.user.as_str(), options.database.as_str()),
        ("env-user", "env-db")
    );
    assert_eq!(options.password.unwrap().0, "env-secret");
    assert_eq!(options.tls, TlsMode::Require);
    assert_eq!(options.application_name, "env-app");
    assert_eq!(options.connect_timeout, Duration::from_secs(4));
    let options = read(
        "postgresql://u:p@h:1/db?sslmode=disable&application_name=a&connect_timeout=5",
        &variables,
        "",
    )
    .unwrap();
    assert_eq!(hosts_and_ports(&options), [("h", 1)]);
    assert_eq!(
        (options.user.as_str(), options.database.as_str()),
        ("u", "db")
    );
    assert_eq!(options.password.unwrap().0, "p");
    assert_eq!(options.tls, TlsMode::Disable);
    assert_eq!(options.connect_timeout, Duration::from_secs(5));
}

#[test]
fn the_first_matching_line_of_the_password_file_is_used() {
    let file = "# comment\nh:5432:other:u:no\nh:5432:db:u:pa\\:ss\\\\word\n*:*:*:*:last\n";
    let environment = [("HOME", "/home/me")];
    let password = |url: &str| read(url, &environment, file).unwrap().password.unwrap().0;
    assert_eq!(password("postgresql://u@h/db"), "pa:ss\\word");
    assert_eq!(password("postgresql://u@x/db"), "last");
    assert_eq!(password("postgresql://u:own@h/db"), "own");
    let socket = "localhost:5432:db:u:local\n";
    let options = read("postgresql://u@/db?host=/run/pg", &environment, socket).unwrap();
    assert_eq!(options.password.unwrap().0, "local");
}

#[test]
fn error_for_an_invalid_url_has_a_hint_and_hides_the_password() {
    let cases = [
        ("postgresql://u:s3cret@h/db?sslmod=require", "sslmode"),
        ("postgresql://u:s3cret@h/db?sslmode=on", "verify-full"),
        ("postgresql://u:s3cret@h:port/db", "65535"),
        ("postgresql://u:s3cret@h:0/db", "65535"),
        ("postgresql://u:s3cret@h/db?connect_timeout=soon", "seconds"),
        ("postgresql://u:s3cret@h/db?port=1&port=2", "once"),
        ("postgresql://u:s3cret%zz@h/db", "%25"),
        ("postgresql://u:s3?cret@h/db", "%3F"),
        ("postgresql://u:s3cret@a,b/db?port=1,2,3", "one port"),
        ("postgresql://u:s3cret@h/db?hostaddr=name", "host"),
        ("postgresql://u:s3cret@h/db?listen=maybe", "on or off"),
        (
            "postgresql://u:s3cret@h/db?target_session_attrs=standby",
            "write",
        ),
    ];
    for (url, hint) in cases {
        let error = read(url, &[("USER", "me")], "").unwrap_err();
        assert_eq!(error.code, ErrorCode::UrlInvalid, "{url}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(error.hint.unwrap().contains(hint), "{url}: {shown}");
    }
}

#[test]
fn debug_text_and_location_hide_the_password() {
    let options = plain("postgresql://u:s3cret@h/db");
    assert_eq!(options.password.as_ref().unwrap().0, SECRET);
    for shown in [format!("{options:?}"), options.location()] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    assert_eq!(options.location(), "postgresql://u@h:5432/db");
}

#[test]
fn schema_names_are_checked() {
    let options = plain("postgresql://h/db");
    let long = "x".repeat(63);
    for name in ["tenant_a", "_", "A1", &long] {
        let pinned = options.clone().with_schema(name).unwrap();
        assert_eq!(pinned.schema.as_deref(), Some(name));
    }
    let too_long = "x".repeat(64);
    for name in [
        "",
        "1a",
        "a-b",
        "a b",
        "a\"b",
        "a;b",
        "ä",
        "pg_x",
        "PG_x",
        "information_schema",
        &too_long,
    ] {
        let error = options.clone().with_schema(name).unwrap_err();
        assert_eq!(error.code, ErrorCode::Configuration, "{name}");
    }
}

#[test]
fn system_cas_require_verify_full() {
    let mode = |url: &str| read(url, &[], "").map(|options| options.tls);
    for url in [
        "postgresql://h/d?sslrootcert=system",
        "postgresql://h/d?sslrootcert=system&sslmode=verify-full",
    ] {
        assert_eq!(mode(url).unwrap(), TlsMode::VerifyFull);
    }
    for weak in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let error = mode(&format!(
            "postgresql://h/d?sslrootcert=system&sslmode={weak}"
        ))
        .unwrap_err();
        assert!(error.message.contains(weak), "{error}");
        assert!(error.hint.unwrap().contains("verify-full"));
    }
    let around = [("PGSSLROOTCERT", "system"), ("PGSSLMODE", "require")];
    assert!(read("postgresql://h/d", &around, "").is_err());
}

#[test]
fn errors_do_not_show_possible_passwords() {
    for url in [
        "postgresql://u:hunter2/db",
        "postgresql://u:hunter2",
        "postgresql://h/db?password=a&hunter2",
        "postgresql://h/db?password=a&hunter2=b",
        "postgresql://u:a?hunter2@h/db",
    ] {
        let error = read(url, &[], "").unwrap_err();
        let shown = format!("{error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(error.hint.is_some(), "{url}");
    }
}
