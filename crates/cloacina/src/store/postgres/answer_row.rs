//! A row of a server's answer, in a form that Diesel can decode.

use std::num::NonZeroU32;
use std::ops::Range;

use diesel::pg::{Pg, PgValue};
use diesel::row::{Field, PartialRow, Row as DieselRow, RowIndex, RowSealed};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

/// A row of an answer, in a form that Diesel can decode.
pub(super) struct AnswerRow(pub(super) Row);

impl RowSealed for AnswerRow {}

impl<'a> DieselRow<'a, Pg> for AnswerRow {
    type InnerPartialRow = Self;
    type Field<'b>
        = AnswerField<'b>
    where
        Self: 'b,
        'a: 'b;

    fn field_count(&self) -> usize {
        self.0.len()
    }

    fn get<'b, I>(&'b self, index: I) -> Option<Self::Field<'b>>
    where
        'a: 'b,
        Self: RowIndex<I>,
    {
        let column = self.idx(index)?;
        let oid = NonZeroU32::new(self.0.columns()[column].type_().oid())?;
        Some(AnswerField {
            row: &self.0,
            column,
            oid,
        })
    }

    fn partial_row(&self, range: Range<usize>) -> PartialRow<'_, Self::InnerPartialRow> {
        PartialRow::new(self, range)
    }
}

impl RowIndex<usize> for AnswerRow {
    fn idx(&self, index: usize) -> Option<usize> {
        (index < self.0.len()).then_some(index)
    }
}

impl<'a> RowIndex<&'a str> for AnswerRow {
    fn idx(&self, name: &'a str) -> Option<usize> {
        self.0
            .columns()
            .iter()
            .position(|column| column.name() == name)
    }
}

pub(super) struct AnswerField<'a> {
    row: &'a Row,
    column: usize,
    oid: NonZeroU32,
}

impl<'a> Field<'a, Pg> for AnswerField<'a> {
    fn field_name(&self) -> Option<&str> {
        Some(self.row.columns()[self.column].name())
    }

    fn value(&self) -> Option<PgValue<'_>> {
        let Raw(bytes) = self.row.get(self.column);
        bytes.map(|bytes| PgValue::new(bytes, &self.oid))
    }
}

/// The bytes of a column of any type.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
