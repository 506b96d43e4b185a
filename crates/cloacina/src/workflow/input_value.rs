//! The decoded JSON values that are used to check an input. Types, equality and formatting follow Python's rules,
//! because Python programs create most schemas.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The members of an object, in order.
pub(super) type Members = IndexMap<String, Value>;

/// A decoded JSON value. Objects keep the order of their members.
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    Object(Box<Members>),
    /// A value that no schema describes, or that is nested too deeply to be decoded. It matches every schema.
    Unread,
}

impl Value {
    /// Returns the members, if the value is an object.
    pub(super) fn as_object(&self) -> Option<&Members> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Returns the text, if the value is a string.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns whether the value has this JSON schema type. An unknown type matches all values except booleans.
    pub(super) fn is(&self, kind: &str) -> bool {
        match (self, kind) {
            (Self::Bool(_), _) => kind == "boolean",
            (_, "array") => matches!(self, Self::List(_)),
            (_, "boolean") => false,
            (Self::Number(number), "integer") => number.fract() == 0.0,
            (_, "integer") => matches!(self, Self::Integer(_)),
            (_, "null") => matches!(self, Self::Null),
            (_, "number") => matches!(self, Self::Integer(_) | Self::Number(_)),
            (_, "object") => matches!(self, Self::Object(_)),
            (_, "string") => matches!(self, Self::Text(_)),
            _ => true,
        }
    }

    /// Returns the name of the value's type.
    pub(super) fn kind(&self) -> &'static str {
        const KINDS: [&str; 7] = [
            "array", "boolean", "integer", "null", "number", "object", "string",
        ];
        let found = KINDS.into_iter().find(|kind| self.is(kind));
        found.unwrap_or("a value")
    }

    /// Returns whether two values are equal by Python's rules: `1`, `1.0` and `true` are equal.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::List(one), Self::List(other)) => {
                let mut pairs = one.iter().zip(other);
                one.len() == other.len() && pairs.all(|(one, other)| one.equals(other))
            }
            (Self::Object(one), Self::Object(other)) => {
                let is_in = |(name, value): (&String, &Self)| {
                    other.get(name).is_some_and(|other| value.equals(other))
                };
                one.len() == other.len() && one.iter().all(is_in)
            }
            _ => self.is_same_number(other),
        }
    }

    fn is_same_number(&self, other: &Self) -> bool {
        if let (Some(one), Some(other)) = (self.as_integer(), other.as_integer()) {
            return one == other;
        }
        let numbers = (self.as_number(), other.as_number());
        matches!(numbers, (Some(one), Some(other)) if one.partial_cmp(&other) == Some(Ordering::Equal))
    }

    fn as_integer(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some(i128::from(*value)),
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a float cannot represent more digits"
    )]
    fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(*value),
            _ => self.as_integer().map(|value| value as f64),
        }
    }
}

/// Formats a value as Python formats it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("None"),
            Self::Bool(value) => f.write_str(if *value { "True" } else { "False" }),
            Self::Integer(value) => value.fmt(f),
            Self::Number(value) => write!(f, "{value:?}"),
            Self::Text(text) if text.contains('\'') && !text.contains('"') => {
                write!(f, "\"{}\"", escaped(text, '"'))
            }
            Self::Text(text) => write!(f, "'{}'", escaped(text, '\'')),
            Self::List(items) => f.write_str(&shown_list(items)),
            Self::Object(members) => {
                let shown = members.iter();
                let shown =
                    shown.map(|(name, value)| format!("'{}': {value}", escaped(name, '\'')));
                write!(f, "{{{}}}", shown.collect::<Vec<_>>().join(", "))
            }
            Self::Unread => f.write_str("…"),
        }
    }
}

/// Formats a list of values as Python formats it.
pub(super) fn shown_list(items: &[Value]) -> String {
    let shown: Vec<String> = items.iter().map(ToString::to_string).collect();
    format!("[{}]", shown.join(", "))
}

fn escaped(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if character == quote => out.extend(['\\', quote]),
            _ if character.is_control() => {
                // Writing to a `String` does not fail.
                let _ = write!(out, "\\x{:02x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Members::new();
        while let Some((name, value)) = entries.next_entry()? {
            members.insert(name, value);
        }
        Ok(Value::Object(Box::new(members)))
    }
}
