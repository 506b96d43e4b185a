//! Finds the kinds of JSON values that a type accepts: calls its `Deserialize` without a value and records which kind it
//! requests (semantics J5, J6).
//!
//! The result is valid for `serde_json`: if a type requests a string, `serde_json` refuses a number.

use std::collections::{BTreeMap, HashMap};

use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::map_result;
use super::probing::probe;

const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const NUMBER: u8 = 4;
const STRING: u8 = 8;
const ARRAY: u8 = 16;
const OBJECT: u8 = 32;
const ALL: u8 = 63;

/// The names of the kinds for messages, in the order of their bits.
const NAMES: [&str; 6] = [
    "null",
    "a boolean",
    "a number",
    "a string",
    "an array",
    "an object",
];

/// The kinds of JSON values of a type.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// The kinds from which the type can be decoded.
    accepted: u8,
    /// The kinds that a stored value of the type can have.
    stored: u8,
    /// The name that JSON schema has for the type, if there is exactly one.
    schema: Option<&'static str>,
    /// Whether the value can also be `null`.
    is_optional: bool,
    /// Whether the type is `MapResult`.
    is_map_result: bool,
}

impl Kinds {
    const ANY: Self = Self {
        accepted: ALL,
        stored: ALL,
        schema: None,
        is_optional: false,
        is_map_result: false,
    };

    const fn of(kind: u8, schema: &'static str) -> Self {
        Self {
            accepted: kind,
            stored: kind,
            schema: Some(schema),
            is_optional: false,
            is_map_result: false,
        }
    }

    /// Returns the kinds of a type; all kinds if its `Deserialize` requests none.
    #[must_use]
    pub fn of_type<T: Deserialize<'static>>() -> Self {
        let mut kinds = Self::ANY;
        // `deserialize` always fails, because `Probe` has no value.
        let probed = probe(|| drop(T::deserialize(Probe(&mut kinds))));
        let mut kinds = probed.map_or(Self::ANY, |()| kinds);
        kinds.is_map_result = map_result::is_map_result::<T>();
        kinds
    }

    /// Returns whether the type is the crate's `MapResult`, and not a program's own type of the same name.
    pub(super) const fn is_map_result(self) -> bool {
        self.is_map_result
    }

    /// Returns the kinds of a field of a struct.
    pub(super) fn of_field<T: DeserializeOwned>(field: &'static str) -> Self {
        let mut kinds = Self::ANY;
        let probed = probe(|| drop(T::deserialize(FieldProbe(field, &mut kinds))));
        probed.map_or(Self::ANY, |()| kinds)
    }

    /// Returns whether this type can be decoded from a stored value of another type. `made`: the kinds of that other
    /// type.
    pub(super) const fn admits(self, made: Self) -> bool {
        self.accepted & made.stored != 0
    }

    /// Returns whether this type can be decoded from a value that another type accepts. `given`: the kinds of that
    /// other type.
    pub(super) const fn admits_given(self, given: Self) -> bool {
        self.accepted & given.accepted != 0
    }

    /// Returns whether the type can be decoded from an object.
    pub(super) const fn accepts_object(self) -> bool {
        self.accepted & OBJECT != 0
    }

    /// Returns the names of the stored kinds, joined with "or" for a message.
    pub(super) fn names(self) -> String {
        let names = NAMES.iter().enumerate();
        let found = names.filter(|(bit, _)| self.stored & (1 << bit) != 0);
        let found: Vec<&str> = found.map(|(_, name)| *name).collect();
        found.join(" or ")
    }

    /// Returns the JSON schema of the type.
    pub(super) fn schema(self) -> serde_json::Value {
        match self.schema {
            None => serde_json::json!({}),
            Some(kind) if self.is_optional => {
                serde_json::json!({ "anyOf": [{ "type": kind }, { "type": "null" }] })
            }
            Some(kind) => serde_json::json!({ "type": kind }),
        }
    }
}

/// A deserializer that records the kind that a type requests, and then fails.
struct Probe<'a>(&'a mut Kinds);

impl Probe<'_> {
    fn note<T>(self, kinds: Kinds) -> Result<T, NoValue> {
        *self.0 = kinds;
        Err(no_value())
    }
}

/// Defines methods of a deserializer that each record a kind.
macro_rules! note {
    ($($method:ident($($argument:ty),*) => $kinds:expr,)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, $(_: $argument,)* _: V) -> Result<V::Value, NoValue> {
                self.note($kinds)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = NoValue;

    note! {
        deserialize_any() => Kinds::ANY,
        deserialize_bool() => Kinds::of(BOOLEAN, "boolean"),
        deserialize_i8() => Kinds::of(NUMBER, "integer"),
        deserialize_i16() => Kinds::of(NUMBER, "integer"),
        deserialize_i32() => Kinds::of(NUMBER, "integer"),
        deserialize_i64() => Kinds::of(NUMBER, "integer"),
        deserialize_i128() => Kinds::of(NUMBER, "integer"),
        deserialize_u8() => Kinds::of(NUMBER, "integer"),
        deserialize_u16() => Kinds::of(NUMBER, "integer"),
        deserialize_u32() => Kinds::of(NUMBER, "integer"),
        deserialize_u64() => Kinds::of(NUMBER, "integer"),
        deserialize_u128() => Kinds::of(NUMBER, "integer"),
        deserialize_f32() => Kinds::of(NUMBER, "number"),
        deserialize_f64() => Kinds::of(NUMBER, "number"),
        deserialize_char() => Kinds::of(STRING, "string"),
        deserialize_str() => Kinds::of(STRING, "string"),
        deserialize_string() => Kinds::of(STRING, "string"),
        deserialize_bytes() => Kinds { accepted: STRING | ARRAY, ..Kinds::ANY },
        deserialize_byte_buf() => Kinds { accepted: STRING | ARRAY, ..Kinds::ANY },
        deserialize_unit() => Kinds::of(NULL, "null"),
        deserialize_unit_struct(&'static str) => Kinds::of(NULL, "null"),
        deserialize_seq() => Kinds::of(ARRAY, "array"),
        deserialize_tuple(usize) => Kinds::of(ARRAY, "array"),
        deserialize_tuple_struct(&'static str, usize) => Kinds::of(ARRAY, "array"),
        deserialize_map() => Kinds::of(OBJECT, "object"),
        // `serde_json` also decodes a struct from an array of the values of its fields.
        deserialize_struct(&'static str, &'static [&'static str]) =>
            Kinds { accepted: OBJECT | ARRAY, ..Kinds::of(OBJECT, "object") },
        deserialize_enum(&'static str, &'static [&'static str]) =>
            Kinds { accepted: STRING | OBJECT, stored: STRING | OBJECT, ..Kinds::ANY },
        deserialize_identifier() => Kinds::ANY,
        deserialize_ignored_any() => Kinds::ANY,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NoValue> {
        let result = visitor.visit_some(Probe(&mut *self.0));
        self.0.accepted |= NULL;
        self.0.stored |= NULL;
        self.0.is_optional = true;
        result
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        visitor.visit_newtype_struct(self)
    }
}

/// A deserializer of a struct that offers one field, and records the kind that this field requests.
struct FieldProbe<'a>(&'static str, &'a mut Kinds);

impl<'de> Deserializer<'de> for FieldProbe<'_> {
    type Error = NoValue;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(no_value())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        visitor.visit_map(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NoValue> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for FieldProbe<'_> {
    type Error = NoValue;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, NoValue> {
        seed.deserialize(self.0.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NoValue> {
        seed.deserialize(Probe(&mut *self.1))?;
        // The field's type was decoded without requesting a kind, so it accepts any value. The error ends the probe.
        Err(no_value())
    }
}

fn no_value() -> NoValue {
    serde::de::Error::custom("only the kinds of values are read")
}

/// Finds the kinds of a parameter's type.
///
/// For a type that can be decoded, the compiler selects the method [`OfDecoded::kinds`]. For all other types it selects
/// [`Unknown::kinds`], which it tries last, because that trait is implemented for `&TakenType` instead of `TakenType`.
#[doc(hidden)]
#[derive(Debug)]
pub struct TakenType<T>(pub std::marker::PhantomData<T>);

/// See [`TakenType`].
#[doc(hidden)]
pub trait OfDecoded {
    /// Returns the kinds.
    fn kinds(&self) -> Kinds;
}

impl<T: Deserialize<'static>> OfDecoded for TakenType<T> {
    fn kinds(&self) -> Kinds {
        Kinds::of_type::<T>()
    }
}

/// Finds the kinds of the value in the `Result` that a task's function returns. It works like [`TakenType`].
#[doc(hidden)]
#[derive(Debug)]
pub struct ReturnType<T>(pub std::marker::PhantomData<T>);

/// See [`ReturnType`].
#[doc(hidden)]
pub trait OfResult {
    /// Returns the kinds.
    fn kinds(&self) -> Kinds;
}

/// A type whose values are stored as the kind of JSON that its `Deserialize` requests. A type that a program defines does not
/// implement this trait, because attributes such as `#[serde(into = "String")]` change how its values are stored but not what
/// its `Deserialize` requests.
#[doc(hidden)]
pub trait Symmetric {}

macro_rules! symmetric {
    ($($type:ty),* $(,)?) => { $(impl Symmetric for $type {})* };
}

macro_rules! symmetric_tuples {
    ($($first:ident $($rest:ident)*)?) => {
        $(
            impl<$first, $($rest),*> Symmetric for ($first, $($rest),*) {}
            symmetric_tuples! { $($rest)* }
        )?
    };
}

symmetric! {
    (), bool, char, String, &str, i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, f32, f64,
}
symmetric_tuples! { A B C D E F G H I J K L }

impl<T> Symmetric for Vec<T> {}
impl<T, const N: usize> Symmetric for [T; N] {}
impl<K, V, S> Symmetric for HashMap<K, V, S> {}
impl<K, V> Symmetric for BTreeMap<K, V> {}
impl<T: Symmetric> Symmetric for Option<T> {}

// The bound is not `DeserializeOwned`, because a type that borrows, such as `&str`, does not implement it.
impl<T: Deserialize<'static> + Symmetric, E> OfResult for ReturnType<Result<T, E>> {
    fn kinds(&self) -> Kinds {
        Kinds::of_type::<T>()
    }
}

/// See [`TakenType`].
#[doc(hidden)]
pub trait Unknown {
    /// Returns all kinds.
    fn kinds(&self) -> Kinds;
}

impl<T> Unknown for &TakenType<T> {
    fn kinds(&self) -> Kinds {
        Kinds::ANY
    }
}

impl<T> Unknown for &ReturnType<T> {
    fn kinds(&self) -> Kinds {
        Kinds::ANY
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use serde::Serialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Wrapped(u8);

    #[derive(Serialize, Deserialize)]
    enum Choice {
        Plain,
        With(u8),
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u8),
    }

    #[derive(Serialize, Deserialize)]
    struct Order {
        #[serde(rename = "number")]
        id: Wrapped,
        note: Option<String>,
        #[serde(default)]
        lines: Vec<(u8, f64)>,
        choice: Choice,
        either: Either,
        any: serde_json::Value,
        raw: crate::types::Json,
    }

    fn schema<T: DeserializeOwned>() -> String {
        Kinds::of_type::<T>().schema().to_string()
    }

    #[test]
    fn j6_kinds_of_a_type_are_those_that_it_requests() {
        assert_eq!(schema::<Wrapped>(), r#"{"type":"integer"}"#);
        assert_eq!(schema::<f32>(), r#"{"type":"number"}"#);
        assert_eq!(schema::<(u8, u8)>(), r#"{"type":"array"}"#);
        assert_eq!(schema::<BTreeMap<String, u8>>(), r#"{"type":"object"}"#);
        assert_eq!(schema::<Box<Order>>(), r#"{"type":"object"}"#);
        assert_eq!(
            schema::<Option<bool>>(),
            r#"{"anyOf":[{"type":"boolean"},{"type":"null"}]}"#
        );
        for any in [
            schema::<Either>(),
            schema::<Choice>(),
            schema::<crate::types::Json>(),
        ] {
            assert_eq!(any, "{}");
        }
    }

    #[test]
    fn j5_kinds_of_fields_are_found_one_by_one() {
        let of = |field| Kinds::of_field::<Order>(field).schema().to_string();
        assert_eq!(of("number"), r#"{"type":"integer"}"#);
        assert_eq!(
            of("note"),
            r#"{"anyOf":[{"type":"string"},{"type":"null"}]}"#
        );
        assert_eq!(of("lines"), r#"{"type":"array"}"#);
        for any in ["choice", "either", "any", "raw", "unknown"] {
            assert_eq!(of(any), "{}", "{any}");
        }
    }

    #[test]
    fn j6_types_without_a_common_kind_do_not_match() {
        let kinds = Kinds::of_type::<u8>();
        assert!(kinds.admits(Kinds::of_type::<Option<f64>>()));
        assert!(!kinds.admits(Kinds::of_type::<Option<String>>()));
        assert!(kinds.admits(Kinds::of_type::<Either>()));
        assert!(!kinds.admits(Kinds::of_type::<Choice>()));
        // A struct can be decoded from a tuple, but is stored as an object.
        let order = Kinds::of_type::<Order>();
        assert!(order.admits(Kinds::of_type::<(u8, u8)>()));
        assert!(!Kinds::of_type::<Vec<u8>>().admits(order));
        assert!(Kinds::of_type::<Vec<u8>>().admits_given(order));
        assert_eq!(
            Kinds::of_type::<Option<Choice>>().names(),
            "null or a string or an object"
        );
    }

    #[test]
    fn j6_kinds_of_return_types_are_known_for_symmetric_types() {
        struct Opaque;
        let known = &ReturnType::<Result<u8, ()>>(PhantomData);
        assert_eq!(known.kinds(), Kinds::of_type::<u8>());
        let text = &ReturnType::<Result<Option<&str>, ()>>(PhantomData);
        assert_eq!(text.kinds(), Kinds::of_type::<Option<String>>());
        // The kind in which `Wrapped` is stored can differ from the kind that its `Deserialize` requests.
        assert_eq!(
            (&ReturnType::<Result<Wrapped, ()>>(PhantomData)).kinds(),
            Kinds::ANY
        );
        assert_eq!(
            TakenType::<Wrapped>(PhantomData).kinds(),
            Kinds::of_type::<u8>()
        );
        assert_eq!((&TakenType::<Opaque>(PhantomData)).kinds(), Kinds::ANY);
        assert_eq!(
            (&ReturnType::<Result<Opaque, ()>>(PhantomData)).kinds(),
            Kinds::ANY
        );
        assert_eq!((&ReturnType::<Opaque>(PhantomData)).kinds(), Kinds::ANY);
    }
}
