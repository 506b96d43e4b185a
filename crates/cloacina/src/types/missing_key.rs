//! The message of an error about a key that a context does not have.

use super::nearest;

const BEGINNING: &str = "the context has no key '";
/// Maximum number of keys that a message lists.
const MAX_LISTED: usize = 10;
/// Maximum number of keys that are compared with the missing key.
const MAX_COMPARED: usize = 1000;

/// Returns a message that names the missing key, a similar key if there is one, and the first keys of the
/// context.
#[must_use]
pub fn missing_key<'a>(key: &str, keys: impl Iterator<Item = &'a str>) -> String {
    let keys: Vec<&str> = keys.take(MAX_COMPARED).collect();
    let listed = keys.iter().take(MAX_LISTED).copied().collect::<Vec<_>>();
    let more = if keys.len() > MAX_LISTED { ", …" } else { "" };
    let listed = format!("{}{more}", listed.join(", "));
    match nearest(key, keys.iter().copied()) {
        Some(near) => format!("{BEGINNING}{key}'; did you mean '{near}'? It has: {listed}"),
        None if keys.is_empty() => format!("{BEGINNING}{key}'; it is empty"),
        None => format!("{BEGINNING}{key}'; it has: {listed}"),
    }
}

/// Returns the missing key that a message names, if [`missing_key`] created the message.
#[must_use]
pub fn missing_key_of(message: &str) -> Option<&str> {
    let rest = message.strip_prefix(BEGINNING)?;
    let ends = ["'; ", "'\n"].into_iter().filter_map(|end| rest.find(end));
    match ends.min() {
        Some(end) => Some(&rest[..end]),
        None => rest.strip_suffix('\''),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_the_nearest_key_and_the_existing_keys() {
        let message = |key, keys: &[&'static str]| missing_key(key, keys.iter().copied());
        assert_eq!(
            message("row", &["rows", "day"]),
            "the context has no key 'row'; did you mean 'rows'? It has: rows, day"
        );
        assert_eq!(
            message("total", &["a"]),
            "the context has no key 'total'; it has: a"
        );
        assert_eq!(
            message("total", &[]),
            "the context has no key 'total'; it is empty"
        );
        let many = message("total", &["k"; 11]);
        assert!(
            many.ends_with("it has: k, k, k, k, k, k, k, k, k, k, …"),
            "{many}"
        );
    }

    #[test]
    fn missing_key_is_read_from_a_message() {
        for key in ["row", "it's", ""] {
            for keys in [vec![], vec!["row"], vec!["other"]] {
                assert_eq!(
                    missing_key_of(&missing_key(key, keys.into_iter())),
                    Some(key)
                );
            }
        }
        assert_eq!(missing_key_of("the context has no key 'k'"), Some("k"));
        assert_eq!(
            missing_key_of("the context has no key 'k'\nhint: x"),
            Some("k")
        );
        assert_eq!(missing_key_of("'k'"), None);
    }
}
