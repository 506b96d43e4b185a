//! The constant by which `workflow!` checks a task.

use proc_macro2::TokenStream;
use quote::quote;
use syn::LitStr;

use crate::options::{Options, Reference};

pub fn outline(id: &LitStr, options: &Options) -> TokenStream {
    let dependencies = options.dependencies.iter().map(Reference::as_id);
    let rule_tasks = options.rule_tasks().iter().map(Reference::as_id);
    quote! {
        ::cloacina::macro_support::TaskOutline {
            id: #id,
            dependencies: &[#(#dependencies),*],
            rule_tasks: &[#(#rule_tasks),*],
        }
    }
}
