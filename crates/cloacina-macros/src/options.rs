//! The options of `#[task(…)]`, `external_task(…)` and the other nodes of `workflow!`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Error, Expr, ExprLit, ExprUnary, Ident, Lit, LitBool, LitStr, Path, Token, UnOp, bracketed,
};

use crate::keyword::unknown;
use crate::map::MapOptions;
use crate::rule::Rule;
use crate::wait::WaitOptions;

const OPTIONS: &[&str] = &[
    "id",
    "dependencies",
    "retry_attempts",
    "retry_backoff",
    "retry_delay_ms",
    "retry_max_delay_ms",
    "retry_condition",
    "retry_jitter",
    "retry_on",
    "never_on",
    "trigger_rule",
    "trigger_rules",
    "timeout_ms",
    "priority",
    "max_context_bytes",
    "output",
    "over",
    "parallel",
    "tolerate",
    "batch",
    "wait_for",
    "wait_timeout",
    "on_timeout",
    "final",
    "undoes",
    "compensate",
    "compensate_failed",
];

/// A reference to a task, by the task's id or its function.
#[derive(Clone)]
pub enum Reference {
    Id(LitStr),
    Function(Path),
}

impl Reference {
    /// Returns an expression for the task's id. The expression is valid in constants.
    pub fn as_id(&self) -> TokenStream {
        match self {
            Self::Id(id) => id.to_token_stream(),
            Self::Function(path) => quote!(<#path as ::cloacina::macro_support::Task>::ID),
        }
    }
}

impl Parse for Reference {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        if input.peek(LitStr) {
            let id: LitStr = input.parse()?;
            check_id(&id)?;
            return Ok(Self::Id(id));
        }
        input.parse().map(Self::Function).map_err(|error| {
            Error::new(
                error.span(),
                "expected a task: its id, like \"load\", or its function",
            )
        })
    }
}

/// The validated options. Options that were not given have the engine's defaults.
#[derive(Default)]
pub struct Options {
    pub id: Option<LitStr>,
    pub dependencies: Vec<Reference>,
    /// The key of the task's result.
    pub output: Option<LitStr>,
    /// The task that undoes this task.
    compensate: Option<Path>,
    compensate_failed: bool,
    final_on: Option<TokenStream>,
    undoes: Vec<Reference>,
    /// The lists that the task runs over.
    pub map: MapOptions,
    pub wait: WaitOptions,
    retry: Vec<TokenStream>,
    rule: Option<Rule>,
    fields: Vec<TokenStream>,
}

impl Options {
    /// Returns the tasks that the trigger rule names.
    pub fn rule_tasks(&self) -> &[Reference] {
        self.rule.as_ref().map_or(&[], |rule| &rule.tasks)
    }

    /// Returns the expression that creates the task's `TaskDefinition`.
    pub fn definition(
        &self,
        id: &LitStr,
        kind: &str,
        fingerprint: &str,
        result: Option<&LitStr>,
    ) -> TokenStream {
        let result = result.map(
            |key| quote!(result: ::std::option::Option::Some(::std::string::String::from(#key)),),
        );
        let kind = Ident::new(kind, Span::call_site());
        let dependencies = self.dependencies.iter().map(Reference::as_id);
        let rule = self.rule.as_ref().map(|rule| {
            let expression = &rule.expression;
            quote!(rule: #expression,)
        });
        let role = self.final_on.as_ref().map(|on| {
            let undoes = self.undoes.iter().map(Reference::as_id);
            quote! {
                role: ::std::option::Option::Some(::cloacina::macro_support::FinalRole::Final {
                    on: ::cloacina::macro_support::FinalOn::#on,
                    undoes: ::std::vec![#(::std::string::String::from(#undoes)),*],
                }),
            }
        });
        let (retry, fields) = (&self.retry, &self.fields);
        let (map, wait) = (self.map.definition(), self.wait.definition());
        quote! {
            ::cloacina::macro_support::TaskDefinition {
                id: ::std::string::String::from(#id),
                dependencies: ::std::vec![#(::std::string::String::from(#dependencies)),*],
                retry: ::cloacina::macro_support::RetryPolicy {
                    #(#retry,)*
                    ..::std::default::Default::default()
                },
                kind: ::cloacina::macro_support::TaskKind::#kind,
                fingerprint: ::std::string::String::from(#fingerprint),
                #rule
                #role
                #result
                #map
                #wait
                #(#fields,)*
                ..::std::default::Default::default()
            }
        }
    }

    /// Adds a field to the task's `TaskDefinition`.
    pub fn add_field(&mut self, field: TokenStream) {
        self.fields.push(field);
    }

    /// Limits the task to one attempt if the options have no retry policy.
    pub fn retry_never_by_default(&mut self) {
        if self.retry.is_empty() {
            self.retry.push(quote!(max_attempts: 1));
        }
    }

    /// Returns the expression that creates the task's `Option<Compensation>`.
    pub fn compensation(&self) -> TokenStream {
        let Some(path) = &self.compensate else {
            return quote!(::std::option::Option::None);
        };
        let failed = self.compensate_failed;
        quote! {
            ::std::option::Option::Some(::cloacina::macro_support::Compensation {
                names: <#path as ::cloacina::macro_support::Task>::NAMES,
                definition: <#path as ::cloacina::macro_support::Task>::definition,
                run: <#path as ::cloacina::macro_support::Task>::run,
                failed: #failed,
            })
        }
    }

    /// Refuses `undoes` without `final`, `compensate_failed` without `compensate`, and a final task with a compensation.
    fn check_final(&self, names: &[Ident]) -> Result<(), Error> {
        let given = |option: &str| names.iter().find(|name| *name == option);
        if let (Some(name), true) = (given("undoes"), self.final_on.is_none()) {
            let message = "`undoes` is allowed only for a final task: add `final = \"always\"`";
            return Err(Error::new(name.span(), message));
        }
        if let (Some(name), true) = (given("compensate_failed"), self.compensate.is_none()) {
            let message =
                "`compensate_failed` needs the task that undoes this one: add `compensate = …`";
            return Err(Error::new(name.span(), message));
        }
        if let (Some(name), true) = (given("compensate"), self.final_on.is_some()) {
            let message = "a final task cannot have a compensation of its own";
            return Err(Error::new(name.span(), message));
        }
        Ok(())
    }

    fn read(&mut self, name: &Ident, value: ParseStream) -> Result<(), Error> {
        match name.to_string().as_str() {
            "id" => {
                let id: LitStr = value.parse()?;
                check_id(&id)?;
                self.id = Some(id);
            }
            "dependencies" => self.dependencies = list(value, Reference::parse)?,
            "retry_attempts" => {
                let attempts = whole(value, 0, 1_000_000)?.max(1);
                let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
                self.retry.push(quote!(max_attempts: #attempts));
            }
            "retry_backoff" => {
                let word: LitStr = value.parse()?;
                let variant = match word.value().as_str() {
                    "fixed" => quote!(Fixed),
                    "linear" => quote!(Linear { multiplier: 1.0 }),
                    "exponential" => quote!(Exponential {
                        base: 2.0,
                        multiplier: 1.0
                    }),
                    other => {
                        let known = ["fixed", "linear", "exponential"];
                        return Err(unknown(word.span(), "retry_backoff", other, &known));
                    }
                };
                self.retry
                    .push(quote!(backoff: ::cloacina::macro_support::Backoff::#variant));
            }
            "retry_delay_ms" => {
                let delay = micros(value, 0)?;
                self.retry.push(quote!(initial_delay: #delay));
            }
            "retry_max_delay_ms" => {
                let delay = micros(value, 0)?;
                self.retry.push(quote!(max_delay: #delay));
            }
            "retry_condition" => self.read_condition(value)?,
            "retry_jitter" => {
                let jitter: LitBool = value.parse()?;
                self.retry.push(quote!(jitter: #jitter));
            }
            "retry_on" | "never_on" => {
                let types = list(value, text)?;
                self.retry
                    .push(quote!(#name: ::std::vec![#(::std::string::String::from(#types)),*]));
            }
            "trigger_rule" | "trigger_rules" => {
                if self.rule.is_some() {
                    return Err(Error::new(
                        name.span(),
                        "a task can have only one trigger rule",
                    ));
                }
                self.rule = Some(value.parse()?);
            }
            "timeout_ms" => {
                let timeout = micros(value, 1)?;
                self.fields
                    .push(quote!(timeout: ::std::option::Option::Some(#timeout)));
            }
            "priority" => {
                let priority = whole(value, i64::from(i16::MIN), i64::from(i16::MAX))?;
                let priority = i16::try_from(priority).unwrap_or_default();
                self.fields
                    .push(quote!(priority: ::std::option::Option::Some(#priority)));
            }
            "max_context_bytes" => {
                let bytes = whole(value, 1, i64::MAX)?.cast_unsigned();
                self.fields
                    .push(quote!(max_context_bytes: ::std::option::Option::Some(#bytes)));
            }
            "over" => self.map.read_over(value)?,
            "parallel" | "batch" => self.map.read_count(name, value)?,
            "tolerate" => self.map.read_tolerate(value)?,
            "wait_for" => self.wait.read_condition(value)?,
            "wait_timeout" => self.wait.read_timeout(value)?,
            "on_timeout" => self.wait.read_end(value)?,
            "final" => self.read_final(value)?,
            "undoes" => self.undoes = list(value, Reference::parse)?,
            "compensate" => self.compensate = Some(value.parse()?),
            "compensate_failed" => self.compensate_failed = value.parse::<LitBool>()?.value,
            "output" => {
                let key: LitStr = value.parse()?;
                if key.value().is_empty() {
                    return Err(Error::new(
                        key.span(),
                        "the key of a result cannot be empty",
                    ));
                }
                self.output = Some(key);
            }
            other => return Err(unknown(name.span(), "option", other, OPTIONS)),
        }
        Ok(())
    }

    fn read_final(&mut self, value: ParseStream) -> Result<(), Error> {
        let word: LitStr = value.parse()?;
        self.final_on = Some(match word.value().as_str() {
            "always" => quote!(Always),
            "failure" => quote!(Failure),
            "cancelled" => quote!(Cancelled),
            "success" => quote!(Success),
            other => {
                let known = ["always", "failure", "cancelled", "success"];
                return Err(unknown(word.span(), "final", other, &known));
            }
        });
        Ok(())
    }

    fn read_condition(&mut self, value: ParseStream) -> Result<(), Error> {
        let condition = if value.peek(syn::token::Bracket) {
            let patterns = list(value, text)?;
            quote!(Patterns(
                ::std::vec![#(::std::string::String::from(#patterns)),*]
            ))
        } else {
            let word: LitStr = value.parse()?;
            match word.value().as_str() {
                "never" => quote!(Never),
                "transient" => quote!(Transient),
                "all" => quote!(All),
                other => {
                    let known = ["never", "transient", "all", "or a list of strings"];
                    return Err(unknown(word.span(), "retry_condition", other, &known));
                }
            }
        };
        self.retry
            .push(quote!(condition: ::cloacina::macro_support::RetryCondition::#condition));
        Ok(())
    }
}

impl Parse for Options {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        Self::read_all(input, OPTIONS, |_, _, _| Ok(false))
    }
}

impl Options {
    /// Parses options whose names are in `known`. `read_own` reads the value of an option and returns `true`, or returns
    /// `false` if it does not know the option. Such an option is then read as an option of a task.
    pub fn read_all(
        input: ParseStream,
        known: &[&str],
        mut read_own: impl FnMut(&mut Self, &Ident, ParseStream) -> Result<bool, Error>,
    ) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            // `parse_any` also accepts words that Rust reserves, such as the option `final`.
            let name = input.call(Ident::parse_any)?;
            if seen.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            if !known.contains(&name.to_string().as_str()) {
                return Err(unknown(name.span(), "option", &name.to_string(), known));
            }
            input.parse::<Token![=]>()?;
            if !read_own(&mut options, &name, input)? {
                options.read(&name, input)?;
            }
            seen.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        options.check_final(&seen)?;
        options.map.check(&seen)?;
        if known == OPTIONS {
            options.wait.check(&seen)?;
        }
        Ok(options)
    }
}

/// Refuses a task that depends on itself. Other cycles can be found only in the whole workflow.
pub fn check_not_own(id: &LitStr, options: &Options) -> Result<(), Error> {
    for reference in options.dependencies.iter().chain(options.rule_tasks()) {
        if let Reference::Id(other) = reference
            && other.value() == id.value()
        {
            let message = format!("task '{0}' cannot depend on itself", id.value());
            return Err(Error::new(other.span(), message));
        }
    }
    Ok(())
}

pub fn check_id(id: &LitStr) -> Result<(), Error> {
    let text = id.value();
    let fits = (1..=255).contains(&text.len())
        && text.trim() == text
        && !text.contains("::")
        && !text.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(Error::new(
        id.span(),
        "invalid task id\nhint: use 1 to 255 bytes without control characters, '::' or outer spaces",
    ))
}

fn text(input: ParseStream) -> Result<LitStr, Error> {
    input.parse()
}

fn list<T>(
    input: ParseStream,
    item: impl Fn(ParseStream) -> Result<T, Error> + Copy,
) -> Result<Vec<T>, Error> {
    if !input.peek(syn::token::Bracket) {
        return Err(input.error("expected a list: [\"…\", …]"));
    }
    let content;
    bracketed!(content in input);
    let mut items = Vec::new();
    while !content.is_empty() {
        items.push(item(&content)?);
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(items)
}

/// Parses milliseconds and converts them to the engine's microseconds.
fn micros(input: ParseStream, least: i64) -> Result<i64, Error> {
    whole(input, least, i64::MAX / 4_000_000).map(|milliseconds| milliseconds * 1000)
}

pub fn whole(input: ParseStream, least: i64, most: i64) -> Result<i64, Error> {
    let value: Expr = input.parse()?;
    let (sign, literal) = match &value {
        Expr::Unary(ExprUnary {
            op: UnOp::Neg(_),
            expr,
            ..
        }) => (-1, &**expr),
        other => (1, other),
    };
    let number = match literal {
        Expr::Lit(ExprLit {
            lit: Lit::Int(number),
            ..
        }) => number.base10_parse::<i64>().ok(),
        _ => None,
    };
    match number.map(|number| sign * number) {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let is_too_large = number.is_some_and(|number| sign * number > most);
            let message = if most > 1_000_000 && !is_too_large {
                format!("expected a whole number of at least {least}")
            } else {
                format!("expected a whole number between {least} and {most}")
            };
            Err(Error::new_spanned(&value, message))
        }
    }
}

/// Parses a list such as `[a, b]`.
pub fn parse_list<T: Parse>(input: ParseStream) -> Result<Punctuated<T, Token![,]>, Error> {
    let content;
    bracketed!(content in input);
    content.parse_terminated(T::parse, Token![,])
}
