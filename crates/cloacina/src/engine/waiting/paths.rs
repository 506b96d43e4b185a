//! The values that a wait reads from the context of its task: keys of signals, times, and the title of an approval.

use crate::engine::path::{lookup, missing};
use crate::types::{Context, JsonShape, Timestamp};

/// Maximum size of a signal's key, in bytes.
pub const MAX_SIGNAL_KEY: usize = 1_024;

/// Maximum size of the data of a signal or of an approval, in bytes.
pub const MAX_SIGNAL_DATA: usize = 16 << 20;

/// L1: returns the signal key at a path of the context: the text of a string, or the JSON text of a number or a boolean.
pub(super) fn key_at(view: &Context, path: &str) -> Result<String, String> {
    let Some(value) = lookup(view, path) else {
        return Err(missing(view, path));
    };
    let key = match JsonShape::of(value.as_str()) {
        JsonShape::String => value.decode().map_err(|error| error.to_string())?,
        JsonShape::Number | JsonShape::Bool => value.as_str().to_owned(),
        other => {
            return Err(format!(
                "the value there is a JSON {}, not a string, a number or a boolean",
                other.name()
            ));
        }
    };
    // No signal can be sent with a longer key or with NUL, and the database may refuse such a key.
    if key.len() > MAX_SIGNAL_KEY || key.contains('\0') {
        return Err(format!(
            "the value there cannot be a key: it contains NUL, or its {} bytes exceed the maximum of {MAX_SIGNAL_KEY}",
            key.len()
        ));
    }
    Ok(key)
}

pub(super) fn time_at(view: &Context, path: &str) -> Result<Timestamp, String> {
    let Some(value) = lookup(view, path) else {
        return Err(missing(view, path));
    };
    let text: String = value
        .decode()
        .map_err(|_| "the value there is not a string".to_owned())?;
    chrono::DateTime::parse_from_rfc3339(&text)
        .map(|time| Timestamp(time.timestamp_micros()))
        .map_err(|_| format!("'{text}' is not an ISO 8601 time with an offset"))
}

/// Replaces each path in braces with its value in the context. A path without a value stays as it is.
pub(super) fn filled(text: &str, view: &Context) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((path, following)) = after.split_once('}') else {
            out.push('{');
            rest = after;
            continue;
        };
        if let Some(value) = lookup(view, path) {
            match value.decode::<String>() {
                Ok(text) => out.push_str(&text),
                Err(_) => out.push_str(value.as_str()),
            }
        } else {
            out.push('{');
            out.push_str(path);
            out.push('}');
        }
        rest = following;
    }
    out.push_str(rest);
    out
}
