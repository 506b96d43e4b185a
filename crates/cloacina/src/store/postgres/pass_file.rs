//! Reads libpq's password file (`~/.pgpass`).

use std::path::{Path, PathBuf};

use super::hosts::Host;

/// Provides values that a URL does not contain.
pub struct Environment<'a> {
    /// Returns the value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Returns the contents of a password file if no other user can read the file.
    pub pass_file: &'a dyn Fn(&Path) -> Option<String>,
}

/// Returns the password of the first line that matches a host. Earlier hosts come first.
pub(super) fn from_pass_file(
    environment: &Environment,
    named: Option<String>,
    hosts: &[Host],
    database: &str,
    user: &str,
) -> Option<String> {
    let named = named
        .or_else(|| (environment.variable)("PGPASSFILE"))
        .map(PathBuf::from);
    let path = named
        .or_else(|| (environment.variable)("HOME").map(|home| Path::new(&home).join(".pgpass")))?;
    let text = (environment.pass_file)(&path)?;
    hosts.iter().find_map(|host| {
        // libpq uses the name `localhost` for its default socket directory. For simplicity, it is used here for every
        // socket directory.
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

/// Splits a line into at most five fields. A backslash escapes `:` and `\`.
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

/// Reads a password file. Ignores a file that other users can read, as libpq does.
pub(super) fn read_pass_file(path: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        if metadata.mode() & 0o077 != 0 {
            tracing::warn!(file = %path.display(), "the password file is ignored because other users can read it; hint: run chmod 0600 on it");
            return None;
        }
    }
    std::fs::read_to_string(path).ok()
}
