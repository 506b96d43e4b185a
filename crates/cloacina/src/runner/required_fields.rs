//! Finds the fields that a struct requires (semantics J5).
//!
//! A `Deserialize` reports only the first absent field. So it is called again and again, each time with examples of the fields
//! that it has reported so far, until it reports no further field. An example is a plain value: `false`, 0, or an empty string,
//! list or map. If a field does not accept its example (a struct and an enum accept none), the search stops there: required
//! fields after this field are not found.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};

use super::probing::probe;

/// Returns the known required fields of a type. `fields`: all fields of the type and their aliases.
pub(super) fn of_type<T: DeserializeOwned>(fields: &[&'static str]) -> Vec<&'static str> {
    let mut given: Vec<&'static str> = Vec::new();
    let mut required: Vec<&'static str> = Vec::new();
    while let Some(Problem::Missing(field)) = problem_with::<T>(&given, None) {
        if given.contains(&field) {
            break;
        }
        let accepts = !matches!(
            problem_with::<T>(&given, Some(field)),
            Some(Problem::Refused)
        );
        let is_alias = |other: &&'static str| match problem_with::<T>(&given, Some(other)) {
            Some(Problem::Missing(missing)) => missing != field,
            // An alias refuses an example if and only if the field refuses it.
            Some(Problem::Refused) => !accepts,
            None => true,
        };
        let mut others = fields
            .iter()
            .filter(|other| **other != field && !given.contains(other));
        if !others.any(is_alias) {
            required.push(field);
        }
        if !accepts {
            break;
        }
        given.push(field);
    }
    required
}

/// Returns why a type cannot be decoded from examples of `fields` and `last`. `None`: it can be decoded.
fn problem_with<T: DeserializeOwned>(
    fields: &[&'static str],
    last: Option<&'static str>,
) -> Option<Problem> {
    let fields = fields.iter().copied().chain(last).collect();
    match probe(|| T::deserialize(Example(fields)).err()) {
        Some(problem) => problem,
        None => Some(Problem::Refused),
    }
}

/// The reason why a struct was not decoded from examples.
#[derive(Debug)]
enum Problem {
    /// A field of the struct is absent.
    Missing(&'static str),
    /// The example of a field was refused.
    Refused,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Problem {}

impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Refused
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// A deserializer of a struct that has examples of these fields.
struct Example(Vec<&'static str>);

impl<'de> Deserializer<'de> for Example {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Problem> {
        Err(Problem::Refused)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_map(Fields(self.0.into_iter()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields whose examples have not been passed on yet.
struct Fields(std::vec::IntoIter<&'static str>);

impl<'de> MapAccess<'de> for Fields {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        let Some(name) = self.0.next() else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Problem> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        // An absent field inside the value is not a field of the struct itself.
        seed.deserialize(PlainValue).map_err(|_| Problem::Refused)
    }
}

/// A deserializer of plain values.
struct PlainValue;

/// Defines methods of a deserializer that each pass a value to the visitor.
macro_rules! values {
    ($($method:ident($($argument:ty),*) => $visit:ident($($value:expr)?),)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, $(_: $argument,)* visitor: V) -> Result<V::Value, Problem> {
                visitor.$visit($($value)?)
            }
        )*
    };
}

/// Defines methods of a deserializer for types that have no plain value.
macro_rules! refused {
    ($($method:ident($($argument:ty),*),)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, Problem> {
                Err(Problem::Refused)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for PlainValue {
    type Error = Problem;

    values! {
        deserialize_any() => visit_unit(),
        deserialize_bool() => visit_bool(false),
        deserialize_i8() => visit_u64(0),
        deserialize_i16() => visit_u64(0),
        deserialize_i32() => visit_u64(0),
        deserialize_i64() => visit_u64(0),
        deserialize_i128() => visit_u64(0),
        deserialize_u8() => visit_u64(0),
        deserialize_u16() => visit_u64(0),
        deserialize_u32() => visit_u64(0),
        deserialize_u64() => visit_u64(0),
        deserialize_u128() => visit_u64(0),
        deserialize_f32() => visit_f64(0.0),
        deserialize_f64() => visit_f64(0.0),
        deserialize_str() => visit_str(""),
        deserialize_string() => visit_str(""),
        deserialize_option() => visit_none(),
        deserialize_unit() => visit_unit(),
        deserialize_ignored_any() => visit_unit(),
        deserialize_seq() => visit_seq(NoItems),
        deserialize_map() => visit_map(Fields(Vec::new().into_iter())),
    }

    refused! {
        deserialize_char(),
        deserialize_bytes(),
        deserialize_byte_buf(),
        deserialize_identifier(),
        deserialize_unit_struct(&'static str),
        deserialize_tuple(usize),
        deserialize_tuple_struct(&'static str, usize),
        deserialize_struct(&'static str, &'static [&'static str]),
        deserialize_enum(&'static str, &'static [&'static str]),
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }
}

/// An empty list.
struct NoItems;

impl<'de> SeqAccess<'de> for NoItems {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        _: T,
    ) -> Result<Option<T::Value>, Problem> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    enum Choice {
        Plain,
    }

    #[derive(Deserialize)]
    struct Id(#[expect(dead_code, reason = "it is only decoded")] String);

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only decoded")]
    struct Order {
        #[serde(default)]
        tax: f64,
        id: Id,
        note: Option<String>,
        #[serde(rename = "lines")]
        all: std::collections::BTreeMap<String, u8>,
        rows: Vec<Choice>,
        any: serde_json::Value,
        choice: Choice,
        last: u8,
    }

    #[test]
    fn j5_fields_without_a_default_are_required() {
        let fields = [
            "tax", "id", "note", "lines", "rows", "any", "choice", "last",
        ];
        // `choice` has no plain value, so the search does not reach `last`.
        let expected = ["id", "lines", "rows", "any", "choice"];
        assert_eq!(of_type::<Order>(&fields), expected);
    }

    #[test]
    fn j5_field_with_an_alias_is_not_listed_as_required() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "it is only decoded")]
        struct Renamed {
            first: u8,
            #[serde(alias = "links")]
            urls: Vec<u8>,
            #[serde(alias = "kind")]
            choice: Choice,
        }
        let fields = ["first", "urls", "links", "choice", "kind"];
        assert_eq!(of_type::<Renamed>(&fields), ["first"]);
    }

    #[test]
    fn j5_type_that_panics_accepts_no_example() {
        struct Strict;

        impl<'de> Deserialize<'de> for Strict {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                assert!(!text.is_empty(), "the string is empty");
                Ok(Self)
            }
        }

        #[derive(Deserialize)]
        #[expect(dead_code, reason = "it is only decoded")]
        struct Named {
            first: u8,
            strict: Strict,
            last: u8,
        }
        let fields = ["first", "strict", "last"];
        assert_eq!(of_type::<Named>(&fields), ["first", "strict"]);
    }
}
