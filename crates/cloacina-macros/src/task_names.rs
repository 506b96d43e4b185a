//! The expression of a task's `TaskNames`, which the static check of `workflow!` reads.

use proc_macro2::TokenStream;
use quote::quote;
use syn::LitStr;

use crate::options::{Options, Reference};
use crate::signature::Signature;

/// `result` is the key of the task's result. A task without a function has no signature.
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
    let parameters = values.map(|value| {
        let name = &value.name;
        let task = optional(value.task.as_ref().map(Reference::as_id));
        let has_default = value.default.is_some();
        let is_map_result = value.is_map_result();
        quote! {
            ::cloacina::macro_support::ParameterName {
                name: #name,
                task: #task,
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
            parameters: &[#(#parameters),*],
            resources: &[#(#resources),*],
        }
    }
}

/// The expression of an `Option`.
pub fn optional(value: Option<impl quote::ToTokens>) -> TokenStream {
    value.map_or_else(
        || quote!(::std::option::Option::None),
        |value| quote!(::std::option::Option::Some(#value)),
    )
}
