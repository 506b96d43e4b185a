//! Parses trigger rules (semantics C2).

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitStr, Token, parenthesized};

use crate::keyword::unknown;
use crate::literal::JsonLiteral;
use crate::options::Reference;

const NAMES: [(&str, &str); 7] = [
    ("all_success", "AllSuccess"),
    ("all_failed", "AllFailed"),
    ("all_done", "AllDone"),
    ("one_success", "OneSuccess"),
    ("one_failed", "OneFailed"),
    ("none_failed", "NoneFailed"),
    ("always", "Always"),
];

const CONDITIONS: [&str; 7] = [
    "task_success",
    "task_failed",
    "task_skipped",
    "context_value",
    "all",
    "any",
    "none",
];

const OPERATORS: [(&str, &str); 10] = [
    ("equals", "Equals"),
    ("not_equals", "NotEquals"),
    ("greater_than", "GreaterThan"),
    ("greater_or_equal", "GreaterOrEqual"),
    ("less_than", "LessThan"),
    ("less_or_equal", "LessOrEqual"),
    ("contains", "Contains"),
    ("not_contains", "NotContains"),
    ("exists", "Exists"),
    ("not_exists", "NotExists"),
];

/// Other spellings of operators. Python accepts them too.
const ALIASES: [(&str, &str); 12] = [
    ("eq", "Equals"),
    ("ne", "NotEquals"),
    ("gt", "GreaterThan"),
    ("ge", "GreaterOrEqual"),
    ("gte", "GreaterOrEqual"),
    ("greater_than_or_equal", "GreaterOrEqual"),
    ("lt", "LessThan"),
    ("le", "LessOrEqual"),
    ("lte", "LessOrEqual"),
    ("less_than_or_equal", "LessOrEqual"),
    ("equal", "Equals"),
    ("not_equal", "NotEquals"),
];

/// A trigger rule: the expression that creates the rule, and the tasks that the rule names.
pub struct Rule {
    pub expression: TokenStream,
    pub tasks: Vec<Reference>,
}

impl Rule {
    /// Creates the rule of `trigger_rule = "name"`.
    pub fn named(name: &LitStr) -> Result<Self, Error> {
        let text = name.value();
        let rule = NAMES.iter().find(|(known, _)| *known == text);
        let Some((_, variant)) = rule else {
            let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
            return Err(unknown(name.span(), "trigger_rule", &text, &known));
        };
        Ok(Self::variant(variant))
    }

    fn variant(variant: &str) -> Self {
        let variant = Ident::new(variant, proc_macro2::Span::call_site());
        Self {
            expression: quote!(::cloacina::macro_support::TriggerRule::#variant),
            tasks: Vec::new(),
        }
    }

    /// Parses the arguments of `task_success(…)`, `task_failed(…)` or `task_skipped(…)`.
    fn about_task(variant: &str, content: ParseStream) -> Result<Self, Error> {
        let task: Reference = content.parse()?;
        let id = task.as_id();
        let variant = Ident::new(variant, proc_macro2::Span::call_site());
        Ok(Self {
            expression: quote! {
                ::cloacina::macro_support::TriggerRule::#variant {
                    task: ::std::string::String::from(#id)
                }
            },
            tasks: vec![task],
        })
    }

    fn about_context(content: ParseStream) -> Result<Self, Error> {
        let key: LitStr = content.parse()?;
        content.parse::<Token![,]>()?;
        let operator = operator(content)?;
        let takes_value = !matches!(operator, "Exists" | "NotExists");
        let value = if takes_value {
            content.parse::<Token![,]>()?;
            content.parse::<JsonLiteral>()?.0
        } else {
            "null".to_owned()
        };
        let operator = Ident::new(operator, proc_macro2::Span::call_site());
        Ok(Self {
            expression: quote! {
                ::cloacina::macro_support::TriggerRule::ContextValue {
                    key: ::std::string::String::from(#key),
                    operator: ::cloacina::macro_support::Operator::#operator,
                    value: ::cloacina::macro_support::Json::from_encoder(#value),
                }
            },
            tasks: Vec::new(),
        })
    }

    fn group(name: &Ident, variant: &str, content: ParseStream) -> Result<Self, Error> {
        let parts: Punctuated<Self, Token![,]> =
            content.parse_terminated(Self::parse, Token![,])?;
        if parts.is_empty() {
            return Err(Error::new(
                name.span(),
                format!("`{name}()` needs at least one condition"),
            ));
        }
        let variant = Ident::new(variant, proc_macro2::Span::call_site());
        let expressions = parts.iter().map(|part| &part.expression);
        Ok(Self {
            expression: quote! {
                ::cloacina::macro_support::TriggerRule::#variant {
                    conditions: ::std::vec![#(#expressions),*]
                }
            },
            tasks: parts.into_iter().flat_map(|part| part.tasks).collect(),
        })
    }
}

impl Parse for Rule {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        if input.peek(LitStr) {
            return Self::named(&input.parse()?);
        }
        let name = input.call(Ident::parse_any).map_err(|error| {
            Error::new(
                error.span(),
                "expected a rule: a name like `one_failed`, or a condition like `task_success(\"a\")`",
            )
        })?;
        let text = name.to_string();
        if input.peek(syn::token::Paren) {
            let content;
            parenthesized!(content in input);
            let rule = match text.as_str() {
                "task_success" => Self::about_task("TaskSuccess", &content)?,
                "task_failed" => Self::about_task("TaskFailed", &content)?,
                "task_skipped" => Self::about_task("TaskSkipped", &content)?,
                "context_value" => Self::about_context(&content)?,
                "all" | "all_of" => Self::group(&name, "AllOf", &content)?,
                "any" | "any_of" => Self::group(&name, "AnyOf", &content)?,
                "none" | "none_of" => Self::group(&name, "NoneOf", &content)?,
                other => match NAMES.iter().find(|(known, _)| *known == other) {
                    Some((_, variant)) => Self::variant(variant),
                    None => return Err(unknown_rule(&name)),
                },
            };
            if !content.is_empty() {
                let message = format!("too many arguments for `{text}`");
                return Err(content.error(message));
            }
            return Ok(rule);
        }
        if let Some((_, variant)) = NAMES.iter().find(|(known, _)| *known == text) {
            return Ok(Self::variant(variant));
        }
        if CONDITIONS.contains(&text.as_str()) {
            return Err(Error::new(
                name.span(),
                format!("`{text}` needs its arguments: `{text}(…)`"),
            ));
        }
        Err(unknown_rule(&name))
    }
}

fn unknown_rule(name: &Ident) -> Error {
    let names = NAMES.iter().map(|(known, _)| *known);
    let known: Vec<&str> = CONDITIONS.into_iter().chain(names).collect();
    unknown(name.span(), "trigger rule", &name.to_string(), &known)
}

/// Parses an operator: a word, a symbol, or a string that contains a word or a symbol. Returns the name of its variant.
fn operator(input: ParseStream) -> Result<&'static str, Error> {
    let symbols: [(bool, &'static str, usize); 6] = [
        (input.peek(Token![==]), "Equals", 2),
        (input.peek(Token![!=]), "NotEquals", 2),
        (input.peek(Token![>=]), "GreaterOrEqual", 2),
        (input.peek(Token![<=]), "LessOrEqual", 2),
        (input.peek(Token![>]), "GreaterThan", 1),
        (input.peek(Token![<]), "LessThan", 1),
    ];
    if let Some((_, variant, length)) = symbols.iter().find(|(is_next, ..)| *is_next) {
        for _ in 0..*length {
            input.parse::<proc_macro2::Punct>()?;
        }
        return Ok(variant);
    }
    if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        let inner: Result<&'static str, Error> =
            syn::parse::Parser::parse_str(|stream: ParseStream| operator(stream), &text.value());
        return inner.map_err(|error| Error::new(text.span(), error.to_string()));
    }
    let word = input.call(Ident::parse_any).map_err(|error| {
        Error::new(
            error.span(),
            "expected an operator: a word like `greater_than`, or a symbol like `>`",
        )
    })?;
    let text = word.to_string();
    let mut words = OPERATORS.iter().chain(&ALIASES);
    words
        .find(|(known, _)| *known == text)
        .map(|(_, variant)| *variant)
        .ok_or_else(|| {
            let known: Vec<&str> = OPERATORS.iter().map(|(known, _)| *known).collect();
            unknown(word.span(), "operator", &text, &known)
        })
}
