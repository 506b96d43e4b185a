//! SQL statements. Each has a type of its own, so that Diesel prepares it only once per connection.

/// Splits `text` at its `?` placeholders into `N` pieces. Panics if the number of pieces is not `N`; in a constant, this
/// is an error of the compiler.
pub const fn pieces<const N: usize>(text: &'static str) -> [&'static str; N] {
    let bytes = text.as_bytes();
    let mut pieces = [""; N];
    let (mut piece, mut start, mut at) = (0, 0, 0);
    while at <= bytes.len() {
        if at == bytes.len() || bytes[at] == b'?' {
            assert!(piece < N, "more placeholders than fields");
            pieces[piece] = text.split_at(at).0.split_at(start).1;
            piece += 1;
            start = at + 1;
        }
        at += 1;
    }
    assert!(piece == N, "fewer placeholders than fields");
    pieces
}

/// Declares a statement with a constant text. Its fields are bound, in order, to the `?` placeholders of the text.
///
/// Diesel finds the prepared statement by its type alone, so all values of the type must have the same text.
macro_rules! statement {
    (
        $(#[$attribute:meta])*
        $name:ident $(<$lifetime:lifetime>)? on $backend:ty { $($field:ident: $rust:ty => $sql:ty),* $(,)? }
        $text:expr
    ) => {
        $(#[$attribute])*
        pub struct $name $(<$lifetime>)? {
            $(pub $field: $rust,)*
        }

        const _: () = {
            pub struct Id;

            impl $(<$lifetime>)? diesel::query_builder::QueryId for $name $(<$lifetime>)? {
                type QueryId = Id;
                const HAS_STATIC_QUERY_ID: bool = true;
            }
        };

        impl $(<$lifetime>)? diesel::query_builder::QueryFragment<$backend> for $name $(<$lifetime>)? {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, $backend>,
            ) -> diesel::QueryResult<()> {
                const FIELDS: &[&str] = &[$(stringify!($field)),*];
                const PIECES: [&str; FIELDS.len() + 1] = $crate::statement::pieces($text);
                let [first, rest @ ..] = &PIECES;
                let mut rest = rest.iter();
                out.push_sql(first);
                $(
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                    out.push_sql(rest.next().expect("a piece follows each field"));
                )*
                debug_assert!(rest.next().is_none());
                Ok(())
            }
        }
    };
}
pub(crate) use statement;

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn text_is_split_at_its_placeholders() {
        assert_eq!(pieces::<1>("COMMIT"), ["COMMIT"]);
        assert_eq!(pieces::<3>("SELECT ?, ?"), ["SELECT ", ", ", ""]);
    }
}
