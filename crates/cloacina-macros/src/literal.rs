//! Converts the Rust literals in trigger rules to JSON text. The rules compare values of the context with these literals.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Lit, LitBool, Token, bracketed};

/// The JSON text of a value that the program writes as a Rust literal or a list of literals.
pub struct JsonLiteral(pub String);

impl Parse for JsonLiteral {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        if input.peek(syn::token::Bracket) {
            let content;
            bracketed!(content in input);
            let items: Punctuated<Self, Token![,]> =
                content.parse_terminated(Self::parse, Token![,])?;
            let items: Vec<String> = items.into_iter().map(|item| item.0).collect();
            return Ok(Self(format!("[{}]", items.join(","))));
        }
        let sign = match input.parse::<Option<Token![-]>>()? {
            Some(_) => "-",
            None => "",
        };
        let literal: Lit = input.parse().map_err(|error| {
            Error::new(
                error.span(),
                "expected a number, a string, `true`, `false`, or a list of them",
            )
        })?;
        let refused = |what: &str| Err(Error::new(literal.span(), format!("JSON has no {what}")));
        Ok(Self(match &literal {
            Lit::Int(number) => format!("{sign}{}", number.base10_digits()),
            Lit::Float(number) => format!("{sign}{}", float(number.base10_digits())),
            _ if !sign.is_empty() => return refused("such value: only numbers can have a sign"),
            Lit::Str(text) => quoted(&text.value()),
            Lit::Bool(LitBool { value, .. }) => value.to_string(),
            _ => return refused("bytes or characters: write a string"),
        }))
    }
}

/// Adds the digit that JSON requires after a decimal point: `1.` is valid in Rust, but not in JSON.
fn float(digits: &str) -> String {
    match digits.split_once('.') {
        Some((whole, rest)) if !rest.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{whole}.0{rest}")
        }
        _ => digits.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => out.extend(format!("\\u{:04x}", control as u32).chars()),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_become_json_or_are_refused() {
        let cases = [
            ("1_000", "1000"),
            ("-5i64", "-5"),
            ("0xff", "255"),
            ("1.", "1.0"),
            ("2.5e3", "2.5e3"),
            ("true", "true"),
            (r#""a\"b\n""#, r#""a\"b\u000a""#),
            (r#"[1, "x", [false]]"#, r#"[1,"x",[false]]"#),
        ];
        for (rust, json) in cases {
            assert_eq!(syn::parse_str::<JsonLiteral>(rust).unwrap().0, json);
        }
        for refused in ["b'x'", "-\"x\"", "x"] {
            assert!(syn::parse_str::<JsonLiteral>(refused).is_err(), "{refused}");
        }
    }
}
