//! `workflow!`: parses the macro's input, and expands to the static check and to the call that defines the workflow.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Ident, LitStr, Path, Token, Type, braced};

use crate::keyword::unknown;
use crate::node::{self, Node};
use crate::options::parse_list;
use crate::task_names::optional;
use crate::wait::Condition;

const FIELDS: &[&str] = &[
    "name",
    "description",
    "tags",
    "tenant",
    "package",
    "input",
    "output",
    "cancel_on",
    "tasks",
];

/// The parsed input of `workflow!`.
struct WorkflowInput {
    name: LitStr,
    description: Option<LitStr>,
    tags: Vec<(LitStr, LitStr)>,
    tenant: Option<LitStr>,
    package: Option<LitStr>,
    /// The declared type of the workflow's input.
    input: Option<Type>,
    output: Option<Output>,
    /// The signals that cancel an execution.
    cancel_on: Vec<Condition>,
    tasks: Vec<Entry>,
}

/// The keys of the results that form the workflow's output.
enum Output {
    One(LitStr),
    Many(Vec<LitStr>),
}

impl Parse for Output {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        if input.peek(syn::token::Bracket) {
            let bracket = input.span();
            let keys: Vec<LitStr> = parse_list(input)?.into_iter().collect();
            if keys.is_empty() {
                return Err(Error::new(
                    bracket,
                    "the output must name at least one result",
                ));
            }
            return Ok(Self::Many(keys));
        }
        let message = "expected the name of a result, like \"total\", or a list of names";
        let key = input
            .parse()
            .map_err(|error: Error| Error::new(error.span(), message))?;
        Ok(Self::One(key))
    }
}

impl Output {
    fn keys(&self) -> &[LitStr] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }

    /// Returns the expression that creates the definition's `Output`.
    fn expression(&self) -> TokenStream {
        let keys = self.keys();
        let keys = quote!(#(::std::string::String::from(#keys)),*);
        match self {
            Self::One(_) => quote!(::cloacina::macro_support::Output::One(#keys)),
            Self::Many(_) => quote!(::cloacina::macro_support::Output::Many(::std::vec![#keys])),
        }
    }
}

enum Entry {
    Function(Path),
    Node(Box<Node>),
}

impl Parse for Entry {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        let path: Path = input.parse().map_err(|error| {
            Error::new(
                error.span(),
                "expected a task: a function with `#[task]`, or `external_task`, `wait`, `approval` or `child` with options",
            )
        })?;
        if !input.peek(syn::token::Paren) {
            return Ok(Self::Function(path));
        }
        let node = Node::parse(node::keyword_of(&path)?, input)?;
        Ok(Self::Node(Box::new(node)))
    }
}

impl Parse for WorkflowInput {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        let mut seen: Vec<Ident> = Vec::new();
        let (mut name, mut description, mut tenant, mut package) = (None, None, None, None);
        let (mut tags, mut tasks) = (Vec::new(), None);
        let (mut input_type, mut output, mut cancel_on) = (None, None, Vec::new());
        while !input.is_empty() {
            let field: Ident = input.parse()?;
            let text = field.to_string();
            if !FIELDS.contains(&text.as_str()) {
                return Err(unknown(field.span(), "workflow field", &text, FIELDS));
            }
            if seen.contains(&field) {
                return Err(Error::new(
                    field.span(),
                    format!("`{field}` is given twice"),
                ));
            }
            input.parse::<Token![:]>()?;
            match text.as_str() {
                "name" => name = Some(checked_name("workflow name", input)?),
                "description" => description = Some(input.parse()?),
                "tenant" => tenant = Some(checked_name("tenant", input)?),
                "package" => package = Some(checked_name("package", input)?),
                "tags" => tags = parse_tags(input)?,
                "input" => input_type = Some(input.parse()?),
                "output" => output = Some(input.parse()?),
                "cancel_on" => cancel_on = parse_signals(input)?,
                _ => {
                    let entries = parse_list::<Entry>(input)?;
                    if entries.is_empty() {
                        return Err(Error::new(field.span(), "Workflow cannot be empty"));
                    }
                    tasks = Some(entries.into_iter().collect());
                }
            }
            seen.push(field);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let missing =
            |what: &str| Error::new(Span::call_site(), format!("a workflow needs {what}"));
        Ok(Self {
            name: name.ok_or_else(|| missing("a name: add `name: \"…\"`"))?,
            description,
            tags,
            tenant,
            package,
            input: input_type,
            output,
            cancel_on,
            tasks: tasks.ok_or_else(|| missing("tasks: add `tasks: […]`"))?,
        })
    }
}

/// Parses one signal, or a list of signals.
fn parse_signals(input: ParseStream) -> Result<Vec<Condition>, Error> {
    if !input.peek(syn::token::Bracket) {
        return Ok(vec![input.parse::<Signal>()?.0]);
    }
    let span = input.span();
    let signals = parse_list::<Signal>(input)?;
    if signals.is_empty() {
        return Err(Error::new(
            span,
            "`cancel_on` must name at least one signal",
        ));
    }
    Ok(signals.into_iter().map(|signal| signal.0).collect())
}

/// A condition that must be a signal.
struct Signal(Condition);

impl Parse for Signal {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        let is_signal = input
            .fork()
            .parse::<Ident>()
            .is_ok_and(|word| word == "signal");
        if !is_signal {
            return Err(input.error("`cancel_on` takes signals: signal(\"…\", key = \"…\")"));
        }
        input.parse().map(Self)
    }
}

fn parse_tags(input: ParseStream) -> Result<Vec<(LitStr, LitStr)>, Error> {
    let content;
    braced!(content in input);
    let mut tags: Vec<(LitStr, LitStr)> = Vec::new();
    while !content.is_empty() {
        let key: LitStr = if content.peek(LitStr) {
            content.parse()?
        } else {
            let word: Ident = content.parse()?;
            LitStr::new(&word.to_string(), word.span())
        };
        if tags.iter().any(|(known, _)| known.value() == key.value()) {
            let message = format!("tag '{}' is given twice", key.value());
            return Err(Error::new(key.span(), message));
        }
        if content.peek(Token![=>]) {
            content.parse::<Token![=>]>()?;
        } else {
            content.parse::<Token![:]>()?;
        }
        tags.push((key, content.parse()?));
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(tags)
}

fn checked_name(what: &str, input: ParseStream) -> Result<LitStr, Error> {
    let name: LitStr = input.parse()?;
    let text = name.value();
    let fits = (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if fits {
        return Ok(name);
    }
    Err(Error::new(
        name.span(),
        format!("invalid {what}\nhint: use 1 to 255 of the characters A-Z a-z 0-9 _ . -"),
    ))
}

pub fn expand(input: TokenStream) -> Result<TokenStream, Error> {
    let input: WorkflowInput = syn::parse2(input)?;
    let name = &input.name;
    let count = input.tasks.len();
    let task_names = input.tasks.iter().map(Entry::names);
    let definitions = input.tasks.iter().map(Entry::definition);
    let functions = input.tasks.iter().filter_map(Entry::function);
    let compensations = input.tasks.iter().map(Entry::compensation);
    let checks = input.tasks.iter().enumerate().map(|(index, entry)| {
        // The check has the span of the entry, so that the compiler reports the check's error at the entry.
        quote_spanned!(entry.span()=> const _: () = CHECK.check(#index);)
    });
    let text = |text: &Option<LitStr>, default: &str| {
        let text = text.clone();
        text.unwrap_or_else(|| LitStr::new(default, Span::call_site()))
    };
    let description = text(&input.description, "");
    let tenant = text(&input.tenant, "public");
    let package = text(&input.package, "embedded");
    let has_input = input.input.is_some();
    let output_keys = input.output.iter().flat_map(Output::keys);
    let output_checks = output_keys.map(
        |key| quote_spanned!(key.span()=> const _: () = CHECK.check_output(#key, #has_input);),
    );
    let output = optional(input.output.as_ref().map(Output::expression));
    let input_type = optional(input.input.as_ref().map(
        |kind| quote_spanned!(kind.span()=> ::cloacina::macro_support::InputType::of::<#kind>()),
    ));
    let cancel_on = input.cancel_on.iter().map(|condition| &condition.0);
    let tags = input.tags.iter().map(|(key, value)| {
        quote!((::std::string::String::from(#key), ::std::string::String::from(#value)))
    });
    Ok(quote! {{
        const NAMES: [::cloacina::macro_support::TaskNames; #count] = [#(#task_names),*];
        #[allow(long_running_const_eval, reason = "the check of a large workflow takes a long time")]
        const CHECK: ::cloacina::macro_support::StaticCheck<#count> =
            ::cloacina::macro_support::StaticCheck::new(#name, NAMES);
        #(#checks)*
        #(#output_checks)*
        #[allow(clippy::needless_update, reason = "fields that are left out have the engine's defaults")]
        let definition = ::cloacina::macro_support::WorkflowDefinition {
            name: ::std::string::String::from(#name),
            tenant: ::std::string::String::from(#tenant),
            package: ::std::string::String::from(#package),
            description: ::std::string::String::from(#description),
            tags: ::std::iter::FromIterator::from_iter([#(#tags),*]
                as [(::std::string::String, ::std::string::String); _]),
            tasks: ::std::vec![#(#definitions),*],
            output: #output,
            cancel_on: ::std::vec![#(#cancel_on),*],
            ..::std::default::Default::default()
        };
        ::cloacina::macro_support::define(definition, &NAMES, &[#(#compensations),*], #input_type, ::std::vec![#(#functions),*])
    }})
}

impl Entry {
    fn span(&self) -> Span {
        match self {
            // The span covers only the last segment of the path: `load` in `tasks::load`.
            Self::Function(path) => path
                .segments
                .last()
                .map_or_else(|| path.span(), |last| last.ident.span()),
            Self::Node(node) => node.keyword.span(),
        }
    }

    fn names(&self) -> TokenStream {
        match self {
            Self::Function(path) => {
                quote_spanned!(path.span()=> <#path as ::cloacina::macro_support::Task>::NAMES)
            }
            Self::Node(node) => node.names(),
        }
    }

    fn definition(&self) -> TokenStream {
        match self {
            Self::Function(path) => {
                quote!(<#path as ::cloacina::macro_support::Task>::definition())
            }
            Self::Node(node) => node.definition(),
        }
    }

    fn compensation(&self) -> TokenStream {
        match self {
            Self::Function(path) => {
                quote!(<#path as ::cloacina::macro_support::Task>::COMPENSATION)
            }
            Self::Node(node) => node.compensation(),
        }
    }

    /// Returns an expression for the pair of the task's id and function; `None` for a node without a function in this program.
    fn function(&self) -> Option<TokenStream> {
        match self {
            Self::Function(path) => Some(quote! {(
                <#path as ::cloacina::macro_support::Task>::ID,
                <#path as ::cloacina::macro_support::Task>::run as ::cloacina::macro_support::TaskRun,
            )}),
            Self::Node(_) => None,
        }
    }
}
