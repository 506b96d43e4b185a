//! The expression of a task's `TaskNames`, which the static check of `workflow!` reads.

use proc_macro2::TokenStream;
use quote::quote;
use syn::LitStr;

use crate::options::{Options, Reference};

pub fn task_names(id: &LitStr, options: &Options) -> TokenStream {
    let dependencies = options.dependencies.iter().map(Reference::as_id);
    let rule_tasks = options.rule_tasks().iter().map(Reference::as_id);
    quote! {
        ::cloacina::macro_support::TaskNames {
            id: #id,
            dependencies: &[#(#dependencies),*],
            rule_tasks: &[#(#rule_tasks),*],
        }
    }
}
