//! Detects NaN and infinities in a value, because `serde_json` silently writes them as `null` (semantics B1).

use std::fmt::{self, Display};

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::JsonError;

/// Refuses a value that contains a NaN or an infinity.
pub(super) fn check_finite<T: Serialize + ?Sized>(value: &T) -> Result<(), JsonError> {
    value
        .serialize(Checker)
        .map_err(|NotFinite(message)| JsonError(message))
}

/// A serializer that writes nothing, and fails at the first number that is not finite.
struct Checker;

#[derive(Debug)]
struct NotFinite(String);

impl Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFinite {}

impl ser::Error for NotFinite {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Checked = Result<(), NotFinite>;

macro_rules! accept {
    ($($name:ident: $value:ty,)*) => {
        $(fn $name(self, _: $value) -> Checked {
            Ok(())
        })*
    };
}

macro_rules! descend {
    ($($name:ident($($argument:ty),*) -> $compound:ident;)*) => {
        $(fn $name(self, $(_: $argument),*) -> Result<Self::$compound, NotFinite> {
            Ok(self)
        })*
    };
}

impl Serializer for Checker {
    type Ok = ();
    type Error = NotFinite;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    accept! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
        serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    descend! {
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }

    fn serialize_f32(self, value: f32) -> Checked {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Checked {
        if value.is_finite() {
            return Ok(());
        }
        Err(NotFinite(format!("{value} is not a JSON number")))
    }

    fn serialize_none(self) -> Checked {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Checked {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Checked {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Checked {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self)
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Checked {
        Ok(())
    }
}

macro_rules! check_elements {
    ($($interface:ident: $method:ident,)*) => {
        $(impl ser::$interface for Checker {
            type Ok = ();
            type Error = NotFinite;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
                value.serialize(Checker)
            }

            fn end(self) -> Checked {
                Ok(())
            }
        })*
    };
}

check_elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! check_fields {
    ($($interface:ident,)*) => {
        $(impl ser::$interface for Checker {
            type Ok = ();
            type Error = NotFinite;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _: &'static str,
                value: &T,
            ) -> Checked {
                value.serialize(Checker)
            }

            fn end(self) -> Checked {
                Ok(())
            }
        })*
    };
}

check_fields! {
    SerializeStruct,
    SerializeStructVariant,
}

impl ser::SerializeMap for Checker {
    type Ok = ();
    type Error = NotFinite;

    /// Does not check keys, because `serde_json` converts them to strings or refuses them.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Checked {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
        value.serialize(Checker)
    }

    fn end(self) -> Checked {
        Ok(())
    }
}
