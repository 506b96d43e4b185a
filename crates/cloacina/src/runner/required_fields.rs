//! The fields that a struct requires (semantics J5).
//!
//! A `Deserialize` reports the first absent field only. So it gets examples of the fields that are known to be required, until
//! it reports none. If a field accepts no example, the fields after it are not known to be required.

use std::fmt;

use serde::Deserializer;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

/// Examples of texts: types with a text form accept one of them.
const TEXTS: [&str; 8] = [
    "",
    "a",
    "0",
    "2000-01-01T00:00:00Z",
    "2000-01-01",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
];
/// Maximum depth of structs in an example.
const MAX_DEPTH: u8 = 16;

/// The fields without which a type cannot be decoded, as far as that is known. `fields` are all its fields, with their aliases.
pub(super) fn of_type<T: DeserializeOwned>(fields: &[&'static str]) -> Vec<&'static str> {
    let known = examples_of::<T>();
    let has_alias = |field: &'static str, text: &'static str| {
        let mut others = fields.iter().filter(|other| **other != field);
        let mut example = known.clone();
        others.any(|other| {
            let is_required = known.iter().any(|(known, _)| known == other);
            for entry in example.iter_mut().zip(&known) {
                *entry.0 = if entry.1.0 == field {
                    (*other, text)
                } else {
                    *entry.1
                };
            }
            !is_required && T::deserialize(Example::of(&example)).is_ok()
        })
    };
    let required = known.iter().filter(|(field, text)| !has_alias(field, text));
    required.map(|(field, _)| *field).collect()
}

/// The required fields by their names, each with a text that it accepts.
fn examples_of<T: DeserializeOwned>() -> Vec<(&'static str, &'static str)> {
    let mut known: Vec<(&'static str, &'static str)> = Vec::new();
    while let Err(Problem::Missing(field)) = T::deserialize(Example::of(&known)) {
        if known.iter().any(|(other, _)| *other == field) {
            break;
        }
        let accepted = |text: &&'static str| {
            let example = [(field, *text)];
            let decoded = T::deserialize(Example::of(&example));
            !matches!(decoded, Err(Problem::Refused))
        };
        let text = TEXTS.iter().copied().find(accepted);
        known.push((field, text.unwrap_or_default()));
    }
    known
}

/// The reason why an example was not decoded.
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

/// A deserializer of example values.
#[derive(Clone, Copy)]
struct Example<'a> {
    /// Of the outermost struct: the fields that it has, each with the example of a text.
    fields: Option<&'a [(&'static str, &'static str)]>,
    text: &'static str,
    depth: u8,
}

impl<'a> Example<'a> {
    const fn of(fields: &'a [(&'static str, &'static str)]) -> Self {
        Self {
            fields: Some(fields),
            text: "",
            depth: 0,
        }
    }

    fn inside(self, text: &'static str) -> Result<Self, Problem> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            return Err(Problem::Refused);
        }
        Ok(Self {
            fields: None,
            text,
            depth,
        })
    }
}

/// Defines methods that pass an example to the visitor.
macro_rules! examples {
    ($($method:ident => $visit:ident($($value:expr)?),)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
                visitor.$visit($($value)?)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Example<'_> {
    type Error = Problem;

    examples! {
        deserialize_any => visit_unit(),
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_u64(0),
        deserialize_i16 => visit_u64(0),
        deserialize_i32 => visit_u64(0),
        deserialize_i64 => visit_u64(0),
        deserialize_i128 => visit_u64(0),
        deserialize_u8 => visit_u64(0),
        deserialize_u16 => visit_u64(0),
        deserialize_u32 => visit_u64(0),
        deserialize_u64 => visit_u64(0),
        deserialize_u128 => visit_u64(0),
        deserialize_f32 => visit_f64(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_char => visit_char('a'),
        deserialize_bytes => visit_bytes(b""),
        deserialize_byte_buf => visit_bytes(b""),
        deserialize_option => visit_none(),
        deserialize_unit => visit_unit(),
        deserialize_identifier => visit_unit(),
        deserialize_ignored_any => visit_unit(),
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_str(self.text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_str(self.text)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_seq(Examples(0, self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_seq(Examples(len, self.inside(self.text)?))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_map(Fields(Vec::new(), self, ""))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        // Backwards, because the last one is taken first.
        let given = match self.fields {
            Some(given) => given.iter().rev().copied().collect(),
            None => fields.iter().rev().map(|name| (*name, self.text)).collect(),
        };
        visitor.visit_map(Fields(given, self, ""))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let first = variants.first().ok_or(Problem::Refused)?;
        visitor.visit_enum(Variant(first, self.inside(self.text)?))
    }
}

/// A number of examples.
struct Examples<'a>(usize, Example<'a>);

impl<'de> SeqAccess<'de> for Examples<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        let Some(left) = self.0.checked_sub(1) else {
            return Ok(None);
        };
        self.0 = left;
        seed.deserialize(self.1).map(Some)
    }
}

/// The fields that are left, and the example of a text for the present one.
struct Fields<'a>(Vec<(&'static str, &'static str)>, Example<'a>, &'static str);

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        let Some((name, text)) = self.0.pop() else {
            return Ok(None);
        };
        self.2 = text;
        let name: StrDeserializer<'_, Problem> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let example = self.1.inside(self.2)?;
        // A field that is absent inside the value is not one of the struct.
        seed.deserialize(example).map_err(|_| Problem::Refused)
    }
}

/// A variant of an enum.
struct Variant<'a>(&'static str, Example<'a>);

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Problem;
    type Variant = Example<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Example<'a>), Problem> {
        let name: StrDeserializer<'_, Problem> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self.1))
    }
}

impl<'de> VariantAccess<'de> for Example<'_> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Problem> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    enum Choice {
        With { a: u8, b: Vec<u8> },
        Plain,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        number: u8,
        note: Option<String>,
        pair: (u8, bool),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[serde(with = "day")]
        at: chrono::NaiveDate,
        #[serde(default)]
        tax: f64,
        id: crate::types::ExecutionId,
        note: Option<String>,
        inner: Inner,
        choice: Choice,
        #[serde(rename = "lines")]
        all: std::collections::BTreeMap<String, u8>,
    }

    /// A type whose text has a form.
    mod day {
        use super::*;

        #[expect(
            clippy::trivially_copy_pass_by_ref,
            reason = "serde calls it with a reference"
        )]
        pub fn serialize<S: serde::Serializer>(
            day: &chrono::NaiveDate,
            into: S,
        ) -> Result<S::Ok, S::Error> {
            into.collect_str(day)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<chrono::NaiveDate, D::Error> {
            let text = String::deserialize(from)?;
            text.parse().map_err(serde::de::Error::custom)
        }
    }

    #[derive(Deserialize)]
    struct Code(#[expect(dead_code, reason = "it is only decoded")] u8);

    impl TryFrom<String> for Code {
        type Error = String;

        fn try_from(text: String) -> Result<Self, String> {
            Err(text)
        }
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "it is only decoded")]
    struct Unreadable {
        first: u8,
        #[serde(deserialize_with = "code")]
        code: Code,
        last: u8,
    }

    fn code<'de, D: Deserializer<'de>>(from: D) -> Result<Code, D::Error> {
        Code::try_from(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }

    #[test]
    fn j5_fields_without_a_default_are_required() {
        let order = ["at", "tax", "id", "note", "inner", "choice", "lines"];
        let expected = ["at", "id", "inner", "choice", "lines"];
        assert_eq!(of_type::<Order>(&order), expected);
        assert_eq!(
            of_type::<Inner>(&["number", "note", "pair"]),
            ["number", "pair"]
        );
    }

    #[test]
    fn j5_field_with_an_alias_may_be_absent() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "it is only decoded")]
        struct Renamed {
            first: u8,
            #[serde(alias = "links")]
            urls: Vec<u8>,
        }
        let fields = ["first", "urls", "links"];
        assert_eq!(of_type::<Renamed>(&fields), ["first"]);
    }

    #[test]
    fn j5_fields_after_one_without_example_are_not_known() {
        let fields = ["first", "code", "last"];
        assert_eq!(of_type::<Unreadable>(&fields), ["first", "code"]);
    }
}
