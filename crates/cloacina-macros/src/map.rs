//! The options of a task that runs once per element of a list (semantics K).

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Error, Ident, Lit, LitStr, Token, braced, token};

use crate::options::{Reference, whole};

/// The options of a mapped task: its lists, and how its items run.
#[derive(Default)]
pub struct MapOptions {
    /// Pairs of a parameter's name and its list. For `over = list`, the name is empty, and the parameter is found when the
    /// workflow is defined.
    lists: Vec<(String, Reference)>,
    fields: Vec<TokenStream>,
}

impl MapOptions {
    pub const fn is_given(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Parses `"urls"`, `function`, or `{ url = "urls", name = function }`.
    pub fn read_over(&mut self, value: ParseStream) -> Result<(), Error> {
        if !value.peek(token::Brace) {
            self.lists.push((String::new(), value.parse()?));
            return Ok(());
        }
        let content;
        let braces = braced!(content in value);
        while !content.is_empty() {
            let parameter = content.call(Ident::parse_any)?;
            let name = parameter.unraw().to_string();
            if self.lists.iter().any(|(known, _)| *known == name) {
                return Err(Error::new(
                    parameter.span(),
                    format!("`{name}` is given twice"),
                ));
            }
            content.parse::<Token![=]>()?;
            self.lists.push((name, content.parse()?));
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        if self.lists.is_empty() {
            let message = "`over` needs a list: over = \"urls\", or over = { url = \"urls\" }";
            return Err(Error::new(braces.span.join(), message));
        }
        Ok(())
    }

    /// Parses `parallel` or `batch`.
    pub fn read_count(&mut self, name: &Ident, value: ParseStream) -> Result<(), Error> {
        let count = whole(value, 1, i64::from(u32::MAX))?;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.fields
            .push(quote!(#name: ::std::option::Option::Some(#count)));
        Ok(())
    }

    /// Parses `tolerate`: a whole number is a number of items, a number with a decimal point is a share of all items.
    pub fn read_tolerate(&mut self, value: ParseStream) -> Result<(), Error> {
        let literal: Lit = value
            .parse()
            .map_err(|error| invalid_tolerance(error.span()))?;
        let tolerance = match &literal {
            Lit::Int(number) => {
                let count: u32 = number
                    .base10_parse()
                    .map_err(|_| invalid_tolerance(literal.span()))?;
                quote!(Count(#count))
            }
            Lit::Float(number) => {
                let share: f64 = number
                    .base10_parse()
                    .map_err(|_| invalid_tolerance(literal.span()))?;
                if !(0.0..=1.0).contains(&share) {
                    return Err(invalid_tolerance(literal.span()));
                }
                quote!(Share(#share))
            }
            _ => return Err(invalid_tolerance(literal.span())),
        };
        self.fields.push(
            quote!(tolerate: ::std::option::Option::Some(::cloacina::macro_support::Tolerance::#tolerance)),
        );
        Ok(())
    }

    /// Returns the field `over` of the task's definition; empty for a task that is not mapped.
    pub fn definition(&self) -> TokenStream {
        if !self.is_given() {
            return TokenStream::new();
        }
        let lists = self.lists.iter().map(|(parameter, list)| {
            let list = list.as_id();
            quote!((::std::string::String::from(#parameter), ::std::string::String::from(#list)))
        });
        let fields = &self.fields;
        quote! {
            over: ::std::option::Option::Some(::cloacina::macro_support::MapSpec {
                lists: ::std::collections::BTreeMap::from([#(#lists),*]),
                #(#fields,)*
                ..::std::default::Default::default()
            }),
        }
    }

    /// Refuses `parallel`, `tolerate` and `batch` without `over`, and the options that a mapped task cannot have.
    pub fn check(&self, names: &[Ident]) -> Result<(), Error> {
        let given = |option: &str| names.iter().find(|name| *name == option);
        if !self.is_given() {
            for option in ["parallel", "tolerate", "batch"] {
                if let Some(name) = given(option) {
                    let message = format!("`{option}` needs a list: add `over = …`");
                    return Err(Error::new(name.span(), message));
                }
            }
            return Ok(());
        }
        for (option, message) in [
            (
                "wait_for",
                "a mapped task cannot have `wait_for`: put it on a task that the mapped task depends on",
            ),
            ("final", "a final task cannot have `over`"),
            ("compensate", "a mapped task cannot have a compensation"),
        ] {
            if let Some(name) = given(option) {
                return Err(Error::new(name.span(), message));
            }
        }
        Ok(())
    }

    /// Refuses a mapped function without a result.
    pub fn check_result(&self, result: Option<&LitStr>, function: &Ident) -> Result<(), Error> {
        if self.is_given() && result.is_none() {
            let message = "a mapped task must take and return values: the result of an item is the returned value\n\
                           hint: async fn fetch(url: String) -> Result<Page, TaskError>";
            return Err(Error::new(function.span(), message));
        }
        Ok(())
    }
}

fn invalid_tolerance(span: proc_macro2::Span) -> Error {
    Error::new(
        span,
        "`tolerate` must be a number of items, or a share of them from 0.0 to 1.0",
    )
}
