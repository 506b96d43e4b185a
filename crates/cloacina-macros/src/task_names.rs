//! The expression of a task's `TaskNames`, which the static check of `workflow!` reads.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{LitStr, Type};

use crate::options::{Options, Reference};
use crate::signature::Signature;

/// Returns the expression that creates a task's `TaskNames`. `result` is the key of the task's result. `signature` is `None`
/// for a task without a function.
pub fn task_names(
    id: &LitStr,
    options: &Options,
    result: Option<&LitStr>,
    signature: Option<&Signature>,
) -> TokenStream {
    let dependencies = options.dependencies.iter().map(Reference::as_id);
    let rule_tasks = options.rule_tasks().iter().map(Reference::as_id);
    let result = optional(result);
    let resources = signature.iter().flat_map(|signature| signature.resources());
    let resources = resources.map(|resource| &resource.name);
    let values = signature.iter().flat_map(|signature| signature.values());
    let returns = signature.filter(|signature| signature.has_result());
    let result_kinds = optional(returns.map(|signature| kinds(&OF_RESULT, signature.output)));
    let parameters = values.map(|value| {
        let name = &value.name;
        let task = optional(value.task.as_ref().map(Reference::as_id));
        let kind = value.kind;
        let kinds = kinds(&OF_DECODED, kind);
        let has_default = value.default.is_some();
        let is_map_result = value.is_map_result();
        quote! {
            ::cloacina::macro_support::ParameterName {
                name: #name,
                task: #task,
                kinds: #kinds,
                has_default: #has_default,
                is_map_result: #is_map_result,
            }
        }
    });
    quote! {
        ::cloacina::macro_support::TaskNames {
            id: #id,
            dependencies: &[#(#dependencies),*],
            rule_tasks: &[#(#rule_tasks),*],
            result: #result,
            result_kinds: #result_kinds,
            parameters: &[#(#parameters),*],
            resources: &[#(#resources),*],
        }
    }
}

/// The trait and the wrapper type in `macro_support` that determine which kinds of JSON values a function can return.
const OF_RESULT: [&str; 2] = ["OfResult", "ReturnType"];
/// The trait and the wrapper type in `macro_support` that determine which kinds of JSON values a parameter accepts.
const OF_DECODED: [&str; 2] = ["OfDecoded", "TakenType"];

/// Returns an expression for a closure. The closure returns the kinds of JSON values that a type can have, or all kinds if the
/// trait of `finder` does not know the type.
fn kinds(finder: &[&str; 2], of: &Type) -> TokenStream {
    let [known, wrapper] = finder.map(|name| format_ident!("{name}"));
    quote! {
        || {
            #[allow(unused_imports, reason = "only one of the two traits is used")]
            use ::cloacina::macro_support::{#known, Unknown};
            #[allow(clippy::needless_borrow, reason = "the trait `Unknown` needs the reference")]
            (&::cloacina::macro_support::#wrapper::<#of>(::std::marker::PhantomData)).kinds()
        }
    }
}

/// Returns the expression that creates an `Option`.
pub fn optional(value: Option<impl quote::ToTokens>) -> TokenStream {
    value.map_or_else(
        || quote!(::std::option::Option::None),
        |value| quote!(::std::option::Option::Some(#value)),
    )
}
