//! Decodes the bodies of requests. Problems name the invalid member in words of JSON, not in those of the decoder.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};

use crate::problem::Problem;
use crate::query::shown;

/// Decodes a body, which must be a JSON object. An empty body stands for an empty object.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    let unreadable = |reason: String| Problem::new("bad_request", reason);
    let text = std::str::from_utf8(body);
    let text = text.map_err(|error| unreadable(format!("the body is not UTF-8: {error}")))?;
    if has_nul(text) {
        return Err(Problem::invalid("", "a NUL character cannot be stored"));
    }
    if text.starts_with('\u{feff}') {
        let reason = "the body begins with a byte order mark, which JSON does not allow";
        return Err(unreadable(reason.to_owned()));
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(unreadable(format!("the body is not JSON: {error}")));
    }
    if !text.trim_start().starts_with('{') {
        return Err(Problem::invalid("", "it must be a JSON object"));
    }
    let mut decoder = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut decoder).map_err(|error| {
        let pointer = pointer_to(error.path());
        problem(pointer, &error.into_inner().to_string())
    })
}

/// Converts a message of the decoder to a problem.
fn problem(pointer: String, message: &str) -> Problem {
    let message = match message.rsplit_once(" at line ") {
        Some((message, _)) => message,
        None => message,
    };
    // A string in the body can contain the same words, so the last ones count.
    let (first, rest) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if first.starts_with("unknown field") {
        // The path of an unknown member may end with the member itself.
        let name = between_backquotes(first);
        let names: Vec<&str> = quoted(rest).collect();
        let detail = format!("the body has the unknown member '{}'", shown(name));
        let problem = Problem::new("unknown_parameter", detail);
        return match cloacina::types::nearest(name, names.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean '{near}'?")),
            None if names.is_empty() => problem.hint("the body has no members"),
            None => problem.hint(format!("the members are {}", names.join(", "))),
        };
    }
    if first.starts_with("missing field") {
        let name = quoted(first).next().unwrap_or_default();
        return Problem::invalid(pointer, format!("the member '{name}' is missing"));
    }
    if first.starts_with("duplicate field") {
        let name = quoted(first).next().unwrap_or_default();
        return Problem::invalid(pointer, format!("the member '{name}' is given twice"));
    }
    if first.starts_with("unknown variant") {
        let name = shown(between_backquotes(first));
        let names: Vec<&str> = quoted(rest).collect();
        let detail = format!("'{name}' is not one of {}", names.join(", "));
        return Problem::invalid(pointer, detail);
    }
    if let Some(given) = first
        .strip_prefix("invalid type: ")
        .or_else(|| first.strip_prefix("invalid value: "))
    {
        let (wanted, given) = (wanted(rest), given_value(given));
        return Problem::invalid(pointer, format!("it must be {wanted}, not {given}"));
    }
    if first.starts_with("number out of range") {
        return Problem::invalid(pointer, "the number is too large");
    }
    Problem::invalid(pointer, "the value has the wrong type")
}

/// Returns the text between the first and the last backquote.
fn between_backquotes(text: &str) -> &str {
    let (_, rest) = text.split_once('`').unwrap_or_default();
    rest.rsplit_once('`').unwrap_or_default().0
}

/// Returns the texts between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the expected value in words of JSON.
fn wanted(expected: &str) -> String {
    let unsigned = |most: u64| format!("a whole number from 0 to {most}");
    match expected {
        "u8" => unsigned(u8::MAX.into()),
        "u16" => unsigned(u16::MAX.into()),
        "u32" => unsigned(u32::MAX.into()),
        "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "i8" => format!("a whole number from {} to {}", i8::MIN, i8::MAX),
        "i16" => format!("a whole number from {} to {}", i16::MIN, i16::MAX),
        "i32" => format!("a whole number from {} to {}", i32::MIN, i32::MAX),
        "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a string" => "a string".to_owned(),
        // A map, a structure or the value of an enumeration.
        other if other.starts_with("string") || other.contains("enum") => "a string".to_owned(),
        _ => "an object".to_owned(),
    }
}

/// Returns the given value in words of JSON. The text of a string is left out, because it can be long or secret.
fn given_value(given: &str) -> String {
    let (kind, value) = given.split_once(' ').unwrap_or((given, ""));
    match kind {
        "string" | "character" => "a string".to_owned(),
        "integer" | "floating" | "boolean" => {
            quoted(value).next().unwrap_or("another type").to_owned()
        }
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "null" | "unit" | "Option" => "null".to_owned(),
        "number" => "this number".to_owned(),
        _ => "a value of another type".to_owned(),
    }
}

/// Returns the JSON pointer (RFC 6901) to the part of a body at `path`.
fn pointer_to(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        let part = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&part);
    }
    pointer
}

/// Returns whether a JSON text contains a NUL character, also as an escape. The escape `\\u0000`, in which
/// the backslash itself is escaped, stands for other characters.
fn has_nul(text: &str) -> bool {
    let mut escapes = text.match_indices("\\u0000");
    text.contains('\0')
        || escapes.any(|(at, _)| {
            let before = text.as_bytes()[..at].iter().rev();
            before.take_while(|byte| **byte == b'\\').count() % 2 == 0
        })
}

#[cfg(test)]
mod tests {
    use super::decode;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Action {
        Cancel,
        Pause,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "the tests only decode")]
    struct Body {
        action: Action,
        limit: Option<u32>,
        priority: Option<i16>,
        jitter: Option<f64>,
        enabled: Option<bool>,
        ids: Option<Vec<String>>,
        labels: Option<std::collections::BTreeMap<String, String>>,
    }

    #[test]
    fn problem_names_the_member_and_the_allowed_values() {
        for (body, expected) in [
            ("{}", "the body: the member 'action' is missing"),
            (
                r#"{"action":"stop"}"#,
                "/action: 'stop' is not one of cancel, pause",
            ),
            (
                r#"{"action":"pause","limit":-1}"#,
                "/limit: it must be a whole number from 0 to 4294967295, not -1",
            ),
            (
                r#"{"action":"pause","limit":"ten"}"#,
                "/limit: it must be a whole number from 0 to 4294967295, not a string",
            ),
            (
                r#"{"action":"pause","limit":"ten, expected u32"}"#,
                "/limit: it must be a whole number from 0 to 4294967295, not a string",
            ),
            (
                r#"{"action":"x`y, expected one of `z`"}"#,
                "/action: 'x`y, expected one of `z`' is not one of cancel, pause",
            ),
            (
                r#"{"action":"pause","limit":1.5}"#,
                "/limit: it must be a whole number from 0 to 4294967295, not 1.5",
            ),
            (
                r#"{"action":"pause","priority":40000}"#,
                "/priority: it must be a whole number from -32768 to 32767, not 40000",
            ),
            (
                r#"{"action":"pause","jitter":true}"#,
                "/jitter: it must be a number, not true",
            ),
            (
                r#"{"action":"pause","enabled":"no"}"#,
                "/enabled: it must be true or false, not a string",
            ),
            (
                r#"{"action":"pause","ids":"a"}"#,
                "/ids: it must be a list, not a string",
            ),
            (
                r#"{"action":"pause","ids":["a",{}]}"#,
                "/ids/1: it must be a string, not an object",
            ),
            (
                r#"{"action":"pause","labels":["a"]}"#,
                "/labels: it must be an object, not a list",
            ),
            (
                r#"{"action":"pause","action":"pause"}"#,
                "the body: the member 'action' is given twice",
            ),
            (
                r#"{"action":"pause","limits":1}"#,
                "the body has the unknown member 'limits'",
            ),
        ] {
            let problem = decode::<Body>(body.as_bytes()).expect_err(body);
            assert_eq!(problem.to_string(), expected, "{body}");
        }
        let body = decode::<Body>(br#"{"action":"cancel"}"#);
        assert!(matches!(
            body,
            Ok(Body {
                action: Action::Cancel,
                ..
            })
        ));
    }

    #[test]
    fn hint_for_an_unknown_member_has_the_nearest_name() {
        let problem = decode::<Body>(br#"{"limits":1}"#).expect_err("a problem");
        assert_eq!(problem.hint_text(), Some("did you mean 'limit'?"));
    }
}
