//! JSON values, kept as their exact compact text. Big integers keep all digits, and a value is decoded only when it is read.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::finite::check_finite;

/// Maximum nesting depth of arrays and objects in a value. Deeper values are refused wherever the engine receives JSON,
/// because recursive code would run out of stack.
pub const MAX_JSON_DEPTH: usize = 512;

/// A JSON value, kept as valid JSON text without insignificant white space.
///
/// Since 1.0.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

/// The error for text that is not JSON, or a value that JSON cannot represent.
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(pub String);

/// The type of a JSON value. The first character of the value determines it.
///
/// Since 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonShape {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// Any number.
    Number,
    /// Any string.
    String,
    /// Any array.
    Array,
    /// Any object.
    Object,
}

impl JsonShape {
    /// Returns the type of the value in a compact JSON text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Bool,
            Some(b'n') | None => Self::Null,
            Some(_) => Self::Number,
        }
    }

    /// Returns the name that error messages use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "boolean",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl Json {
    /// Parses JSON text and removes insignificant white space.
    ///
    /// # Errors
    /// Returns an error if the text is not exactly one JSON value (`NaN` and `Infinity` are not JSON), or if it is
    /// nested deeper than [`MAX_JSON_DEPTH`].
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let raw: &RawValue =
            serde_json::from_str(text).map_err(|error| JsonError(error.to_string()))?;
        Self::of_raw(raw)
    }

    /// Creates a value from text that `serde_json` has validated.
    pub(super) fn of_raw(raw: &RawValue) -> Result<Self, JsonError> {
        let text = compact(raw.get());
        check_depth(&text)?;
        Ok(Self(text))
    }

    /// Creates a value from the text of one of this crate's encoders. The text is not checked; it must be valid and compact.
    #[must_use]
    pub fn from_encoder(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Encodes a Rust value.
    ///
    /// # Errors
    /// Returns an error if JSON cannot represent the value, e.g. a NaN or a map whose keys are lists, or if it is
    /// nested deeper than [`MAX_JSON_DEPTH`].
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        let text = serde_json::to_string(value).map_err(|error| JsonError(error.to_string()))?;
        check_depth(&text)?;
        // `serde_json` writes NaN and infinities as `null`, so text without `null` needs no check.
        if text.contains("null") {
            check_finite(value)?;
        }
        Ok(Self(text.into()))
    }

    /// Decodes the value as a Rust value.
    ///
    /// # Errors
    /// Returns an error if the value does not have the shape of `T`. If `T` accepts any nesting, like
    /// [`serde_json::Value`], also returns an error if the value has more than 127 levels, which is the limit of
    /// `serde_json`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        serde_json::from_str(&self.0).map_err(|error| JsonError(error.to_string()))
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the JSON text as a shared string.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Returns the type of the value.
    #[must_use]
    pub fn shape(&self) -> JsonShape {
        JsonShape::of(&self.0)
    }
}

/// Removes white space outside strings from valid JSON.
fn compact(text: &str) -> Arc<str> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    if !text.bytes().any(is_space) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if in_string {
            out.push(character);
            if escaped {
                escaped = false;
            } else if character == '\\' {
                escaped = true;
            } else if character == '"' {
                in_string = false;
            }
        } else if !(character.is_ascii() && is_space(character as u8)) {
            out.push(character);
            in_string = character == '"';
        }
    }
    out.into()
}

/// Refuses valid JSON text that is nested deeper than [`MAX_JSON_DEPTH`].
fn check_depth(text: &str) -> Result<(), JsonError> {
    // Each level takes at least two characters, so shorter text cannot be too deep.
    if text.len() <= 2 * MAX_JSON_DEPTH {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    return Err(JsonError(format!(
                        "nested deeper than {MAX_JSON_DEPTH} levels"
                    )));
                }
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::of_raw(&raw).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_numbers_keep_their_exact_text() {
        for text in ["123456789012345678901234567890", "1.10", "-0", "1e400"] {
            assert_eq!(Json::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn b1_text_that_is_not_one_json_value_is_refused() {
        for text in [
            "NaN",
            "Infinity",
            "-Infinity",
            "[NaN]",
            "",
            "1 2",
            "{'a':1}",
        ] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn b1_nan_and_infinity_are_refused_at_any_depth() {
        assert!(Json::encode(&f64::NAN).is_err());
        assert!(Json::encode(&vec![Some(1.0), None, Some(f64::INFINITY)]).is_err());
        assert!(Json::encode(&std::collections::BTreeMap::from([("a", (1, f32::NAN))])).is_err());
        assert_eq!(
            Json::encode(&(1.5, None::<f64>)).unwrap().as_str(),
            "[1.5,null]"
        );
        assert_eq!(Json::encode("null").unwrap().as_str(), "\"null\"");
    }

    #[test]
    fn b1_values_have_at_most_512_levels() {
        let nested = |open: &str, leaf: &str, close: &str, levels: usize| {
            format!("{}{leaf}{}", open.repeat(levels), close.repeat(levels))
        };
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let most = nested(open, "\"]}\\\"[{\"", close, MAX_JSON_DEPTH);
            assert_eq!(Json::parse(&most).unwrap().as_str(), most);
            assert_eq!(serde_json::from_str::<Json>(&most).unwrap().as_str(), most);
            for levels in [MAX_JSON_DEPTH + 1, 100_000] {
                let deep = nested(open, "1", close, levels);
                let error = Json::parse(&deep).unwrap_err();
                assert_eq!(error.0, "nested deeper than 512 levels");
                assert!(serde_json::from_str::<Json>(&deep).is_err());
            }
        }
        // Neither adjacent brackets nor brackets in strings add levels.
        assert!(Json::parse(&format!("[{}[]]", "[],".repeat(2000))).is_ok());
        assert!(Json::parse(&format!("\"{}\"", "[".repeat(2000))).is_ok());
        let mut deep = serde_json::json!(1);
        for _ in 0..=MAX_JSON_DEPTH {
            deep = serde_json::json!([deep]);
        }
        assert!(Json::encode(&deep).is_err());
    }

    #[test]
    fn white_space_is_removed_except_inside_strings() {
        let json = Json::parse(" { \"a b\" : [ 1 , \"x \\\" y\\\\\" ] }\n").unwrap();
        assert_eq!(json.as_str(), "{\"a b\":[1,\"x \\\" y\\\\\"]}");
    }
}
