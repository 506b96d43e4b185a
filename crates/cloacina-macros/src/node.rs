//! The nodes of `workflow!` that have no function in this program: tasks of other programs, waits, approvals, and children.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitStr, Path, Token, Type, braced};

use crate::options::{Options, check_not_own};
use crate::task_names::task_names;
use crate::wait::{duration, wait_end};

/// The keywords that begin a node in the list of tasks.
pub const KEYWORDS: [&str; 4] = ["external_task", "wait", "approval", "child"];

const WAIT_OPTIONS: &[&str] = &[
    "id",
    "wait_for",
    "dependencies",
    "timeout",
    "on_timeout",
    "trigger_rule",
    "trigger_rules",
    "priority",
];

const APPROVAL_OPTIONS: &[&str] = &[
    "id",
    "dependencies",
    "timeout",
    "on_timeout",
    "on_reject",
    "data",
    "title",
    "to",
    "trigger_rule",
    "trigger_rules",
    "priority",
];

const CHILD_OPTIONS: &[&str] = &[
    "id",
    "workflow",
    "input",
    "over",
    "parallel",
    "tolerate",
    "batch",
    "dependencies",
    "timeout",
    "on_parent_end",
    "trigger_rule",
    "trigger_rules",
    "priority",
    "retry_attempts",
    "retry_backoff",
    "retry_delay_ms",
    "retry_max_delay_ms",
    "retry_condition",
    "retry_jitter",
    "retry_on",
    "never_on",
    "compensate",
    "compensate_failed",
];

/// A node, with its validated options.
pub struct Node {
    pub keyword: Ident,
    id: LitStr,
    /// The name of the node's variant of `TaskKind`.
    kind: &'static str,
    result: Option<LitStr>,
    options: Options,
}

impl Node {
    /// Parses the arguments that follow the keyword of a node.
    pub fn parse(keyword: Ident, input: ParseStream) -> Result<Self, Error> {
        let content;
        syn::parenthesized!(content in input);
        let word = keyword.to_string();
        let options = match word.as_str() {
            "wait" => read_wait(&keyword, &content)?,
            "approval" => read_approval(&content)?,
            "child" => read_child(&keyword, &content)?,
            _ => Options::parse(&content)?,
        };
        let (name, kind) = match word.as_str() {
            "external_task" => ("an external task", "External"),
            "approval" => ("an approval", "Engine"),
            "wait" => ("a wait", "Engine"),
            _ => ("a child", "Engine"),
        };
        let Some(id) = options.id.clone() else {
            let message = format!("{name} needs its id: {word}(id = \"…\")");
            return Err(Error::new(keyword.span(), message));
        };
        check_not_own(&id, &options)?;
        let result = if kind == "Engine" {
            Some(id.clone())
        } else {
            options.output.clone()
        };
        Ok(Self {
            keyword,
            id,
            kind,
            result,
            options,
        })
    }

    /// Returns the expression that creates the node's `TaskNames`.
    pub fn names(&self) -> TokenStream {
        task_names(&self.id, &self.options, self.result.as_ref(), None)
    }

    /// Returns the expression that creates the node's `TaskDefinition`.
    pub fn definition(&self) -> TokenStream {
        let result = self.result.as_ref();
        self.options.definition(&self.id, self.kind, "", result)
    }

    /// Returns the expression that creates the node's `Option<Compensation>`.
    pub fn compensation(&self) -> TokenStream {
        self.options.compensation()
    }
}

fn read_wait(keyword: &Ident, input: ParseStream) -> Result<Options, Error> {
    let options = Options::read_all(input, WAIT_OPTIONS, |options, name, value| {
        match name.to_string().as_str() {
            "timeout" => options.wait.read_timeout(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !options.wait.is_given() {
        let message = "a wait needs its condition: wait(id = \"…\", wait_for = delay(\"1h\"))";
        return Err(Error::new(keyword.span(), message));
    }
    Ok(options)
}

fn read_approval(input: ParseStream) -> Result<Options, Error> {
    let mut fields: Vec<TokenStream> = Vec::new();
    let mut data: Option<Type> = None;
    let mut options = Options::read_all(input, APPROVAL_OPTIONS, |options, name, value| {
        match name.to_string().as_str() {
            "timeout" => options.wait.read_timeout(value)?,
            "on_reject" => {
                let end = wait_end("on_reject", value)?;
                fields.push(quote!(on_reject: #end));
            }
            "data" => data = Some(value.parse()?),
            "title" | "to" => {
                let text: LitStr = value.parse()?;
                fields.push(
                    quote!(#name: ::std::option::Option::Some(::std::string::String::from(#text))),
                );
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if let (Some(kind), Some(id)) = (data, &options.id) {
        fields.push(quote! {
            schema: ::std::option::Option::Some(::cloacina::macro_support::schema_of::<#kind>(#id))
        });
    }
    options.add_field(quote! {
        approval: ::std::option::Option::Some(::cloacina::macro_support::Approval {
            #(#fields,)*
            ..::std::default::Default::default()
        })
    });
    Ok(options)
}

fn read_child(keyword: &Ident, input: ParseStream) -> Result<Options, Error> {
    let mut workflow: Option<LitStr> = None;
    let mut fields: Vec<TokenStream> = Vec::new();
    let mut options = Options::read_all(input, CHILD_OPTIONS, |options, name, value| {
        match name.to_string().as_str() {
            "workflow" => workflow = Some(not_empty(value)?),
            "input" => {
                let paths = read_paths(value)?;
                let paths = paths.iter().map(|(name, path)| {
                    quote!((::std::string::String::from(#name), ::std::string::String::from(#path)))
                });
                fields.push(quote! {
                    input: ::std::option::Option::Some(::std::collections::BTreeMap::from(
                        [#(#paths),*] as [(::std::string::String, ::std::string::String); _]
                    ))
                });
            }
            "timeout" => {
                let timeout = duration(value)?;
                options.add_field(quote!(timeout: ::std::option::Option::Some(#timeout)));
            }
            "on_parent_end" => {
                let word: LitStr = value.parse()?;
                let variant = match word.value().as_str() {
                    "cancel" => quote!(Cancel),
                    "abandon" => quote!(Abandon),
                    other => {
                        let known = ["cancel", "abandon"];
                        return Err(crate::keyword::unknown(
                            word.span(),
                            "on_parent_end",
                            other,
                            &known,
                        ));
                    }
                };
                fields.push(quote!(on_parent_end: ::cloacina::macro_support::ParentEnd::#variant));
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(workflow) = workflow else {
        let message = "a child needs its workflow: child(id = \"…\", workflow = \"…\")";
        return Err(Error::new(keyword.span(), message));
    };
    options.retry_never_by_default();
    options.add_field(quote! {
        child: ::std::option::Option::Some(::cloacina::macro_support::ChildSpec {
            workflow: ::std::string::String::from(#workflow),
            #(#fields,)*
            ..::std::default::Default::default()
        })
    });
    Ok(options)
}

/// Parses `{ page = "item", order = "order_id" }`, and returns each name with the path of its value.
fn read_paths(input: ParseStream) -> Result<Vec<(String, LitStr)>, Error> {
    let content;
    braced!(content in input);
    let mut paths: Vec<(String, LitStr)> = Vec::new();
    while !content.is_empty() {
        let (name, span) = if content.peek(LitStr) {
            let name = not_empty(&content)?;
            (name.value(), name.span())
        } else {
            let name = content.call(Ident::parse_any)?;
            (name.unraw().to_string(), name.span())
        };
        if paths.iter().any(|(known, _)| *known == name) {
            return Err(Error::new(span, format!("`{name}` is given twice")));
        }
        content.parse::<Token![=]>()?;
        paths.push((name, not_empty(&content)?));
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(paths)
}

fn not_empty(input: ParseStream) -> Result<LitStr, Error> {
    let text: LitStr = input.parse()?;
    if text.value().is_empty() {
        return Err(Error::new(text.span(), "the string must not be empty"));
    }
    Ok(text)
}

/// Returns the single keyword in a path. The path is followed by arguments, so it must be the keyword of a node.
pub fn keyword_of(path: &Path) -> Result<Ident, Error> {
    let keyword = path
        .get_ident()
        .filter(|word| KEYWORDS.iter().any(|known| *word == known));
    keyword.cloned().ok_or_else(|| {
        Error::new_spanned(
            path,
            "only `external_task`, `wait`, `approval` and `child` take arguments; for a function with `#[task]`, write only its path",
        )
    })
}
