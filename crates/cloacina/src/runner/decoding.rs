//! Decodes the values that typed tasks and callers receive. Errors name the path of the part that does not fit (semantics
//! J9).

use serde::de::value::Error as NotAnOption;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

/// Decodes JSON text. The error names the path of the part that does not fit.
pub(super) fn decode_text<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    // The first attempt does not record the path, because recording it slows the decoder down. If the attempt fails, a second
    // attempt finds the path.
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(plain) => {
            let decoder = &mut serde_json::Deserializer::from_str(text);
            match serde_path_to_error::deserialize::<_, T>(decoder) {
                Err(error) if error.path().iter().next().is_some() => {
                    Err(format!("`{}`: {}", error.path(), error.inner()))
                }
                _ => Err(plain.to_string()),
            }
        }
    }
}

/// Returns the value that a parameter or field of type `T` has when it is absent (J7): `Some(None)` if `T` is an `Option`. For
/// every other type, returns `None`: the absence is an error.
pub(super) fn absent<T: DeserializeOwned>() -> Option<T> {
    T::deserialize(Absent).ok()
}

/// A deserializer without a value. An `Option` is decoded from it as `None`; every other type is refused.
struct Absent;

impl<'de> Deserializer<'de> for Absent {
    type Error = NotAnOption;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NotAnOption> {
        Err(serde::de::Error::custom("the value is absent"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAnOption> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j7_only_an_option_has_a_value_when_absent() {
        assert_eq!(absent::<Option<u8>>(), Some(None));
        assert_eq!(absent::<u8>(), None);
        assert_eq!(absent::<Vec<u8>>(), None);
        assert_eq!(absent::<serde_json::Value>(), None);
    }

    #[test]
    fn j9_error_names_the_path() {
        let error = decode_text::<Vec<Vec<u8>>>("[[1],[2,300]]").unwrap_err();
        assert!(
            error.starts_with("`[1][1]`: invalid value: integer `300`"),
            "{error}"
        );
        let error = decode_text::<u8>("\"x\"").unwrap_err();
        assert!(error.starts_with("invalid type: string \"x\""), "{error}");
    }
}
