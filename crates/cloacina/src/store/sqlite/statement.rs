//! Macros that declare a statement as a type.
//!
//! Diesel caches prepared statements by type. For most queries of Diesel's query builder, the type does not determine
//! the SQL text, so these queries are prepared again for every call. A type with a constant text is prepared once per
//! connection.

/// Declares a statement with a constant text. Its fields are bound, in order, to the `?` placeholders of the text.
macro_rules! statement {
    (
        $(#[$attribute:meta])*
        $name:ident $(<$lifetime:lifetime>)? { $($field:ident: $rust:ty => $sql:ty),* $(,)? }
        $text:expr
    ) => {
        $(#[$attribute])*
        pub(super) struct $name $(<$lifetime>)? {
            $(pub(super) $field: $rust,)*
        }

        const _: () = {
            pub struct Id;

            impl $(<$lifetime>)? diesel::query_builder::QueryId for $name $(<$lifetime>)? {
                type QueryId = Id;
                const HAS_STATIC_QUERY_ID: bool = true;
            }
        };

        impl $(<$lifetime>)? diesel::query_builder::QueryFragment<diesel::sqlite::Sqlite>
            for $name $(<$lifetime>)?
        {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::sqlite::Sqlite>,
            ) -> diesel::QueryResult<()> {
                const FIELDS: &[&str] = &[$(stringify!($field)),*];
                const PIECES: [&str; FIELDS.len() + 1] =
                    $crate::store::placeholder::pieces($text);
                let mut pieces = PIECES.iter();
                out.push_sql(pieces.next().copied().unwrap_or_default());
                $(
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                    out.push_sql(pieces.next().copied().unwrap_or_default());
                )*
                Ok(())
            }
        }

        impl $(<$lifetime>)? diesel::RunQueryDsl<diesel::SqliteConnection>
            for $name $(<$lifetime>)? {}
    };
}

/// Declares a statement that returns rows. The SQL types of a row follow the arrow.
macro_rules! query {
    (
        $(#[$attribute:meta])*
        $name:ident $(<$lifetime:lifetime>)? { $($field:ident: $rust:ty => $sql:ty),* $(,)? }
        -> $row:ty;
        $text:expr
    ) => {
        $crate::store::sqlite::statement::statement! {
            $(#[$attribute])*
            $name $(<$lifetime>)? { $($field: $rust => $sql),* }
            $text
        }

        impl $(<$lifetime>)? diesel::query_builder::Query for $name $(<$lifetime>)? {
            type SqlType = $row;
        }
    };
}

pub(super) use {query, statement};
