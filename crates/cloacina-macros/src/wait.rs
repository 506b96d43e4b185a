//! The options of a task that waits for a condition (semantics L).

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitStr, Token, parenthesized};

use crate::keyword::unknown;
use crate::task_names::optional;

/// The options of a wait: the condition, the timeout, and what the task does when the wait times out.
#[derive(Default)]
pub struct WaitOptions {
    condition: Option<Condition>,
    fields: Vec<TokenStream>,
}

impl WaitOptions {
    pub fn read_condition(&mut self, value: ParseStream) -> Result<(), Error> {
        self.condition = Some(value.parse()?);
        Ok(())
    }

    pub fn read_timeout(&mut self, value: ParseStream) -> Result<(), Error> {
        let timeout = duration(value)?;
        self.fields
            .push(quote!(wait_timeout: ::std::option::Option::Some(#timeout)));
        Ok(())
    }

    pub fn read_end(&mut self, value: ParseStream) -> Result<(), Error> {
        let end = wait_end("on_timeout", value)?;
        self.fields.push(quote!(on_timeout: #end));
        Ok(())
    }

    pub const fn is_given(&self) -> bool {
        self.condition.is_some()
    }

    /// Returns the fields of the task's definition; empty for a task that does not wait.
    pub fn definition(&self) -> TokenStream {
        let condition = self.condition.as_ref().map(|condition| {
            let condition = &condition.0;
            quote!(wait_for: ::std::option::Option::Some(#condition),)
        });
        let fields = &self.fields;
        quote!(#condition #(#fields,)*)
    }

    /// Refuses `wait_timeout` and `on_timeout` without `wait_for`.
    pub fn check(&self, names: &[Ident]) -> Result<(), Error> {
        if self.condition.is_some() {
            return Ok(());
        }
        for option in ["wait_timeout", "on_timeout"] {
            if let Some(name) = names.iter().find(|name| *name == option) {
                let message = format!("`{option}` needs a condition: add `wait_for = …`");
                return Err(Error::new(name.span(), message));
            }
        }
        Ok(())
    }
}

/// Parses the value of `on_timeout` or `on_reject`: `"fail"`, `"skip"` or `"continue"`.
pub fn wait_end(option: &str, value: ParseStream) -> Result<TokenStream, Error> {
    let word: LitStr = value.parse()?;
    let variant = match word.value().as_str() {
        "fail" => quote!(Fail),
        "skip" => quote!(Skip),
        "continue" => quote!(Continue),
        other => {
            let known = ["fail", "skip", "continue"];
            return Err(unknown(word.span(), option, other, &known));
        }
    };
    Ok(quote!(::cloacina::macro_support::WaitEnd::#variant))
}

const CONDITIONS: [&str; 5] = ["signal", "delay", "until", "any_of", "all_of"];

/// The expression that creates a condition.
pub struct Condition(pub TokenStream);

impl Parse for Condition {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        let name = input.call(Ident::parse_any).map_err(|error| {
            let message =
                "expected a condition: signal(\"…\"), delay(\"…\"), until(\"…\"), any_of(…) or all_of(…)";
            Error::new(error.span(), message)
        })?;
        let word = name.to_string();
        if !CONDITIONS.contains(&word.as_str()) {
            return Err(unknown(name.span(), "condition", &word, &CONDITIONS));
        }
        let content;
        parenthesized!(content in input);
        let content = &content;
        let expression = match word.as_str() {
            "signal" => signal(content)?,
            "delay" => {
                let duration = duration(content)?;
                quote!(Delay { duration: #duration })
            }
            "until" => {
                let path = path(content)?;
                quote!(Until {
                    at: ::std::option::Option::None,
                    path: ::std::option::Option::Some(::std::string::String::from(#path)),
                })
            }
            _ => {
                let mut conditions = Vec::new();
                while !content.is_empty() {
                    conditions.push(content.parse::<Self>()?.0);
                    if !content.is_empty() {
                        content.parse::<Token![,]>()?;
                    }
                }
                if conditions.is_empty() {
                    return Err(Error::new(
                        name.span(),
                        format!("`{word}` needs at least one condition"),
                    ));
                }
                let variant = if word == "any_of" {
                    quote!(AnyOf)
                } else {
                    quote!(AllOf)
                };
                quote!(#variant { conditions: ::std::vec![#(#conditions),*] })
            }
        };
        if !content.is_empty() {
            return Err(content.error("unexpected argument"));
        }
        Ok(Self(
            quote!(::cloacina::macro_support::Condition::#expression),
        ))
    }
}

/// Parses the arguments of `signal("paid", key = "order_id", since = "ever")`.
fn signal(content: ParseStream) -> Result<TokenStream, Error> {
    let signal = path(content)?;
    let (mut key, mut since) = (None, None);
    while content.parse::<Option<Token![,]>>()?.is_some() && !content.is_empty() {
        let option = content.call(Ident::parse_any)?;
        let word = option.to_string();
        content.parse::<Token![=]>()?;
        match word.as_str() {
            "key" if key.is_none() => key = Some(path(content)?),
            "since" if since.is_none() => {
                let text: LitStr = content.parse()?;
                since = Some(match text.value().as_str() {
                    "submitted" => quote!(Submitted),
                    "ever" => quote!(Ever),
                    other => {
                        return Err(unknown(text.span(), "since", other, &["submitted", "ever"]));
                    }
                });
            }
            "key" | "since" => {
                return Err(Error::new(
                    option.span(),
                    format!("`{word}` is given twice"),
                ));
            }
            _ => return Err(unknown(option.span(), "option", &word, &["key", "since"])),
        }
    }
    let key = optional(key.map(|key| quote!(::std::string::String::from(#key))));
    let since = since.unwrap_or_else(|| quote!(Submitted));
    Ok(quote!(Signal {
        name: ::std::string::String::from(#signal),
        key: #key,
        key_value: ::std::option::Option::None,
        since: ::cloacina::macro_support::Since::#since,
    }))
}

/// Parses a name or a path, which must not be empty.
fn path(input: ParseStream) -> Result<LitStr, Error> {
    let text: LitStr = input.parse()?;
    if text.value().trim().is_empty() {
        return Err(Error::new(text.span(), "the string must not be empty"));
    }
    Ok(text)
}

/// The units of durations, each with its length in microseconds.
const UNITS: [(&str, f64); 5] = [
    ("ms", 1e3),
    ("s", 1e6),
    ("m", 6e7),
    ("h", 3.6e9),
    ("d", 8.64e10),
];
/// Maximum duration, in microseconds. Python has the same limit.
const LONGEST: f64 = 1e18;

/// Parses a string such as `"90s"`, `"10m"`, `"48h"` or `"7d"` and returns the duration in microseconds.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the duration is in the range of an i64"
)]
pub fn duration(input: ParseStream) -> Result<i64, Error> {
    let text: LitStr = input.parse()?;
    let value = text.value();
    let value = value.trim();
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = UNITS
        .iter()
        .find(|(unit, _)| *unit == &value[digits.len()..]);
    let number = digits.trim().parse::<f64>().ok();
    let micros = number.zip(unit).map(|(number, (_, size))| number * size);
    match micros.filter(|micros| (1.0..=LONGEST).contains(micros)) {
        Some(micros) => Ok(micros.round() as i64),
        None => Err(Error::new(
            text.span(),
            "expected a positive duration, such as \"90s\", \"10m\", \"48h\" or \"7d\"",
        )),
    }
}
