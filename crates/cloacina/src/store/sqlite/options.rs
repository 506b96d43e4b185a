//! Settings for opening an SQLite database, and the URLs that contain them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::error::invalid;
use crate::store::percent::percent_decoded;
use crate::types::{Error, nearest};

/// The parameters that a URL can have after its `?`.
const OPTIONS: [&str; 5] = [
    "synchronous",
    "busy_timeout",
    "mode",
    "journal_mode",
    "_journal_mode",
];

/// Determines when SQLite waits until data has reached the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// At checkpoints only. A power failure can undo the last commits, but does not damage the file.
    Normal,
    /// At every commit. An acknowledged commit survives a power failure.
    #[default]
    Full,
}

/// Determines how a file can be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenMode {
    /// Read only.
    ReadOnly,
    /// Read and write an existing file.
    ReadWrite,
    /// Read and write; create the file if it does not exist.
    #[default]
    Create,
}

/// Settings for opening an SQLite database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The file. `None` means an in-memory database that belongs to this store.
    pub path: Option<PathBuf>,
    /// Determines when to wait until data has reached the disk.
    pub synchronous: Synchronous,
    /// Maximum time to wait for the lock of another process.
    pub busy_timeout: Duration,
    /// Determines how the file can be opened.
    pub mode: OpenMode,
    /// Whether opening the database applies pending migrations.
    pub auto_migrate: bool,
}

impl SqliteOptions {
    /// Returns options for an in-memory database.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            path: None,
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(30),
            mode: OpenMode::default(),
            auto_migrate: true,
        }
    }

    /// Returns options for a database file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::memory()
        }
    }

    /// Parses the part of a URL after `sqlite://`.
    ///
    /// # Errors
    /// Returns `UrlInvalid`. The error names the invalid part and the allowed values.
    pub fn from_url(rest: &str) -> Result<Self, Error> {
        let (path, query) = rest
            .split_once('?')
            .map_or((rest, ""), |(path, query)| (path, query));
        // As in SQLAlchemy, `sqlite:///x` is relative to the working directory and `sqlite:////x` is absolute.
        let path = decode(path.strip_prefix('/').unwrap_or(path))?;
        let mut options = match path.as_path().to_str() {
            Some("") => {
                return Err(invalid("the SQLite URL names no file").with_hint(
                    "write sqlite:///relative.db, sqlite:////absolute.db or sqlite:///:memory:",
                ));
            }
            Some(":memory:") => Self::memory(),
            _ => Self::file(path),
        };
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&name) {
                return Err(
                    invalid(format!("the SQLite option '{name}' is given twice"))
                        .with_hint("give it once"),
                );
            }
            seen.push(name);
            options.set(name, value)?;
        }
        if options.path.is_none() && options.mode == OpenMode::ReadOnly {
            return Err(invalid(
                "mode=ro cannot be used with an in-memory database, which would stay empty",
            )
            .with_hint("leave mode out, or name a file"));
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let known = value.to_ascii_lowercase();
        match (name, known.as_str()) {
            ("synchronous", "full") => self.synchronous = Synchronous::Full,
            ("synchronous", "normal") => self.synchronous = Synchronous::Normal,
            ("mode", "ro") => self.mode = OpenMode::ReadOnly,
            ("mode", "rw") => self.mode = OpenMode::ReadWrite,
            ("mode", "rwc") => self.mode = OpenMode::Create,
            // The store always tries to use WAL. The option is accepted because URLs of other libraries contain it.
            ("journal_mode" | "_journal_mode", "wal") => {}
            ("busy_timeout", digits) => match digits.parse::<u32>() {
                Ok(milliseconds) => self.busy_timeout = Duration::from_millis(milliseconds.into()),
                Err(_) => {
                    return Err(wrong_value(
                        name,
                        value,
                        "a number of milliseconds, e.g. 30000",
                    ));
                }
            },
            ("synchronous", _) => return Err(wrong_value(name, value, "full or normal")),
            ("mode", _) => return Err(wrong_value(name, value, "ro, rw or rwc")),
            ("journal_mode" | "_journal_mode", _) => {
                return Err(wrong_value(name, value, "WAL, the only journal mode"));
            }
            _ => {
                let near = nearest(name, OPTIONS)
                    .map_or_else(String::new, |near| format!("did you mean '{near}'? "));
                return Err(invalid(format!("unknown SQLite option '{name}'"))
                    .with_hint(format!("{near}the options are synchronous=normal|full, busy_timeout=milliseconds and mode=ro|rw|rwc")));
            }
        }
        Ok(())
    }

    /// Returns a description of the database, for messages.
    #[must_use]
    pub fn location(&self) -> String {
        self.path.as_deref().map_or_else(
            || "sqlite:///:memory:".to_owned(),
            |path| format!("sqlite:///{}", path.display()),
        )
    }

    /// Returns the URI with which SQLite opens the file at `path`. The URI contains an absolute path, so that a
    /// connection that is opened after a change of the working directory uses the same file.
    pub(super) fn uri(&self, path: &Path) -> String {
        use std::fmt::Write;
        let mut uri = String::from("file:");
        let bytes = path.as_os_str().as_encoded_bytes();
        if !bytes.starts_with(b"/") {
            uri.push('/');
        }
        for byte in bytes {
            if byte.is_ascii_alphanumeric() || b"/._-~:\\".contains(byte) {
                uri.push(char::from(if cfg!(windows) && *byte == b'\\' {
                    b'/'
                } else {
                    *byte
                }));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(uri, "%{byte:02X}");
            }
        }
        uri.push_str(match self.mode {
            OpenMode::ReadOnly => "?mode=ro",
            OpenMode::ReadWrite => "?mode=rw",
            OpenMode::Create => "?mode=rwc",
        });
        uri
    }
}

fn wrong_value(name: &str, value: &str, expected: &str) -> Error {
    invalid(format!("the SQLite option {name} cannot be '{value}'"))
        .with_hint(format!("use {expected}"))
}

/// Decodes percent-encoding.
fn decode(text: &str) -> Result<PathBuf, Error> {
    let wrong = || {
        invalid(format!(
            "the SQLite URL has a malformed % sequence in '{text}'"
        ))
        .with_hint("write a percent sign in a path as %25")
    };
    percent_decoded(text).and_then(path_of).ok_or_else(wrong)
}

#[cfg(unix)]
#[expect(
    clippy::unnecessary_wraps,
    reason = "on other platforms, a path must be Unicode"
)]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Some(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::url::DatabaseUrl;
    use crate::types::ErrorCode;

    fn parse(url: &str) -> Result<SqliteOptions, Error> {
        match DatabaseUrl::parse(url)? {
            DatabaseUrl::Sqlite(options) => Ok(options),
            DatabaseUrl::Postgres(url) => panic!("the URL was parsed as the PostgreSQL URL {url}"),
        }
    }

    #[test]
    fn path_is_absolute_if_only_the_absolute_folder_exists() {
        let folder = std::env::temp_dir();
        let path = folder.join("x.db");
        let url = format!("sqlite://{}", path.display());
        assert_eq!(
            parse(&url).unwrap(),
            SqliteOptions::file(path.to_str().unwrap())
        );
        assert_eq!(
            parse("sqlite:///no/such/folder/x.db").unwrap(),
            SqliteOptions::file("no/such/folder/x.db")
        );
    }

    #[test]
    fn urls_of_files_and_memory_are_parsed() {
        let file = |path: &str| SqliteOptions::file(path);
        let cases = [
            ("sqlite:///relative.db", file("relative.db")),
            ("sqlite:////absolute.db", file("/absolute.db")),
            ("sqlite://relative.db", file("relative.db")),
            ("SQLite:///dir/x.db", file("dir/x.db")),
            ("sqlite:///a%20b%3F%C3%A9.db", file("a b?é.db")),
            ("sqlite:///:memory:", SqliteOptions::memory()),
            ("sqlite://:memory:", SqliteOptions::memory()),
            (":memory:", SqliteOptions::memory()),
            ("relative.db", file("relative.db")),
            ("/absolute/100%25.db", file("/absolute/100%25.db")),
            ("C:\\data\\x.db", file("C:\\data\\x.db")),
            ("sqlite:///x.db?journal_mode=WAL", file("x.db")),
            (
                "/absolute/100%25.db?journal_mode=WAL",
                file("/absolute/100%25.db"),
            ),
            (":memory:?journal_mode=WAL", SqliteOptions::memory()),
            ("sqlite:///x.db?_journal_mode=wal&mode=rwc", file("x.db")),
            (
                "sqlite:///x.db?synchronous=NORMAL",
                SqliteOptions {
                    synchronous: Synchronous::Normal,
                    ..file("x.db")
                },
            ),
            (
                "sqlite:///x.db?busy_timeout=5000",
                SqliteOptions {
                    busy_timeout: Duration::from_secs(5),
                    ..file("x.db")
                },
            ),
            (
                "sqlite:///x.db?mode=ro&synchronous=full",
                SqliteOptions {
                    mode: OpenMode::ReadOnly,
                    ..file("x.db")
                },
            ),
            (
                "sqlite:///x.db?mode=rw",
                SqliteOptions {
                    mode: OpenMode::ReadWrite,
                    ..file("x.db")
                },
            ),
        ];
        for (url, expected) in cases {
            assert_eq!(parse(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn invalid_url_is_refused_with_a_hint() {
        let cases = [
            ("sqlite://", "names no file"),
            ("sqlite:///", "names no file"),
            ("sqlite:///?mode=ro", "names no file"),
            ("sqlite:///x.db?synchronous=off", "'off'"),
            ("sqlite:///x.db?busy_timeout=5s", "'5s'"),
            ("sqlite:///x.db?busy_timeout=-1", "'-1'"),
            ("sqlite:///x.db?mode=memory", "'memory'"),
            ("sqlite:///x.db?journal_mode=delete", "'delete'"),
            ("sqlite:///x.db?synchronus=full", "'synchronus'"),
            ("sqlite:///x.db?cache=shared", "'cache'"),
            ("sqlite:///x.db?mode=ro&mode=rw", "twice"),
            ("sqlite:///x%zz.db", "% sequence"),
            ("sqlite:///x%4", "% sequence"),
            ("sqlite:///x%00.db", "% sequence"),
            ("sqlite:///:memory:?mode=ro", "memory"),
            ("x.db?cache=shared", "'cache'"),
            (":memory:?mode=ro", "memory"),
            (":memory:x", ":memory:x"),
            ("sqlite:x.db?mode=ro", "'//'"),
        ];
        for (url, expected) in cases {
            let error = parse(url).unwrap_err();
            assert_eq!(error.code, ErrorCode::UrlInvalid, "{url}");
            assert!(error.message.contains(expected), "{url}: {error}");
            assert!(error.hint.is_some(), "{url}");
        }
        let hint = parse("sqlite:///x.db?synchronus=full")
            .unwrap_err()
            .hint
            .unwrap();
        assert!(hint.starts_with("did you mean 'synchronous'?"), "{hint}");
    }
}
