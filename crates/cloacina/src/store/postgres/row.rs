//! Conversions between columns and values.

use std::sync::Arc;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::Text;
use serde::de::DeserializeOwned;

use super::error::Fault;
use crate::types::{Delta, Timestamp};

/// A JSON column, decoded from the bytes of the answer without a copy.
#[derive(Clone, Debug, FromSqlRow)]
pub(super) struct Decoded<T>(pub(super) T);

impl<T: DeserializeOwned> FromSql<Text, Pg> for Decoded<T> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(serde_json::from_slice(value.as_bytes())?))
    }
}

/// A JSON column. If the column cannot be decoded, this value contains the reason, and the query
/// does not fail.
#[derive(Clone, Debug, FromSqlRow)]
pub(super) struct Tolerated<T>(pub(super) Result<T, String>);

impl<T: DeserializeOwned> FromSql<Text, Pg> for Tolerated<T> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let decoded = serde_json::from_slice(value.as_bytes());
        Ok(Self(decoded.map_err(|error| error.to_string())))
    }
}

/// A column with the context changes (delta) of a task.
#[derive(Clone, Debug, FromSqlRow)]
pub(super) struct DeltaColumn(pub(super) Arc<Delta>);

impl FromSql<Text, Pg> for DeltaColumn {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Arc::new(Delta::from_json(std::str::from_utf8(
            value.as_bytes(),
        )?)?)))
    }
}

/// Converts the value of an integer column to `u32`. The error names the column.
pub(super) fn count(column: &str, value: i64) -> Result<u32, Fault> {
    u32::try_from(value).map_err(|_| {
        Fault::Corrupt(format!(
            "a row has the invalid value {value} in its column {column}"
        ))
    })
}

/// Encodes a value as JSON text.
pub(super) fn encode<T: serde::Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value)
        .map_err(|error| Fault::Corrupt(format!("a value cannot be encoded as JSON: {error}")))
}

pub(super) fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.0)
}
