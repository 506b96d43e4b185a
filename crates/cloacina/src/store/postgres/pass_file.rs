//! The pass file of libpq (`~/.pgpass`).

use std::path::{Path, PathBuf};

use super::hosts::Host;

/// Where defaults come from.
pub struct Surroundings<'a> {
    /// Environment variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Contents of a file that only its owner may read.
    pub pass_file: &'a dyn Fn(&Path) -> Option<String>,
}

/// The first line of the pass file that fits.
pub(super) fn from_pass_file(
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
pub(super) fn read_pass_file(path: &Path) -> Option<String> {
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
