//! Parses database URLs, and hides their passwords in messages.

use std::fmt;
#[cfg(feature = "sqlite")]
use std::path::Path;

#[cfg(feature = "sqlite")]
use super::sqlite::SqliteOptions;
use crate::store::error::invalid;
use crate::types::Error;

const KNOWN: &str = "use sqlite:///relative.db, sqlite:////absolute.db, sqlite:///:memory: or postgresql://host/database";

/// A database URL, by kind of database.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// An SQLite file or in-memory database.
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteOptions),
    /// The whole URL of a PostgreSQL database, which can contain a password.
    Postgres(String),
}

impl DatabaseUrl {
    /// Parses a URL, or the bare path of an SQLite file.
    ///
    /// # Errors
    /// Returns `UrlInvalid` for an unknown scheme or option, or a malformed part. The message never shows a
    /// password.
    pub fn parse(url: &str) -> Result<Self, Error> {
        if url.trim().is_empty() {
            return Err(invalid("the database URL is empty").with_hint(KNOWN));
        }
        if url.contains('\0') {
            return Err(invalid("the database URL contains a NUL character").with_hint(KNOWN));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return bare(url);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => sqlite_url(rest),
            "postgres" | "postgresql" => Ok(Self::Postgres(url.to_owned())),
            _ => Err(unknown_scheme(scheme)),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(options) => f.write_str(&options.location()),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns a URL for messages, without the passwords in its user part and its parameters.
#[must_use]
pub fn without_password(url: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base
        .split_once("://")
        .map_or(("", base), |(scheme, rest)| (scheme, rest));
    let mut shown = String::with_capacity(url.len());
    if !scheme.is_empty() {
        shown.push_str(scheme);
        shown.push_str("://");
    }
    // The user part ends at the last `@`, because an unencoded password can contain `@` and slashes.
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            shown.push_str(user.split(':').next().unwrap_or_default());
            if user.contains(':') {
                shown.push_str(":***");
            }
            shown.push('@');
            shown.push_str(host);
        }
        None => shown.push_str(rest),
    }
    if let Some(query) = query {
        // An `@` after the `?` means that the `?` is part of a password, so only the scheme is shown.
        if query.contains('@') {
            return format!("{scheme}://***");
        }
        let shown_pairs: Vec<String> = query.split('&').map(without_secret).collect();
        shown.push('?');
        shown.push_str(&shown_pairs.join("&"));
    }
    shown
}

fn without_secret(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=***"),
        _ => pair.to_owned(),
    }
}

/// Parses the part after `sqlite://`. In a URL for earlier releases, an absolute path directly follows `sqlite://`, so
/// the URL looks like that of a relative path. Such a path is taken as absolute only if the folder of the absolute path
/// exists and the folder of the relative path does not.
#[cfg(feature = "sqlite")]
fn sqlite_url(rest: &str) -> Result<DatabaseUrl, Error> {
    let DatabaseUrl::Sqlite(mut options) = sqlite(rest)? else {
        return sqlite(rest);
    };
    if let Some(path) = options.path.as_deref().filter(|path| path.is_relative()) {
        let has_folder = |path: &Path| path.parent().is_some_and(Path::is_dir);
        let is_nested = path.parent().is_some_and(|folder| folder != Path::new(""));
        let absolute = Path::new("/").join(path);
        if rest.starts_with('/') && is_nested && !has_folder(path) && has_folder(&absolute) {
            options.path = Some(absolute);
        }
    }
    Ok(DatabaseUrl::Sqlite(options))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite_url(rest: &str) -> Result<DatabaseUrl, Error> {
    sqlite(rest)
}

#[cfg(feature = "sqlite")]
fn sqlite(rest: &str) -> Result<DatabaseUrl, Error> {
    if !rest.starts_with('/') && has_credentials(rest) {
        return Err(invalid("the SQLite URL has a user and a host")
            .with_hint("name only a file, as in sqlite:///relative.db or sqlite:////absolute.db"));
    }
    SqliteOptions::from_url(rest).map(DatabaseUrl::Sqlite)
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_rest: &str) -> Result<DatabaseUrl, Error> {
    Err(invalid("this build has no support for SQLite")
        .with_hint("enable the cargo feature `sqlite`"))
}

/// Parses a bare path. Refuses a path that looks like a mistyped URL, because the user probably did not mean a file
/// with this name.
fn bare(text: &str) -> Result<DatabaseUrl, Error> {
    refuse_disguised(text)?;
    if let Some((path, options)) = text.split_once('?') {
        // The text is parsed as a URL, because it has options. The path of a URL is percent-encoded, so `%` is
        // encoded first.
        bare(path)?;
        return sqlite(&format!("/{}?{options}", path.replace('%', "%25")));
    }
    if text.starts_with(":memory:") && text != ":memory:" {
        return Err(invalid(format!("the database path '{text}' is not valid"))
            .with_hint("for an in-memory database, write :memory: or sqlite:///:memory:"));
    }
    if let Some((scheme, _)) = text.split_once(':')
        && is_known_scheme(scheme)
    {
        let shown = without_password(text);
        return Err(invalid(format!(
            "the database URL '{shown}' lacks '//' after '{scheme}:'"
        ))
        .with_hint(KNOWN));
    }
    bare_path(text)
}

#[cfg(feature = "sqlite")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "without the SQLite feature, this function returns an error"
)]
fn bare_path(text: &str) -> Result<DatabaseUrl, Error> {
    Ok(DatabaseUrl::Sqlite(if text == ":memory:" {
        SqliteOptions::memory()
    } else {
        SqliteOptions::file(text)
    }))
}

#[cfg(not(feature = "sqlite"))]
fn bare_path(_text: &str) -> Result<DatabaseUrl, Error> {
    sqlite("")
}

/// Refuses text that names a server but is not a URL. The error does not show the text, because the text can contain a
/// password.
fn refuse_disguised(text: &str) -> Result<(), Error> {
    const KEYWORDS: [&str; 9] = [
        "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service", "sslmode",
    ];
    let mut words = text
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    if words.any(|(name, _)| KEYWORDS.contains(&name)) {
        return Err(
            invalid("the database URL is a libpq keyword list, which is not supported")
                .with_hint("write it as postgresql://user:password@host:port/database"),
        );
    }
    let is_drive = cfg!(windows) && text.as_bytes().get(1) == Some(&b':');
    let has_login = !is_drive && has_credentials(text);
    let lacks_colon = text
        .split_once("//")
        .is_some_and(|(scheme, _)| is_known_scheme(scheme));
    if has_login || lacks_colon {
        return Err(invalid("the database URL has no scheme").with_hint(format!(
            "{KNOWN}; write a file whose name contains ':' and '@' as sqlite:///name"
        )));
    }
    Ok(())
}

/// Returns whether the text has the form `user:password@host`.
fn has_credentials(text: &str) -> bool {
    text.rsplit_once('@')
        .is_some_and(|(login, _)| login.contains(':'))
}

fn is_known_scheme(scheme: &str) -> bool {
    ["sqlite", "postgres", "postgresql", "file", "mysql"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
}

fn unknown_scheme(scheme: &str) -> Error {
    // The part before `://` can be anything, even a password, so it is shown only if it is a plain scheme.
    let plain = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    let shown = if plain {
        format!(" '{scheme}'")
    } else {
        String::new()
    };
    // A URL for SQLAlchemy can name a driver after the database, e.g. `postgresql+psycopg2`.
    let hint = match scheme.split_once('+') {
        Some((base, driver)) if plain && is_known_scheme(base) => {
            format!("leave out '+{driver}'; {KNOWN}")
        }
        _ => KNOWN.to_owned(),
    };
    invalid(format!("the database URL has an unknown scheme{shown}")).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ErrorCode;

    #[test]
    fn passwords_are_never_shown() {
        let cases = [
            (
                "postgresql://u:secret@h:5432/db",
                "postgresql://u:***@h:5432/db",
            ),
            ("postgres://u:se@c/ret@h/db", "postgres://u:***@h/db"),
            (
                "postgresql://u@h/db?sslmode=require",
                "postgresql://u@h/db?sslmode=require",
            ),
            (
                "postgresql://h/db?password=secret&user=u",
                "postgresql://h/db?password=***&user=u",
            ),
            (
                "postgresql:///db?sslpassword=secret",
                "postgresql:///db?sslpassword=***",
            ),
            ("postgresql://u:se?cret@h/db", "postgresql://***"),
        ];
        for (url, shown) in cases {
            assert_eq!(format!("{:?}", DatabaseUrl::parse(url).unwrap()), shown);
        }
        for url in [
            "postgresql:u:secret@h/db",
            "mysql://u:secret@h/db",
            "u:secret://x",
            "host=127.0.0.1 password=secret dbname=x",
            "dbname=x password='secret'",
            "password=secret",
            "sqlite://u:secret@host/x.db",
            "postgres//u:secret@h/db",
            "postgresql//h/db",
            "postgresql:/u:secret@h/db",
            "u:secret@h/db",
            "u:secret@h/db?sslmode=require",
            "u:se?cret:secret@h/db",
        ] {
            let message = DatabaseUrl::parse(url).unwrap_err().to_string();
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn hint_names_the_driver_to_leave_out() {
        let error = DatabaseUrl::parse("postgresql+psycopg2://h/db").unwrap_err();
        assert!(error.hint.unwrap().starts_with("leave out '+psycopg2'"));
    }

    #[test]
    fn invalid_urls_are_refused_with_a_hint() {
        for url in [
            "mysql://h/db",
            "sqlite3:///x.db",
            "http://x",
            "",
            "  ",
            "sqlite:x.db",
            "file:x.db?mode=ro",
            "a\0b",
        ] {
            let error = DatabaseUrl::parse(url).unwrap_err();
            assert_eq!(error.code, ErrorCode::UrlInvalid, "{url}");
            let hint = error.hint.unwrap();
            assert!(
                hint.contains("sqlite:///") && hint.contains("postgresql://"),
                "{hint}"
            );
        }
    }
}
