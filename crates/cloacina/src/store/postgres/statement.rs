//! Macros that declare a statement as a type with a constant text. The text can be pasted into `psql`.

/// Declares a statement that returns rows. The SQL types of a row follow the arrow. The fields are the parameters `$1`,
/// `$2`, … of the text, in order.
macro_rules! query {
    (
        $(#[$attribute:meta])*
        $name:ident $(<$lifetime:lifetime>)? { $($field:ident: $rust:ty => $sql:ty),* $(,)? }
        -> $row:ty;
        $text:expr
    ) => {
        $(#[$attribute])*
        pub(super) struct $name $(<$lifetime>)? {
            $(pub(super) $field: $rust,)*
        }

        impl $(<$lifetime>)? $crate::store::postgres::driver::Statement for $name $(<$lifetime>)? {
            type Row = $row;

            fn encode(
                &self,
            ) -> Result<
                (std::borrow::Cow<'static, str>, $crate::store::postgres::driver::Parameters),
                $crate::store::postgres::error::Fault,
            > {
                const FIELDS: &[&str] = &[$(stringify!($field)),*];
                const {
                    assert!($crate::store::postgres::statement::parameters($text) == FIELDS.len());
                };
                let parameters = $crate::store::postgres::driver::Parameters::default()
                    $(.with::<$sql, _>(&self.$field)?)*;
                Ok(($text.into(), parameters))
            }
        }
    };
}

/// Declares a statement that returns no rows.
macro_rules! statement {
    (
        $(#[$attribute:meta])*
        $name:ident $(<$lifetime:lifetime>)? { $($fields:tt)* }
        $text:expr
    ) => {
        $crate::store::postgres::statement::query! {
            $(#[$attribute])*
            $name $(<$lifetime>)? { $($fields)* } -> ();
            $text
        }
    };
}

pub(super) use {query, statement};

/// Returns the highest parameter number in an SQL text.
pub(super) const fn parameters(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut highest, mut at) = (0, 0);
    while at < bytes.len() {
        let mut number = 0;
        if bytes[at] == b'$' {
            while at + 1 < bytes.len() && bytes[at + 1].is_ascii_digit() {
                at += 1;
                number = number * 10 + (bytes[at] - b'0') as usize;
            }
        }
        if number > highest {
            highest = number;
        }
        at += 1;
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::parameters;

    #[test]
    fn parameters_returns_the_highest_parameter_number() {
        assert_eq!(parameters("COMMIT"), 0);
        assert_eq!(parameters("SELECT $2::text, $1, $2"), 2);
        assert_eq!(parameters("SELECT $12"), 12);
    }
}
